"""Topics that are deleted, missing, full or flooded, and events of 10 MB: one bad event stops nothing for good.

One job for all, on a broker that makes no topic by itself.
"""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from random import Random

import psutil
import pytest

from common.domain.messages import repaired
from local.config import Config, load_config
from local.kafka_broker import Kafka
from local.process import Launch
from local.world import World
from tests.support.assessment import FAILED, INPUT, REQUESTS, Assessment, Learner
from tests.support.job_topics import MAX_MESSAGE_BYTES
from tests.support.minicluster import MiniCluster
from tests.support.strategies import answer
from tests.support.tables import Tables
from tests.support.waiting import wait_until

PRODUCER_PROPERTIES = {"max.block.ms": 3000, "request.timeout.ms": 4000, "delivery.timeout.ms": 5000}
"""A topic that takes nothing fails the task after seconds, and not after one or two minutes as Kafka is shipped."""


class StrictKafka(Kafka):
    """Makes no topic of which it is asked, as brokers in production do not."""

    def prepare(self) -> Launch:
        launch = super().prepare()
        file = self.state_folder / "server.properties"
        file.write_text(file.read_text().replace("auto.create.topics.enable=true", "auto.create.topics.enable=false"))
        return launch


@pytest.fixture(scope="module")
def running_job(
    world: World, world_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Assessment, MiniCluster]]:
    own = load_config({}).isolated(tmp_path_factory.mktemp("kafka"))
    kafka = StrictKafka(own, world.java)
    kafka.start()
    # The session's servers, but for Kafka.
    servers = World(world_config.model_copy(update={"kafka": own.kafka}))
    variables = {"AGGREGATES__KAFKA__PRODUCER_PROPERTIES": json.dumps(PRODUCER_PROPERTIES)}
    try:
        with (
            closing(Assessment(servers)) as topics,
            MiniCluster(
                servers, topics, tmp_path_factory.mktemp("topics"), "jobs.assessment_aggregator", **variables
            ) as cluster,
        ):
            yield topics, cluster
    finally:
        kafka.stop()


@pytest.fixture
def cluster(running_job: tuple[Assessment, MiniCluster]) -> MiniCluster:
    return running_job[1]


@pytest.fixture
def topics(running_job: tuple[Assessment, MiniCluster]) -> Iterator[Assessment]:
    topics, cluster = running_job
    with cluster.log_on_failure():
        yield topics


def good(learner: Learner) -> dict[str, object]:
    return learner.attempt("do_1", "a1", [(7.5, 10)])


def bad(unique: str, length: int) -> bytes:
    """No JSON, so that all of it is wrapped; and nothing that LZ4 could make shorter."""
    return (f'{{"userId": "{unique}'.encode() + b64encode(Random(unique).randbytes(length)))[:length]


def restarts(cluster: MiniCluster) -> int:
    return cluster.client.checkpoints(cluster.job)["restored"]


def test_events_of_10_mb(topics: Assessment, tables: Tables, cluster: MiniCluster, learner: Learner) -> None:
    before = restarts(cluster)
    for name in (INPUT, FAILED):
        topics.configure(name, "max.message.bytes", MAX_MESSAGE_BYTES)
    text = "." * 10_000_000
    large = learner.attempt("do_1", "a1", (), events=[answer(score=7.5, resvalues=[{"1": text}])])
    malformed = bad(learner.user_id, 10_000_000)
    topics.send(large, malformed, learner.attempt("do_2", "b1", [(1, 2)]))
    topics.requests(learner, 2)
    assert tables.aggregates(learner).aggregates["score:do_1"] == 7.5
    assert tables.attempts(learner)[0].question[0].resvalues == [{"1": text}]
    (failed,) = topics.inbox(FAILED).wait_for(1)
    assert repaired(failed.value()) == malformed
    assert restarts(cluster) == before


class TestAFlood:
    """Of malformed events at full speed, with good ones in between."""

    MALFORMED, LENGTH = 25_000, 4_000
    EVERY = 500
    """Of so many events one is good."""
    MAX_GROWTH = MALFORMED * 4 // 5 * LENGTH // 2
    """Of all Python processes in bytes: half of what the last four fifths of the events have. Measured: mostly none."""

    def test_stops_nothing_and_fills_no_memory(
        self, topics: Assessment, tables: Tables, cluster: MiniCluster, unique: str
    ) -> None:
        learners = [Learner.unique(f"{unique}-{number}") for number in range(self.MALFORMED // self.EVERY)]
        before = restarts(cluster)
        earlier = len(topics.inbox(FAILED).all())
        for start in range(0, self.MALFORMED, self.EVERY):
            topics.send(
                *(bad(f"{number}-{unique}", self.LENGTH) for number in range(start, start + self.EVERY)),
                good(learners[start // self.EVERY]),
            )
        inbox = topics.inbox(FAILED)
        inbox.wait_for(earlier + self.MALFORMED // 5)
        memory = _memory_of_python(cluster)
        inbox.wait_for(earlier + self.MALFORMED)
        assert restarts(cluster) == before
        assert sum(bytes_now - memory[pid] for pid, bytes_now in _memory_of_python(cluster).items()) < self.MAX_GROWTH

        sent = Counter(bad(f"{number}-{unique}", self.LENGTH) for number in range(self.MALFORMED))
        failed = Counter(repaired(message.value()) for message in inbox.all()[earlier:])
        assert failed - sent == Counter()
        assert sent - failed == Counter()
        topics.inbox(REQUESTS).wait_for(len(learners), lambda message: unique.encode() in message.value())
        for learner in learners:
            assert tables.aggregates(learner).aggregates["score:do_1"] == 7.5
        assert restarts(cluster) == before


def _memory_of_python(cluster: MiniCluster) -> dict[int, int]:
    """Bytes of each Python process: the job's client and the workers of its subtasks. The JVM's heap is bounded."""
    children = psutil.Process(cluster.pid).children(recursive=True)
    return {child.pid: child.memory_info().rss for child in children if child.name().startswith("python")}


def test_a_failed_topic_that_takes_no_message_so_large_and_then_is_missing(
    topics: Assessment, tables: Tables, cluster: MiniCluster, unique: str
) -> None:
    """Until it takes the bad event, the job starts again and again and says why; then everything is there."""
    learners = [Learner.unique(f"{unique}-{number}") for number in range(10)]
    malformed = bad(unique, 1000)
    # The first of the two may have begun before the last event of the test before: that one would come again.
    cluster.client.wait_until_running(cluster.job, checkpoints=2)
    topics.delete(FAILED)
    topics.create(FAILED)
    # It will be longer: in base64, with the reason.
    topics.configure(FAILED, "max.message.bytes", len(malformed))
    topics.send(*map(good, learners[:5]), malformed, *map(good, learners[5:]))
    wait_for_fault(cluster, topics.topic(FAILED), "RecordTooLargeException")
    topics.delete(FAILED)
    wait_for_fault(cluster, f"Topic {topics.topic(FAILED)} not present in metadata after 3000 ms")
    topics.create(FAILED)
    for learner in learners:
        topics.requests(learner, 1)
        assert tables.aggregates(learner).aggregates["score:do_1"] == 7.5
    topics.inbox(FAILED).wait_for(1)
    assert {repaired(message.value()) for message in topics.inbox(FAILED).all()} == {malformed}


def wait_for_fault(cluster: MiniCluster, *texts: str) -> None:
    """Until the job has failed with all of them in one stack trace."""

    def has_failed() -> bool:
        return any(all(text in trace for text in texts) for trace in cluster.client.exceptions(cluster.job))

    wait_until(has_failed, f"the job has failed with {texts}")


def test_an_input_topic_that_is_deleted_and_made_again(
    topics: Assessment, tables: Tables, cluster: MiniCluster, unique: str
) -> None:
    """As long as the job notices before the new topic holds more than it had read of the old one."""
    before = restarts(cluster)
    learners = [Learner.unique(f"{unique}-{number}") for number in range(30)]
    topics.send(*map(good, learners[:20]))
    topics.requests(learners[19], 1)
    topics.delete(INPUT)
    topics.create(INPUT)
    topics.send(*map(good, learners[20:25]))
    topics.requests(learners[24], 1)
    topics.send(*map(good, learners[25:]))
    for learner in learners:
        topics.requests(learner, 1)
        assert tables.aggregates(learner).aggregates["score:do_1"] == 7.5
    assert restarts(cluster) == before
