"""Hypothesis strategies for the activity aggregate updater: courses, events, tables that others have written to."""

from hypothesis import strategies as st

from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Content
from tests.support.activity_model import ASHA, DAY, T0, RelationCache, Tables, completed

CONTENTS = ["A", "B", "C", "D", "E"]
some_contents = st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=3, unique=True)


@st.composite
def courses(draw: st.DrawFn) -> RelationCache:
    """Up to three units that may share contents, some of which may be optional; not every content is in the course."""
    units = draw(st.dictionaries(st.sampled_from(["U1", "U2", "U3"]), some_contents, min_size=1))
    return RelationCache(units, draw(st.lists(st.sampled_from(CONTENTS), max_size=2, unique=True)))


def times(span: int) -> st.SearchStrategy[int]:
    """Event times from T0 to ``span`` ms behind it; close ones, which may be equal, are as likely as distant ones."""
    return st.one_of(st.integers(0, 3), st.integers(0, span), st.sampled_from([0, span // 2, span])).map(T0.__add__)


def events(span: int = 20 * DAY, by: EnrolmentKey = ASHA) -> st.SearchStrategy[ContentsCompleted]:
    return st.builds(lambda contents, at: completed(*contents, at=at, by=by), some_contents, times(span))


counts = st.sampled_from([0, 1, 2])


@st.composite
def old_contents(draw: st.DrawFn, content_id: str) -> Content:
    """What the API (status) and the Scala job (both counts, at one clock time, maybe a later one) may have left."""
    status = draw(st.sampled_from([None, 0, 1, 2]))
    time_us = (T0 + draw(st.integers(-20 * DAY, 20 * DAY))) * 1000 + draw(st.integers(0, 999))
    written = draw(st.sampled_from(["nothing", "views", "both"]))
    if written == "nothing":
        return Content(content_id, status)
    if written == "views":
        return Content(content_id, status, draw(counts), None, time_us, None)
    return Content(content_id, status, draw(counts), draw(counts), time_us, time_us)


@st.composite
def old_tables(draw: st.DrawFn, enrolments: list[EnrolmentKey]) -> Tables:
    """Tables before the job has seen the enrolments, which may be there, be completed, be phantoms or not be."""
    tables = Tables()
    for enrolment in enrolments:
        for content_id in draw(st.lists(st.sampled_from(CONTENTS), unique=True)):
            tables.put_content(enrolment, draw(old_contents(content_id)))
        kind = draw(st.sampled_from(["enrolled", "started", "completed", "phantom", "none"]))
        if kind == "phantom":
            tables.enrol(enrolment, lastreadcontentid="A")
        elif kind == "completed":
            tables.enrol(enrolment, active=True, status=2, completedon=draw(times(20 * DAY)))
        elif kind != "none":
            tables.enrol(enrolment, active=True, status=0 if kind == "enrolled" else 1)
            for content_id in draw(some_contents) if kind == "started" else ():
                tables.put("enrolments", enrolment, "contentstatus", content_id, value=draw(counts))
    return tables
