"""What a preflight makes of Kafka's topics and groups, and what it asks Kafka."""

from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from common.config.loader import load
from common.config.model import JobConfig
from common.domain import topics
from common.domain.faults import TaskFault, WorldFault
from desk.config import DeskConfig
from desk.doctor import preflight_kafka, preflight_topics
from desk.doctor.preflight import Level, Result
from desk.doctor.preflight_topics import ISSUES_CERTIFICATES, Group, Offsets, Partition, Topic
from jobs import JOBS, config_class
from tests.support.required_keys import REQUIRED

NAMES = {name: f"prod.{name}" for name in topics.ALL}
NAMES_IN_DEV = [f"dev.{name}" for name in topics.ALL]
ALL = ("READ", "WRITE")
MEGABYTE = 1_048_588


def levels(results: list[Result]) -> set[Level]:
    return {result.level for result in results}


def problems(results: list[Result]) -> list[str]:
    return [str(result) for result in results if result.level is not Level.OK]


class TestKafka:
    def of_cluster(self, **changes: Topic) -> dict[str, Topic]:
        found = {name: Topic(4, MEGABYTE, ALL) for name in NAMES.values()}
        for name in topics.INPUT_OF:
            found[NAMES[name]] = Topic(4, 2 * MEGABYTE, ALL)
        return found | changes

    def test_all_topics_are_there(self) -> None:
        assert levels(list(preflight_topics.kafka(self.of_cluster(), NAMES))) == {Level.OK}

    @pytest.mark.parametrize("name", topics.ALL)
    def test_a_topic_is_missing(self, name: str) -> None:
        found = self.of_cluster()
        del found[NAMES[name]]
        assert problems(list(preflight_topics.kafka(found, NAMES))) == [
            f"FAIL  Kafka: topic prod.{name} does not exist, or this user may not describe it"
        ]

    def test_why_a_topic_was_not_found_is_said(self) -> None:
        found = self.of_cluster()
        del found["prod.telemetry.assess"]
        why = "this user may not describe the topic prod.telemetry.assess, so nobody knows what it holds"
        results = list(preflight_topics.kafka(found, NAMES, {"prod.telemetry.assess": why}))
        assert problems(results) == [f"FAIL  Kafka: {why}"]

    @pytest.mark.parametrize("name", [*topics.INPUT_OF, topics.GENERATE_CERTIFICATE_REQUEST])
    def test_a_topic_that_only_the_desk_reads(self, name: str) -> None:
        found = self.of_cluster(**{NAMES[name]: Topic(4, 2 * MEGABYTE, ["WRITE", "DESCRIBE"])})
        (problem,) = problems(list(preflight_topics.kafka(found, NAMES)))
        assert problem.startswith(f"WARN  Kafka: topic prod.{name}: this user may not read it. The jobs need not, but")

    def test_brokers_that_say_nothing_about_permissions(self) -> None:
        found = self.of_cluster(**{"prod.telemetry.assess": Topic(4, MEGABYTE, None)})
        (problem,) = problems(list(preflight_topics.kafka(found, NAMES)))
        assert problem.startswith(
            "WARN  Kafka: the brokers do not say what this user may do with prod.telemetry.assess"
        )

    def test_a_failed_topic_that_does_not_take_what_its_input_topic_takes(self) -> None:
        found = self.of_cluster(**{"prod.telemetry.assess.failed": Topic(4, MEGABYTE, ALL)})
        (problem,) = problems(list(preflight_topics.kafka(found, NAMES)))
        assert problem.startswith("WARN  Kafka: topic prod.telemetry.assess.failed: max.message.bytes is 1048588")

    def test_an_input_topic_with_one_partition(self) -> None:
        found = self.of_cluster(
            **{"prod.telemetry.assess": Topic(1, MEGABYTE, ALL), "prod.telemetry.raw": Topic(1, MEGABYTE, ALL)}
        )
        (problem,) = problems(list(preflight_topics.kafka(found, NAMES)))
        assert "prod.telemetry.assess has 1 partition" in problem

    @pytest.mark.parametrize(
        ("name", "allowed", "denied"),
        [
            (topics.ASSESS, ["DESCRIBE"], "read"),
            (topics.TELEMETRY_RAW, ["DESCRIBE"], "write"),
            (topics.ISSUE_CERTIFICATE_REQUEST, ["READ"], "write"),
            (topics.ISSUE_CERTIFICATE_REQUEST, ["WRITE"], "read"),
            (topics.ISSUE_CERTIFICATE_REQUEST, [], "read or write"),
        ],
    )
    def test_a_permission_is_missing(self, name: str, allowed: list[str], denied: str) -> None:
        found = self.of_cluster(**{NAMES[name]: Topic(4, 2 * MEGABYTE, allowed)})
        assert f"FAIL  Kafka: topic prod.{name}: this user may not {denied} it" in problems(
            list(preflight_topics.kafka(found, NAMES))
        )

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [
            (topics.ASSESS, ["READ", "WRITE"]),
            (topics.TELEMETRY_RAW, ["WRITE"]),
            (topics.ISSUE_CERTIFICATE_REQUEST, ["READ", "WRITE"]),
        ],
    )
    def test_the_permissions_that_are_needed_suffice(self, name: str, allowed: list[str]) -> None:
        found = self.of_cluster(**{NAMES[name]: Topic(4, 2 * MEGABYTE, allowed)})
        assert problems([result for result in preflight_topics.kafka(found, NAMES) if "may not" in result.what]) == []

    @pytest.mark.parametrize("name", [topics.ASSESS, topics.ENROLMENT_SYNC_REQUEST])
    def test_what_only_a_repair_writes_is_a_warning(self, name: str) -> None:
        found = self.of_cluster(**{NAMES[name]: Topic(4, 2 * MEGABYTE, ["READ"])})
        what = f"topic prod.{name}: this user may not write it. The jobs need not, but repairs and replays must"
        assert f"WARN  Kafka: {what}" in problems(list(preflight_topics.kafka(found, NAMES)))


READ = Offsets(5, 10, 8)
UNREAD = Offsets(5, 10, None)
EMPTY = Offsets(5, 5, None)


class TestGroups:
    @pytest.mark.parametrize("offsets", [(EMPTY, Offsets(0, 0, None)), ()])
    def test_of_topics_without_events_no_offsets_are_needed(self, offsets: tuple[Offsets, ...]) -> None:
        """As in a new installation."""
        assert problems(self.of(ISSUES_CERTIFICATES, *offsets)) == []

    def of(self, job: str, *offsets: Offsets, members: int = 0, operations: Any = ("READ",)) -> list[Result]:
        partitions: dict[Partition, Offsets] = {("dev.t", number): found for number, found in enumerate(offsets)}
        return list(preflight_topics.groups({job: Group("dev-g", members, partitions, operations)}))

    def test_the_lag_of_all_partitions(self) -> None:
        results = self.of(ISSUES_CERTIFICATES, READ, Offsets(0, 3, 0), Offsets(2, 2, 2), EMPTY)
        assert [str(result) for result in results] == ["OK    Kafka: group dev-g, lag 5"]

    @pytest.mark.parametrize(("job", "level"), [(ISSUES_CERTIFICATES, "FAIL"), ("another", "WARN")])
    @pytest.mark.parametrize(
        ("offsets", "what"),
        [
            ((UNREAD, UNREAD), "group dev-g has no offsets: the job would start at the earliest event"),
            (
                (READ, UNREAD, EMPTY, UNREAD),
                "group dev-g has no offsets of dev.t[1, 3]: there the job would start at the earliest event",
            ),
            (
                (READ, Offsets(0, 10, 11)),
                "group dev-g has offsets behind the end of dev.t[1], as if it had been deleted and made anew: there "
                "the job would start at the earliest event",
            ),
        ],
        ids=["none", "of some partitions", "behind the end"],
    )
    def test_a_job_that_would_read_old_events_again(
        self, offsets: tuple[Offsets, ...], what: str, job: str, level: str
    ) -> None:
        (problem,) = problems(self.of(job, *offsets))
        again = "certificates would be issued again" if level == "FAIL" else "events are read again"
        assert problem == f"{level:4}  Kafka: {what}, and {again}. Set them"

    @pytest.mark.parametrize("committed", [5, 10])
    def test_the_first_offset_and_the_end_are_within(self, committed: int) -> None:
        assert levels(self.of(ISSUES_CERTIFICATES, Offsets(5, 10, committed))) == {Level.OK}

    def test_events_that_kafka_has_deleted_unread(self) -> None:
        """Nothing is read again, so certificates are not issued again either."""
        (problem,) = problems(self.of(ISSUES_CERTIFICATES, Offsets(5, 10, 4)))
        assert problem.startswith("WARN  Kafka: group dev-g has offsets before the first event of dev.t[0]: Kafka has ")

    def test_members(self) -> None:
        (problem,) = problems(self.of("another", READ, members=2))
        assert problem == "WARN  Kafka: group dev-g still has members (2), lag 2: stop the Scala job first"
        assert len(problems(self.of("another", READ, UNREAD, members=2))) == 2

    def test_permissions(self) -> None:
        (problem,) = problems(self.of("another", READ, operations=("DESCRIBE",)))
        assert problem == "FAIL  Kafka: group dev-g: this user may not read it"
        (problem,) = problems(self.of("another", operations=()))
        assert problem == "FAIL  Kafka: group dev-g: this user may not see it, so its offsets were not looked at"
        assert levels(self.of("another", READ, operations=None)) == {Level.OK}

    def test_one_group_of_several_jobs_is_looked_at_for_each(self) -> None:
        """They read other topics, so one may have offsets and the other none."""
        found = {
            "a": Group("shared", 0, {("dev.a", 0): READ}),
            ISSUES_CERTIFICATES: Group("shared", 0, {("dev.b", 0): UNREAD}),
        }
        assert [result.level for result in preflight_topics.groups(found)] == [Level.OK, Level.FAIL]

    @pytest.mark.parametrize("job", JOBS)
    def test_the_group_of_a_job_is_the_configured_one(self, job: str) -> None:
        """Preflight and repair look at the group that the job itself would use."""
        variables = REQUIRED[DeskConfig] | {"AGGREGATES__KAFKA__ENV": "prod"}
        of_job = REQUIRED[config_class(job)] | {"AGGREGATES__KAFKA__ENV": "prod"}
        assert (
            load(DeskConfig, environ=variables).kafka.group_id(job) == load(config_class(job), environ=of_job).group_id
        )
        variables[f"AGGREGATES__KAFKA__GROUP_IDS__{job.upper()}"] = "mine"
        of_job["AGGREGATES__KAFKA__GROUP_ID"] = "mine"
        configured = load(DeskConfig, environ=variables).kafka.group_id(job)
        assert configured == load(config_class(job), environ=of_job).group_id == "mine"


class Partitions:
    """A consumer without servers: each topic has three partitions, and one of them no offset."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        assert properties["isolation.level"] == "read_uncommitted"

    def list_topics(self, topic: str, _: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=dict.fromkeys(range(3)))})

    def committed(self, partitions: list[TopicPartition], _: float) -> list[TopicPartition]:
        offsets = {0: 8, 1: -1001, 2: 12}
        return [TopicPartition(one.topic, one.partition, offsets[one.partition]) for one in partitions]

    def get_watermark_offsets(self, *_: object) -> tuple[int, int]:
        return 5, 10

    def close(self) -> None:
        pass


def test_of_each_partition_the_offsets_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_kafka, "Consumer", Partitions)
    kafka = load(DeskConfig, environ=REQUIRED[DeskConfig]).kafka
    assert preflight_kafka._offsets(kafka, "g", ["dev.t"]) == {
        ("dev.t", 0): READ,
        ("dev.t", 1): UNREAD,
        ("dev.t", 2): Offsets(5, 10, 12),
    }
    assert preflight_kafka._offsets(kafka, "g", []) == {}


def test_a_group_that_this_user_may_not_see_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(Partitions):
        def __init__(self, properties: Mapping[str, Any]) -> None:
            super().__init__(properties)
            self._is_hidden = properties["group.id"] == "hidden"

        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            if self._is_hidden:
                raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
            return super().committed(partitions, timeout)

    def answer(group: str) -> "Future[Any]":
        future: Future[Any] = Future()
        if group == "hidden":
            future.set_exception(KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
        else:
            future.set_result(SimpleNamespace(authorized_operations=[SimpleNamespace(name="READ")]))
        return future

    monkeypatch.setattr(preflight_kafka, "Consumer", Denied)
    variables = {f"AGGREGATES__KAFKA__GROUP_IDS__{ISSUES_CERTIFICATES.upper()}": "hidden"}
    config = load(DeskConfig, environ=REQUIRED[DeskConfig] | variables)
    admin: Any = SimpleNamespace(
        list_groups=lambda **_: [],
        describe_consumer_groups=lambda names, **_: {name: answer(name) for name in names},
    )
    groups = preflight_kafka._groups(config, admin, dict.fromkeys(NAMES_IN_DEV, 3))
    assert groups.pop(ISSUES_CERTIFICATES) == Group("hidden", 0, {}, frozenset())
    assert {group.operations for group in groups.values()} == {frozenset({"READ"})}
    assert all(group.offsets for group in groups.values())


@pytest.mark.parametrize(
    ("fault", "level"),
    [(None, Level.OK), (TaskFault("must not be more than 900000"), Level.FAIL), (WorldFault("denied"), Level.WARN)],
)
def test_the_transactions_of_a_job_are_compared_with_what_the_brokers_accept(
    fault: Exception | None, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def check(_: object, timeout_ms: int) -> None:
        asked.append(timeout_ms)
        if fault is not None:
            raise fault

    monkeypatch.setattr(preflight_kafka, "check_transaction_timeout", check)
    jobs: dict[str, JobConfig] = {}
    for name, delivery in zip(JOBS, ("exactly_once", "at_least_once", "at_least_once"), strict=True):
        variables = {"AGGREGATES__KAFKA__DELIVERY": delivery, "AGGREGATES__KAFKA__TRANSACTION_TIMEOUT_MS": "7200000"}
        jobs[name] = load(config_class(name), environ=REQUIRED[config_class(name)] | variables)
    (result,) = preflight_kafka._transactions(load(DeskConfig, environ=REQUIRED[DeskConfig]).kafka, jobs)
    assert result.level is level
    assert "assessment_aggregator" in result.what
    assert str(fault or "accept") in result.what
    assert asked == [7_200_000]
