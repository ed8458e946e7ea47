"""The events that the desk sends are those that the jobs understand, and go to the topics that they read."""

import shlex

import pytest

from common.config.loader import load
from common.domain import attempts, topics
from common.domain.attempts import AssessmentEvent
from desk.config import DeskConfig
from desk.remedies import Remedy, command, event
from jobs import JOBS, config_class
from jobs.activity_aggregate_updater import events as progress_events
from jobs.activity_aggregate_updater.events import EnrolmentSync
from jobs.collection_cert_pre_processor import events as certificate_events
from jobs.collection_cert_pre_processor.events import CertificateRequest
from tests.support.desk_records import KEY, NOW_MS, QUIZ, aggregates, explained, learner
from tests.support.required_keys import REQUIRED

KAFKA = load(DeskConfig, environ=REQUIRED[DeskConfig]).kafka


def test_a_recompute_request_is_one_for_the_assessment_aggregator() -> None:
    message = event(Remedy.RECOMPUTE, KEY, QUIZ, NOW_MS, KAFKA)
    assert (message.topic, message.key) == ("dev.telemetry.assess", b"asha")
    assert attempts.decode(message.value, 0) == AssessmentEvent(KEY, QUIZ, NOW_MS, attempt=None)


def test_a_sync_is_one_for_the_activity_aggregate_updater() -> None:
    message = event(Remedy.SYNC, KEY, "", NOW_MS, KAFKA)
    assert (message.topic, message.key) == ("dev.batch.enrolment.sync.request", b"asha")
    assert progress_events.decode(message.value, 0) == EnrolmentSync(KEY, NOW_MS)


def test_a_certificate_request_is_one_for_the_certificate_pre_processor() -> None:
    message = event(Remedy.CERTIFICATE, KEY, "", NOW_MS, KAFKA)
    assert message.topic == "dev.issue.certificate.request"
    assert certificate_events.decode(message.value, 0) == CertificateRequest(
        ("asha",), "do_course", "batch", re_issue=False, time_ms=NOW_MS
    )


@pytest.mark.parametrize("remedy", Remedy)
def test_the_same_remedy_at_the_same_time_is_the_same_message(remedy: Remedy) -> None:
    assert event(remedy, KEY, QUIZ, NOW_MS, KAFKA) == event(remedy, KEY, QUIZ, NOW_MS, KAFKA)


def test_a_recompute_request_names_a_content_of_the_course() -> None:
    # An attempt at a content that is no longer part of the course comes first.
    record = learner(7.5, aggregates=aggregates(7.0))
    gone = record.attempts[0].__class__("do_gone", "a", None, None, 1.0, 10.0)
    step = explained(learner(7.5, aggregates=aggregates(7.0), attempts=[gone, *record.attempts])).step("attempts")
    assert step.next is not None
    assert step.next.content_id == QUIZ
    assert shlex.split(step.next.command)[-2:] == ["--content", QUIZ]


def test_a_command_keeps_ids_with_blanks_together() -> None:
    words = shlex.split(command(Remedy.SYNC, KEY._replace(user_id="a b; rm -rf /")))
    assert words[words.index("--user") + 1] == "a b; rm -rf /"


@pytest.mark.parametrize("name", JOBS)
def test_failed_events_go_back_to_the_topic_of_their_job(name: str) -> None:
    config = config_class(name)
    assert topics.INPUT_OF[config.failed_topic] == config.input_topic
    assert config.failed_topic in topics.ALL
