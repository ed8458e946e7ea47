"""``python -m jobs.replay --job NAME``: sends the events on a job's failed topic to its input topic again.

Use it when the cause is mended: a course was missing, a template was wrong. Payloads are restored, our metadata is
removed, Kafka keys are kept. An event that fails again comes back to the failed topic with its new reason.

The command continues where it last ended (consumer group ``<the job's consumer group>-replay``) and stops at the last
event that the topic has when it starts. Offsets are committed only after the broker has acknowledged every event. If
the command is killed, some events are sent twice and none is lost; the second one changes nothing, but may issue a
certificate without enrolment criteria again. ``--reason`` has a consumer group of its own (``...-replay-<reason>``), so
events that it passes over are still there for another run.

With ``--since``, events that failed earlier are not sent: those that the Scala job had put there, for instance. Give it
with the next run, too.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from common.config.loader import ConfigError, load
from common.config.model import JobConfig
from common.domain.events import BadEvent, to_time_ms
from common.domain.faults import TaskFault, WorldFault
from common.domain.messages import repaired
from common.servers.kafka import check_login, client_properties, partitions_of, watermarks
from jobs import JOBS, config_class

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.2
"""Fetching waits so long for a full batch. The marks of transactions count as offsets, so it may never be full."""
BATCH_SIZE = 500
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""As in the jobs' own producers: what an input topic accepted once, it accepts again."""


class _Metadata(msgspec.Struct):
    validation_error: str = ""


class _Failed(msgspec.Struct):
    metadata: _Metadata | None = None


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if the broker has acknowledged every event, 1 if not, 2 for wrong arguments or configuration."""
    parser = argparse.ArgumentParser(prog="python -m jobs.replay", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", required=True, choices=JOBS)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file whose keys override the shipped ones")
    parser.add_argument("--reason", default="", metavar="TEXT", help="only events whose reason contains this text")
    parser.add_argument(
        "--since",
        type=_time_ms,
        metavar="TIME",
        help="only events that failed at this time or later: 2026-11-27T18:00Z",
    )
    parser.add_argument("--dry-run", action="store_true", help="only count: send nothing and commit no offsets")
    options = parser.parse_args(arguments)
    try:
        config = load(config_class(options.job), options.config)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    try:
        check_login(config.kafka)
        counts = replay(config, options.reason, options.since, dry_run=options.dry_run)
    except (TaskFault, WorldFault) as fault:
        print(fault, file=sys.stderr)
        return 1
    except KafkaException as error:
        print(f"Kafka: {error.args[0]}", file=sys.stderr)
        return 1
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "nothing to replay")
    return 0


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-27T18:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone, such as Z or +05:30 at its end")
    return to_time_ms(moment)


def replay(config: JobConfig, reason: str = "", since_ms: int | None = None, *, dry_run: bool = False) -> Counter[str]:
    """Sends the events whose reason contains ``reason``. Others, and messages that are not failed events, are skipped.

    Begins at the first event that failed at ``since_ms`` or later. Events before that are not counted.
    Returns how many were ``sent`` (or ``would be sent``), ``passed over`` and ``not of a failed topic``. Raises
    KafkaException if the broker does not accept an event; no offset of an unsent event is committed then. Raises
    TaskFault if the failed topic does not exist, or if this user may not see it.
    """
    failed_topic = config.kafka.topic(config.failed_topic)
    properties = client_properties(config.kafka)
    group_id = f"{config.group_id}-replay{f'-{reason}' if reason else ''}"
    consumer = Consumer(
        {
            **properties,
            "group.id": group_id,
            "enable.auto.commit": False,
            # A transaction ends with a mark, which has an offset but is no message, and nothing comes of one that is
            # still open. So the end of the partition is asked for.
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    counts: Counter[str] = Counter()
    try:
        producer = Producer({**properties, "enable.idempotence": True, "message.max.bytes": MAX_MESSAGE_BYTES})
        for partition, end in _partitions(consumer, failed_topic, since_ms):
            consumer.assign([partition])
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while partition.offset < end:
                received = consumer.consume(min(BATCH_SIZE, end - partition.offset), POLL_SECONDS)
                if not received:
                    if time.monotonic() > deadline:
                        raise KafkaException(f"nothing came of {failed_topic} for {TIMEOUT_SECONDS:g} s")
                    continue
                deadline = time.monotonic() + TIMEOUT_SECONDS
                messages = [message for message in received if not _is_end(message)]
                if messages:
                    _send(messages, producer, config.kafka.topic(config.input_topic), reason, counts, dry_run)
                    partition.offset = _offset(messages[-1]) + 1
                    if not dry_run:
                        consumer.commit(offsets=[partition], asynchronous=False)
                if len(messages) < len(received):
                    break
    finally:
        consumer.close()
    return counts


def _partitions(consumer: Consumer, topic: str, since_ms: int | None) -> list[tuple[TopicPartition, int]]:
    """Each partition with the offset to continue from, and its current end."""
    there = partitions_of(consumer, topic, TIMEOUT_SECONDS)
    committed = consumer.committed(there, TIMEOUT_SECONDS)
    partitions = []
    for partition in committed:
        first, end = watermarks(consumer, partition, TIMEOUT_SECONDS)
        # Without a committed offset it is negative. An offset below the first one is no longer retained.
        start = max(partition.offset, first)
        if since_ms is not None:
            asked = [TopicPartition(topic, partition.partition, since_ms)]
            (found,) = consumer.offsets_for_times(asked, TIMEOUT_SECONDS)
            # Negative if no event is as late as that.
            start = max(start, found.offset if found.offset >= 0 else end)
        partitions.append((TopicPartition(topic, partition.partition, start), end))
    return partitions


def _send(
    messages: Sequence[Message], producer: Producer, topic: str, reason: str, counts: Counter[str], dry_run: bool
) -> None:
    """Returns when the broker has acknowledged all of them."""
    refused = []
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
        value = message.value() or b""
        try:
            event = repaired(value)
        except BadEvent:
            counts["not of a failed topic"] += 1
            continue
        if reason not in _reason(value):
            counts["passed over"] += 1
            continue
        counts["would be sent" if dry_run else "sent"] += 1
        if not dry_run:
            producer.produce(
                topic, event, message.key(), on_delivery=lambda error, _: refused.append(error) if error else None
            )
    if producer.flush(TIMEOUT_SECONDS):
        raise KafkaException(f"the broker did not take all events of {topic} within {TIMEOUT_SECONDS:g} s")
    if refused:
        raise KafkaException(refused[0])


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and bool(error.code() == KafkaError._PARTITION_EOF)


def _reason(value: bytes) -> str:
    metadata = msgspec.json.decode(value, type=_Failed).metadata
    return metadata.validation_error if metadata else ""


def _offset(message: Message) -> int:
    offset: int | None = message.offset()
    assert offset is not None  # of a message that a consumer has returned
    return offset


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
