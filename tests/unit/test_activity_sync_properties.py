"""What holds for every learner's syncs, whatever their order, repetition and company."""

from contextlib import suppress
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobs.activity_aggregate_updater.events import EnrolmentSync, LearnerEvent
from tests.support.activity_model import ASHA, COURSE, DAY, SETTINGS, Killed, RelationCache, Tables, Updater, sync
from tests.support.activity_strategies import courses, events, old_tables, times

syncs = times(20 * DAY).map(sync)
mixed = st.lists(st.one_of(events(), syncs), min_size=1, max_size=8)
batch_sizes = st.lists(st.integers(1, 6), max_size=12)


@st.composite
def used_tables(draw: st.DrawFn) -> Tables:
    """Tables of the API and the Scala job in which ``progress`` may be anything."""
    tables = draw(old_tables([ASHA]))
    if ("enrolments", ASHA, "status") in tables.cells and draw(st.booleans()):
        tables.enrol(ASHA, progress=draw(st.integers(0, 6)))
    return tables


def applied(tables: Tables, course: RelationCache, arrived: list[LearnerEvent], sizes: list[int]) -> Tables:
    after = tables.copy()
    Updater(after, course).run(arrived, sizes)
    return after


@given(courses(), used_tables(), mixed, batch_sizes)
def test_it_does_not_matter_where_a_batch_ends(
    course: RelationCache, tables: Tables, arrived: list[LearnerEvent], sizes: list[int]
) -> None:
    one_by_one, batched = tables.copy(), tables.copy()
    expected = Updater(one_by_one, course).run(arrived)
    assert Updater(batched, course).run(arrived, sizes) == expected
    assert batched.rows() == one_by_one.rows()


@given(courses(), used_tables(), mixed, batch_sizes, st.data())
def test_a_sync_that_arrives_twice_is_a_sync_that_arrived_once(
    course: RelationCache, tables: Tables, arrived: list[LearnerEvent], sizes: list[int], data: st.DataObject
) -> None:
    """All rows are the same, and an event sends the same messages if it arrives again at once."""
    repeated: list[LearnerEvent] = []
    for event in arrived:
        repeated += [event] * (data.draw(st.integers(1, 3)) if isinstance(event, EnrolmentSync) else 1)
    assert applied(tables, course, repeated, sizes).rows() == applied(tables, course, arrived, []).rows()
    updater = Updater(tables.copy(), course)
    for event in arrived:
        first, second = updater.run([event]), updater.run([event])
        if isinstance(event, EnrolmentSync):
            assert first == second


@given(courses(), st.lists(events(span=7 * DAY - 1), max_size=6), st.lists(syncs, min_size=1, max_size=4), st.data())
def test_syncs_in_any_order_with_completions_give_the_rows_of_the_completions(
    course: RelationCache, completions: list[LearnerEvent], requests: list[LearnerEvent], data: st.DataObject
) -> None:
    """Where all stored contents are those of the completions: a sync has nothing to add to them."""
    tables = Tables()
    tables.enrol(ASHA)
    # The completions stay in their order: that may decide about ``completedon``, with and without syncs.
    arrived = list(completions)
    for request in requests:
        arrived.insert(data.draw(st.integers(0, len(arrived)), label="the sync arrives at"), request)
    assert applied(tables, course, arrived, []).rows() == applied(tables, course, completions, []).rows()


@given(courses(), used_tables(), st.lists(events(span=7 * DAY - 1), max_size=5), syncs, st.data())
def test_the_last_rows_are_the_same_in_any_order_with_completions(
    course: RelationCache,
    tables: Tables,
    completions: list[LearnerEvent],
    request: EnrolmentSync,
    data: st.DataObject,
) -> None:
    """Also where others have finished contents before; after a last sync, because a completion may lower ``progress``.

    As for completions alone, that is without the time of completion, and without entries of ``contentstatus`` that a
    completed enrolment does not get any more.
    """

    def comparable(tables: Tables) -> dict[tuple[Any, ...], Any]:
        return {
            cell: value
            for cell, (_, value) in tables.cells.items()
            if cell[2] not in ("completedon", "progress") and (cell[2] != "contentstatus" or cell[3] in course.required)
        }

    shuffled = data.draw(st.permutations([*completions, request]), label="arrival")
    in_order = applied(tables, course, [*completions, request, request], [])
    assert comparable(applied(tables, course, [*shuffled, request], [])) == comparable(in_order)


@given(courses(), used_tables(), mixed)
def test_a_sync_takes_nothing_back(course: RelationCache, tables: Tables, arrived: list[LearnerEvent]) -> None:
    """Neither a status nor ``progress``, ``contentstatus``, a count or a date; and no ``completedCount`` of a job."""
    for event in arrived:
        before = tables.rows()
        sent = Updater(tables, course).run([event])[0].messages
        after = tables.rows()
        if not isinstance(event, EnrolmentSync):
            continue
        assert all(after[cell] >= value for cell, value in before.items() if cell[-1] != "completedon")
        for column in ("viewcount", "completedcount"):
            assert {cell for cell in after if cell[-1] == column} == {cell for cell in before if cell[-1] == column}
        status = ("enrolments", ASHA, "status")
        if before.get(status) == 2:
            assert {cell: value for cell, value in after.items() if cell[0] == "enrolments"} == {
                cell: value for cell, value in before.items() if cell[0] == "enrolments"
            }
        is_completed = after.get(status) == 2 and after.get(("enrolments", ASHA, "completedon")) == event.time_ms
        assert [message.topic for message in sent] == (["audit", "certificate"] if is_completed else [])


@given(courses(), used_tables(), syncs)
def test_after_a_sync_the_rows_say_what_the_contents_say(
    course: RelationCache, tables: Tables, request: EnrolmentSync
) -> None:
    contents = tables.stored(ASHA).contents
    done = {content.content_id for content in contents if content.status == 2 or content.completed_count}
    row = tables.stored(ASHA).enrolment
    Updater(tables, course).run([request])
    for activity_id, count in tables.completed_counts().items():
        required = course.required_of(activity_id)
        assert required is not None
        assert count == len(required & done)
    assert (COURSE in tables.completed_counts()) == bool(contents)
    after = tables.stored(ASHA).enrolment
    if row is None or row.is_phantom or row.status == 2 or not contents:
        assert after == row
        return
    assert after is not None
    assert after.status == (2 if course.required <= done else 1)
    assert after.progress == max(row.progress or 0, len(course.required & done))


@given(courses(), used_tables(), mixed, st.integers(0, 25), st.randoms(), batch_sizes)
def test_killed_after_any_number_of_effects_it_ends_with_the_same_rows_and_messages(
    course: RelationCache, tables: Tables, arrived: list[LearnerEvent], effects: int, shuffle: Random, sizes: list[int]
) -> None:
    arrived = [event for event in arrived if event.time_ms < min(e.time_ms for e in arrived) + 7 * DAY]
    uninterrupted = tables.copy()
    expected = Updater(uninterrupted, course).run(arrived)
    with suppress(Killed):
        Updater(tables, course, SETTINGS, effects, shuffle).run(arrived, sizes)
    again = Updater(tables, course).run(arrived)
    assert tables.rows() == uninterrupted.rows()
    assert {message for result in again for message in result.messages} == {
        message for result in expected for message in result.messages
    }
