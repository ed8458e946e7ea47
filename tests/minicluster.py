"""A job of this repository on Flink's MiniCluster: its real entry point, in a process of its own, on servers that run.

`flink run --target local` reads a FLINK_CONF_DIR as a cluster does (`python -m jobs.<job>` alone would not), and runs the
Python functions in threads of the job's client. So a start takes half the time of a standalone cluster's, and a job
has neither a TaskManager nor workers that could be killed.
"""

import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from confluent_kafka import Consumer, Message, TopicPartition

from local import jars
from local.config import REPOSITORY, load_config
from local.flink import flink_environment, flink_home, render_configuration
from local.flink_client import FlinkClient
from local.process import Launch, Server
from local.world import World
from tests.waiting import wait_until

PARALLELISM = 2

_OPTIONS = {
    "parallelism.default": PARALLELISM,
    "execution.checkpointing.interval": "1 s",
    "python.fn-execution.bundle.time": 20,
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 1_000_000,
    "restart-strategy.fixed-delay.delay": "100 ms",
}


class MiniCluster(Server):
    """One job on one MiniCluster; ends with this process, as every Server does."""

    stop_timeout_seconds = 10.0

    def __init__(self, world: World, folder: Path, module: str, arguments: Sequence[str], variables: Mapping[str, str]):
        """`variables` are those of the job's environment. Jars are fetched if need be."""
        super().__init__(folder)
        self.name = f"MiniCluster of {module}"
        self._java = world.java
        self._config = load_config({}).isolated(folder)
        self.start_timeout_seconds = self._config.start_timeout_seconds
        self._command = [
            str(flink_home() / "bin" / "flink"),
            *("run", "--target", "local"),
            *("--jarfile", str(jars.FLINK_CONNECTOR_JAR)),
            *("--pyModule", module),
            *arguments,
        ]
        self._variables = dict(variables)
        self.client = FlinkClient(f"http://127.0.0.1:{self._config.flink.rest_port}")
        jars.FLINK_CONNECTOR.ensure(world.java, print)

    @property
    def job(self) -> str:
        """The id that Flink has given it."""
        (job,) = self.client.jobs()
        return job

    def prepare(self) -> Launch:
        """Renders the checked-in configuration with the options above."""
        render_configuration(self._config)
        file = self.state_folder / "flink" / "conf" / "config.yaml"
        port = self._config.flink.rest_port
        options = {**yaml.safe_load(file.read_text()), **_OPTIONS, "rest.bind-port": str(port)}
        file.write_text(yaml.safe_dump(options, width=10_000))
        flink = flink_environment(self._config, self._java, self.state_folder)
        return Launch(
            self._command,
            {
                **flink,
                **self._variables,
                "PYTHONPATH": str(REPOSITORY),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "JVM_ARGS": "-Xmx512m",
            },
            ports={"flink.rest_port": port},
        )

    def is_ready(self) -> bool:
        """All subtasks run, so their Python functions are open."""
        return (
            self.client.task_managers() is not None
            and len(self.client.jobs()) == 1
            and {vertex.status for vertex in self.client.vertices(self.job)} == {"RUNNING"}
        )

    def stop(self) -> None:
        """Ends it."""
        super().stop()
        self.client.close()


class Inbox:
    """What a topic holds, from its beginning on, read as it arrives."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "inbox", "log_level": 0})
        partitions = self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        self._messages: list[Message] = []

    def wait_for(
        self, count: int, matches: Callable[[Message], bool] = lambda _: True, timeout_seconds: float = 60.0
    ) -> list[Message]:
        """Those that match, as soon as there are at least `count` of them."""
        found = [message for message in self._messages if matches(message)]

        def are_there() -> bool:
            for message in self._consumer.consume(1000, timeout=0.05):
                assert message.error() is None, message.error()
                self._messages.append(message)
                if matches(message):
                    found.append(message)
            return len(found) >= count

        wait_until(are_there, f"{count} such messages in {self._topic}", timeout_seconds)
        return found

    def close(self) -> None:
        self._consumer.close()


class RunningJob:
    """A job on a MiniCluster with topics that are its own, each of one partition: messages arrive as they were sent."""

    def __init__(self, world: World, env: str, cluster: MiniCluster) -> None:
        self.env = env
        self.cluster = cluster
        self._world = world
        self._inboxes: dict[str, Inbox] = {}

    def topic(self, name: str) -> str:
        """Its name in the broker."""
        return f"{self.env}.{name}"

    def inbox(self, name: str) -> Inbox:
        """Of a topic that the job writes."""
        if name not in self._inboxes:
            self._inboxes[name] = Inbox(self._world.kafka.bootstrap_servers, self.topic(name))
        return self._inboxes[name]

    @contextmanager
    def log_on_failure(self) -> Iterator["RunningJob"]:
        """Prints at the end what the job has logged since: pytest shows that where the test has failed."""
        start = self.cluster.log_file.stat().st_size
        yield self
        with self.cluster.log_file.open("rb") as log:
            log.seek(start)
            print(f"{self.cluster.log_file} since the start of the test:\n{log.read().decode(errors='replace')}")

    def close(self) -> None:
        self.cluster.stop()
        for inbox in self._inboxes.values():
            inbox.close()


@contextmanager
def running_job(
    world: World,
    folder: Path,
    module: str,
    topics: Iterable[str],
    *,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    is_started: bool = True,
) -> Iterator[RunningJob]:
    """Starts `module` with an environment prefix of its own and `topics` (without it); it runs when this returns.

    `variables` come on top of those that point the job at the world's servers. With `is_started` False it is only
    launched.
    """
    env = f"{module.rpartition('.')[2]}-{uuid.uuid4().hex[:8]}"
    world.kafka.create_topics([f"{env}.{topic}" for topic in topics], 1)
    own = {"AGGREGATES__KAFKA__ENV": env, **(variables or {})}
    cluster = MiniCluster(world, folder, module, arguments, {**world.job_environment(), **own})
    job = RunningJob(world, env, cluster)
    try:
        if is_started:
            cluster.start()
        else:
            cluster.launch()
        yield job
    finally:
        job.close()
