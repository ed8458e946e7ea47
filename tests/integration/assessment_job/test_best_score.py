"""The best score from all attempts, and recomputed after attempts were deleted."""

import json
from datetime import UTC, datetime

from local.expected import content_aggregates
from local.world import World
from tests.support.assessment import Assessment, Learner, Tables
from tests.support.assessment_rows import (
    T0_DATETIME,
    detail,
    now,
)
from tests.support.strategies import T0


class TestTheBestScore:
    def test_is_that_of_all_attempts_with_its_own_maximum(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(
            learner.attempt("do_1", "a3", [(8, 30)], T0 + 3000),
            learner.attempt("do_1", "a2", [(8, 20)], T0 + 2000),
            learner.attempt("do_1", "a1", [(7.5, 10)], T0 + 9000),
            learner.attempt("do_1", "a4", [(0, 40)], T0),
        )
        assert assessment.attempt_ids(learner, 4)[-1] == "a1"
        row = tables.aggregates(learner)
        assert row.aggregates == content_aggregates("do_1", [(7.5, 10), (8, 20), (8, 30), (0, 40)])
        assert row.agg_details == [
            detail("do_1", "a1", 7.5, 10.0, "May 14, 2024, 9:12:49 AM"),
            detail("do_1", "a2", 8.0, 20.0, "May 14, 2024, 9:12:42 AM"),
            detail("do_1", "a3", 8.0, 30.0, "May 14, 2024, 9:12:43 AM"),
            detail("do_1", "a4", 0.0, 40.0),
        ]

    def test_is_kept_per_content_and_then_no_attempt_is_named(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(1, 2)]))
        assert assessment.attempt_ids(learner, 1) == ["a1"]
        assessment.send(learner.attempt("do_11", "a1", [(3, 4)]))
        assert assessment.attempt_ids(learner, 2) == ["a1", ""]
        assert tables.aggregates(learner).aggregates == {
            **content_aggregates("do_1", [(1, 2)]),
            **content_aggregates("do_11", [(3, 4)]),
        }

    def test_counts_no_drafts(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        created_on = datetime(2020, 1, 2, 3, 4, 5)
        tables.insert_attempt(learner, "do_1", "draft", last_attempted_on=T0_DATETIME, created_on=created_on)
        tables.insert_attempt(learner, "do_1", "draft-2", created_on=created_on)
        tables.insert_attempt(learner, "do_9", "draft", last_attempted_on=T0_DATETIME)
        assessment.send(learner.attempt("do_1", "a1", [(5, 10)]))
        assert assessment.attempt_ids(learner, 1) == ["a1"]
        row = tables.aggregates(learner)
        assert row.aggregates == content_aggregates("do_1", [(5, 10)])
        assert row.agg_details == [detail("do_1", "a1", 5.0, 10.0)]
        # It counts as soon as it is submitted, whatever its time: no attempt was stored yet.
        assessment.send(learner.attempt("do_1", "draft-2", [(6, 10)], T0 - 1))
        assessment.requests(learner, 2)
        (submitted,) = [attempt for attempt in tables.attempts(learner) if attempt.attempt_id == "draft-2"]
        assert (submitted.created_on, submitted.total_score) == (created_on, 6.0)
        assert tables.aggregates(learner).aggregates["attempts_count:do_1"] == 2.0

    def test_leaves_the_columns_and_keys_of_others_alone(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        updated = datetime(2020, 1, 2, 3, 4, 5)
        agg = {"completedCount": 3, "score:do_1": 99, "max_score:do_1": 100}
        tables.insert_aggregates(
            learner,
            agg=agg,
            aggregates={"completedCount": 4.0, "score:do_7": 2.5},
            agg_last_updated={"completedCount": updated},
            agg_details=["old"],
        )
        assessment.send(learner.attempt("do_1", "a1", [(5.5, 10)]))
        assessment.requests(learner, 1)
        row = tables.aggregates(learner)
        assert row.agg == agg
        assert row.aggregates == {
            "completedCount": 4.0,
            "score:do_7": 2.5,
            **content_aggregates("do_1", [(5.5, 10)]),
        }
        assert row.agg_last_updated["completedCount"] == updated
        assert row.agg_details == [detail("do_1", "a1", 5.5, 10.0)]


class TestARecomputeRequest:
    def test_lowers_a_best_score_and_removes_what_has_no_attempt_left(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(
            learner.attempt("do_1", "a1", [(9, 10)]),
            learner.attempt("do_1", "a2", [(6.25, 10)], T0 + 1000),
            learner.attempt("do_2", "b1", [(4, 5)]),
            learner.attempt("do_3", "c1", [(1, 5)], T0 + 2000),
        )
        assessment.requests(learner, 4)
        updated = datetime(2020, 1, 2, 3, 4, 5)
        tables.session.execute(
            "UPDATE user_activity_agg SET aggregates = aggregates + {'completedCount': 4.0, 'score': 1.0}, "
            "agg_last_updated = agg_last_updated + %s, agg = {'score:do_2': 4} "
            "WHERE activity_type = 'Course' AND activity_id = %s AND user_id = %s AND context_id = %s",
            ({"completedCount": updated}, learner.course_id, learner.user_id, f"cb:{learner.batch_id}"),
        )
        tables.delete_attempts(learner, "do_1", "a1")
        tables.delete_attempts(learner, "do_2", "b1")
        before = now()
        assessment.send(learner.recompute("do_1"))
        assert assessment.attempt_ids(learner, 5)[-1] == ""
        row = tables.aggregates(learner)
        assert row.aggregates == {
            "completedCount": 4.0,
            "score": 1.0,
            **content_aggregates("do_1", [(6.25, 10)]),
            **content_aggregates("do_3", [(1, 5)]),
        }
        assert row.agg == {"score:do_2": 4}
        times = dict(row.agg_last_updated)
        assert times.pop("completedCount") == updated
        assert times.keys() == row.aggregates.keys() - {"completedCount", "score"}
        assert min(times.values()) >= before
        assert row.agg_details == [
            detail("do_1", "a2", 6.25, 10.0, "May 14, 2024, 9:12:41 AM"),
            detail("do_3", "c1", 1.0, 5.0, "May 14, 2024, 9:12:42 AM"),
        ]

    def test_removes_everything_where_no_attempt_is_left(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(9, 10)]))
        assessment.requests(learner, 1)
        tables.delete_attempts(learner, "do_1", "a1")
        assessment.send(learner.recompute("do_1", events=[]))
        assert assessment.attempt_ids(learner, 2)[-1] == ""
        # Not even an empty row is left: it had no columns but those that are gone.
        assert tables.aggregates(learner) is None

    def test_without_a_time_has_that_of_its_kafka_message(
        self, assessment: Assessment, learner: Learner, world: World
    ) -> None:
        before = int(datetime.now(UTC).timestamp() * 1000)
        assessment.send(learner.recompute("do_1", None))
        (request,) = assessment.requests(learner, 1)
        assert before <= json.loads(request.value())["ets"] <= int(datetime.now(UTC).timestamp() * 1000)
