"""What an API has answered: data, or a fault of the world (rule G4, see :mod:`common.servers.http`)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from common.domain.events import shown
from common.domain.faults import WorldFault

_NOT_NOW = (408, 429)
_OK = 200
_NOT_FOUND = 404
_CONTROL_ANSWERS = ((_OK, "OK"), (_NOT_FOUND, "RESOURCE_NOT_FOUND"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A status of 2xx or 4xx, and the JSON object of the response; empty if a 4xx has no JSON object."""

    status: int
    body: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status < 300

    @property
    def is_sunbirds(self) -> bool:
        """Whether a Sunbird service has looked for what was asked and says whether it exists.

        Only such an answer has a ``responseCode`` and ``params``. The 404 of a proxy that knows no route has neither.
        A 400 does not count, because a service may refuse an id before it asks its database.
        """
        return (self.status, self.at("responseCode")) in _CONTROL_ANSWERS and isinstance(self.at("params"), Mapping)

    def at(self, *path: str) -> Any:
        """The value at a path of members, such as ``at("result", "content", "name")``; None if there is none."""
        value: Any = self.body
        for member in path:
            value = value.get(member) if isinstance(value, Mapping) else None
        return value


class Unanswered(WorldFault):
    """What was asked for may be at fault: it has reached the service, whose answer is of no use."""


def answer_of(url: str, status: int, body: bytes) -> Answer:
    """The answer of the API at ``url``. Raises WorldFault, or Unanswered where what was asked for may be at fault."""
    if status in _NOT_NOW:
        raise WorldFault(f"{url} answered with status {status}")
    is_refusal = 400 <= status < 500
    if not is_refusal and not 200 <= status < 300:
        raise Unanswered(f"{url} answered with status {status}")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if is_refusal or _is_json(body):
            return Answer(status, {})
        raise Unanswered(f"{url} answered with status {status} and no JSON object: {error}") from error
    if isinstance(document, dict):
        return Answer(status, document)
    if is_refusal:
        return Answer(status, {})
    raise Unanswered(f"{url} answered with status {status} and no JSON object: {shown(document)}")


def _is_json(body: bytes) -> bool:
    """Whether this is a JSON object with a value that cannot be represented, such as half a surrogate pair or 1e999.

    Such an answer does not change however often it is requested, so it is not a fault of the world.
    """
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False
