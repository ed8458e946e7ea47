"""A learner who has completed a course, and what the certificate rules decide about them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from common.domain.events import Refused, Skip
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.rules import Decisions, EnrolmentRow
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import parse

SETTINGS = Settings(
    topic="dev.generate.certificate.request",
    cert_domain_url="https://dev.sunbirded.org",
    cloud_storage_base_url="https://blob",
    content_cloud_storage_container="content",
)


REQUEST = CertificateRequest(("u-1",), "do_1", "b-1", False, 1_715_657_560_200)


COMPLETED_ON = datetime(2024, 5, 13, 20, 0, tzinfo=UTC)


ENROLMENT = EnrolmentRow(active=True, status=2, completed_on=COMPLETED_ON, issued_certificates=None)


USER = {"firstName": "Asha", "lastName": "Rao", "rootOrgId": "org-1"}


COMPLETED = {"enrollment": {"status": 2}}


AT_LEAST_75 = {"assessment": {"score": {">=": 75}}}


def template(criteria: object = COMPLETED, **fields: str) -> dict[str, str]:
    return {"name": "Course", "url": "https://c/t.svg", "criteria": json.dumps(criteria), **fields}


def decide(
    *templates: dict[str, str],
    request: CertificateRequest = REQUEST,
    enrolment: EnrolmentRow | None = ENROLMENT,
    aggregates: Mapping[str, float] | None = None,
    content_types: Mapping[str, str | Refused | None] | None = None,
    user: Mapping[str, Any] | Skip | Refused = USER,
    course_name: str | Refused = "Maths",
    settings: Settings = SETTINGS,
) -> Decisions:
    """What the job decides about u-1; the templates' keys are t-0, t-1, …; contents are of type SelfAssess."""
    scored = {key.split(":")[1]: "SelfAssess" for key in aggregates or {}}
    selected = rules.select(
        request,
        parse("b-1", {f"t-{number}": fields for number, fields in enumerate(templates)}),
        enrolment=enrolment,
        aggregates=aggregates or {},
        content_types={**scored, **(content_types or {})},
        settings=settings,
    )
    return rules.issue(request, "u-1", selected, user=user, course_name=course_name, settings=settings)


def edata(decisions: Decisions) -> dict[str, Any]:
    assert (decisions.skipped, decisions.failed) == ((), ())
    (message,) = decisions.messages
    found = json.loads(message.value)["edata"]
    assert isinstance(found, dict)
    return found


def kinds(decisions: Decisions) -> tuple[int, list[str], list[str]]:
    return len(decisions.messages), list(decisions.skipped), [fault.kind for fault in decisions.failed]
