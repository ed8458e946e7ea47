"""What a course consists of: required leaf nodes, units, and courses of which no leaf nodes are known. Pure."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from common.domain.events import Refused, shown

if TYPE_CHECKING:
    from common.servers.http_answers import Answer

RETIRED = "Retired"
SEARCHED_STATUSES = ("Live", "Unlisted", RETIRED)


class LeafNodes(NamedTuple):
    """The leaf nodes of a collection (a unit of a course, or the course), and those of them that are required."""

    all: frozenset[str]
    required: frozenset[str]


class CourseStatus(NamedTuple):
    """What the search API knows of a course; ``status`` is None where it knows of no such course."""

    status: str | None


class Relations(msgspec.Struct, frozen=True):
    """The relations that one decision needs.

    ``required`` is the course's required leaf nodes. ``ancestors`` has an entry for each content that
    :func:`jobs.activity_aggregate_updater.rules.contents_to_locate` named, and ``units`` has, for each unit that
    :func:`units_of` found there, the required leaf nodes, or None where the relation cache has no leaf nodes of it.
    """

    required: frozenset[str]
    ancestors: Mapping[str, Collection[str]] = {}
    units: Mapping[str, frozenset[str] | None] = {}


def leaf_nodes(all_nodes: frozenset[str], optional_nodes: frozenset[str]) -> LeafNodes | None:
    """Required are the leaf nodes without the optional ones. None where the collection has no leaf nodes."""
    if not all_nodes:
        return None
    return LeafNodes(all_nodes, all_nodes - optional_nodes if optional_nodes else all_nodes)


def units_of(course_id: str, ancestors: Mapping[str, Collection[str]]) -> set[str]:
    """The units that hold any of the contents: all their ancestors except the course."""
    return set().union(*ancestors.values()) - {course_id}


def search_request(course_id: str) -> Mapping[str, Any]:
    """The body of the search API's request for the status of a course without leaf nodes."""
    filters = {"objectType": "Collection", "identifier": course_id, "status": SEARCHED_STATUSES}
    return {"request": {"filters": filters, "fields": ["status"]}}


def course_status(course_id: str, answer: "Answer") -> CourseStatus | Refused:
    """The status of the course in the search API's answer, or why its events fail if the API refuses to answer.

    The API puts what it found into a list of ``result`` that is named after the type of object, ``content`` or
    ``collections`` by its release, so all lists are looked into.
    """
    code = answer.at("responseCode")
    if not answer.is_success or code not in (None, "OK"):
        return Refused("search_api", f"search API answered {answer.status} {shown(code)} about course {course_id}")
    result = answer.at("result")
    lists = [found for found in result.values() if isinstance(found, list)] if isinstance(result, dict) else []
    for entry in (entry for entries in lists for entry in entries if isinstance(entry, dict)):
        # The request asks for this course alone, so an entry that does not name itself is this course.
        if entry.get("identifier", course_id) == course_id:
            status = entry.get("status")
            return CourseStatus(status if isinstance(status, str) else None)
    return CourseStatus(None)


def no_leaf_nodes(course_id: str, course: CourseStatus) -> Refused:
    """Why events of a course without leaf nodes fail.

    The kinds are ``course_retired``, ``course_unknown`` and, for a published course whose leaf nodes the relation cache
    lacks, ``course_without_leaf_nodes``.
    """
    if course.status == RETIRED:
        return Refused("course_retired", f"course {course_id} is retired and has no leaf nodes")
    if course.status is None:
        return Refused("course_unknown", f"course {course_id} has no leaf nodes and is neither published nor retired")
    return Refused(
        "course_without_leaf_nodes",
        f"course {course_id} is published ({course.status}) but its leaf nodes are not in the cache",
    )
