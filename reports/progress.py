"""The rows of the progress report V2. Pure.

A score column shows the best score of a content in percent, rounded up. The content's cell multiplies before it
divides, the total divides first. Both are as in Sunbird's report, so that old and new reports have the same digits: 7
points of 100 give ``7%`` in the content's cell and ``8%`` in the total, since ``7 / 100 * 100`` is 7.000000000000001.
"""

import math
from collections.abc import Collection, Container, Mapping
from datetime import datetime, tzinfo
from typing import NamedTuple

import msgspec

from common.domain.aggregates import MAX_SCORE, SCORE, contents_of
from reports import model
from reports.hierarchy import Course
from reports.model import Batch, EnrolmentRow, Learner

JOB_ID = "progress-exhaust"
FILE_LABEL = "progress"

COLUMNS = {
    "courseid": "Collection Id",
    "collectionName": "Collection Name",
    "batchid": "Batch Id",
    "batchName": "Batch Name",
    "userid": "User UUID",
    "state": "State",
    "district": "District",
    "orgname": "Org Name",
    "schooludisecode": "School Id",
    "schoolname": "School Name",
    "block": "Block Name",
    "cluster": "Cluster Name",
    "usertype": "User Type",
    "usersubtype": "User Sub Type",
    "board": "Declared Board",
    "enrolleddate": "Enrolment Date",
    "completedon": "Completion Date",
    "certificatestatus": "Certificate Status",
    "completionPercentage": "Progress",
    "total_sum_score": "Total Score",
}
"""The titles of the default report by column, in its order. The columns of the contents follow."""

KNOWN_COLUMNS = frozenset({*COLUMNS, "status"})
"""The columns that a configuration may choose; ``status`` is the learner's, in Sunbird's reports since release 7."""

_COMPLETED = 2
_LEARNER_COLUMNS = (
    "state",
    "district",
    "orgname",
    "schooludisecode",
    "schoolname",
    "block",
    "cluster",
    "usertype",
    "usersubtype",
    "status",
)


class Scores(NamedTuple):
    """The score cells of one learner; ``contents`` are by content id."""

    total: str
    contents: Mapping[str, str]


def score_column(content_id: str) -> str:
    """The title of a content's column."""
    return f"{content_id} - Score"


def score_cells(aggregates: Mapping[str, float], assessments: Collection[str]) -> Scores:
    """The scores in merged aggregates of the contents that are assessments of the course."""
    scores = _of(contents_of(SCORE, aggregates), assessments)
    maxima = _of(contents_of(MAX_SCORE, aggregates), scores)
    total_max = sum(maxima.values())
    if not scores or not total_max > 0:
        return Scores("", {})
    contents = {
        content_id: _percent(score * 100 / maxima[content_id]) if maxima.get(content_id) else ""
        for content_id, score in scores.items()
    }
    return Scores(_percent(sum(scores.values()) / total_max * 100), contents)


def completion_percentage(enrolment: EnrolmentRow, leaf_nodes_count: int, optional: Collection[str]) -> int:
    """The cell ``Progress``: whole percents, a half rounded up; 100 for a course without leaf nodes."""
    if enrolment.completedon is not None:
        return 100
    if enrolment.contentstatus is None:
        return 0
    done = sum(
        status == _COMPLETED and content_id not in optional for content_id, status in enrolment.contentstatus.items()
    )
    if done >= leaf_nodes_count:
        return 100
    # floor(100 * done / count + 1/2) in whole numbers: a half must not get lost in binary.
    return (200 * done + leaf_nodes_count) // (2 * leaf_nodes_count)


class Row(NamedTuple):
    """``cells`` by column, ``contents`` by title."""

    cells: Mapping[str, str]
    contents: Mapping[str, str]


class ProgressRows(NamedTuple):
    """Makes the rows of one batch."""

    collection: model.Collection
    batch: Batch
    course: Course
    optional_contents: Collection[str]
    zone: tzinfo

    def row(self, enrolment: EnrolmentRow, learner: Learner, aggregates: Mapping[str, float]) -> Row:
        """The row of one learner, whose merged ``aggregates`` are empty if there is no row of them."""
        total, contents = score_cells(aggregates, self.course.assessments)
        cells = {
            **model.common_cells(self.collection, self.batch, enrolment.user_id),
            **{column: learner.get(column, "") for column in _LEARNER_COLUMNS},
            "board": _first_board(learner.get("board", "")),
            "enrolleddate": self._date(enrolment.enrolled_on),
            "completedon": self._date(enrolment.completedon),
            "certificatestatus": "Issued" if enrolment.has_certificate else "",
            "completionPercentage": str(
                completion_percentage(enrolment, self.course.leaf_nodes_count, self.optional_contents)
            ),
            "total_sum_score": total,
        }
        return Row(cells, {score_column(content_id): cell for content_id, cell in contents.items()})

    def _date(self, moment: datetime | None) -> str:
        return "" if moment is None else model.local_time(moment, self.zone).strftime("%d/%m/%Y")


def _of(values: Mapping[str, float], contents: Container[str]) -> dict[str, float]:
    return {content_id: value for content_id, value in values.items() if content_id in contents}


def _percent(value: float) -> str:
    """Rounded up; empty for infinities and for what their division gives."""
    return f"{math.ceil(value)}%" if math.isfinite(value) else ""


def _first_board(boards: str) -> str:
    """The first element of a JSON array of texts; empty if there is none."""
    try:
        found = msgspec.json.decode(boards, type=list[str])
    except (msgspec.DecodeError, RecursionError):
        return ""
    return found[0] if found else ""
