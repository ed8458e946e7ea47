"""The events that put a learner right. The jobs understand all of them. Pure.

Each may be sent twice, but those of :data:`ASK_FOR_CERTIFICATES` issue a certificate again whose template has no
criterion of the enrolment's status (rule C3).
"""

import shlex
from enum import StrEnum

import msgspec

from common.config.model import KafkaConfig
from common.domain import messages, topics
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message

SENDER = "SupportDesk"
"""Part of the identity of a message, so that the desk's request is no repeat of a job's."""


class Remedy(StrEnum):
    """What can be done for a learner."""

    RECOMPUTE = "recompute"
    """Compute the best scores from the stored attempts again."""
    SYNC = "sync"
    """Compute the progress from the stored contents again."""
    CERTIFICATE = "certificate"
    """Check once more whether the learner has earned a certificate."""


ASK_FOR_CERTIFICATES = (Remedy.RECOMPUTE, Remedy.CERTIFICATE)
"""What makes the certificate pre-processor look at a learner each time (rule A9). A sync does if it completes the
enrolment (rule U7)."""


def command(remedy: Remedy, key: EnrolmentKey, content_id: str = "") -> str:
    """The command that sends a remedy to one learner. ``content_id`` is that of :func:`event`."""
    words = ["send", remedy.value, "--user", key.user_id, "--course", key.course_id, "--batch", key.batch_id]
    if remedy is Remedy.RECOMPUTE:
        words += ["--content", content_id]
    return shlex.join(("python", "-m", "desk", *words))


def event(remedy: Remedy, key: EnrolmentKey, content_id: str, time_ms: int, kafka: KafkaConfig) -> Message:
    """The event of a remedy at ``time_ms``.

    ``content_id`` is used by a recompute request alone: it must name a content of the course (rule A2), whichever. The
    Kafka key is the user id, so that a learner's events stay in order.
    """
    match remedy:
        case Remedy.RECOMPUTE:
            return _recompute(kafka.topic(topics.ASSESS), key, content_id, time_ms)
        case Remedy.SYNC:
            return messages.enrolment_sync(kafka.topic(topics.ENROLMENT_SYNC_REQUEST), **key._asdict(), time_ms=time_ms)
        case Remedy.CERTIFICATE:
            topic = kafka.topic(topics.ISSUE_CERTIFICATE_REQUEST)
            return messages.certificate_request(topic, SENDER, **key._asdict(), time_ms=time_ms)


def _recompute(topic: str, key: EnrolmentKey, content_id: str, time_ms: int) -> Message:
    """Rule A1: an event without ``events`` is a recompute request."""
    value = {
        "userId": key.user_id,
        "courseId": key.course_id,
        "batchId": key.batch_id,
        "contentId": content_id,
        "assessmentTs": time_ms,
        "events": [],
    }
    return Message(topic, msgspec.json.encode(value), key.user_id.encode())
