"""A stored time that no datetime can hold: its row is read, the time is unset, and it is counted."""

import asyncio

from cassandra.cluster import Session

from common.config.model import CassandraConfig
from common.domain.enrolments import EnrolmentKey
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from jobs.assessment_aggregator.store import Store
from local.world import World


def test_of_an_attempt(world: World, unique: str, cassandra_session: Session) -> None:
    """Somebody wrote us instead of ms: every later event of the enrolment reads the row."""
    enrolment = EnrolmentKey(unique, "c", "b")
    cassandra_session.execute(
        "INSERT INTO assessment_aggregator (user_id, course_id, batch_id, content_id, attempt_id, total_score, "
        "total_max_score, last_attempted_on, created_on) VALUES (%s, 'c', 'b', 'do_1', 'a1', 1.5, 2, "
        "1715677960002000, 1715677960002)",
        [unique],
    )
    config = CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)

    async def test() -> None:
        metrics = Metrics()
        cassandra = Cassandra(config, metrics)
        await cassandra.open()
        try:
            store = Store(cassandra, "sunbird_courses")
            await store.prepare()
            ((attempt,),) = await store.attempts([enrolment])
        finally:
            await cassandra.close()
        assert (attempt.attempt_id, attempt.total_score, attempt.last_attempted_on) == ("a1", 1.5, None)
        assert attempt.created_on is not None
        assert metrics.counts["unusable_times", "column", "last_attempted_on"] == 1

    asyncio.run(test())
