"""The rules of the jobs on tables in memory: what a load comes to when nothing fails, event by event."""

import random
from collections import defaultdict
from datetime import UTC
from typing import Any

import msgspec

from chaos.history import COURSE_NAME, USER
from chaos.load import ATTEMPTS, CERTIFICATE_REQUESTS, FAILED_TOPIC, JOB_OF_FAILED_TOPIC, PASS_PERCENT, Event, Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, Observed
from chaos.rows import columns, counted_at
from common.domain import attempts, messages
from common.domain.attempts import AssessmentEvent
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, Skip, to_datetime
from common.domain.messages import Message
from jobs.activity_aggregate_updater import events as completions
from jobs.activity_aggregate_updater import rules as activity
from jobs.activity_aggregate_updater.events import LearnerEvent
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.relations import Relations
from jobs.assessment_aggregator import rules as assessment
from jobs.collection_cert_pre_processor import events as certificate_requests
from jobs.collection_cert_pre_processor import rules as certificates
from jobs.collection_cert_pre_processor import templates
from jobs.collection_cert_pre_processor.settings import Settings as CertificateSettings
from local import generator

NOW_MS = 1_790_000_000_000
"""The time of all writes."""

_ASSESSMENT = assessment.Settings(certificate_topic=REQUESTS, time_zone=UTC)
_ACTIVITY = activity.Settings(audit_topic=AUDITS, certificate_topic=REQUESTS)
_CERTIFICATES = CertificateSettings(
    topic=CERTIFICATES,
    cert_domain_url="https://certificates.example.org",
    cloud_storage_base_url="https://storage.example.org",
    content_cloud_storage_container="sunbird-content-dev",
)


class Pipeline:
    """Applies the events of a load one by one. ``observed`` has the rows, ``sent`` the messages in their order."""

    def __init__(self, load: Load, delays: random.Random | None = None) -> None:
        """With ``delays``, certificate requests are handled at random times in any order, and some of them twice, until
        :meth:`finish`. Otherwise each is handled at once."""
        self.observed = Observed(written=range(NOW_MS, NOW_MS + 1))
        self.sent: list[Message] = []
        self._load, self._course = load, load.course
        self._delays = delays
        self._waiting: list[bytes] = []
        """Requests that were sent and may be handled at any time."""
        self._crashes = False
        self._templates = templates.parse(load.course.batch_id, generator.certificate_templates(PASS_PERCENT))
        self._attempts = defaultdict[EnrolmentKey, dict[tuple[str, str], assessment.Attempt]](dict)
        self._aggregates = defaultdict[tuple[str, str], dict[str, float]](dict)
        """By user and activity."""
        self._contents = defaultdict[EnrolmentKey, dict[str, activity.Content]](dict)
        self._enrolments = {learner.user_id: EnrolmentRow(True, 0, None, None, None) for learner in load.learners}
        for user_id in self._enrolments:
            self._write(("enrolment", user_id), status=0)

    def crash(self, event: Event) -> None:
        """Writes the rows of an event, but sends nothing: it has to be applied again."""
        self._crashes = True
        self.apply(event)
        self._crashes = False

    def finish(self) -> None:
        """Handles the requests that still wait."""
        while self._waiting:
            self._apply_request(self._waiting.pop())

    def apply(self, event: Event) -> None:
        while self._delays and self._waiting and self._delays.random() < 0.4:
            request = self._waiting.pop(self._delays.randrange(len(self._waiting)))
            self._apply_request(request)
            if self._delays.random() < 0.1:
                self._waiting.append(request)
        try:
            if event.topic == CERTIFICATE_REQUESTS:
                certificate_requests.decode(event.value, 0)
            elif event.topic == ATTEMPTS:
                self._apply_attempt(attempts.decode(event.value, 0))
            elif not isinstance(decoded := completions.decode(event.value, 0), Skip):
                self._apply_completion(decoded)
        except BadEvent as bad:
            topic = FAILED_TOPIC[event.topic]
            # As UserKeySchema reads it: not from what is no JSON.
            user_id = None if bad.kind == "not_json" else event.user_id
            self._send([messages.failed(topic, JOB_OF_FAILED_TOPIC[topic], event.value, bad.reason, user_id)])

    def _apply_attempt(self, event: AssessmentEvent) -> None:
        user_id, course_id, _ = event.enrolment
        stored, aggregates = self._attempts[event.enrolment], self._aggregates[user_id, course_id]
        decision = assessment.decide(stored.values(), [event], aggregates, _ASSESSMENT, NOW_MS)
        for row in decision.attempts:
            stored[row.content_id, row.attempt_id] = row
            self._write(
                ("attempt", user_id, row.content_id, row.attempt_id),
                created_on=row.created_on,
                updated_on=row.updated_on,
                last_attempted_on=row.last_attempted_on,
                total_score=row.total_score,
                total_max_score=row.total_max_score,
                grand_total=row.grand_total,
                question=[
                    {
                        "id": question.item.id,
                        "assess_ts": question.time_ms,
                        "max_score": question.item.max_score,
                        "score": question.score,
                        "type": question.item.type,
                        "title": question.item.title,
                        "resvalues": list(question.resvalues.maps),
                        "params": list(question.item.params),
                        "description": question.item.description,
                        "duration": question.duration,
                    }
                    for question in row.questions
                ],
            )
        if change := decision.aggregates:
            self._add_aggregates(user_id, course_id, change.aggregates)
            details = [msgspec.json.decode(detail) for detail in change.agg_details]
            self._write(("aggregates", course_id, user_id), agg_details=details)
        for result in decision.results:
            self._send(result.messages)

    def _apply_completion(self, event: LearnerEvent) -> None:
        user_id, course_id, _ = event.enrolment
        contents, units = self._contents[event.enrolment], dict(self._course.units)
        is_known = "completedCount" in self._aggregates[user_id, course_id]
        stored = activity.Stored(list(contents.values()), self._enrolments[user_id], is_known)
        ancestors = {content: (course_id, unit) for unit, those in units.items() for content in those}
        relations = Relations(
            frozenset(self._course.contents), ancestors, {unit: frozenset(those) for unit, those in units.items()}
        )
        decision = activity.decide(event.enrolment, [event], stored, relations, _ACTIVITY)
        for stage in decision.aggregates:
            for count in stage:
                self._add_aggregates(user_id, count.activity_id, {"completedCount": count.value})
        for write in decision.learner:
            if isinstance(write, EnrolmentChange):
                self._change_enrolment(user_id, write)
            else:
                content_id = write.content_id
                contents[content_id] = write.applied_to(contents.get(content_id) or activity.Content(content_id))
                counts = {"viewcount": write.view_count, "completedcount": write.completed_count}
                time = counted_at(write.view_time_us, write.completed_time_us)
                self._write(("content", user_id, content_id), **counts, **{"counted at": time})
        for result in decision.results:
            self._send(result.messages)

    def _change_enrolment(self, user_id: str, change: EnrolmentChange) -> None:
        old = self._enrolments[user_id]
        self._enrolments[user_id] = EnrolmentRow(
            True,
            change.status,
            change.completed_on_ms or old.completed_on_ms,
            {**(old.content_status or {}), **change.content_status},
            change.progress,
        )
        self._write(
            ("enrolment", user_id),
            status=change.status,
            progress=change.progress,
            contentstatus=change.content_status,
            completedon=change.completed_on_ms,
            datetime=NOW_MS,
        )

    def _add_aggregates(self, user_id: str, activity_id: str, entries: dict[str, float] | Any) -> None:
        self._aggregates[user_id, activity_id] |= entries
        times = dict.fromkeys(entries, NOW_MS)
        self._write(("aggregates", activity_id, user_id), aggregates=entries, agg_last_updated=times)

    def _write(self, key: tuple[str, ...], **row: Any) -> None:
        self.observed.values |= columns(key, row)

    def _send(self, to_send: Any) -> None:
        if self._crashes:
            return
        for message in to_send:
            self.sent.append(message)
            if message.topic == REQUESTS:
                self._waiting.append(message.value)
        if self._delays is None:
            self.finish()

    def _apply_request(self, value: bytes) -> None:
        request = certificate_requests.decode(value, 0)
        assert not isinstance(request, Skip)
        (user_id,) = request.user_ids
        row = self._enrolments[user_id]
        completed_on = None if row.completed_on_ms is None else to_datetime(row.completed_on_ms)
        quizzes = self._course.quizzes
        selected = certificates.select(
            request,
            self._templates,
            enrolment=certificates.EnrolmentRow(row.active, row.status, completed_on, None),
            aggregates=self._aggregates[user_id, request.course_id],
            content_types={content: "SelfAssess" if content in quizzes else "Resource" for content in quizzes},
            settings=_CERTIFICATES,
        )
        user = {"userId": user_id, **USER}
        decisions = certificates.issue(
            request, user_id, selected, user=user, course_name=COURSE_NAME, settings=_CERTIFICATES
        )
        self.sent += decisions.messages
