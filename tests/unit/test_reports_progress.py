"""The progress report: which contents have columns, scores to the digit, every cell, and rows that are broken."""

import json
import math
from datetime import UTC, datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.aggregates import merge
from reports.hierarchy import AssessmentTypes, Course, read_course
from reports.model import Batch, Collection, EnrolmentRow, ReportError, is_visible
from reports.progress import COLUMNS, KNOWN_COLUMNS, ProgressRows, Scores, completion_percentage, score_cells

TYPES = AssessmentTypes(["SelfAssess"], ["QuestionSet"], ["Practice Question Set"])
NOON = datetime(2024, 5, 14, 12, 0, tzinfo=UTC)
LATE = datetime(2024, 5, 14, 19, 0, tzinfo=UTC)
"""The day after in Asia/Kolkata."""


def enrolment(**columns: Any) -> EnrolmentRow:
    unset = dict.fromkeys(EnrolmentRow._fields)
    return EnrolmentRow(**{**unset, "user_id": "u-1", "active": True, "enrolled_date": NOON, **columns})


def scored(**contents: tuple[float, float]) -> dict[str, float]:
    """Aggregates with a score and a maximum for each content."""
    return {
        key: value
        for content, (score, max_score) in contents.items()
        for key, value in ((f"score:{content}", score), (f"max_score:{content}", max_score))
    }


class TestAssessments:
    def test_of_either_rule_at_any_depth_and_the_course_itself(self) -> None:
        tree = {
            "identifier": "course",
            "contentType": "SelfAssess",
            "leafNodesCount": 7,
            "children": [
                {
                    "identifier": "unit",
                    "children": [
                        {"identifier": "quiz", "contentType": "SelfAssess", "children": None},
                        {"identifier": "set", "objectType": "QuestionSet", "primaryCategory": "Practice Question Set"},
                        {"identifier": "other-set", "objectType": "QuestionSet", "primaryCategory": "Exam"},
                        {"identifier": "no-set", "objectType": "Content", "primaryCategory": "Practice Question Set"},
                        {"identifier": "video", "contentType": "Resource"},
                    ],
                }
            ],
        }
        assert read_course(json.dumps(tree), TYPES) == Course(7, frozenset({"course", "quiz", "set"}))

    @pytest.mark.parametrize(
        "tree",
        [
            "{}",
            '{"leafNodesCount": null, "children": []}',
            '{"leafNodesCount": "many"}',
            '{"leafNodesCount": 7.5}',
            '{"leafNodesCount": true}',
            '{"leafNodesCount": -7}',
            '{"leafNodesCount": []}',
        ],
    )
    def test_none(self, tree: str) -> None:
        assert read_course(tree, TYPES) == Course(0, frozenset())

    @pytest.mark.parametrize("count", ["7", "7.0", '"7"', '"7.0"'])
    def test_leaf_nodes_written_by_any_service(self, count: str) -> None:
        assert read_course(f'{{"leafNodesCount": {count}}}', TYPES) == Course(7, frozenset())

    @pytest.mark.parametrize("tree", ["", "[]", '{"children": 1}', '{"children": [' * 100_000])
    def test_no_tree(self, tree: str) -> None:
        with pytest.raises(ReportError, match="hierarchy of the course cannot be read"):
            read_course(tree, TYPES)


class TestScores:
    @pytest.mark.parametrize(
        ("score", "max_score", "cell"), [(7.5, 10, "75%"), (6.01, 10, "61%"), (20, 20, "100%"), (0, 10, "0%")]
    )
    def test_one_content(self, score: float, max_score: float, cell: str) -> None:
        assert score_cells(scored(c=(score, max_score)), {"c"}) == Scores(cell, {"c": cell})

    def test_several_contents(self) -> None:
        cells = score_cells(scored(a=(3, 5), b=(1, 1), c=(1, 10)), {"a", "b", "c"})
        assert cells == Scores("32%", {"a": "60%", "b": "100%", "c": "10%"})

    @pytest.mark.parametrize(
        ("score", "max_score"), [*((score, 100) for score in (7, 14, 28, 55, 56)), (7, 25), (14, 25), (11, 20), (7, 50)]
    )
    def test_the_total_divides_first(self, score: float, max_score: float) -> None:
        exact = score * 100 // max_score
        assert score_cells(scored(c=(score, max_score)), {"c"}) == Scores(f"{exact + 1}%", {"c": f"{exact}%"})

    def test_all_other_whole_scores_of_100_agree(self) -> None:
        differing = []
        for score in range(101):
            total, contents = score_cells(scored(c=(score, 100)), {"c"})
            if total != contents["c"]:
                differing.append(score)
        assert differing == [7, 14, 28, 55, 56]

    @pytest.mark.parametrize("aggregates", [{}, {"completedCount": 3.0}, {"max_score:c": 10.0}, {"score:c": 3.0}])
    def test_without_scores_or_maximum_there_are_no_cells(self, aggregates: dict[str, float]) -> None:
        assert score_cells(aggregates, {"c"}) == Scores("", {})

    def test_a_maximum_of_zero(self) -> None:
        assert score_cells(scored(c=(0, 0)), {"c"}) == Scores("", {})

    def test_an_infinite_score(self) -> None:
        assert score_cells(scored(a=(math.inf, 5), b=(1, 5)), {"a", "b"}) == Scores("", {"a": "", "b": "20%"})

    def test_one_content_without_maximum(self) -> None:
        aggregates = {**scored(a=(3, 5), z=(2, 0)), "score:b": 1.0}
        # The sum of the scores counts them all the same.
        assert score_cells(aggregates, {"a", "b", "z"}) == Scores("120%", {"a": "60%", "b": "", "z": ""})

    def test_the_maximum_of_a_content_without_score_does_not_count(self) -> None:
        assert score_cells({**scored(a=(3, 5)), "max_score:b": 100.0}, {"a", "b"}) == Scores("60%", {"a": "60%"})

    def test_an_id_inside_of_another_is_no_match(self) -> None:
        aggregates = scored(do_1=(3, 5), do_11=(1, 10), do_111=(1, 100))
        assert score_cells(aggregates, {"do_1"}) == Scores("60%", {"do_1": "60%"})

    def test_both_columns_merged(self) -> None:
        old = {"score:c": 7, "max_score:c": 10, "completedCount": 2}
        assert score_cells(merge(old, {"score:c": 7.5}), {"c"}).total == "75%"
        assert score_cells(merge(old, {"score:c": 6.0}), {"c"}).total == "60%"
        assert score_cells(merge(old, None), {"c"}).total == "70%"
        assert score_cells(merge(None, scored(c=(7.5, 10))), {"c"}).total == "75%"
        assert score_cells(merge(None, None), {"c"}) == Scores("", {})

    @given(
        st.dictionaries(
            st.sampled_from([f"{metric}:{content}" for metric in ("score", "max_score") for content in "abc"]),
            st.floats() | st.integers(-5, 5).map(float),
        )
    )
    def test_any_stored_double_gives_a_cell(self, aggregates: dict[str, float]) -> None:
        total, contents = score_cells(aggregates, {"a", "b"})
        assert set(contents) <= {"a", "b"}
        for cell in (total, *contents.values()):
            assert cell == "" or cell == f"{int(cell[:-1])}%"

    @given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), min_size=1, max_size=5))
    def test_a_cell_is_never_too_small_nor_a_whole_percent_too_large(self, quarters: list[tuple[int, int]]) -> None:
        contents = {f"c{number}": (score / 4, maximum / 4) for number, (score, maximum) in enumerate(quarters)}
        total, cells = score_cells(scored(**contents), contents.keys())
        for number, (score, maximum) in enumerate(quarters):
            assert cells[f"c{number}"] == f"{-(-100 * score // maximum)}%"
        exact = -(-100 * sum(score for score, _ in quarters) // sum(maximum for _, maximum in quarters))
        assert int(total[:-1]) - exact in (0, 1)


class TestProgress:
    @pytest.mark.parametrize(
        ("done", "leaf_nodes", "percent"),
        [
            (0, 3, 0),
            (1, 3, 33),
            (2, 3, 67),
            (1, 8, 13),
            (1, 200, 1),
            (1, 201, 0),
            (3, 3, 100),
            (5, 3, 100),
            (0, 0, 100),
            (1, 0, 100),
        ],
    )
    def test_of_leaf_nodes(self, done: int, leaf_nodes: int, percent: int) -> None:
        status = {f"c{number}": 2 for number in range(done)} | {"started": 1, "untouched": 0}
        assert completion_percentage(enrolment(contentstatus=status), leaf_nodes, ()) == percent

    def test_optional_contents_do_not_count(self) -> None:
        status = {"a": 2, "b": 2, "optional": 2}
        assert completion_percentage(enrolment(contentstatus=status), 4, {"optional"}) == 50

    def test_unset_status(self) -> None:
        assert completion_percentage(enrolment(), 0, ()) == 0

    def test_completed(self) -> None:
        assert completion_percentage(enrolment(completedon=NOON), 10, ()) == 100

    @given(st.integers(0, 300), st.integers(1, 300))
    def test_rounds_a_half_up(self, done: int, leaf_nodes: int) -> None:
        status = {f"c{number}": 2 for number in range(done)}
        expected = min(100, math.floor(done * 100 / leaf_nodes + 0.5))
        assert completion_percentage(enrolment(contentstatus=status), leaf_nodes, ()) == expected


class TestWhoIsListed:
    @pytest.mark.parametrize(
        ("columns", "is_reported"),
        [
            ({}, True),
            ({"active": False}, False),
            ({"active": None}, False),
            ({"enrolled_date": None}, False),
            ({"enrolled_date": None, "enrolleddate": "2024-05-14 09:12:44:310+0530"}, True),
            # Of a content state update of somebody who was never enrolled.
            ({"active": None, "enrolled_date": None}, False),
        ],
    )
    def test_enrolled(self, columns: dict[str, Any], is_reported: bool) -> None:
        assert enrolment(**columns).is_reported is is_reported

    def test_another_organisation_sees_its_own_learners(self) -> None:
        collection = Collection("course", "Course", "owner")
        ours, others, nobodys = {"rootorgid": "ours"}, {"rootorgid": "other"}, {"firstname": "Asha"}
        assert [is_visible(user, collection, "ours") for user in (ours, others, nobodys)] == [True, False, False]
        assert all(is_visible(user, collection, channel) for user in (ours, others) for channel in ("owner", None))

    @pytest.mark.parametrize("channel", ["", " "])
    def test_a_blank_organisation_sees_nobody(self, channel: str) -> None:
        """A collection may have no channel, and a learner no organisation."""
        learners = ({"rootorgid": "ours"}, {"rootorgid": channel}, {"firstname": "Asha"})
        collection = Collection("course", "Course", channel)
        assert not any(is_visible(learner, collection, channel) for learner in learners)
        assert all(is_visible(learner, collection, None) for learner in learners)


class TestRow:
    ROWS = ProgressRows(
        Collection("course", 'Roses, "and" more', "owner"),
        Batch("course", "0130929928739635200", "May"),
        Course(4, frozenset({"quiz"})),
        frozenset(),
        ZoneInfo("Asia/Kolkata"),
    )
    LEARNER: ClassVar = {
        "userid": "u-1",
        "firstname": "Asha",
        "state": "Kerala",
        "district": "Kollam",
        "orgname": "Org",
        "schooludisecode": "32",
        "schoolname": "School",
        "block": "B",
        "cluster": "C",
        "usertype": "teacher",
        "usersubtype": "hm",
        "board": '["CBSE", "State"]',
        "rootorgid": "ours",
    }

    def test_every_cell(self) -> None:
        columns = {"contentstatus": {"quiz": 2}, "enrolled_date": LATE, "issued_certificates": [{"name": "x"}]}
        cells, contents = self.ROWS.row(enrolment(**columns), self.LEARNER, scored(quiz=(7.5, 10), other=(1, 1)))
        assert {title: cells[column] for column, title in COLUMNS.items()} == {
            "Collection Id": "course",
            "Collection Name": 'Roses, "and" more',
            "Batch Id": "BatchId_0130929928739635200",
            "Batch Name": "May",
            "User UUID": "u-1",
            "State": "Kerala",
            "District": "Kollam",
            "Org Name": "Org",
            "School Id": "32",
            "School Name": "School",
            "Block Name": "B",
            "Cluster Name": "C",
            "User Type": "teacher",
            "User Sub Type": "hm",
            "Declared Board": "CBSE",
            "Enrolment Date": "15/05/2024",
            "Completion Date": "",
            "Certificate Status": "Issued",
            "Progress": "25",
            "Total Score": "75%",
        }
        assert contents == {"quiz - Score": "75%"}
        assert cells.keys() == KNOWN_COLUMNS

    def test_a_learner_of_whom_next_to_nothing_is_known(self) -> None:
        rows = self.ROWS._replace(batch=Batch("course", "b", None))
        cells, contents = rows.row(enrolment(), {"userid": "u-1"}, {})
        assert {column for column, cell in cells.items() if cell} == {
            "courseid",
            "collectionName",
            "batchid",
            "userid",
            "enrolleddate",
            "completionPercentage",
        }
        assert cells["completionPercentage"] == "0"
        assert all(isinstance(cell, str) for cell in cells.values())
        assert contents == {}

    def test_the_day_of_completion_is_that_of_the_time_zone(self) -> None:
        cells, _ = self.ROWS.row(enrolment(completedon=LATE), self.LEARNER, {})
        assert cells["completedon"] == "15/05/2024"

    @pytest.mark.parametrize(
        ("columns", "date"),
        [
            ({"enrolleddate": "2023-01-01 00:00:00:000+0530"}, "14/05/2024"),
            ({"enrolled_date": None, "enrolleddate": "2024-05-14 23:12:44:310+0530"}, "14/05/2024"),
            ({"enrolled_date": None, "enrolleddate": "2024-05-14 23:12:44:310+0000"}, "15/05/2024"),
            ({"enrolled_date": None, "enrolleddate": "some day"}, ""),
        ],
    )
    def test_the_timestamp_is_preferred_to_its_text(self, columns: dict[str, Any], date: str) -> None:
        cells, _ = self.ROWS.row(enrolment(**columns), self.LEARNER, {})
        assert cells["enrolleddate"] == date

    @pytest.mark.parametrize(
        ("columns", "cell"),
        [
            ({}, ""),
            ({"certificates": []}, ""),
            ({"issued_certificates": []}, ""),
            ({"certificates": [{"id": "1"}], "issued_certificates": None}, "Issued"),
        ],
    )
    def test_certificates(self, columns: dict[str, Any], cell: str) -> None:
        cells, _ = self.ROWS.row(enrolment(**columns), self.LEARNER, {})
        assert cells["certificatestatus"] == cell

    @pytest.mark.parametrize("board", ["", "CBSE", "[]", "{}", "[1]", "[" * 10_000])
    def test_no_board(self, board: str) -> None:
        cells, _ = self.ROWS.row(enrolment(), {**self.LEARNER, "board": board}, {})
        assert cells["board"] == ""
