"""The step about Kafka: events of the learner on failed topics, and requests for the certificate. Pure."""

import re
import shlex

from common.domain.events import to_time_ms
from common.domain.messages import ASSESSMENT_API
from desk.explanation.steps import Evidence, Next, Step, Verdict
from desk.explanation.wording import Wording
from desk.records import CertificateMessage, FailedMessage, LearnerRecord, Search, Unknown
from jobs import JOBS

REQUEST_PATIENCE_MS = 600_000
"""10 minutes. An estimate of the time until what a learner has just done has led to a request to the generator."""
GENERATOR_PATIENCE_MS = 86_400_000
"""A day. An estimate of the time until a request to the generator has led to a certificate."""


def requests(record: LearnerRecord, wording: Wording) -> Step:
    """Whether an event of the learner has failed, and how far a request for the certificate has come."""
    say, failed = wording.sentences.say, record.failed
    if isinstance(failed, Unknown):
        return Step("requests", say("requests?"), Verdict.UNKNOWN, say("requests.unknown", reason=failed.reason))
    since = "" if failed.since_ms is None else say("requests.since", since=wording.time(failed.since_ms))
    sentences = [say("requests.none", since=since)]
    if failed.messages:
        latest = failed.messages[-1]
        number = wording.sentences.count("not_processed", len(failed.messages))
        on = wording.time(latest.time_ms)
        sentences = [say("requests.failed", number=number, since=since, kind=_kind(latest, wording), on=on)]
    if (asked := asked_of_generator(record)) is not None:
        sentences.append(say("requests.asked", on=wording.time(asked.time_ms)))
    elif (checked := _last_check(record.certificate_messages)) is not None:
        sentences.append(say("requests.checked", on=wording.time(checked.time_ms)))
    evidence = [
        Evidence(
            f"{_kind(message, wording)}, {wording.time(message.time_ms)}",
            message.reason,
            f"{message.topic}[{message.partition}] {message.offset}",
            is_technical=True,
        )
        for message in failed.messages
    ]
    if isinstance(record.certificate_messages, Search):
        evidence += [
            Evidence(wording.time(message.time_ms), _what(message, wording), message.topic)
            for message in record.certificate_messages.messages
        ]
    return Step(
        "requests",
        say("requests?"),
        Verdict.NO if failed.messages else Verdict.YES,
        " ".join(sentences),
        tuple(evidence),
        _replay(failed.messages[-1]) if failed.messages else None,
        is_broken=bool(failed.messages),
    )


def _kind(failed: FailedMessage, wording: Wording) -> str:
    """What has failed, for people: the jobs have one kind of event each."""
    key = f"event.{_job_of(failed)}"
    return wording.sentences.say(key if wording.sentences.has(key) else "event.other")


def _job_of(failed: FailedMessage) -> str:
    """The job that the event was for: the API refuses attempts as the job would."""
    return "AssessmentAggregator" if failed.job == ASSESSMENT_API else failed.job


def _what(message: CertificateMessage, wording: Wording) -> str:
    if message.template_name is None:
        return wording.sentences.say("certificate.checked")
    return wording.sentences.say("certificate.asked", name=message.template_name)


def _replay(failed: FailedMessage) -> Next | None:
    """The command that sends the events that failed for the same reason again, once the cause is mended.

    None for a message of somebody else, which does not name one of our jobs.
    """
    job = re.sub(r"(?<!^)(?=[A-Z])", "_", _job_of(failed)).lower()
    if job not in JOBS:
        return None
    return Next(shlex.join(("python", "-m", "jobs.replay", "--job", job, "--reason", failed.reason)))


def asked_of_generator(record: LearnerRecord, template_name: str | None = None) -> CertificateMessage | None:
    """The latest request on the generator's topic for this certificate, or for any; None if none was found."""
    found = record.certificate_messages
    wanted = [] if isinstance(found, Unknown) else [one for one in found.messages if one.template_name is not None]
    if template_name is not None:
        wanted = [message for message in wanted if message.template_name == template_name]
    return wanted[-1] if wanted else None


def being_checked(record: LearnerRecord) -> CertificateMessage | None:
    """The latest request to check for a certificate, if the jobs may still be working on it."""
    checked = _last_check(record.certificate_messages)
    is_recent = checked is not None and checked.time_ms > record.now_ms - REQUEST_PATIENCE_MS
    return checked if is_recent else None


def not_searched_before(record: LearnerRecord) -> int | None:
    """Since when requests were searched (ms), if one from before may still lead to a certificate; else None."""
    found = record.certificate_messages
    if isinstance(found, Unknown) or found.since_ms is None:
        return None
    completed_on = None if record.enrolment is None else record.enrolment.completed_on
    earliest_ms = record.now_ms - GENERATOR_PATIENCE_MS
    if completed_on is not None:
        earliest_ms = max(earliest_ms, to_time_ms(completed_on))
    return found.since_ms if found.since_ms > earliest_ms else None


def _last_check(found: Search[CertificateMessage] | Unknown) -> CertificateMessage | None:
    """The latest request to check whether a certificate is earned."""
    checks = [] if isinstance(found, Unknown) else [one for one in found.messages if one.template_name is None]
    return checks[-1] if checks else None
