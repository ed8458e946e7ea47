"""Messages are the bytes that they always were, whatever library writes them: a repeat after an upgrade is a repeat."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from common.domain import messages

ids = st.text(st.characters(codec="utf-8"), min_size=1)
times = st.integers(0, 253_402_214_399_999)


@given(user_id=ids, course_id=ids, batch_id=ids, attempt_id=st.none() | ids, time_ms=times)
def test_certificate_requests(
    user_id: str, course_id: str, batch_id: str, attempt_id: str | None, time_ms: int
) -> None:
    value = messages.certificate_request(
        "topic",
        "Job",
        user_id=user_id,
        course_id=course_id,
        batch_id=batch_id,
        time_ms=time_ms,
        attempt_id=attempt_id,
    ).value
    assert value == msgspec.json.encode(msgspec.json.decode(value))


@given(user_id=ids, course_id=ids, batch_id=ids, content_id=st.none() | ids, time_ms=times)
def test_audit_events(user_id: str, course_id: str, batch_id: str, content_id: str | None, time_ms: int) -> None:
    value = messages.audit(
        "topic",
        "Job",
        action="complete",
        props=("viewcount", "completedcount"),
        user_id=user_id,
        course_id=course_id,
        batch_id=batch_id,
        content_id=content_id,
        time_ms=time_ms,
    ).value
    assert value == msgspec.json.encode(msgspec.json.decode(value))
