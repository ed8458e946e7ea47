"""Events about contents that are not part of their course."""

import json
from dataclasses import replace

import redis

from common.domain.messages import repaired
from tests.support.assessment import Assessment, Learner, Tables, reason


class TestTheContentCheck:
    def test_refuses_what_is_not_part_of_the_course(
        self, assessment: Assessment, learner: Learner, tables: Tables, relations: "redis.Redis"
    ) -> None:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_1", "do_2")
        bad = learner.attempt("do_3", "a1", [(1, 2)])
        assessment.send(bad, learner.attempt("do_2", "a2", [(1, 2)]))
        assert assessment.attempt_ids(learner, 1) == ["a2"]
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed) == f"content 'do_3' is not part of course '{learner.course_id}'"
        assert failed.key() == learner.user_id.encode()
        assert json.loads(repaired(failed.value())) == bad
        assert [row.content_id for row in tables.attempts(learner)] == ["do_2"]

    def test_refuses_a_recompute_of_it_too(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_1")
        assessment.send(learner.recompute("do_3"))
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed) == f"content 'do_3' is not part of course '{learner.course_id}'"

    def test_passes_all_contents_where_the_set_is_empty_or_missing(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        key = f"{learner.course_id}:{learner.course_id}:leafnodes"
        relations.sadd(key, "do_1")
        # Redis keeps no empty set: with its last member it is gone.
        relations.srem(key, "do_1")
        other_course = replace(learner, course_id=f"{learner.course_id}x")
        assessment.send(learner.attempt("do_3", "a1", [(1, 2)]), other_course.attempt("do_4", "a1", [(1, 2)]))
        assessment.requests(learner, 1)
        assessment.requests(other_course, 1)

    def test_refuses_events_while_the_cache_holds_something_else(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        key = f"{learner.course_id}:{learner.course_id}:leafnodes"
        relations.set(key, "no set")
        assessment.send(learner.attempt("do_1", "a1", [(1, 2)]))
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed).endswith(f"holds no set at key {key}")
