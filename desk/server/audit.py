"""One JSON line for each look-up and each repair: who, when, about whom, and what came of it."""

import logging
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request

from desk.server.access import Person

_AUDIT = logging.getLogger("desk.audit")


class AuditLine(msgspec.Struct, omit_defaults=True):
    """One line. ``action`` is ``explain``, ``course``, ``failed``, ``replay``, ``login``, or the name of a remedy."""

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
        address=request.client.host if request.client else "",
        action=action,
        outcome=outcome,
        user=user,
        course=course,
        batch=batch,
        detail=detail,
    )
    _AUDIT.info("%s", msgspec.json.encode(line).decode())
