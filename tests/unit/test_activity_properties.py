"""What holds for every learner's events, whatever their order, repetition and company."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Content, Effect
from tests.support.activity_model import ASHA, COURSE, DAY, T0, RelationCache, Tables, Updater, completed
from tests.support.activity_strategies import CONTENTS, courses, events, old_tables


def applied(tables: Tables, course: RelationCache, arrived: list[ContentsCompleted], sizes: list[int]) -> Tables:
    after = tables.copy()
    Updater(after, course).run(arrived, sizes)
    return after


batch_sizes = st.lists(st.integers(1, 6), max_size=12)


@given(courses(), old_tables([ASHA]), st.lists(events(), min_size=1, max_size=8), batch_sizes)
def test_it_does_not_matter_where_a_batch_ends(
    course: RelationCache, tables: Tables, arrived: list[ContentsCompleted], sizes: list[int]
) -> None:
    one_by_one, batched = tables.copy(), tables.copy()
    expected = Updater(one_by_one, course).run(arrived)
    assert Updater(batched, course).run(arrived, sizes) == expected
    assert batched.rows() == one_by_one.rows()


@given(courses(), old_tables([ASHA]), st.lists(events(), min_size=1, max_size=6), batch_sizes, st.data())
def test_any_repetition_gives_the_same_rows(
    course: RelationCache, tables: Tables, arrived: list[ContentsCompleted], sizes: list[int], data: st.DataObject
) -> None:
    """Every column and every write time of a count, at whatever distance and how often the repeats come."""
    repeated = list(arrived)
    for index in data.draw(st.lists(st.integers(0, len(arrived) - 1), max_size=6), label="repeated events"):
        first = repeated.index(arrived[index])
        repeated.insert(data.draw(st.integers(first + 1, len(repeated)), label="arrives again at"), arrived[index])
    assert applied(tables, course, repeated, sizes).rows() == applied(tables, course, arrived, []).rows()


@given(
    courses(), old_tables([ASHA]), st.lists(events(span=7 * DAY - 1), min_size=1, max_size=6), batch_sizes, st.data()
)
def test_any_order_gives_the_same_rows(
    course: RelationCache, tables: Tables, arrived: list[ContentsCompleted], sizes: list[int], data: st.DataObject
) -> None:
    """All columns of all events within 7 days, apart from those that tell of the order by their meaning.

    These are ``completedon`` (the time of the event that completed the course), the write time of a count (the time
    of the event that was counted) and entries of ``contentstatus`` for contents that the course does not require: a
    completed enrolment gets no more of them.
    """

    def comparable(tables: Tables) -> dict[object, object]:
        return {
            cell: value
            for cell, (_, value) in tables.cells.items()
            if cell[2] != "completedon" and (cell[2] != "contentstatus" or cell[3] in course.required)
        }

    in_order = applied(tables, course, arrived, sizes)
    shuffled = applied(tables, course, data.draw(st.permutations(arrived), label="arrival"), sizes)
    assert comparable(shuffled) == comparable(in_order)
    times = {event.time_ms for event in arrived}
    key = ("enrolments", ASHA, "completedon")
    if key not in tables.cells:
        assert (key in shuffled.cells) == (key in in_order.cells)
        assert key not in shuffled.cells or shuffled.cells[key][1] in times


@given(courses(), old_tables([ASHA]), st.lists(events(), min_size=1, max_size=8))
def test_completed_count_never_exceeds_the_required_leaf_nodes_and_never_falls(
    course: RelationCache, tables: Tables, arrived: list[ContentsCompleted]
) -> None:
    before: dict[str, float] = {}
    for event in arrived:
        Updater(tables, course).run([event])
        now = tables.completed_counts()
        for activity, count in now.items():
            required = course.required_of(activity)
            assert required is not None
            assert before.get(activity, 0.0) <= count <= len(required)
        assert before.keys() <= now.keys()
        before = now


@given(courses(), st.lists(events(), min_size=1, max_size=8))
def test_an_enrolment_is_completed_exactly_when_all_required_leaf_nodes_are(
    course: RelationCache, arrived: list[ContentsCompleted]
) -> None:
    tables = Tables()
    tables.enrol(ASHA)
    finished: set[str] = set()
    completions = 0
    for event in arrived:
        updater = Updater(tables, course)
        updater.run([event])
        was_done = bool(finished) and course.required <= finished
        finished |= set(event.content_ids)
        is_done = course.required <= finished
        assert tables.cells["enrolments", ASHA, "status"][1] == (2 if is_done else 1)
        assert tables.cells["enrolments", ASHA, "progress"][1] == len(course.required & finished)
        if is_done and not was_done:
            completions += 1
            assert tables.cells["enrolments", ASHA, "completedon"][1] == event.time_ms
            assert [message.topic for message in updater.sent][-2:] == ["audit", "certificate"]
    assert completions == int(course.required <= finished)


@given(courses(), st.lists(events(span=40 * DAY), min_size=1, max_size=12), batch_sizes)
def test_counts_are_the_completions_at_least_seven_days_apart(
    course: RelationCache, arrived: list[ContentsCompleted], sizes: list[int]
) -> None:
    in_order = sorted(arrived, key=lambda event: event.time_ms)
    tables = applied(Tables(), course, in_order, sizes)
    for content in CONTENTS:
        apart: list[int] = []
        for event in in_order:
            if content in event.content_ids and (not apart or event.time_ms - apart[-1] >= 7 * DAY):
                apart.append(event.time_ms)
        row = tables.content(ASHA, content)
        assert (row.view_count, row.completed_count) == ((len(apart), len(apart)) if apart else (None, None))
        assert row.completed_time_us == (apart[-1] * 1000 if apart else None)


COUNTED_AT_T0 = Tables()
COUNTED_AT_T0.enrol(ASHA, active=True, status=0)
COUNTED_AT_T0.put_content(ASHA, Content("A", 1, 1, 1, T0 * 1000, T0 * 1000))

LEARNERS = [ASHA, EnrolmentKey("asha", COURSE, "b2"), EnrolmentKey("ravi", COURSE, "b1")]


@given(
    courses(),
    old_tables(LEARNERS),
    st.lists(st.sampled_from(LEARNERS).flatmap(lambda enrolment: events(by=enrolment)), min_size=2, max_size=10),
    batch_sizes,
)
def test_enrolments_in_one_batch_share_nothing(
    course: RelationCache, tables: Tables, arrived: list[ContentsCompleted], sizes: list[int]
) -> None:
    together = tables.copy()
    results = Updater(together, course).run(arrived, sizes)
    for enrolment in LEARNERS:
        alone = tables.copy()
        own = [index for index, event in enumerate(arrived) if event.enrolment == enrolment]
        assert [results[index] for index in own] == Updater(alone, course).run([arrived[index] for index in own])
        assert together.rows(enrolment) == alone.rows(enrolment)


@given(old_tables([ASHA]), st.lists(events(), min_size=1, max_size=8))
@example(COUNTED_AT_T0, [completed("A", at=T0)])
def test_a_message_is_sent_for_each_first_completion_and_for_no_other(
    tables: Tables, arrived: list[ContentsCompleted]
) -> None:
    course = RelationCache({"do_unit": CONTENTS})
    old = {content: tables.content(ASHA, content) for content in CONTENTS}
    results = Updater(tables, course).run(arrived)
    sent = Counter(
        message.value
        for event, result in zip(arrived, results, strict=True)
        for message in result.messages
        if b'"type":"complete"' in message.value
    )
    first = {
        content
        for event, result in zip(arrived, results, strict=True)
        for content, effect in zip(event.content_ids, result.effects, strict=True)
        if (effect is Effect.WRITTEN and not old[content].completed_count)
        # Counted before, perhaps by this job before a crash: its message may not have been sent.
        or (
            effect is Effect.REPLAYED
            and (old[content].completed_count, old[content].completed_time_us) == (1, event.time_ms * 1000)
        )
    }
    assert len(sent) == len(first)
