"""Which enrolments the activity job remembers, and in how many bytes."""

import tracemalloc

import pytest

from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater import store
from jobs.activity_aggregate_updater.store import KnownEnrolments


def enrolment(number: int, text: str = "") -> EnrolmentKey:
    return EnrolmentKey(f"u-{number}{text}", f"do_{number}{text}", f"b-{number}{text}")


def test_those_that_were_noted_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_KNOWN_ENROLMENTS", 2)
    known = KnownEnrolments()
    known.note([enrolment(1), enrolment(2), enrolment(1), enrolment(3)])
    assert [enrolment(number) in known for number in (1, 2, 3)] == [True, False, True]


def test_those_with_ids_of_usual_length_are_known() -> None:
    known = KnownEnrolments()
    usual = EnrolmentKey("8454cb21-3ce9-4e30-85b5-fade097880d8", "do_1130928636168192001667", "0130929928739635200")
    known.note([usual])
    assert usual in known


# 80 characters each: together they have fewer than 300.
@pytest.mark.parametrize("character", ["x", "é", "\N{OK HAND SIGN}"])
def test_they_take_30_mb_at_most_whatever_their_ids_are(character: str) -> None:
    text = character * 75
    known = KnownEnrolments()
    tracemalloc.start()
    try:
        known.note(enrolment(number, text) for number in range(store.MAX_KNOWN_ENROLMENTS + 1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000
