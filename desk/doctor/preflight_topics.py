"""Whether Kafka is ready for a switch-over: the topics and the jobs' consumer groups. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.domain import topics
from desk.doctor.preflight import Level, Result
from jobs import JOBS, config_class

INPUTS = {topic for name in JOBS for topic in config_class(name).inputs()}
OUTPUTS = {topic for topic in topics.ALL if topic not in INPUTS} | {topics.ISSUE_CERTIFICATE_REQUEST}
"""One of them is an input, too: two jobs send the requests that the third one reads."""
READ_BY_DESK = {*topics.INPUT_OF, topics.ISSUE_CERTIFICATE_REQUEST, topics.GENERATE_CERTIFICATE_REQUEST}
"""For explanations and for the check of certificates. A repair reads inputs, too."""
WRITTEN_BY_DESK = {*topics.INPUT_OF.values(), topics.ENROLMENT_SYNC_REQUEST}
"""By a repair, a button, or the replay of failed events. A desk that only looks needs none of it."""
ISSUES_CERTIFICATES = "collection_cert_pre_processor"
"""The job that must not read old events again."""

Operations = Collection[str] | None
"""What this user may do, such as READ; None if the brokers do not say."""
Partition = tuple[str, int]
"""A topic by its name in the cluster, and the number of the partition."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the cluster."""

    partitions: int
    max_message_bytes: int
    operations: Operations = None


@dataclass(frozen=True, slots=True)
class Offsets:
    """A partition: its first offset, the one behind its last, and what a group has committed, None if nothing."""

    first: int
    end: int
    committed: int | None

    @property
    def lag(self) -> int:
        """How many offsets the job would read. Where it has none between these two, it starts at the earliest event."""
        if self.committed is None or not self.first <= self.committed <= self.end:
            return self.end - self.first
        return self.end - self.committed


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group of a job, with the partitions of its topics. None of them if it may not be described."""

    name: str
    members: int
    offsets: Mapping[Partition, Offsets]
    operations: Operations = None


def kafka(
    found: Mapping[str, Topic], name_of: Mapping[str, str], unseen: Mapping[str, str] | None = None
) -> Iterator[Result]:
    """The topics, by their name in the cluster; ``name_of`` has that name for each of :mod:`common.domain.topics`.

    ``unseen`` says why a topic was not found.
    """
    for name in topics.ALL:
        full_name = name_of[name]
        topic = found.get(full_name)
        if topic is None:
            what = f"topic {full_name} does not exist, or this user may not describe it"
            yield Result(Level.FAIL, "Kafka", (unseen or {}).get(full_name, what))
            continue
        needed = [operation for operation, used in (("READ", INPUTS), ("WRITE", OUTPUTS)) if name in used]
        allowed = ["READ", "WRITE"] if topic.operations is None else topic.operations
        if denied := [operation.lower() for operation in needed if operation not in allowed]:
            yield Result(Level.FAIL, "Kafka", f"topic {full_name}: this user may not {' or '.join(denied)} it")
        elif name in READ_BY_DESK and "READ" not in allowed:
            what = f"topic {full_name}: this user may not read it. The jobs need not, but explain and check must"
            yield Result(Level.WARN, "Kafka", what)
        elif name in WRITTEN_BY_DESK and "WRITE" not in allowed:
            what = f"topic {full_name}: this user may not write it. The jobs need not, but repairs and replays must"
            yield Result(Level.WARN, "Kafka", what)
        elif name in INPUTS and topic.partitions < 2:
            what = f"topic {full_name} has 1 partition: a job reads it with one subtask, however many it has"
            yield Result(Level.WARN, "Kafka", what)
        else:
            yield Result(Level.OK, "Kafka", f"topic {full_name}, {topic.partitions} partitions")
    if untold := [name for name, topic in found.items() if topic.operations is None]:
        what = f"the brokers do not say what this user may do with {', '.join(untold)}: check the permissions yourself"
        yield Result(Level.WARN, "Kafka", what)
    for name, source in topics.INPUT_OF.items():
        failed, read = found.get(name_of[name]), found.get(name_of[source])
        # Base64 makes a value a third longer, and the reason is added. docs/operating.md says the same.
        if failed and read and failed.max_message_bytes < (needed_bytes := read.max_message_bytes * 4 // 3 + 65_536):
            what = (
                f"topic {name_of[name]}: max.message.bytes is {failed.max_message_bytes}, but an event of "
                f"{name_of[source]} may have {read.max_message_bytes}, and base64 makes it longer: raise it to "
                f"{needed_bytes}"
            )
            yield Result(Level.WARN, "Kafka", what)


def groups(found: Mapping[str, Group]) -> Iterator[Result]:
    """The consumer groups by job. Unless others are configured, they have the names of the Scala jobs' groups."""
    for job, group in found.items():
        results = list(_problems(job, group))
        yield from results
        if not results:
            lag = sum(offsets.lag for offsets in group.offsets.values())
            yield Result(Level.OK, "Kafka", f"group {group.name}, lag {lag}")


def _problems(job: str, group: Group) -> Iterator[Result]:
    name, of = f"group {group.name}", group.offsets
    if group.operations is not None and "READ" not in group.operations:
        if not group.operations:
            yield Result(Level.FAIL, "Kafka", f"{name}: this user may not see it, so its offsets were not looked at")
            return
        yield Result(Level.FAIL, "Kafka", f"{name}: this user may not read it")
    is_certificates = job == ISSUES_CERTIFICATES
    level = Level.FAIL if is_certificates else Level.WARN
    again = "certificates would be issued again" if is_certificates else "events are read again"
    from_earliest = f"the job would start at the earliest event, and {again}"
    readable = [offsets for offsets in of.values() if offsets.first < offsets.end]
    if readable and all(offsets.committed is None for offsets in of.values()):
        yield Result(level, "Kafka", f"{name} has no offsets: {from_earliest}. Set them")
        return
    # Of a partition without events nothing can be read again.
    if without := [one for one, found in of.items() if found.committed is None and found.first < found.end]:
        yield Result(level, "Kafka", f"{name} has no offsets of {_shown(without)}: there {from_earliest}. Set them")
    if beyond := [one for one, found in of.items() if found.committed is not None and found.committed > found.end]:
        what = f"{name} has offsets behind the end of {_shown(beyond)}, as if it had been deleted and made anew"
        yield Result(level, "Kafka", f"{what}: there {from_earliest}. Set them")
    if lost := [one for one, found in of.items() if found.committed is not None and found.committed < found.first]:
        what = f"{name} has offsets before the first event of {_shown(lost)}"
        yield Result(Level.WARN, "Kafka", f"{what}: Kafka has deleted events that the job has not read")
    if group.members:
        lag = sum(offsets.lag for offsets in of.values())
        what = f"{name} still has members ({group.members}), lag {lag}: stop the Scala job first"
        yield Result(Level.WARN, "Kafka", what)


def _shown(partitions: Sequence[Partition]) -> str:
    """``dev.telemetry.assess[0, 3]``, and the same of other topics."""
    topic_names = dict.fromkeys(topic for topic, _ in partitions)
    return ", ".join(
        f"{name}[{', '.join(str(number) for topic, number in partitions if topic == name)}]" for name in topic_names
    )
