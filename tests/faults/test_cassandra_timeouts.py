"""A Cassandra that answers timeouts to half of the writes, though it does them: everything is counted once."""

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cassandra.cluster import Session
from cassandra.policies import RetryPolicy

from common.config.model import BatchConfig, RetryConfig
from common.flink.group_commit import GroupCommit, Observer
from common.flink.job import Outcome
from jobs.activity_aggregate_updater.events import ContentsCompleted
from local.config import load_config
from local.process import Launch
from local.servers import Cassandra
from local.world import CASSANDRA, World
from tests.support.activity_servers import Arrivals, Running, Servers
from tests.support.activity_strategies import CONTENTS
from tests.support.cassandra_session import connect

SYNC_MS, WRITE_TIMEOUT_MS = 80, 40


class SlowCommitLog(Cassandra):
    """Writes its commit log in turns, and takes half a turn for a timeout: a write in the first half has it."""

    def prepare(self) -> Launch:
        launch = super().prepare()
        file = self.state_folder / "cassandra.yaml"
        group = (
            f"commitlog_sync: group\n"
            f"commitlog_sync_group_window: {SYNC_MS}ms\n"
            f"write_request_timeout: {WRITE_TIMEOUT_MS}ms"
        )
        file.write_text(file.read_text().replace("commitlog_sync: batch", group))
        return launch


class WriteAgain(RetryPolicy):
    """Of the test's own writes, until one is in time."""

    def on_write_timeout(self, *_: object, **__: object) -> tuple[int, None]:
        return self.RETRY, None


@pytest.fixture
def slow_session(tmp_path: Path) -> Iterator[Session]:
    config = load_config({}).isolated(tmp_path)
    slow = World(config, {CASSANDRA})
    slow.cassandra = SlowCommitLog(config, slow.java)
    with slow, connect(slow.cassandra, retry_policy=WriteAgain()) as session:
        yield session


async def test_events_count_once(world: World, slow_session: Session, caplog: pytest.LogCaptureFixture) -> None:
    servers = Servers(world, slow_session)
    (host,) = slow_session.hosts
    config = servers.config(CASSANDRA__PORT=str(host.endpoint.port))
    units = {"do_unit_1": CONTENTS[:2], "do_unit_2": CONTENTS[2:]}
    arrivals = Arrivals.random(servers, config, random.Random(11), units, 60, contents=CONTENTS, days=6)

    batch_sizes: list[int] = []
    batches = BatchConfig(max_batch_size=4, max_in_flight_requests=1)
    retry = RetryConfig(initial_backoff_ms=1, max_backoff_ms=SYNC_MS)

    with caplog.at_level(logging.WARNING, "common.flink.group_commit"):
        async with Running(config) as process:

            async def apply(batch: Sequence[ContentsCompleted]) -> Sequence[Outcome]:
                return await process.apply(*batch)

            def refuse(event: ContentsCompleted, error: Exception) -> Outcome:
                raise AssertionError(f"{event} is refused") from error

            observer = Observer(batch_applied=lambda size, _: batch_sizes.append(size))
            commit = GroupCommit(apply, refuse, batches, retry, observer)
            sent = await asyncio.gather(*(commit.submit(event.enrolment, event) for event in arrivals.events))
        assert sent == arrivals.expected
    assert servers.rows(arrivals.learners, arrivals.course) == arrivals.tables.rows()
    assert sum(batch_sizes) == len(arrivals.events)
    timeouts = [record for record in caplog.records if "timed out waiting for replica" in record.getMessage()]
    assert len(timeouts) > len(batch_sizes) / 2
