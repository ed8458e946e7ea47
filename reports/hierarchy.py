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
    """0 if the hierarchy has none."""
    assessments: frozenset[str]


class _Node(msgspec.Struct, rename="camel"):
    # Any: one node of a kind that nobody expects must not cost a batch its report.
    identifier: Any = None
    content_type: Any = None
    object_type: Any = None
    primary_category: Any = None
    leaf_nodes_count: Any = None
    children: list["_Node"] | None = None


_decoder = msgspec.json.Decoder(_Node)


def read_course(hierarchy: str, types: AssessmentTypes) -> Course:
    """Walks the tree in the column ``hierarchy``, the course itself included. Raises ReportError if it is no tree."""
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
    count = root.leaf_nodes_count
    return Course(count if isinstance(count, int) else 0, frozenset(assessments))


def _is_assessment(node: _Node, types: AssessmentTypes) -> bool:
    return node.content_type in types.content_types or (
        node.object_type in types.object_types and node.primary_category in types.primary_categories
    )
