"""What a course consists of: required leaf nodes, units, and courses of which no leaf nodes are known. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from common import events
from common.events import BadEvent

RETIRED = "Retired"
SEARCHED_STATUSES = ("Live", "Unlisted", RETIRED)


class Relations(msgspec.Struct, frozen=True):
    """The relations that one decision needs.

    ``required`` is the course's required leaf nodes. ``ancestors`` has an entry for each content that
    :func:`jobs.activity_aggregate_updater.rules.contents_to_locate` named, and ``units`` has, for each unit that
    :func:`units_of` found there, the required leaf nodes, or None where the relation cache has no leaf nodes of it.
    """

    required: frozenset[str]
    ancestors: Mapping[str, Collection[str]] = {}
    units: Mapping[str, frozenset[str] | None] = {}


def required_leaf_nodes(leaf_nodes: frozenset[str], optional_nodes: frozenset[str]) -> frozenset[str]:
    """What has to be completed: the leaf nodes without the optional ones."""
    return leaf_nodes - optional_nodes if optional_nodes else leaf_nodes


def units_of(course_id: str, ancestors: Mapping[str, Collection[str]]) -> set[str]:
    """The units that hold any of the contents: all their ancestors except the course."""
    return set().union(*ancestors.values()) - {course_id}


def search_request(course_id: str) -> bytes:
    """The body of the search API's request for the status of a course without leaf nodes."""
    filters = {"objectType": "Collection", "identifier": course_id, "status": SEARCHED_STATUSES}
    return msgspec.json.encode({"request": {"filters": filters, "fields": ["status"]}})


class _Answer(msgspec.Struct):
    result: dict[str, Any] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def course_status(course_id: str, answer: bytes) -> str | None:
    """The status of the course in the search API's answer, None if it is not there.

    The API puts what it found into a list of ``result`` that is named after the type of object, ``content`` or
    ``collections`` by its release, so all lists are looked into. Raises BadEvent for an answer of another shape.
    """
    try:
        result = events.decode(_ANSWER, answer).result or {}
    except BadEvent as error:
        raise BadEvent("search_failed", f"search API's answer about course {course_id}: {error.reason}") from error
    found = [entry for entries in result.values() if isinstance(entries, list) for entry in entries]
    for entry in found:
        # The request asks for this course alone, so an entry that does not name itself is this course.
        if isinstance(entry, dict) and entry.get("identifier", course_id) == course_id:
            status = entry.get("status")
            return status if isinstance(status, str) else None
    return None


def no_leaf_nodes(course_id: str, status: str | None) -> BadEvent:
    """Why events of a course without leaf nodes go to the failed topic; ``status`` is that of :func:`course_status`.

    The kinds are ``course_retired``, ``course_unknown`` and, for a published course whose leaf nodes the relation cache
    lacks, ``course_without_leaf_nodes``.
    """
    if status == RETIRED:
        return BadEvent("course_retired", f"course {course_id} is retired and has no leaf nodes")
    if status is None:
        return BadEvent("course_unknown", f"course {course_id} has no leaf nodes and is neither published nor retired")
    return BadEvent(
        "course_without_leaf_nodes",
        f"course {course_id} is published ({status}) but its leaf nodes are not in the cache",
    )
