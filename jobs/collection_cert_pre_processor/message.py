"""The request to generate one certificate (topic ``generate.certificate.request``). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

import msgspec

from common.domain.events import BadEvent, shown, to_datetime, to_time_ms
from common.domain.messages import Message, deterministic_uuid
from jobs.collection_cert_pre_processor.answers import User
from jobs.collection_cert_pre_processor.events import ACTION, JOB, CertificateRequest
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import Template


@dataclass(frozen=True, slots=True)
class Earned:
    """A template whose criteria the learner's rows meet, and what the rows add to the message.

    ``old_id`` is the certificate to be replaced, ``""`` if there is none. ``completed_on`` and ``enrolment`` (the
    columns that the template asks for) are None without enrolment criteria, ``percents`` (by content) without
    assessment criteria.
    """

    template: Template
    old_id: str = ""
    completed_on: datetime | None = None
    enrolment: Mapping[str, Any] | None = None
    percents: Mapping[str, float] | None = None


class _Location(msgspec.Struct):
    type: str | None = None
    name: str | None = None


def certificate(
    request: CertificateRequest, user_id: str, earned: Earned, *, user: User, course_name: str, settings: Settings
) -> Message:
    """Rule C7: the message for one learner and template. The same request and the same rows give the same bytes.

    Raises BadEvent ``bad_user`` if a field of the user has the wrong type.
    """
    template = earned.template
    issued = earned.completed_on or to_datetime(request.time_ms)
    uuid = deterministic_uuid(JOB, ACTION, user_id, request.course_id, request.batch_id, template.key, request.time_ms)
    event = {
        "actor": {"id": "Certificate Generator", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "issuedDate": _date(issued, settings.zone),
            "data": [{"recipientName": recipient_name(user), "recipientId": user_id}],
            "criteria": {"narrative": template.name},
            "svgTemplate": template.url.replace("CLOUD_BASE_PATH", settings.cloud_base_path),
            "oldId": earned.old_id,
            "templateId": template.identifier,
            "userId": user_id,
            "orgId": _text(user, "rootOrgId"),
            "issuer": template.issuer,
            "signatoryList": template.signatory_list,
            "courseName": course_name,
            "basePath": f"{settings.cert_domain_url}/certs",
            "related": _related(request, earned, user, course_name),
            "name": template.name,
            "tag": request.batch_id,
        },
        "ets": request.time_ms,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "mid": f"LMS.{uuid}",
        "object": {"id": user_id, "type": "GenerateCertificate"},
    }
    # Keys are sorted because maps in Cassandra and in templates have no fixed order, and a repeat must be identical.
    return Message(settings.topic, msgspec.json.encode(event, order="deterministic"))


def recipient_name(user: User) -> str:
    """First and last name, trimmed. A null counts as no name, and so does the text ``null`` in any case."""
    names = (_text(user, field).strip() for field in ("firstName", "lastName"))
    return " ".join(name for name in names if name and name.lower() != "null")


def _related(request: CertificateRequest, earned: Earned, user: User, course_name: str) -> dict[str, Any]:
    wanted = earned.template.additional_props
    related: dict[str, Any] = {field: user[field] for field in wanted.user or () if field in user}
    locations = _locations(user, wanted.location or ())
    if locations:
        related["location"] = locations
    if earned.enrolment:
        related["enrollment"] = {column: _column(value) for column, value in earned.enrolment.items()}
    if earned.percents is not None and "score" in (wanted.assessment or ()):
        related["assessment"] = {"score": dict(earned.percents)}
    if wanted.course:
        related["course"] = {"name": course_name}
    # Last, so that no field of a user can replace what the generator needs to find the enrolment.
    return {**related, "batchId": request.batch_id, "courseId": request.course_id, "type": earned.template.name}


def _locations(user: User, types: Sequence[str]) -> dict[str, str]:
    if not types:
        return {}
    try:
        locations = msgspec.convert(user.get("userLocations"), list[_Location] | None) or ()
    except msgspec.ValidationError as error:
        raise BadEvent("bad_user", f"userLocations of the user cannot be read: {error}") from error
    names = {location.type: location.name for location in locations}
    return {kind: name for kind in types if (name := names.get(kind))}


def _text(user: User, field: str) -> str:
    value = user.get(field)
    if not isinstance(value, str | None):
        raise BadEvent("bad_user", f"{field} of the user is not a text: {shown(value)}")
    return value or ""


def _column(value: Any) -> Any:
    """Times are sent in ms since 1970, which is what the generator expects."""
    return to_time_ms(value) if isinstance(value, datetime) else value


def _date(moment: datetime, zone: tzinfo) -> str:
    try:
        return moment.astimezone(zone).date().isoformat()
    except OverflowError as error:
        raise BadEvent("bad_enrolment", f"enrolment was completed at {moment}, which has no date in {zone}") from error
