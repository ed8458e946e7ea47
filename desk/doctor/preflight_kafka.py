"""Asks Kafka what a preflight wants to know."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource

from common.config.model import JobConfig, KafkaConfig
from common.domain import topics
from common.domain.faults import TaskFault, WorldFault
from common.servers.kafka import (
    check_login,
    check_transaction_timeout,
    client_properties,
    partitions_of,
    reading_consumer,
    watermarks,
)
from desk.config import DeskConfig
from desk.doctor import preflight_topics
from desk.doctor.preflight import Level, Result
from desk.doctor.preflight_topics import Group, Offsets, Operations, Partition, Topic
from jobs import JOBS, config_class

_TIMEOUT_SECONDS = 15.0


async def results(config: DeskConfig, jobs: Mapping[str, JobConfig]) -> list[Result]:
    """The results about Kafka. ``jobs`` are the configurations that are valid, by job. Raises WorldFault, TaskFault."""
    return await asyncio.to_thread(_results, config, jobs)


def _results(config: DeskConfig, jobs: Mapping[str, JobConfig]) -> list[Result]:
    kafka = config.kafka
    check_login(kafka)
    name_of = {name: kafka.topic(name) for name in topics.ALL}
    try:
        admin = AdminClient({**client_properties(kafka), "log_level": 0})
        known = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        there = {name: len(known[name].partitions) for name in name_of.values() if name in known}
        unseen = _unseen(kafka, [name for name in name_of.values() if name not in there])
        found = _topics(admin, there)
        groups = _groups(config, admin, there)
    except KafkaException as error:
        raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
    return [
        *preflight_topics.kafka(found, name_of, unseen),
        *preflight_topics.groups(groups),
        *_transactions(kafka, jobs),
    ]


def _unseen(kafka: KafkaConfig, names: Sequence[str]) -> dict[str, str]:
    """Why a topic is not among those that this user may describe."""
    found = {}
    # Not by the admin client: librdkafka has one that asks for a topic by its name create it.
    with closing(reading_consumer(kafka, "support-desk")) as consumer:
        for name in names:
            try:
                partitions_of(consumer, name, _TIMEOUT_SECONDS)
            except TaskFault as fault:
                found[name] = str(fault).removeprefix("Kafka: ")
    return found


def _topics(admin: AdminClient, partitions: Mapping[str, int]) -> dict[str, Topic]:
    """The topics with so many partitions."""
    if not partitions:
        return {}
    described = admin.describe_topics(
        TopicCollection(list(partitions)), include_authorized_operations=True, request_timeout=_TIMEOUT_SECONDS
    )
    operations = {
        name: _names(answer.result(_TIMEOUT_SECONDS).authorized_operations) for name, answer in described.items()
    }
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in partitions]
    return {
        resource.name: Topic(
            partitions[resource.name],
            int(answer.result(_TIMEOUT_SECONDS)["max.message.bytes"].value),
            operations[resource.name],
        )
        for resource, answer in admin.describe_configs(resources).items()
    }


def _groups(config: DeskConfig, admin: AdminClient, partitions: Mapping[str, int]) -> dict[str, Group]:
    """The jobs' groups by job."""
    name_of = {job: config.kafka.group_id(job) for job in JOBS}
    members = {group.id: len(group.members) for group in admin.list_groups(timeout=_TIMEOUT_SECONDS)}
    operations = _operations_on_groups(admin, sorted(set(name_of.values())))
    found = {}
    for job, name in name_of.items():
        inputs = [config.kafka.topic(topic) for topic in config_class(job).inputs()]
        try:
            offsets = _offsets(config.kafka, name, [topic for topic in inputs if topic in partitions])
            found[job] = Group(name, members.get(name, 0), offsets, operations[name])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                raise
            found[job] = Group(name, 0, {}, frozenset())
    return found


def _operations_on_groups(admin: AdminClient, names: Sequence[str]) -> dict[str, Operations]:
    """What this user may do with each group; None if the broker does not tell."""
    described = admin.describe_consumer_groups(
        list(names), include_authorized_operations=True, request_timeout=_TIMEOUT_SECONDS
    )
    found: dict[str, Operations] = {}
    for name, answer in described.items():
        try:
            found[name] = _names(answer.result(_TIMEOUT_SECONDS).authorized_operations)
        except KafkaException as error:
            found[name] = frozenset() if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED else None
    return found


def _names(operations: Sequence[AclOperation] | None) -> Operations:
    return None if operations is None else frozenset(operation.name for operation in operations)


def _offsets(kafka: KafkaConfig, group: str, topic_names: Sequence[str]) -> dict[Partition, Offsets]:
    # With an open transaction, what is committed may be behind what a Java client has read.
    settings = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_uncommitted", "log_level": 0}
    with closing(Consumer({**client_properties(kafka), **settings})) as consumer:
        wanted = [one for name in topic_names for one in partitions_of(consumer, name, _TIMEOUT_SECONDS)]
        found = {}
        for one in consumer.committed(wanted, _TIMEOUT_SECONDS) if wanted else ():
            if one.error is not None:
                raise KafkaException(one.error)
            first, end = watermarks(consumer, one, _TIMEOUT_SECONDS)
            found[one.topic, one.partition] = Offsets(first, end, one.offset if one.offset >= 0 else None)
        return found


def _transactions(kafka: KafkaConfig, jobs: Mapping[str, JobConfig]) -> Iterator[Result]:
    """Whether the brokers let the transactions of each job be open for as long as it wants."""
    for name, job in jobs.items():
        if job.kafka.delivery != "exactly_once":
            continue
        timeout_ms = job.kafka.transaction_timeout_ms
        try:
            check_transaction_timeout(kafka, timeout_ms)
        except TaskFault as fault:
            yield Result(Level.FAIL, "Kafka", f"{name} would not start: {fault}")
        except WorldFault as fault:
            what = f"{name}: whether the brokers accept its kafka.transaction_timeout_ms could not be seen: {fault}"
            yield Result(Level.WARN, "Kafka", what)
        else:
            yield Result(Level.OK, "Kafka", f"{name}: the brokers accept its kafka.transaction_timeout_ms")
