"""Sends the events that put findings right, each of them once, and no faster than the jobs apply them.

Between a check and its repair the rows change: attempts are archived, learners go on. So each finding is looked for
once more right before its event is sent.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import partitions_of, read_to_end, reading_consumer, watermarks
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


StillWanted = Callable[[Sequence[Event]], Awaitable[Sequence[Event]]]
"""Those of some events that are still found, so that nothing is sent for what has changed since the check."""


class RepairError(Exception):
    """The repair cannot go on. The text says why, and what to do."""


def plan(
    findings: Iterable[Finding], only: Collection[Check], time_ms: int, *, issue_again: bool = False
) -> list[Event]:
    """The events for some findings: one of each remedy for an enrolment, in the order of the findings.

    A recompute request is followed by a certificate request of its own (rule A9). A second one might arrive before the
    scores are right, so it is left out. So is, without ``issue_again``, what would issue a certificate a second time.
    """
    found: dict[tuple[Remedy, EnrolmentKey], Finding] = {}
    for finding in findings:
        if finding.remedy is not None and finding.check in only and (issue_again or not finding.issues_again):
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

    async def finish_interrupted(self, still_wanted: StillWanted) -> int:
        """Sends what is left, and still wanted, of the events that were being sent when the process was killed.

        Says how many. What is not wanted does not count as sent, as in :meth:`send`.
        Which of them the brokers have is read from the topics. Raises RepairError where Kafka does not keep these
        messages any more, WorldFault, and TaskFault as :meth:`lag` does.
        """
        intent = self._journal.open_intent
        if intent is None:
            return 0
        messages = {event.message(self._kafka).value: event for event in intent.events}
        there = await asyncio.to_thread(self._values_since, intent, messages.keys())
        left = [event for value, event in messages.items() if value not in there]
        wanted = await still_wanted(left)
        await asyncio.to_thread(send, self._kafka, [event.message(self._kafka) for event in wanted])
        self._journal.confirm(not_sent=[event for event in left if event not in wanted])
        return len(wanted)

    def _values_since(self, intent: Intent, wanted: Collection[bytes]) -> set[bytes]:
        """Those of ``wanted`` that the topics hold. Others are not kept: learners' events come all the time.

        Raises RepairError, WorldFault and TaskFault as :meth:`finish_interrupted` does.
        """
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

    async def send(self, events: Sequence[Event], rate: int, max_lag: int, still_wanted: StillWanted) -> None:
        """Sends the events that the journal does not have and that are still wanted, at most ``rate`` a second.

        Waits while the job that reads a topic is more than ``max_lag`` messages behind. Raises WorldFault, and
        TaskFault as :meth:`lag` does.
        """
        left = [event for event in events if (event.remedy, event.key) not in self._journal.sent]
        not_wanted = 0
        for first in range(0, len(left), rate):
            chunk = left[first : first + rate]
            await self._wait_for_jobs({event.remedy for event in chunk}, max_lag)
            started = time.monotonic()
            wanted = await still_wanted(chunk)
            await asyncio.to_thread(self._send, wanted)
            not_wanted += len(chunk) - len(wanted)
            done = f"{first + len(chunk) - not_wanted} of {len(left)} sent"
            self._say(f"{done}, {not_wanted} not found any more" if not_wanted else done)
            if first + rate < len(left):
                # A chunk is what a second may have.
                await asyncio.sleep(max(0.0, started + 1.0 - time.monotonic()))

    def _send(self, events: Sequence[Event]) -> None:
        if events:
            self._journal.intend(self._ends({event.remedy for event in events}), events)
            send(self._kafka, [event.message(self._kafka) for event in events])
            self._journal.confirm()

    async def _wait_for_jobs(self, remedies: Collection[Remedy], max_lag: int) -> None:
        """Waits until each job of the remedies is at most ``max_lag`` messages behind."""
        for remedy in remedies:
            number = 0
            while (lag := await asyncio.to_thread(self.lag, remedy)) > max_lag:
                if number % 10 == 0:
                    self._say(f"{JOB_OF[remedy]} is {lag} messages behind: waiting until it is at most {max_lag}")
                number += 1
                await asyncio.sleep(POLL_SECONDS)

    async def wait_until_applied(self, remedies: Collection[Remedy], patience_seconds: float) -> bool:
        """Waits until the jobs have applied what is on the topics of the remedies now; False if that took too long.

        What a job has read up to a checkpoint is applied, with its rows written and its messages sent. Learners' events
        that come meanwhile are not waited for. Raises as :meth:`lag`.
        """
        deadline = time.monotonic() + patience_seconds
        # In this order, and the ends of each when those before it are applied: they send certificate requests.
        for remedy in (remedy for remedy in Remedy if remedy in remedies):
            ends = (await asyncio.to_thread(self._ends, [remedy]))[self._kafka.topic(TOPIC_OF[remedy])]
            self._say(f"waiting until {JOB_OF[remedy]} has applied all events")
            while await asyncio.to_thread(self.lag, remedy, ends):
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(POLL_SECONDS)
        return True

    def lag(self, remedy: Remedy, ends: Mapping[int, int] | None = None) -> int:
        """How many messages of the remedy's topic its job has not read yet, all or up to ``ends``.

        Raises WorldFault, and TaskFault for a topic that does not exist or that this user may not see.
        """
        with closing(self._consumer(self._kafka.group_id(JOB_OF[remedy]))) as consumer:
            try:
                partitions = self._partitions(consumer, remedy)
                committed = consumer.committed(partitions, _TIMEOUT_SECONDS)
                lag: int = sum(
                    max(0, min(end, (ends or {}).get(partition.partition, end)) - max(first, partition.offset))
                    for partition in committed
                    for first, end in [watermarks(consumer, partition, _TIMEOUT_SECONDS)]
                )
                if 0 < lag <= _COUNTED_LAG:
                    # Transactions leave offsets without a message, which nobody can read.
                    topic = self._kafka.topic(TOPIC_OF[remedy])
                    start = {partition.partition: partition.offset for partition in committed}
                    lag = sum(1 for _ in read_to_end(consumer, topic, start, ends))
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
        return partitions_of(consumer, self._kafka.topic(TOPIC_OF[remedy]), _TIMEOUT_SECONDS)

    def _consumer(self, group: str) -> Consumer:
        # It assigns nothing in the name of a job's group that the job would miss.
        return reading_consumer(self._kafka, group)

    def _fault(self, error: KafkaException) -> WorldFault:
        return WorldFault(f"Kafka {self._kafka.bootstrap_servers}: {error.args[0]}")
