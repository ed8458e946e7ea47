"""A course's hierarchy: which of its contents have score columns, and how many leaf contents it has. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from reports.model import ReportError


@dataclass(frozen=True, slots=True)
class AssessmentTypes:
    """A node is an assessment by its content type, or by its object type together with its primary category."""

    content_types: Collection[str]
    object_types: Collection[str]
    primary_categories: Collection[str]


@dataclass(frozen=True, slots=True)
class Course:
    """What the progress report needs to know of a course."""

    leaf_nodes_count: int
    """0 if the hierarchy does not say."""
    assessments: frozenset[str]


class _Node(msgspec.Struct, rename="camel"):
    # Any: an unexpected value in one node must not fail the whole report.
    identifier: Any = None
    content_type: Any = None
    object_type: Any = None
    primary_category: Any = None
    leaf_nodes_count: Any = None
    children: list["_Node"] | None = None


_decoder = msgspec.json.Decoder(_Node)


def read_course(hierarchy: str, types: AssessmentTypes) -> Course:
    """Reads the column ``hierarchy``. The course itself may be an assessment, too. Raises ReportError."""
    try:
        root = _decoder.decode(hierarchy)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ReportError(f"The hierarchy of the course cannot be read: {error}") from error
    assessments = set()
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node.identifier, str) and _is_assessment(node, types):
            assessments.add(node.identifier)
        nodes.extend(node.children or ())
    return Course(_whole_number(root.leaf_nodes_count), frozenset(assessments))


def _whole_number(value: Any) -> int:
    """7 of ``7``, ``7.0`` and ``"7"``, all of which content services have written; 0 of anything else."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return 0
    return int(number) if number.is_integer() and number > 0 else 0


def _is_assessment(node: _Node, types: AssessmentTypes) -> bool:
    return node.content_type in types.content_types or (
        node.object_type in types.object_types and node.primary_category in types.primary_categories
    )
