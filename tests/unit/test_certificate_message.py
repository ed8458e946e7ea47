"""The message for the certificate generator, to the letter."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from common.domain.events import MAX_TIME_MS, BadEvent
from common.domain.messages import Message
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.message import Earned, certificate
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import Template, parse

SETTINGS = Settings(
    topic="dev.generate.certificate.request",
    cert_domain_url="https://dev.sunbirded.org",
    cloud_storage_base_url="https://blob.example.org",
    cloud_storage_cname_url="https://obj.example.org",
    content_cloud_storage_container="content",
)
REQUEST = CertificateRequest(("u-1",), "do_1", "b-1", False, 1_715_657_560_200)  # 2024-05-14T03:32:40Z
USER: dict[str, Any] = {
    "firstName": "Asha",
    "lastName": "Rao",
    "rootOrgId": "org-1",
    "email": "a***@example.org",
    "phone": None,
    "userLocations": [
        {"type": "state", "name": "Goa", "id": "l-1"},
        {"type": "district", "name": "North Goa"},
        {"type": "block", "name": None},
        {"name": "nowhere"},
    ],
}


def template(**fields: Any) -> Template:
    texts = {
        "identifier": "t-1",
        "name": "Course completion",
        "url": "CLOUD_BASE_PATH/t/t.svg",
        "criteria": {"enrollment": {}},
        **fields,
    }
    as_stored = {name: value if isinstance(value, str) else json.dumps(value) for name, value in texts.items()}
    return parse("b-1", {"t-1": as_stored}).usable[0]


def message(
    earned: Earned | None = None,
    user: dict[str, Any] | None = None,
    settings: Settings = SETTINGS,
    request: CertificateRequest = REQUEST,
) -> Message:
    fields = USER if user is None else user
    return certificate(
        request, "u-1", earned or Earned(template()), user=fields, course_name="Maths", settings=settings
    )


def edata(*arguments: Any, **named: Any) -> dict[str, Any]:
    found = json.loads(message(*arguments, **named).value)["edata"]
    assert isinstance(found, dict)
    return found


def related(props: dict[str, list[str]], user: dict[str, Any] | None = None, **earned: Any) -> dict[str, Any]:
    """``related`` without what it always holds."""
    found = edata(Earned(template(additionalProps=props), **earned), user)["related"]
    assert isinstance(found, dict)
    assert {"batchId": "b-1", "courseId": "do_1", "type": "Course completion"}.items() <= found.items()
    return {key: value for key, value in found.items() if key not in {"batchId", "courseId", "type"}}


def test_the_whole_message() -> None:
    earned = Earned(
        template(issuer={"name": "Goa", "url": "https://goa"}, signatoryList=[{"name": "S", "id": "1"}]),
        old_id="c-1",
        completed_on=datetime(2024, 5, 13, 20, 0, tzinfo=UTC),
    )
    sent = message(earned)
    assert (sent.topic, sent.key) == ("dev.generate.certificate.request", None)
    found = json.loads(sent.value)
    # Pinned: another id for the same certificate would look new to the consumer after an upgrade.
    assert found.pop("mid") == "LMS.9311e49d-d5ea-5874-8b09-04a8aa2e8ae8"
    assert found == {
        "actor": {"id": "Certificate Generator", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "issuedDate": "2024-05-13",
            "data": [{"recipientName": "Asha Rao", "recipientId": "u-1"}],
            "criteria": {"narrative": "Course completion"},
            "svgTemplate": "https://obj.example.org/content/t/t.svg",
            "oldId": "c-1",
            "templateId": "t-1",
            "userId": "u-1",
            "orgId": "org-1",
            "issuer": {"name": "Goa", "url": "https://goa"},
            "signatoryList": [{"name": "S", "id": "1"}],
            "courseName": "Maths",
            "basePath": "https://dev.sunbirded.org/certs",
            "related": {"batchId": "b-1", "courseId": "do_1", "type": "Course completion"},
            "name": "Course completion",
            "tag": "b-1",
        },
        "ets": 1_715_657_560_200,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "object": {"id": "u-1", "type": "GenerateCertificate"},
    }


def test_a_repeat_is_the_same_to_the_byte_whatever_order_maps_come_in() -> None:
    props = {"enrollment": ["contentstatus"], "assessment": ["score"], "location": ["state", "district"]}
    one, other = (
        template(additionalProps=props, issuer={"a": 1, "b": 2}),
        template(additionalProps=dict(reversed(props.items())), issuer={"b": 2, "a": 1}),
    )
    ordered = Earned(one, enrolment={"contentstatus": {"x": 1, "y": 2}}, percents={"x": 1.0, "y": 2.0})
    shuffled = Earned(other, enrolment={"contentstatus": {"y": 2, "x": 1}}, percents={"y": 2.0, "x": 1.0})
    assert message(ordered) == message(shuffled, user=dict(reversed(USER.items())))


def test_the_id_is_that_of_learner_enrolment_template_and_time() -> None:
    causes = [
        (REQUEST, "u-1", "t-1"),
        (replace(REQUEST, course_id="do_2"), "u-1", "t-1"),
        (replace(REQUEST, batch_id="b-2"), "u-1", "t-1"),
        (replace(REQUEST, time_ms=REQUEST.time_ms + 1), "u-1", "t-1"),
        (REQUEST, "u-2", "t-1"),
        (REQUEST, "u-1", "t-2"),
    ]
    ids = set()
    for request, user_id, key in causes:
        earned = Earned(replace(template(), key=key))
        sent = certificate(request, user_id, earned, user={}, course_name="", settings=SETTINGS)
        ids.add(json.loads(sent.value)["mid"])
    assert len(ids) == len(causes)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("Asha", "Rao", "Asha Rao"),
        (" Asha ", " Rao ", "Asha Rao"),
        ("Asha", None, "Asha"),
        ("Asha", "", "Asha"),
        ("Asha", "null", "Asha"),
        ("NULL", "Rao", "Rao"),
        ("Asha", "Nullmann", "Asha Nullmann"),
        ("आशा", "राव", "आशा राव"),
        (None, None, ""),
    ],
)
def test_recipient_name(first: str | None, last: str | None, expected: str) -> None:
    data = edata(user={"firstName": first, "lastName": last})["data"]
    assert data == [{"recipientName": expected, "recipientId": "u-1"}]


def test_fields_that_the_user_lacks_are_empty() -> None:
    found = edata(user={"id": "u-1"})
    assert (found["data"][0]["recipientName"], found["orgId"]) == ("", "")


@pytest.mark.parametrize(
    "user",
    [{"firstName": 7}, {"lastName": ["Rao"]}, {"rootOrgId": {}}, {"userLocations": "Goa"}, {"userLocations": [7]}],
)
def test_a_field_of_a_wrong_type_is_a_fault(user: dict[str, Any]) -> None:
    with pytest.raises(BadEvent) as failure:
        message(Earned(template(additionalProps={"location": ["state"]})), user)
    assert failure.value.kind == "bad_user"


@pytest.mark.parametrize(
    ("completed_on", "zone", "expected"),
    [
        (datetime(2024, 5, 13, 20, 0, tzinfo=UTC), UTC, "2024-05-13"),
        (datetime(2024, 5, 13, 20, 0, tzinfo=UTC), ZoneInfo("Asia/Kolkata"), "2024-05-14"),
        (datetime(2024, 5, 13, 23, 0, tzinfo=timezone(timedelta(hours=-5))), UTC, "2024-05-14"),
        (None, UTC, "2024-05-14"),
        (None, ZoneInfo("America/Los_Angeles"), "2024-05-13"),
    ],
)
def test_the_date_is_that_of_the_completion_or_of_the_event_in_the_zone(
    completed_on: datetime | None, zone: Any, expected: str
) -> None:
    found = edata(Earned(template(), completed_on=completed_on), settings=replace(SETTINGS, zone=zone))
    assert found["issuedDate"] == expected


def test_a_completion_that_has_no_date_in_the_zone_is_a_fault() -> None:
    end_of_time = Earned(template(), completed_on=datetime.max.replace(tzinfo=UTC))
    with pytest.raises(BadEvent) as failure:
        message(end_of_time, settings=replace(SETTINGS, zone=ZoneInfo("Asia/Kolkata")))
    assert failure.value.kind == "bad_enrolment"


def test_every_time_of_an_event_has_a_date() -> None:
    for time_ms in (0, MAX_TIME_MS):
        for zone in (ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Pago_Pago")):
            found = edata(settings=replace(SETTINGS, zone=zone), request=replace(REQUEST, time_ms=time_ms))
            assert len(found["issuedDate"]) == len("2024-05-14")


@pytest.mark.parametrize("cname", [None, "", " "])
def test_without_a_cname_templates_are_at_the_storage(cname: str | None) -> None:
    found = edata(settings=replace(SETTINGS, cloud_storage_cname_url=cname))
    assert found["svgTemplate"] == "https://blob.example.org/content/t/t.svg"


def test_a_full_address_of_a_template_stays() -> None:
    assert edata(Earned(template(url="https://elsewhere/t.svg")))["svgTemplate"] == "https://elsewhere/t.svg"


# The five kinds of additional properties.


def test_locations_of_the_named_types() -> None:
    found = related({"location": ["state", "district", "block", "village"]})
    assert found == {"location": {"state": "Goa", "district": "North Goa"}}


@pytest.mark.parametrize("user", [{}, {"userLocations": None}, {"userLocations": []}])
def test_without_a_location_there_is_no_entry(user: dict[str, Any]) -> None:
    assert related({"location": ["state"]}, user) == {}


def test_locations_that_nobody_wants_are_not_looked_at() -> None:
    assert related({}, {"userLocations": "Goa"}) == {}


def test_columns_of_the_enrolment_with_times_in_ms() -> None:
    completed = datetime(2024, 5, 13, 20, 0, 0, 1000, tzinfo=UTC)
    columns = {"completedOn": completed, "progress": 4, "contentstatus": {"x": 2}, "addedBy": None}
    found = related({"enrollment": list(columns)}, enrolment=columns)
    assert found == {"enrollment": {**columns, "completedOn": 1_715_630_400_001}}


def test_percents_of_the_contents() -> None:
    assert related({"assessment": ["score"]}, percents={"a": 75.5}) == {"assessment": {"score": {"a": 75.5}}}
    assert related({"assessment": ["score"]}, percents={}) == {"assessment": {"score": {}}}
    assert related({"assessment": ["other"]}, percents={"a": 75.5}) == {}
    assert related({"assessment": ["score"]}) == {}


def test_fields_of_the_user_that_are_there() -> None:
    found = related({"user": ["email", "phone", "missing"]})
    assert found == {"email": "a***@example.org", "phone": None}


def test_no_field_of_the_user_hides_the_enrolment() -> None:
    assert related({"user": ["batchId", "type"]}, {"batchId": "b-2", "type": "teacher"}) == {}


def test_the_name_of_the_course() -> None:
    assert related({"course": ["name"]}) == {"course": {"name": "Maths"}}
    assert related({"course": []}) == {}


def test_all_five_kinds() -> None:
    props = {
        "location": ["state"],
        "enrollment": ["progress"],
        "assessment": ["score"],
        "user": ["email"],
        "course": ["x"],
    }
    assert related(props, enrolment={"progress": 4}, percents={"a": 75.5}) == {
        "location": {"state": "Goa"},
        "enrollment": {"progress": 4},
        "assessment": {"score": {"a": 75.5}},
        "email": "a***@example.org",
        "course": {"name": "Maths"},
    }
