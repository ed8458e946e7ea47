"""One JSON line for each look-up and each repair: who, when, about whom, and what came of it."""

import logging
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from cachetools import TTLCache
from starlette.requests import Request

from desk.server.access import Person

_AUDIT = logging.getLogger("desk.audit")
_MAX_WATCHED = 1_000
"""Persons with batches that are remembered. Whoever is forgotten gets one line more."""


class AuditHandler(logging.StreamHandler[TextIO]):
    """Writes the lines, or raises OSError: on a full disk nobody may look or repair, because nobody could see it.

    The handlers of the library print such an error and go on.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line at once."""
        self.stream.write(self.format(record) + self.terminator)
        self.stream.flush()


class AuditLine(msgspec.Struct, omit_defaults=True):
    """One line. ``action`` is ``explain``, ``course``, ``picture``, ``failed``, ``replay``, ``login``, or a remedy."""

    time: str
    person: str
    role: str
    address: str
    action: str
    outcome: str
    user: str = ""
    course: str = ""
    batch: str = ""
    detail: str = ""


def write(
    request: Request,
    person: Person,
    action: str,
    outcome: str,
    *,
    user: str = "",
    course: str = "",
    batch: str = "",
    detail: str = "",
) -> None:
    """Writes a line. It is written before the answer is sent, so nobody learns anything that is not in the log."""
    line = AuditLine(
        time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        person=person.name,
        role=person.role.name.lower(),
        address=_address(request),
        action=action,
        outcome=outcome,
        user=user,
        course=course,
        batch=batch,
        detail=detail,
    )
    _AUDIT.info("%s", msgspec.json.encode(line).decode())


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


class CourseAudit:
    """The lines about the figures of batches. A page asks for them every few seconds, which is one look-up."""

    def __init__(self, session_seconds: int) -> None:
        """Somebody who goes on watching a batch gets a line again after ``session_seconds``."""
        self._watched: TTLCache[tuple[Person, str, str, str], bool] = TTLCache(_MAX_WATCHED, session_seconds)

    def shown(self, request: Request, person: Person, course: str, batch: str) -> None:
        """Writes a line: somebody has opened the page of a batch."""
        write(request, person, "course", "shown", course=course, batch=batch)
        self._watched[person, _address(request), course, batch] = True

    def updated(self, request: Request, person: Person, course: str, batch: str) -> None:
        """Writes a line unless there is one of this session at this address about the batch."""
        if (person, _address(request), course, batch) not in self._watched:
            self.shown(request, person, course, batch)
