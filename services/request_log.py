"""What the services log about requests: the message id in every line, and on demand one JSON line a request."""

import hashlib
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec

MESSAGE_ID: ContextVar[str] = ContextVar("MESSAGE_ID", default="-")
"""The message id of the request that the current task works on."""

_MAX_MESSAGE_ID = 100
"""Characters of a message id that are logged. Clients choose it."""

_ACCESS = logging.getLogger("services.access")


class AccessLine(msgspec.Struct, rename="camel"):
    """One request. ``userId`` is hashed; null where the token is missing or not valid."""

    time: str
    path: str
    status: int
    ms: float
    message_id: str
    user_id: str | None


class MessageIdFilter(logging.Filter):
    """Gives every log record the ``message_id`` of its request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps every record."""
        record.message_id = loggable(MESSAGE_ID.get())
        return True


def loggable(message_id: str) -> str:
    """A message id without characters that could forge a log line, and not too long."""
    text = message_id[:_MAX_MESSAGE_ID]
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def hashed(user_id: str) -> str:
    """A text that is the same for the same user: the first 16 hexadecimal digits of the SHA-256 of the user id."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:16]


def log_access(path: str, status: int, seconds: float, message_id: str, user_id: str | None) -> None:
    """Writes the line of one request, if access lines are asked for. ``path`` is that of the route."""
    if not _ACCESS.isEnabledFor(logging.INFO):
        return
    line = AccessLine(
        datetime.now(UTC).isoformat(timespec="milliseconds"),
        path,
        status,
        round(seconds * 1000, 1),
        loggable(message_id),
        None if user_id is None else hashed(user_id),
    )
    _ACCESS.info("%s", msgspec.json.encode(line).decode())


def logging_config(access_log: bool) -> dict[str, Any]:
    """The configuration for ``logging.config``: messages on stderr, access lines on stdout if they are asked for."""
    access_level, access_handlers = ("INFO", ["access"]) if access_log else ("WARNING", [])
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"message_id": {"()": MessageIdFilter}},
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(name)s [%(message_id)s] %(message)s"},
            "bare": {"format": "%(message)s"},
        },
        "handlers": {
            "text": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "text",
                "filters": ["message_id"],
            },
            "access": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "bare"},
        },
        "root": {"level": "INFO", "handlers": ["text"]},
        "loggers": {_ACCESS.name: {"level": access_level, "handlers": access_handlers, "propagate": False}},
    }
