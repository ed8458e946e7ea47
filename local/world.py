"""The servers together: started at the same time, with tables and topics in place.

    with World(config) as world:
        world.kafka.bootstrap_servers, world.cassandra.port, world.redis.port, world.flink.client

Servers end with the `with` block, and with the process if that is killed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from common.config.model import CassandraConfig
from common.domain import redis_databases, topics
from local import generator, jars
from local.config import Config
from local.errors import LocalWorldError
from local.flink import FlinkCluster
from local.generator import Course
from local.http_services import job_settings
from local.kafka_broker import Kafka
from local.package import build_archive
from local.prerequisites import Java, check_python, find_java
from local.process import POLL_SECONDS, Server
from local.servers import Cassandra, Redis
from schema.apply import apply_schema

ENVIRONMENT = "dev"
"""The first part of the names of all topics of the local world."""

KAFKA, CASSANDRA, REDIS, FLINK = "kafka", "cassandra", "redis", "flink"
ALL = frozenset({KAFKA, CASSANDRA, REDIS, FLINK})


def addresses(config: Config) -> dict[str, str]:
    """Where clients find each server, by its display name."""
    return {
        "Kafka": ",".join(f"{address}:{config.kafka.port}" for address in config.kafka.addresses),
        "Cassandra": ",".join(f"{address}:{config.cassandra.port}" for address in config.cassandra.addresses),
        "Redis": f"127.0.0.1:{config.redis.port}",
        "Flink UI": f"http://127.0.0.1:{config.flink.rest_port}",
    }


def _ignore(_: str) -> None:
    pass


class World:
    """Kafka, Cassandra, Redis and a Flink cluster, or some of them.

    The members are there whether started or not: addresses follow from the configuration alone. So a world that another
    process has started is used through a World that is not entered.
    """

    def __init__(
        self, config: Config, servers: Iterable[str] = ALL, *, report: Callable[[str], None] = _ignore
    ) -> None:
        """`servers` are the names to start; `report` is told what happens. Raises LocalWorldError without a JDK 17."""
        check_python()
        self.config = config
        self._names = frozenset(servers)
        if unknown := self._names - ALL:
            raise ValueError(f"unknown servers {sorted(unknown)}; there are {sorted(ALL)}")
        self._report = report
        self._java = find_java()
        self.kafka, *self._other_brokers = (
            Kafka(config, self._java, number) for number, _ in enumerate(config.kafka.addresses, 1)
        )
        self.cassandra, *self._other_nodes = (
            Cassandra(config, self._java, number) for number, _ in enumerate(config.cassandra.addresses, 1)
        )
        self.redis = Redis(config)
        self.flink = FlinkCluster(config, self._java)

    @property
    def java(self) -> Java:
        """The JDK that everything runs on."""
        return self._java

    @property
    def kafka_brokers(self) -> list[Kafka]:
        """All brokers. `kafka` is the first one, and the only one of a world of the default size."""
        return [self.kafka, *self._other_brokers]

    @property
    def cassandra_nodes(self) -> list[Cassandra]:
        """All nodes. `cassandra` is the first one, and the only one of a world of the default size."""
        return [self.cassandra, *self._other_nodes]

    @property
    def servers(self) -> list[Server]:
        """The chosen servers; Cassandra first, because it takes longest to start."""
        chosen: list[Server] = []
        if CASSANDRA in self._names:
            chosen += self.cassandra_nodes
        if REDIS in self._names:
            chosen.append(self.redis)
        if FLINK in self._names:
            chosen += self.flink.servers
        if KAFKA in self._names:
            # Last, because a fresh one is formatted before it is launched, while the others start already.
            chosen += self.kafka_brokers
        return chosen

    def start(self) -> None:
        """Fetches what is missing, starts all chosen servers at the same time, applies the schema, makes the topics.

        Raises LocalWorldError, and has stopped everything again then.
        """
        modules = {KAFKA: jars.KAFKA, CASSANDRA: jars.CASSANDRA, FLINK: jars.FLINK_CONNECTOR}
        for name, module in modules.items():
            if name in self._names:
                module.ensure(self._java, self._report)
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                seconds = server.wait_until_ready()
                self._report(f"{server.name} is ready ({seconds:.1f} s)")
            if CASSANDRA in self._names:
                self.wait_until_nodes_see_each_other()
                self.apply_schema()
            if KAFKA in self._names:
                self.kafka.create_topics(f"{ENVIRONMENT}.{topic}" for topic in topics.ALL)
        except BaseException:
            self.stop()
            raise

    def wait_until_nodes_see_each_other(self) -> None:
        """Waits until each Cassandra node can read from all of them. Raises LocalWorldError if the time runs out."""
        deadline = time.monotonic() + self.config.start_timeout_seconds
        for node in self.cassandra_nodes if self._other_nodes else ():
            while not node.sees_all_nodes():
                if time.monotonic() > deadline:
                    raise LocalWorldError(f"{node.name} cannot read from all nodes: see {node.state_folder / 'log'}")
                time.sleep(POLL_SECONDS)

    def apply_schema(self) -> None:
        """Tables and migration, as `python -m schema apply` does, with a replica of every row on each node."""
        config = CassandraConfig(contact_points=tuple(self.cassandra.contact_points), port=self.cassandra.port)
        replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {self.config.cassandra.nodes}}}"
        asyncio.run(apply_schema(config, self._report, replication))

    def submit(
        self,
        module: str,
        arguments: Iterable[str] = (),
        *,
        parallelism: int | None = None,
        savepoint: str | None = None,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """`flink run` of a job of this repository as it is now, with these servers; see FlinkCluster.submit.

        `environment` overrides the variables of `job_environment`. Returns the job's id.
        """
        archive = build_archive(self.config.state_folder)
        return self.flink.submit(
            module,
            list(arguments),
            archive=archive,
            jar=jars.FLINK_CONNECTOR_JAR,
            parallelism=parallelism,
            savepoint=savepoint,
            options=options,
            environment=self.job_environment(module) | dict(environment or {}),
        )

    def publish_relations(self, *courses: Course) -> None:
        """Fills the relation cache with the sets that describe the courses, as the publishing of a course does."""
        with self.redis.client(db=redis_databases.RELATIONS) as relations:
            for course in courses:
                for key, members in generator.relation_sets(course).items():
                    relations.sadd(key, *members)

    def job_environment(self, module: str = "") -> dict[str, str]:
        """The variables that a program with our configuration needs to use these servers.

        With the `module` of a job, such as `jobs.assessment_aggregator`, these are all that the job requires. Its URLs
        then lead to `http_services.port`, where `python -m local.http_services` may listen.
        """
        http_services = f"http://127.0.0.1:{self.config.http_services.port}"
        return {
            "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "AGGREGATES__KAFKA__ENV": ENVIRONMENT,
            "AGGREGATES__CASSANDRA__CONTACT_POINTS": f"[{', '.join(self.cassandra.contact_points)}]",
            "AGGREGATES__CASSANDRA__PORT": str(self.cassandra.port),
            "AGGREGATES__REDIS__HOST": self.redis.host,
            "AGGREGATES__REDIS__PORT": str(self.redis.port),
            **job_settings(http_services).get(module.removeprefix("jobs."), {}),
        }

    def stop(self) -> None:
        """Stops the chosen servers, the last one first."""
        for server in reversed(self.servers):
            server.stop()
        self.flink.client.close()

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()
