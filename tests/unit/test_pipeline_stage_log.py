"""What the stage logs of a defect: where it is and which event it is about, but never the event."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pyflink.common import Row

from common.domain.enrolments import EnrolmentKey
from common.flink.job import Outcome
from common.flink.stage import Stage
from tests.unit.test_pipeline_stage import TIMESTAMP_MS, Context, Number

SECRET = "the learner's answer"
ENROLMENT = EnrolmentKey("u-1", "do_1", "batch-1")


class Defective(Number):
    """Each event is a JSON text: ``decode`` and ``apply`` name the place that is to fail."""

    def decode(self, value: bytes, timestamp_ms: int) -> Any:
        event = json.loads(value)
        if event["fails in"] == "decode":
            raise ValueError(f"cannot decode {event}")
        return event

    def group_of(self, event: Any) -> Any:
        if event["fails in"] == "group_of":
            raise KeyError(str(event))
        return ENROLMENT

    async def apply(self, events_by_group: Mapping[Any, Sequence[Any]]) -> Mapping[Any, Sequence[Outcome]]:
        ((event,),) = events_by_group.values()
        try:
            raise KeyError(str(event))
        except KeyError as cause:
            raise ValueError(f"cannot apply {event}") from cause


def logged(place: str, caplog: pytest.LogCaptureFixture) -> tuple[str, list[Row]]:
    """The one line that an event is logged with, and what becomes of the event."""
    stage = Stage(Defective())
    stage.open(Context())
    loop = asyncio.new_event_loop()
    try:
        value = json.dumps({"fails in": place, "answer": SECRET}).encode()
        rows = loop.run_until_complete(stage.async_invoke(Row("u-1", TIMESTAMP_MS, value)))
    finally:
        loop.close()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    return logging.Formatter().format(record), rows


@pytest.mark.parametrize(("place", "exception"), [("decode", "ValueError"), ("group_of", "KeyError")])
def test_an_event_that_cannot_be_decoded_is_logged_with_its_user_and_without_its_body(
    place: str, exception: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, (row,) = logged(place, caplog)
    assert text.startswith(f"an event could not be decoded: user_id='u-1'\n{exception}\n")
    assert f"in {place}" in text
    assert SECRET not in text
    assert row[0] == "failed"
    assert SECRET in row[2].decode()


def test_an_event_that_cannot_be_applied_is_logged_with_its_enrolment_and_without_its_body(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text, (row,) = logged("apply", caplog)
    assert text.startswith(
        "an event could not be applied: user_id='u-1' course_id='do_1' batch_id='batch-1'\nValueError\n"
    )
    assert "\nKeyError\n" in text
    assert "in apply" in text
    assert SECRET not in text
    assert row[0] == "failed"
