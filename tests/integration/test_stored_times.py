"""A stored time that no datetime can hold: its row is read, the time is unset, and it is counted."""

from cassandra.cluster import Session

from common.config.model import CassandraConfig
from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.progress import EnrolmentRow
from jobs.activity_aggregate_updater.store import Store as EnrolmentStore
from jobs.assessment_aggregator.store import Store
from local.world import World
from services.admission import Admission
from services.content_state import ContentStateQuery
from services.group_activity import GroupActivityQuery, shape
from services.metrics import RequestMetrics
from services.store import Store as ServicesStore
from tests.support.cassandra_proxy import opened

TIME_US = 1_715_677_960_002_000


async def test_of_an_attempt(world: World, unique: str, cassandra_session: Session) -> None:
    """Somebody wrote us instead of ms: every later event of the enrolment reads the row."""
    enrolment = EnrolmentKey(unique, "c", "b")
    cassandra_session.execute(
        "INSERT INTO assessment_aggregator (user_id, course_id, batch_id, content_id, attempt_id, total_score, "
        "total_max_score, last_attempted_on, created_on) VALUES (%s, 'c', 'b', 'do_1', 'a1', 1.5, 2, "
        "1715677960002000, 1715677960002)",
        [unique],
    )
    config = CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)
    async with opened(config) as (cassandra, metrics):
        store = Store(cassandra, "sunbird_courses")
        await store.prepare()
        ((attempt,),) = await store.attempts([enrolment])
    assert (attempt.attempt_id, attempt.total_score, attempt.last_attempted_on) == ("a1", 1.5, None)
    assert attempt.created_on is not None
    assert metrics.counts["unusable_times", "column", "last_attempted_on"] == 1


async def test_of_an_enrolment(world: World, unique: str, cassandra_session: Session) -> None:
    enrolment = EnrolmentKey(unique, "c", "b")
    cassandra_session.execute(
        "INSERT INTO user_enrolments (userid, courseid, batchid, active, status, completedon, progress) "
        f"VALUES (%s, 'c', 'b', true, 2, {TIME_US}, 1)",
        [unique],
    )
    config = CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)
    async with opened(config) as (cassandra, metrics):
        store = EnrolmentStore(cassandra, "sunbird_courses", metrics)
        await store.prepare()
        stored = (await store.read([enrolment]))[enrolment].enrolment
    assert stored == EnrolmentRow(active=True, status=2, completed_on_ms=None, content_status=None, progress=1)
    assert metrics.counts["unusable_times", "column", "completedon"] == 1


async def test_in_the_services(world: World, unique: str, cassandra_session: Session) -> None:
    """An attempt with such a time must not count as the latest one for ever."""
    for statement in (
        "INSERT INTO user_content_consumption (userid, courseid, batchid, contentid, status, last_access_time, "
        f"last_completed_time) VALUES (%s, 'c', 'b', 'do_1', 2, {TIME_US}, 1715677960002)",
        "INSERT INTO assessment_aggregator (user_id, course_id, batch_id, content_id, attempt_id, total_score, "
        f"total_max_score, last_attempted_on) VALUES (%s, 'c', 'b', 'do_1', 'a1', 1.5, 2, {TIME_US})",
        "INSERT INTO user_activity_agg (activity_type, activity_id, user_id, context_id, agg, agg_last_updated) "
        f"VALUES ('Course', 'c', %s, 'cb:b', {{'k': 1, 'l': 2, 'm': 3}}, "
        f"{{'k': {TIME_US}, 'l': 1715677960002, 'm': {TIME_US}}})",
    ):
        cassandra_session.execute(statement, [unique])
    config = CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)
    async with opened(config) as (cassandra, metrics):
        store = ServicesStore(cassandra, "sunbird_courses")
        await store.prepare()
        query = ContentStateQuery(unique, "c", "b", ("do_1",), with_score=True)
        ((consumption,), (attempt,), _) = await store.content_states(query)
        (group,) = await store.group("c", [unique])
    assert (consumption.last_access_time_ms, consumption.last_completed_time_ms) == (None, 1_715_677_960_002)
    assert (attempt.total_score, attempt.last_attempted_on_ms) == (1.5, None)
    shaped = shape(GroupActivityQuery("g", "c", "Course"), {unique: {}}, [group], now_ms=0)
    times_ms = {metric.metric: metric.last_updated_on for metric in shaped.members[0].agg}
    assert times_ms == {"k": None, "l": 1_715_677_960_002, "m": None}
    shown = RequestMetrics(metrics, Admission(1, 1)).text().decode()
    for column, count in {"last_access_time": 1, "last_attempted_on": 1, "agg_last_updated": 2}.items():
        assert f'aggregates_unusable_times_total{{column="{column}"}} {count}.0' in shown
