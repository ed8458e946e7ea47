"""Sends the events that put findings right, each of them once, and no faster than the jobs apply them."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import read_to_end, reading_consumer, watermarks
from desk.config import DeskKafkaConfig
from desk.doctor.findings import Check, Finding
from desk.doctor.journal import Event, Intent, Journal
from desk.remedies import Remedy
from desk.sender import send

JOB_OF = {
    Remedy.RECOMPUTE: "assessment_aggregator",
    Remedy.SYNC: "activity_aggregate_updater",
    Remedy.CERTIFICATE: "collection_cert_pre_processor",
}
TOPIC_OF = {
    Remedy.RECOMPUTE: topics.ASSESS,
    Remedy.SYNC: topics.ENROLMENT_SYNC_REQUEST,
    Remedy.CERTIFICATE: topics.ISSUE_CERTIFICATE_REQUEST,
}

RATE = 200
"""Events a second: about a tenth of what one core of a job applies."""
MAX_LAG = 10_000
"""Messages. Jobs commit offsets with their checkpoints, so what the repair sends in between counts."""

POLL_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0
_COUNTED_LAG = 1_000
"""Up to this lag the messages are counted one by one."""


class RepairError(Exception):
    """The repair cannot go on. The text says why, and what to do."""


def plan(findings: Iterable[Finding], only: Collection[Check], time_ms: int) -> list[Event]:
    """The events for some findings: one of each remedy for an enrolment, in the order of the findings.

    A recompute request is followed by a certificate request of its own (rule A9). A second one might arrive before the
    scores are right, so it is left out.
    """
    found: dict[tuple[Remedy, EnrolmentKey], Finding] = {}
    for finding in findings:
        if finding.remedy is not None and finding.check in only:
            found.setdefault((finding.remedy, finding.key), finding)
    return [
        Event(remedy, *key, finding.content_id, time_ms)
        for (remedy, key), finding in found.items()
        if remedy is not Remedy.CERTIFICATE or (Remedy.RECOMPUTE, key) not in found
    ]


class Repair:
    """Sends events with a journal."""

    def __init__(self, kafka: DeskKafkaConfig, journal: Journal, say: Callable[[str], None]) -> None:
        """``say`` prints a line."""
        self._kafka = kafka
        self._journal = journal
        self._say = say

    def finish_interrupted(self) -> int:
        """Sends what is left of the events that were being sent when the process was killed, and says how many.

        Which of them the brokers have is read from the topics. Raises RepairError where Kafka does not keep these
        messages any more, and WorldFault.
        """
        intent = self._journal.open_intent
        if intent is None:
            return 0
        messages = [event.message(self._kafka) for event in intent.events]
        there = self._values_since(intent, {message.value for message in messages})
        left = [message for message in messages if message.value not in there]
        send(self._kafka, left)
        self._journal.confirm()
        return len(left)

    def _values_since(self, intent: Intent, wanted: Collection[bytes]) -> set[bytes]:
        """Those of ``wanted`` that the topics hold. Others are not kept: learners' events come all the time."""
        values: set[bytes] = set()
        consumer = self._consumer("support-desk")
        with closing(consumer):
            try:
                for topic, ends in intent.ends.items():
                    for number, end in ends.items():
                        partition = TopicPartition(topic, number)
                        first, _ = watermarks(consumer, partition, _TIMEOUT_SECONDS)
                        if first > end:
                            raise RepairError(
                                f"{self._journal.path}: nobody knows whether the last {len(intent.events)} events were "
                                f"sent, because {topic} does not keep them any more. Check again, and repair the new "
                                "findings"
                            )
                    values.update(value for value in read_to_end(consumer, topic, dict(ends)) if value in wanted)
            except KafkaException as error:
                raise self._fault(error) from error
        return values

    def send(self, events: Sequence[Event], rate: int, max_lag: int) -> None:
        """Sends the events that the journal does not have, at most ``rate`` a second.

        Waits while the job that reads a topic is more than ``max_lag`` messages behind. Raises WorldFault.
        """
        left = [event for event in events if (event.remedy, event.key) not in self._journal.sent]
        for first in range(0, len(left), rate):
            chunk = left[first : first + rate]
            remedies = {event.remedy for event in chunk}
            self.wait_for_jobs(remedies, max_lag)
            started = time.monotonic()
            self._journal.intend(self._ends(remedies), chunk)
            send(self._kafka, [event.message(self._kafka) for event in chunk])
            self._journal.confirm()
            self._say(f"{first + len(chunk)} of {len(left)} sent")
            if first + rate < len(left):
                # A chunk is what a second may have.
                time.sleep(max(0.0, started + 1.0 - time.monotonic()))

    def wait_for_jobs(self, remedies: Collection[Remedy], max_lag: int, patience_seconds: float = float("inf")) -> bool:
        """Waits until each job of the remedies is at most ``max_lag`` messages behind; False if that took too long.

        What a job has read up to a checkpoint is applied, with its rows written and its messages sent.
        """
        deadline = time.monotonic() + patience_seconds
        said: Counter[Remedy] = Counter()
        # In this order: a recompute and a sync send certificate requests.
        for remedy in (remedy for remedy in Remedy if remedy in remedies):
            while (lag := self.lag(remedy)) > max_lag:
                if time.monotonic() > deadline:
                    return False
                if said[remedy] % 10 == 0:
                    self._say(f"{JOB_OF[remedy]} is {lag} messages behind: waiting until it is at most {max_lag}")
                said[remedy] += 1
                time.sleep(POLL_SECONDS)
        return True

    def lag(self, remedy: Remedy) -> int:
        """How many messages of the remedy's topic its job has not read yet. Raises WorldFault."""
        with closing(self._consumer(self._kafka.group_id(JOB_OF[remedy]))) as consumer:
            try:
                partitions = self._partitions(consumer, remedy)
                committed = consumer.committed(partitions, _TIMEOUT_SECONDS)
                lag: int = sum(
                    max(0, end - max(first, partition.offset))
                    for partition in committed
                    for first, end in [watermarks(consumer, partition, _TIMEOUT_SECONDS)]
                )
                if 0 < lag <= _COUNTED_LAG:
                    # Transactions leave offsets without a message, which nobody can read.
                    topic = self._kafka.topic(TOPIC_OF[remedy])
                    start = {partition.partition: partition.offset for partition in committed}
                    lag = sum(1 for _ in read_to_end(consumer, topic, start))
                return lag
            except KafkaException as error:
                raise self._fault(error) from error

    def _ends(self, remedies: Collection[Remedy]) -> dict[str, dict[int, int]]:
        with closing(self._consumer("support-desk")) as consumer:
            try:
                return {
                    self._kafka.topic(TOPIC_OF[remedy]): {
                        partition.partition: watermarks(consumer, partition, _TIMEOUT_SECONDS)[1]
                        for partition in self._partitions(consumer, remedy)
                    }
                    for remedy in remedies
                }
            except KafkaException as error:
                raise self._fault(error) from error

    def _partitions(self, consumer: Consumer, remedy: Remedy) -> list[TopicPartition]:
        topic = self._kafka.topic(TOPIC_OF[remedy])
        metadata = consumer.list_topics(topic, _TIMEOUT_SECONDS).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return [TopicPartition(topic, number) for number in metadata.partitions]

    def _consumer(self, group: str) -> Consumer:
        # It assigns nothing in the name of a job's group that the job would miss.
        return reading_consumer(self._kafka, group)

    def _fault(self, error: KafkaException) -> WorldFault:
        return WorldFault(f"Kafka {self._kafka.bootstrap_servers}: {error.args[0]}")
