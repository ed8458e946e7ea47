"""The rows of the response report V2: one for each question of each attempt. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import msgspec

from reports import model
from reports.model import Batch, ReportError

JOB_ID = "response-exhaust"
FILE_LABEL = "response"

COLUMNS = {
    "courseid": "Collection Id",
    "collectionName": "Collection Name",
    "batchid": "Batch Id",
    "batchName": "Batch Name",
    "userid": "User UUID",
    "content_id": "QuestionSet Id",
    "contentname": "QuestionSet Title",
    "attempt_id": "Attempt Id",
    "last_attempted_on": "Attempted On",
    "questionid": "Question Id",
    "questiontype": "Question Type",
    "questiontitle": "Question Title",
    "questiondescription": "Question Description",
    "questionduration": "Question Duration",
    "questionscore": "Question Score",
    "questionmaxscore": "Question Max Score",
    "questionoption": "Question Options",
    "questionresponse": "Question Response",
}
"""The titles of the default report by column, in its order."""

KNOWN_COLUMNS = frozenset(COLUMNS)


class AttemptRow(NamedTuple):
    """A row of ``assessment_aggregator``; ``questions`` is its column ``question`` as JSON text."""

    content_id: str
    attempt_id: str
    last_attempted_on: datetime | None
    total_score: float | None
    questions: str | None

    @property
    def is_submitted(self) -> bool:
        """Whether the learner has submitted the attempt: a saved draft has no total score."""
        return self.total_score is not None


class Question(msgspec.Struct):
    """An element of the column ``question``. Any field may be unset."""

    id: str | None = None
    type: str | None = None
    title: str | None = None
    description: str | None = None
    duration: Decimal | None = None
    score: float | None = None
    max_score: float | None = None
    params: list[dict[str, str | None] | None] | None = None
    resvalues: list[dict[str, str | None] | None] | None = None


_decoder = msgspec.json.Decoder(list[Question] | None)
_NO_QUESTION = Question()

_JSON_STARTS = ("{", "[", '"')
# Several in a row, because half a surrogate pair has no meaning.
_ESCAPES = re.compile(r"(?:\\(?:u[0-9a-fA-F]{4}|[^u]))+")
_PLAIN = dict.fromkeys(range(0x20), " ") | dict.fromkeys(map(ord, "\r\n\\"), "")
"""Other control characters become a space: JSON would escape them, and without its backslash a tab would be a t."""


def questions_of(attempt: AttemptRow) -> list[Question]:
    """The questions, none where they are unset. Raises ReportError if they cannot be read."""
    try:
        return _decoder.decode(attempt.questions or "null") or []
    except (msgspec.DecodeError, RecursionError) as error:
        raise ReportError(f"The questions of attempt {attempt.attempt_id} cannot be read: {error}") from error


def with_archived(attempts: Iterable[AttemptRow], archived: Iterable[AttemptRow]) -> list[AttemptRow]:
    """A learner's attempts, in order of content and attempt. Where one is also archived, that in ``attempts`` counts.

    Attempts are the same if they have the same key in Cassandra.
    """
    by_key = {(attempt.content_id, attempt.attempt_id): attempt for attempt in archived}
    by_key |= {(attempt.content_id, attempt.attempt_id): attempt for attempt in attempts}
    return [by_key[key] for key in sorted(by_key)]


class ResponseRows(NamedTuple):
    """Makes the rows of one batch."""

    collection: model.Collection
    batch: Batch
    zone: tzinfo

    def rows(self, user_id: str, attempt: AttemptRow, titles: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """One row for each question; one row with empty question cells for an attempt without questions.

        ``titles`` are the names of contents by id. Raises ReportError if the questions cannot be read.
        """
        common = {
            **model.common_cells(self.collection, self.batch, user_id),
            "content_id": attempt.content_id,
            "contentname": titles.get(attempt.content_id, ""),
            "attempt_id": attempt.attempt_id,
            "last_attempted_on": self._time(attempt.last_attempted_on),
        }
        for question in questions_of(attempt) or [_NO_QUESTION]:
            yield common | _question_cells(question)

    def _time(self, moment: datetime | None) -> str:
        """ISO 8601 with milliseconds."""
        return "" if moment is None else model.local_time(moment, self.zone).isoformat(timespec="milliseconds")


def _question_cells(question: Question) -> dict[str, str]:
    return {
        "questionid": question.id or "",
        "questiontype": question.type or "",
        "questiontitle": question.title or "",
        "questiondescription": question.description or "",
        "questionduration": "" if question.duration is None else _whole(question.duration),
        "questionscore": "" if question.score is None else repr(question.score),
        "questionmaxscore": "" if question.max_score is None else repr(question.max_score),
        "questionoption": _plain_json(question.params),
        "questionresponse": _plain_json(question.resvalues),
    }


def _whole(duration: Decimal) -> str:
    return str(duration.to_integral_value(ROUND_HALF_UP))


def _plain_json(values: list[dict[str, str | None] | None] | None) -> str:
    """JSON text without line breaks and backslashes, and with single instead of double quotes; empty if unset.

    The reports have always looked so. The values are texts which are often JSON themselves. Their escapes are resolved
    before backslashes are removed: otherwise the formula ``\\neq`` would lose its n together with its backslash.
    """
    if values is None:
        return ""
    plain = [value and {_plain(key): text and _plain(text) for key, text in value.items()} for value in values]
    # What is left to escape are double quotes.
    return msgspec.json.encode(plain).decode().replace('\\"', "'").replace('"', "'")


def _plain(text: str) -> str:
    if text[:1] in _JSON_STARTS and _is_json(text):
        text = _ESCAPES.sub(_resolve, text)
    return text.translate(_PLAIN)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _resolve(escapes: re.Match[str]) -> str:
    return str(msgspec.json.decode(f'"{escapes[0]}"'))
