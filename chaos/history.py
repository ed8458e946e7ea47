"""What must become of the events of one learner. Pure, and independent of the code of the jobs.

Where the order of events is not defined, several results are right. The history then takes the stored time of a
completion, if it is one of the possible ones, and expects everything else to agree with it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaos.load import PASS_PERCENT, QUESTIONS, Learner, Load
from local import expected, generator

COURSE_NAME = "A course"
USER = {"firstName": "Asha", "lastName": "Rao", "rootOrgId": "sunbird", "status": 1}
"""What the user read API answers for each learner."""
STORAGE_URL, DOMAIN_URL = "https://storage.example.org/sunbird-content-dev", "https://certificates.example.org"
"""As the jobs are configured, see local.http_services."""


class WriteTime:
    """Stands for a time in ms at which the job may have written: while the load was running."""

    def __repr__(self) -> str:
        return "a time during the run"


WRITE_TIME = WriteTime()

Key = tuple[str, ...]
"""Of a value in a row: the table, the key columns, and the column, the map entry or the number of the list element."""


class History:
    """What must have become of the events of one learner."""

    def __init__(self, load: Load, learner: Learner, stored: Mapping[Key, Any]) -> None:
        """``stored`` decides between times that are all possible."""
        self._load, self._course, self._learner = load, load.course, learner
        self.user_id = learner.user_id
        times: dict[str, list[int]] = {}
        """Those of the events that complete a content."""
        for completion in learner.completions:
            for content_id in completion.contents:
                times.setdefault(content_id, []).append(completion.time_ms)
        self._counted_at = {
            content_id: self._choose(possible, stored.get(("content", self.user_id, content_id, "counted at")))
            for content_id, possible in times.items()
        }
        """The time (ms) of the event that was counted, by content."""
        self.completed_at: int | None = None
        """The time (ms) of the event that completed the course."""
        if times.keys() == set(self._course.contents):
            # The event that is the first one for the last of the contents, if they are applied as they were sent.
            last = max((possible[0] for possible in times.values()), key=self._position)
            possible = [last, *(completion.time_ms for completion in learner.completions)]
            self.completed_at = self._choose(possible, stored.get(("enrolment", self.user_id, "completedon")))

    def _position(self, time_ms: int) -> int:
        return [completion.time_ms for completion in self._learner.completions].index(time_ms)

    def _choose(self, possible: Sequence[int], stored: int | None) -> int:
        if stored is not None and self._learner.is_spread and stored in possible:
            return stored
        return possible[0]

    @property
    def passed_at(self) -> list[int]:
        """The times (ms) of the attempts that reach PASS_PERCENT."""
        return [
            attempt.time_ms
            for attempts in self._learner.attempts.values()
            for attempt in attempts.values()
            if sum(attempt.scores) * 100 / QUESTIONS >= PASS_PERCENT
        ]

    @property
    def gets_certificate(self) -> bool:
        """Whether the learner has completed the course and has reached PASS_PERCENT in an attempt."""
        return self.completed_at is not None and bool(self.passed_at)

    def values(self) -> Iterator[tuple[Key, Any]]:
        """The expected columns of all rows."""
        yield from self._attempts()
        yield from self._aggregates()
        for content_id, time_ms in self._counted_at.items():
            row = ("content", self.user_id, content_id)
            yield from {(*row, "viewcount"): 1, (*row, "completedcount"): 1, (*row, "counted at"): time_ms}.items()
            yield ("enrolment", self.user_id, "contentstatus", content_id), 2
        enrolment = ("enrolment", self.user_id)
        yield (*enrolment, "status"), 2 if self.completed_at else 1 if self._counted_at else 0
        if self._counted_at:
            yield (*enrolment, "progress"), len(self._counted_at)
            yield (*enrolment, "datetime"), WRITE_TIME
        if self.completed_at is not None:
            yield (*enrolment, "completedon"), self.completed_at

    def _attempts(self) -> Iterator[tuple[Key, Any]]:
        for content_id, attempts in self._learner.attempts.items():
            for attempt_id, submission in attempts.items():
                row = ("attempt", self.user_id, content_id, attempt_id)
                score = sum(submission.scores)
                columns = {
                    "created_on": WRITE_TIME,
                    "updated_on": WRITE_TIME,
                    "last_attempted_on": submission.time_ms,
                    "total_score": score,
                    "total_max_score": float(QUESTIONS),
                    "grand_total": expected.grand_total(score, QUESTIONS),
                }
                yield from (((*row, column), value) for column, value in columns.items())
                event = self._load.attempt_event(self._learner, content_id, submission)
                for number, question in enumerate(expected.questions(event)):
                    yield (*row, "question", str(number)), question

    def _aggregates(self) -> Iterator[tuple[Key, Any]]:
        aggregates: dict[str, dict[str, float]] = defaultdict(dict)
        """By activity."""
        details = []
        for content_id, attempts in sorted(self._learner.attempts.items()):
            scores = {attempt_id: float(sum(attempt.scores)) for attempt_id, attempt in sorted(attempts.items())}
            pairs = [(score, float(QUESTIONS)) for score in scores.values()]
            aggregates[self._course.course_id] |= expected.content_aggregates(content_id, pairs)
            details += [
                expected.attempt_detail(content_id, attempt_id, score, QUESTIONS, attempts[attempt_id].time_ms)
                for attempt_id, score in scores.items()
            ]
        collections = {self._course.course_id: self._course.contents, **dict(self._course.units)}
        for collection_id, contents in collections.items():
            if done := self._counted_at.keys() & set(contents):
                aggregates[collection_id]["completedCount"] = len(done)
        for activity_id, entries in aggregates.items():
            row = ("aggregates", activity_id, self.user_id)
            for name, value in entries.items():
                yield (*row, "aggregates", name), value
                yield (*row, "agg_last_updated", name), WRITE_TIME
        for number, detail in enumerate(details):
            yield ("aggregates", self._course.course_id, self.user_id, "agg_details", str(number)), detail

    def audits(self) -> Iterator[tuple[Key, Any]]:
        for content_id, time_ms in self._counted_at.items():
            for action in ("start", "complete"):
                body = expected.content_audit(self._course, self.user_id, content_id, action, time_ms)
                yield identity(self.user_id, time_ms, body), body
        if self.completed_at is not None:
            body = expected.completion_audit(self._course, self.user_id, self.completed_at)
            yield identity(self.user_id, self.completed_at, body), body

    def requests(self) -> Iterator[tuple[Key, Any]]:
        """One for each attempt, for each request to compute again, and for the completed course."""
        for time_ms in self.request_times():
            body = expected.certificate_request(self._course, self.user_id, time_ms)
            yield identity(self.user_id, time_ms, body), body

    def request_times(self) -> list[int]:
        """The times (ms) of the certificate requests."""
        attempts = [attempt for attempts in self._learner.attempts.values() for attempt in attempts.values()]
        times = [*(attempt.time_ms for attempt in attempts), *self._learner.recomputed_at]
        return times if self.completed_at is None else [*times, self.completed_at]

    def certificate(self, time_ms: int) -> dict[str, Any]:
        """The certificate that the request of this time leads to."""
        assert self.completed_at is not None
        (template,) = generator.certificate_templates(PASS_PERCENT).values()
        return expected.certificate(
            self._course,
            self.user_id,
            template=template,
            course_name=COURSE_NAME,
            recipient_name=f"{USER['firstName']} {USER['lastName']}",
            org_id=str(USER["rootOrgId"]),
            storage_url=STORAGE_URL,
            domain_url=DOMAIN_URL,
            completed_on_ms=self.completed_at,
            time_ms=time_ms,
        )


def identity(user_id: str, time_ms: int, body: Mapping[str, Any]) -> Key:
    """What tells expected messages apart. An event sends several AUDIT events, which differ in object and type."""
    return user_id, str(time_ms), body["object"]["id"], body["edata"].get("type", "")
