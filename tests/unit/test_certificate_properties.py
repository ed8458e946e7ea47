"""Whatever templates, rows and answers hold, a decision is a message, a skip or a Refused: nothing else is raised."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from common.domain.events import Refused, Skip, value_or_refused
from common.servers.http_answers import Answer
from jobs.collection_cert_pre_processor import answers, criteria, events, rules
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.rules import Decisions, EnrolmentRow
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import parse

SETTINGS = Settings("out", "https://domain", "https://blob", "content")
REQUEST = CertificateRequest(("u-1", "u-2"), "do_1", "b-1", True, 1_715_657_560_200)
FIELDS = ["firstName", "rootOrgId", "userLocations", "status", "score", "name", "batchId"]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.integers(0, 15).flatmap(lambda draw: st.text(max_size=3) if draw == 7 else st.sampled_from(FIELDS))
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def or_else(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, or the decision would end at the first odd thing every time."""
    return st.integers(0, 15).flatmap(lambda draw: odd if draw == 7 else usual)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with all of the fields, or with some."""
    return st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional=fields)


LIMITS = or_else(st.integers(-1, 101) | st.floats(-1, 101))
OPERATORS = st.dictionaries(or_else(st.sampled_from([*criteria.OPERATORS]), st.text()), LIMITS, min_size=1, max_size=2)
USER_CRITERIA = or_else(some(rootOrgId=or_else(st.just("org-1")), status=or_else(st.just(1))))
CRITERIA = or_else(
    some(
        enrollment=or_else(some(status=or_else(st.just(2)))),
        assessment=or_else(st.fixed_dictionaries({"score": or_else(LIMITS | OPERATORS)})),
        user=USER_CRITERIA,
        users=USER_CRITERIA,
    )
)
NAMES = or_else(st.lists(KEYS, max_size=3))
PROPS = or_else(some(location=NAMES, enrollment=NAMES, assessment=NAMES, user=NAMES, course=NAMES))
OBJECTS = or_else(st.dictionaries(KEYS, JSON, max_size=2))


def text_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return or_else(values.map(json.dumps), st.text())


TEMPLATE = st.fixed_dictionaries(
    {
        "url": st.just("CLOUD_BASE_PATH/t.svg"),
        "name": or_else(st.just("Course"), st.text()),
        "criteria": text_of(CRITERIA),
    },
    optional={
        "identifier": st.text(),
        "additionalProps": text_of(PROPS),
        "issuer": text_of(OBJECTS),
        "signatoryList": text_of(or_else(st.lists(OBJECTS, max_size=2))),
    },
)
ENROLMENT = st.builds(
    EnrolmentRow,
    active=or_else(st.just(True), st.none() | st.just(False)),
    status=or_else(st.just(2), st.none() | st.integers(0, 1)),
    completed_on=st.none() | st.datetimes(timezones=st.just(UTC)),
    issued_certificates=st.none()
    | st.lists(st.dictionaries(st.sampled_from(["name", "identifier"]), st.just("course") | st.text()), max_size=2),
    columns=st.fixed_dictionaries(
        {key.lower(): SCALARS | st.just(datetime(2024, 5, 14, tzinfo=UTC)) for key in FIELDS}
    ),
)
AGGREGATES = st.dictionaries(
    st.sampled_from(["score:a", "score:b", "max_score:a", "max_score:b", "score:"]),
    or_else(st.floats(0, 10), st.floats()),
)
TYPES = or_else(st.sampled_from(["SelfAssess", "Resource", "", None]), st.just(Refused("content_api", "refused")))
STATUS = or_else(st.just(200), st.sampled_from([400, 404, 403]))


def answers_with(field: str, members: st.SearchStrategy[Any]) -> st.SearchStrategy[Answer]:
    """Mostly one with ``result.<field>``, else any object."""
    usual = st.fixed_dictionaries({"result": or_else(st.fixed_dictionaries({field: or_else(members)}))})
    return st.builds(Answer, STATUS, or_else(usual, st.dictionaries(st.text(), JSON)))


USERS = some(
    firstName=or_else(st.none() | st.text()),
    lastName=or_else(st.none() | st.text()),
    rootOrgId=or_else(st.just("org-1")),
    userLocations=or_else(st.lists(some(type=KEYS, name=st.none() | st.text()), max_size=3)),
    status=or_else(st.just(1)),
    name=JSON,
)
USER_ANSWER = answers_with("response", USERS)
CONTENT_ANSWER = answers_with("content", some(name=or_else(st.text(min_size=1)), contentType=or_else(st.text())))


@settings(max_examples=150)
@given(
    cert_templates=st.dictionaries(st.text(max_size=2), TEMPLATE, min_size=1, max_size=3),
    enrolment=or_else(ENROLMENT, st.none()),
    aggregates=AGGREGATES,
    content_types=st.fixed_dictionaries({"a": TYPES, "b": TYPES, "": TYPES}),
    user_answer=USER_ANSWER,
    course_answer=CONTENT_ANSWER,
)
def test_every_template_ends_in_exactly_one_way(
    cert_templates: dict[str, dict[str, str]],
    enrolment: EnrolmentRow | None,
    aggregates: dict[str, float],
    content_types: dict[str, str | Refused | None],
    user_answer: Answer,
    course_answer: Answer,
) -> None:
    def decide() -> Decisions:
        selected = rules.select(
            REQUEST,
            parse("b-1", cert_templates),
            enrolment=enrolment,
            aggregates=aggregates,
            content_types=content_types,
            settings=SETTINGS,
        )
        user: Any = value_or_refused(lambda: answers.user("u-1", user_answer))
        course_name: Any = value_or_refused(lambda: answers.course_name("do_1", course_answer))
        return rules.issue(REQUEST, "u-1", selected, user=user, course_name=course_name, settings=SETTINGS)

    decisions = decide()
    ends = len(decisions.messages) + len(decisions.skipped) + len(decisions.failed)
    assert ends == len(cert_templates)
    assert decide().messages == decisions.messages
    for message in decisions.messages:
        msgspec.json.decode(message.value)


@given(answer=CONTENT_ANSWER, cached=some(name=JSON, contentType=JSON, contenttype=JSON))
def test_what_caches_and_the_content_api_say_never_stops_the_job(answer: Answer, cached: dict[str, Any]) -> None:
    entry = answers.CONTENT_METADATA.decode(json.dumps(cached))
    assert isinstance(answers.cached_course_name(entry), str | None)
    assert isinstance(answers.cached_content_type(entry), str | None)
    assert isinstance(value_or_refused(lambda: answers.content_type("a", answer)), str | Refused | None)


@given(name=st.text() | st.text(alphabet="\\u0dD8bq7'\" \n"))
def test_every_name_of_a_course_can_be_sent(name: str) -> None:
    resolved = answers.resolve_escapes(name)
    assert msgspec.json.decode(msgspec.json.encode(resolved)) == resolved
    assert not any(character < " " for character in resolved)


EDATA = st.fixed_dictionaries(
    {"action": or_else(st.just("issue-certificate"))},
    optional={
        "batchId": or_else(st.just("b-1")),
        "courseId": or_else(st.just("do_1")),
        "userIds": or_else(st.lists(st.sampled_from(["u-1", "u-2", ""]), max_size=3)),
        "reIssue": or_else(st.booleans()),
    },
)


@given(
    value=or_else(st.fixed_dictionaries({"edata": or_else(EDATA)}, optional={"ets": or_else(st.integers(0, 2**41))}))
    .map(json.dumps)
    .map(str.encode)
    | st.binary()
)
def test_every_kafka_value_is_a_request_or_skipped_or_failed(value: bytes) -> None:
    request = value_or_refused(lambda: events.decode(value, 1))
    if isinstance(request, CertificateRequest):
        for user_id in request.user_ids:
            alone = events.decode(events.narrowed(value, user_id), 1)
            assert isinstance(alone, CertificateRequest)
            assert alone.user_ids == (user_id,)
    else:
        assert isinstance(request, Skip | Refused)
