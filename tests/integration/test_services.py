"""The read APIs as a process of their own, on real Cassandra, Kafka, Redis and a real group service.

The numbers at the tests of the parity checklist are those of its points.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cassandra.cluster import Session

from common.domain.attempts import decode
from common.domain.events import to_datetime
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.rules import Attempt
from local.expected import content_aggregates
from local.http_services import GROUP, HttpServices, Switch
from local.world import World
from services.config import ServicesConfig
from tests.conftest import Topics
from tests.support.read_apis import (
    GROUP_AGG,
    MAX_BODY,
    PRIVATE_STATE,
    PUBLIC,
    READ,
    READ_ALIAS,
    SAVE,
    STATE,
    SUBMIT,
    SUBMIT_ALIAS,
    TIME_MS,
    Learner,
    Services,
    another,
    answer,
    attempt_of,
    start,
)
from tests.support.required_keys import REQUIRED
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d:\d{3}\+0530")


@pytest.fixture(scope="module")
def groups() -> Iterator[HttpServices]:
    with HttpServices() as groups:
        yield groups


@pytest.fixture(scope="module")
def services(world: World, groups: HttpServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    env = f"services-{os.getpid()}"
    world.kafka.create_topics([f"{env}.telemetry.assess", f"{env}.telemetry.assess.failed"], 1)
    services = start(world, folder, groups, env)
    yield services
    services.process.terminate()
    assert services.process.wait(TIMEOUT_SECONDS) in (0, -signal.SIGTERM)
    assert "Traceback" not in services.log, services.log


@pytest.fixture
def learner(cassandra_session: Session, unique: str) -> Learner:
    return Learner(cassandra_session, unique)


# Content state read


def test_content_state_has_the_array_as_it_was_and_two_more_members(services: Services, learner: Learner) -> None:
    """Points 1 and 7."""
    moment = to_datetime(TIME_MS)
    learner.consumption(
        "do_quiz",
        status=2,
        progress=100,
        viewcount=3,
        completedcount=1,
        completionpercentage=99.9,
        progressdetails='{"current": ["7"]}',
        last_access_time=moment,
        last_completed_time=moment,
        datetime=moment,
        lastaccesstime="legacy",
    )
    learner.attempt("do_quiz", "a2", last_attempted_on=moment, total_score=6.0, total_max_score=10.0)
    learner.attempt("do_quiz", "a1", last_attempted_on=moment, total_score=7.5, total_max_score=10.0)
    learner.aggregates(
        {"score:do_quiz": 7, "completedCount": 2},
        {"score:do_quiz": 7.5, "max_score:do_quiz": 10.0, "attempts_count:do_quiz": 2.0},
    )
    state = {
        "contentId": "do_quiz",
        "courseId": learner.course_id,
        "collectionId": learner.course_id,
        "batchId": learner.batch_id,
        "status": 2,
        "progress": 100,
        "viewCount": 3,
        "completedCount": 1,
        "completionPercentage": 99.9,
        "progressdetails": {"current": ["7"]},
        "lastAccessTime": "2024-05-14 09:02:40:002+0530",
        "lastCompletedTime": "2024-05-14 09:02:40:002+0530",
    }

    without = services.result(STATE, {**learner.ids, "fields": ["progress"]}, learner.user_id)
    with_score = services.result(STATE, {**learner.ids, "fields": ["progress", "score"]}, learner.user_id)

    assert without == {"contentList": [state]}
    score = [
        {"attemptId": "a1", "lastAttemptedOn": TIME_MS, "totalScore": 7.5, "totalMaxScore": 10.0},
        {"attemptId": "a2", "lastAttemptedOn": TIME_MS, "totalScore": 6.0, "totalMaxScore": 10.0},
    ]
    assert with_score == {
        "contentList": [
            state | {"score": score, "bestScore": {"totalScore": 7.5, "totalMaxScore": 10.0}, "attemptsCount": 2.0}
        ]
    }


@pytest.mark.parametrize(
    ("agg", "aggregates", "best"),
    [
        ({"score:do_quiz": 7}, {"score:do_quiz": 6.0}, 6.0),  # point 2
        ({"score:do_quiz": 7}, None, 7.0),  # point 3
        (None, {"score:do_quiz": 0.0}, 0.0),  # point 4
        (None, None, None),
        (None, {"max_score:do_quiz": 10.0, "score:do_quiz2": 1.0, "score:xdo_quiz": 2.0}, None),  # point 5
    ],
)
def test_every_reader_sees_the_same_best_score(
    services: Services,
    learner: Learner,
    agg: dict[str, int] | None,
    aggregates: dict[str, float] | None,
    best: float | None,
) -> None:
    learner.aggregates(agg, aggregates)
    learner.consumption("do_quiz")
    group = f"g-{learner.user_id}"
    services.groups.groups[group] = [{"userId": learner.user_id}]

    request = {**learner.ids, "contentIds": ["do_quiz"], "fields": ["score"]}
    [state] = services.result(STATE, request, learner.user_id)["contentList"]
    [private] = services.result(PRIVATE_STATE, {**request, "userId": learner.user_id})["contentList"]
    scores = services.result(READ, {**learner.viewer_ids, "contentId": "do_quiz"}, learner.user_id)["contents"]
    activity = {"groupId": group, "activityId": learner.course_id, "activityType": "Course"}
    [member] = services.result(GROUP_AGG, activity, learner.user_id)["members"]

    assert state.get("bestScore", {"totalScore": None})["totalScore"] == best
    assert private == state
    assert [content["score"] for content in scores] == ([] if best is None else [best])
    assert {metric["metric"]: metric["value"] for metric in member["agg"]}.get("score:do_quiz") == best
    assert all(isinstance(metric["value"], float) for metric in member["agg"])


def test_unset_columns_missing_rows_drafts_and_broken_texts(services: Services, learner: Learner) -> None:
    """Point 4, and rows of every broken kind."""
    learner.consumption("do_1", progressdetails="{broken")
    learner.consumption("do_2", progressdetails=f'"{"x" * 1_000_000}"')
    learner.attempt("do_1", "draft", updated_on=to_datetime(TIME_MS))
    learner.attempt("do_1", "untimed", total_score=1.5)
    learner.session.execute(
        "UPDATE user_enrolments SET lastreadcontentid = 'do_1' WHERE userid = %s AND courseid = %s AND batchid = %s",
        (learner.user_id, learner.course_id, learner.batch_id),
    )
    # A time that no reader can hold.
    learner.session.execute(
        "UPDATE user_content_consumption SET last_access_time = 999999999999999999 "
        "WHERE userid = %s AND courseid = %s AND batchid = %s AND contentid = 'do_2'",
        (learner.user_id, learner.course_id, learner.batch_id),
    )

    one, two = services.result(STATE, {**learner.ids, "fields": ["score"]}, learner.user_id)["contentList"]

    assert one["score"] == [{"attemptId": "untimed", "lastAttemptedOn": None, "totalScore": 1.5, "totalMaxScore": 0.0}]
    assert one["progressdetails"] == "{broken"
    assert (one["status"], one["viewCount"], one["completionPercentage"], one["lastAccessTime"]) == (None,) * 4
    assert "bestScore" not in one
    assert two["score"] == []
    assert two["lastAccessTime"] is None
    assert len(two["progressdetails"]) == 1_000_000
    nobody = services.result(STATE, {"courseId": "none", "batchId": "none", "fields": ["score"]}, learner.user_id)
    assert nobody == {"contentList": []}


def test_many_contents_and_many_attempts(services: Services, learner: Learner) -> None:
    contents = [f"do_{number:03}" for number in range(150)]
    for content_id in contents:
        learner.consumption(content_id, status=2)
    for number in range(30):
        learner.attempt("do_000", f"a{number:02}", total_score=float(number), total_max_score=30.0)
    learner.aggregates(None, {"score:do_000": 29.0, "attempts_count:do_000": 30.0})

    def ids(content_ids: list[str] | None) -> list[str]:
        request = {**learner.ids, "contentIds": content_ids, "fields": ["score"]}
        states = services.result(STATE, request, learner.user_id)["contentList"]
        for state in states:
            # None has a time, so "the latest" are the first ones beside the best.
            best_and_others = [f"a{number:02}" for number in (*range(24), 29)]
            expected = best_and_others if state["contentId"] == "do_000" else []
            assert [attempt["attemptId"] for attempt in state["score"]] == expected
        return [state["contentId"] for state in states]

    assert ids(None) == ids([]) == contents
    assert ids(["do_007", "do_000", "do_007", "unknown"]) == ["do_000", "do_007"]
    assert ids(contents[:120]) == contents[:120]  # more than are named in one statement
    assert ids(["x" * 10_000]) == []


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ({"courseId": "c", "collectionId": "other", "courseIds": ["other"]}, "c"),
        ({"collectionId": "c", "courseIds": ["other"]}, "c"),
        ({"courseIds": ["c", "other"]}, "c"),
    ],
)
def test_the_course_has_three_spellings(
    services: Services, learner: Learner, course: dict[str, Any], expected: str
) -> None:
    learner.course_id = expected
    learner.consumption("do_1")

    states = services.result(STATE, {**course, "batchId": learner.batch_id}, learner.user_id)["contentList"]

    assert [state["courseId"] for state in states] == [expected]


# Group aggregates


def test_group_read(services: Services, learner: Learner, unique: str) -> None:
    """Point 6."""
    second = Learner(learner.session, unique)
    second.user_id += "-2"
    learner.aggregates(
        {"completedCount": 4, "score:do_quiz": 7},
        {"score:do_quiz": 7.5, "attempts_count:do_quiz": 2.0},
        {"completedCount": to_datetime(TIME_MS - 5), "score:do_quiz": to_datetime(TIME_MS)},
    )
    learner.aggregates(None, None, batch_id="another")
    admin = {"userId": learner.user_id, "name": "Asha", "role": "admin", "status": "active", "createdBy": "u-1"}
    services.groups.groups[unique] = [
        {**admin, "groupId": unique, "visited": True},
        {"userId": second.user_id, "name": "has no row"},
        {"userId": " "},
        {"name": "has no id"},
    ]
    token = services.issuer.token(learner.user_id)
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Any"}

    response = services.client.post(GROUP_AGG, json={"request": request}, headers={"x-authenticated-user-token": token})

    body = response.json()
    assert (response.status_code, body["id"]) == (200, "api.group.activity.agg")
    assert services.groups.group_tokens[-1] == token
    result = body["result"]
    assert result["activity"] == {
        "id": learner.course_id,
        "type": "Any",
        "agg": [{"metric": "enrolmentCount", "lastUpdatedOn": TIME_MS, "value": 1}],
    }
    assert isinstance(result["activity"]["agg"][0]["value"], int)
    assert [member["userId"] for member in result["members"]] == [learner.user_id] * 2
    assert {key: result["members"][0][key] for key in admin} == admin
    metrics = sorted((metric for member in result["members"] for metric in member["agg"]), key=lambda m: m["metric"])
    assert metrics == [
        {"metric": "attempts_count:do_quiz", "lastUpdatedOn": None, "value": 2.0},
        {"metric": "completedCount", "lastUpdatedOn": TIME_MS - 5, "value": 4.0},
        {"metric": "score:do_quiz", "lastUpdatedOn": TIME_MS, "value": 7.5},
    ]


def test_group_without_times_rows_or_members(services: Services, learner: Learner, unique: str) -> None:
    services.groups.groups[unique] = [{"userId": learner.user_id}]
    services.groups.groups[f"{unique}-empty"] = []
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}

    without_row = services.result(GROUP_AGG, request, learner.user_id)
    without_members = services.result(GROUP_AGG, {**request, "groupId": f"{unique}-empty"}, learner.user_id)
    learner.aggregates({"completedCount": 1}, None)
    before_ms = time.time_ns() // 1_000_000 - 1
    without_times = services.result(GROUP_AGG, request, learner.user_id)

    assert (without_row["members"], without_members["members"]) == ([], [])
    assert without_row["activity"]["agg"][0]["value"] == 0
    [count] = without_times["activity"]["agg"]
    assert count["value"] == 1
    assert before_ms <= count["lastUpdatedOn"] <= time.time_ns() // 1_000_000


def test_group_service_that_fails(services: Services, learner: Learner, unique: str) -> None:
    services.groups.groups[unique] = [{"userId": learner.user_id}]
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}

    def error(switch: Switch) -> tuple[int, Any, Any, Any]:
        services.groups.switch(GROUP, switch)
        response = services.post(GROUP_AGG, request, learner.user_id)
        params = response.json()["params"]
        return response.status_code, params["err"], params["status"], params["errmsg"]

    refused = (500, None, "SERVER_ERROR", "Error while fetching group members record.")
    broken = (500, "INTERNAL_ERROR", "INTERNAL_ERROR", "Process failed,please try again later.")
    try:
        assert error(Switch(status=404)) == refused
        assert error(Switch(status=503)) == refused
        assert error(Switch(is_not_json=True)) == broken
        assert error(Switch(is_half=True)) == broken
        services.groups.refuse()
        assert error(Switch()) == broken
    finally:
        services.groups.switch(GROUP, Switch())
        services.groups.accept()
    services.groups.switch(GROUP, Switch())
    for group_id in ("unknown", "..", "."):
        response = services.post(GROUP_AGG, {**request, "groupId": group_id}, learner.user_id)
        assert (response.status_code, response.json()["params"]["err"]) == (500, None)


def test_the_answer_for_a_group_is_cached_and_read_where_that_is_switched_on(
    world: World,
    services: Services,
    learner: Learner,
    unique: str,
    tmp_path: Path,
    groups: HttpServices,
) -> None:
    groups.groups[unique] = [{"userId": learner.user_id}]
    learner.aggregates({"completedCount": 1}, None)
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}
    first = services.result(GROUP_AGG, request, learner.user_id)
    learner.aggregates({"completedCount": 2}, None)
    with world.redis.client(db=0, decode_responses=True) as cache:
        key = f"{unique}:{learner.course_id}:Course:activity-agg"
        assert json.loads(cache.get(key))["result"] == first
        assert 50 < cache.ttl(key) <= 60
        second = services.result(GROUP_AGG, request, learner.user_id)
        assert second["members"][0]["agg"][0]["value"] == 2.0  # not read, because that is off

        enabled = {"AGGREGATES__GROUP_ACTIVITY_AGG_CACHE_ENABLE": "true"}
        with another(world, tmp_path, groups, services.env, **enabled) as cached:
            learner.aggregates({"completedCount": 3}, None)
            assert cached.result(GROUP_AGG, request, learner.user_id)["members"] == second["members"]
            # Neither does a stranger see it, nor does a broken value spoil the answer.
            assert cached.post(GROUP_AGG, request, "u-stranger").status_code == 403
            cache.set(key, "{broken")
            assert cached.result(GROUP_AGG, request, learner.user_id)["members"][0]["agg"][0]["value"] == 3.0


# Assessments


def records(topics: Topics, topic: str, user_id: str) -> list[dict[str, Any]]:
    return [json.loads(message.value()) for message in topics.read(topic) if message.key() == user_id.encode()]


@pytest.mark.parametrize("path", [SUBMIT, SUBMIT_ALIAS])
def test_what_is_submitted_is_with_the_broker(services: Services, learner: Learner, topics: Topics, path: str) -> None:
    submitted = attempt_of(learner, events=[answer(1.0, ets=1), answer(7.5)], extra={"x": 1e2})

    response = services.post(path, {"assessments": [submitted, attempt_of(learner, attemptId="")]}, learner.user_id)

    body = response.json()
    assert (response.status_code, body["id"], body["ver"]) == (200, "api.view.assess.submit", "1.0")
    assert body["result"] == {
        "do_quiz": ["Score Captured Successfully", '{"request.attemptId":"Field cannot be empty"}']
    }
    [event] = records(topics, f"{services.env}.telemetry.assess", learner.user_id)
    own_events = [{**one, "actor": {"id": learner.user_id, "type": "User"}} for one in submitted["events"]]
    assert event == {**submitted, "userId": learner.user_id, "events": own_events, **learner.ids}
    decoded = decode(json.dumps(event).encode(), 0)
    assert decoded.enrolment == (learner.user_id, learner.course_id, learner.batch_id)
    assert learner.attempts() == []


def test_invalid_assessments_go_to_the_failed_topic(
    services: Services, learner: Learner, topics: Topics, world: World
) -> None:
    with world.redis.client(db=10) as relations:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_quiz")
    attempts = [
        attempt_of(learner),
        attempt_of(learner, "do_foreign"),
        attempt_of(learner, "do_quiz", events=[]),
        attempt_of(learner, "do_quiz", events=[{"edata": {"score": "many"}}]),
        attempt_of(learner, "do_quiz", attemptId="x" * 10_000, collectionId="c" * 70),
    ]

    result = services.result(SUBMIT, {"assessments": attempts[:4]}, learner.user_id)
    saved = services.result(SAVE, {"assessments": attempts[1:2]}, learner.user_id)

    assert result == {
        "do_quiz": ["Score Captured Successfully", "Invalid Request", "Invalid Request"],
        "do_foreign": ["Invalid Request"],
    }
    assert saved == {"do_foreign": ["Invalid Request"]}
    failed = records(topics, f"{services.env}.telemetry.assess.failed", learner.user_id)
    # The draft is not there: it would look like a submission.
    assert [event["contentId"] for event in failed] == ["do_foreign", "do_quiz", "do_quiz"]
    assert all(event["courseId"] == learner.course_id for event in failed)
    assert len(records(topics, f"{services.env}.telemetry.assess", learner.user_id)) == 1


def test_a_draft_spoils_no_best_score(services: Services, learner: Learner, topics: Topics) -> None:
    later = attempt_of(learner, events=[answer(3.0), answer(2.0, "q2")])
    result = services.result(SAVE, {"assessments": [attempt_of(learner, events=[answer(1.0)]), later]}, learner.user_id)

    [row] = learner.attempts()
    assert result == {"do_quiz": ["Saved Assessment Successfully"] * 2}
    assert (row.total_score, row.total_max_score, row.last_attempted_on, row.created_on) == (None,) * 4
    assert row.updated_on is not None
    assert [(question.id, question.score) for question in row.question] == [("q1", 3.0), ("q2", 2.0)]

    # What the aggregator makes of the draft and of the submission that has the draft's time.
    stored = Attempt("do_quiz", "attempt-1", None, None, row.total_score, row.total_max_score)
    submitted = attempt_of(learner)
    services.result(SUBMIT, {"assessments": [submitted]}, learner.user_id)
    [event] = records(topics, f"{services.env}.telemetry.assess", learner.user_id)
    decision = rules.decide([stored], [decode(json.dumps(event).encode(), 0)], (), rules.Settings("t", UTC), TIME_MS)
    assert decision.aggregates is not None
    assert decision.aggregates.aggregates == content_aggregates("do_quiz", [(7.5, 10.0)])

    # Nor does a draft that comes after its submission change the answers which were scored.
    learner.attempt("do_quiz", "attempt-1", total_score=7.5, total_max_score=10.0, last_attempted_on=datetime.now(UTC))
    late = services.result(SAVE, {"assessments": [attempt_of(learner, events=[answer(0.0)])]}, learner.user_id)
    [row] = learner.attempts()
    assert late == {"do_quiz": ["Invalid Request"]}
    assert [question.score for question in row.question] == [3.0, 2.0]
    state = {**learner.ids, "fields": ["score"]}
    assert services.result(STATE, state, learner.user_id) == {"contentList": []}


@pytest.mark.parametrize("path", [READ, READ_ALIAS])
def test_read_gives_the_best_of_each_content(services: Services, learner: Learner, path: str) -> None:
    learner.aggregates(
        {"score:b": 7, "completedCount": 2},
        {"score:b": 7.5, "max_score:b": 10.0, "attempts_count:b": 2.0, "score:a": 0.0, "max_score:c": 1.0},
    )
    contents = [
        {"identifier": "a", "score": 0.0},
        {"identifier": "b", "score": 7.5, "max_score": 10.0, "attempts_count": 2.0},
    ]
    head = {"userId": learner.user_id, **learner.viewer_ids}

    def read(**request: Any) -> Any:
        return services.result(path, request, learner.user_id)

    assert read(**learner.viewer_ids) == {**head, "contents": contents}
    assert read(**learner.ids, contentId=["b", "c", "a", "b"]) == {**head, "contents": contents[::-1]}
    assert read(**learner.viewer_ids, contentId="b") == {**head, "contents": contents[1:]}
    assert read(contentId="b") == {
        "userId": learner.user_id,
        "collectionId": "b",
        "contextId": "b",
        "contents": [],
    }


# Who may see what


def test_no_field_of_a_body_leads_to_another_users_data(
    services: Services, learner: Learner, topics: Topics, unique: str
) -> None:
    learner.consumption("do_quiz", status=2)
    learner.aggregates(None, {"score:do_quiz": 7.5})
    services.groups.groups[unique] = [{"userId": learner.user_id}]
    thief = f"u-thief-{unique}"
    theirs = {
        "userId": learner.user_id,
        "user_id": learner.user_id,
        "requestedBy": learner.user_id,
        "requestedFor": learner.user_id,
        "userIds": [learner.user_id],
        **learner.ids,
        **learner.viewer_ids,
        "contentIds": ["do_quiz"],
        "fields": ["score"],
    }

    assert services.result(STATE, theirs, thief) == {"contentList": []}
    assert services.result(READ, theirs, thief)["contents"] == []
    group = {**theirs, "groupId": unique, "activityId": learner.course_id, "activityType": "Course"}
    assert services.post(GROUP_AGG, group, thief).status_code == 403
    raw = json.dumps(attempt_of(learner)).removesuffix("}") + f', "userId": "{learner.user_id}"}}'
    for path in (SUBMIT, SAVE):
        response = services.client.post(
            path,
            content=f'{{"request": {{"userId": "{learner.user_id}", "assessments": [{raw}]}}}}',
            headers={"x-authenticated-user-token": services.issuer.token(thief), "x-authenticated-userid": "u-x"},
        )
        assert response.status_code == 200
    assert learner.attempts() == []
    assert records(topics, f"{services.env}.telemetry.assess", learner.user_id) == []
    [event] = records(topics, f"{services.env}.telemetry.assess", thief)
    assert event["userId"] == thief
    assert learner.user_id not in json.dumps(event)


def test_a_managed_user(services: Services, learner: Learner) -> None:
    learner.aggregates(None, {"score:do_quiz": 7.5})
    learner.consumption("do_quiz")

    states = services.result(STATE, learner.ids, "u-parent", managed=learner.user_id)
    scores = services.result(READ, learner.viewer_ids, "u-parent", managed=learner.user_id)

    assert [state["contentId"] for state in states["contentList"]] == ["do_quiz"]
    assert scores["userId"] == learner.user_id
    # The token of somebody else's child.
    stolen = services.issuer.token(learner.user_id, parent="u-parent")
    response = services.post(STATE, learner.ids, "u-thief", **{"x-authenticated-for": stolen})
    assert response.status_code == 401


@pytest.mark.parametrize("path", PUBLIC)
def test_without_a_token_that_holds_there_is_no_answer(services: Services, path: str) -> None:
    for token in (None, "", "x", services.issuer.token("u-1", life_seconds=-1), services.issuer.token("")):
        headers = {} if token is None else {"x-authenticated-user-token": token}
        response = services.client.post(path, json={"request": {}}, headers=headers)
        body = response.json()
        if "assess" in path:
            assert (response.status_code, body["responseCode"]) == (400, "CLIENT_ERROR")
            assert body["result"]["request.userId"] == "Invalid User-authenticated-Token Header"
            continue
        assert (response.status_code, body["responseCode"]) == (401, "UNAUTHORIZED")
        params = body["params"]
        assert (params["err"], params["status"]) == ("UNAUTHORIZED_USER", "UNAUTHORIZED_USER")
        assert params["errmsg"] == "You are not authorized."


# The server


def test_envelope_and_headers(services: Services, learner: Learner) -> None:
    response = services.post(STATE, learner.ids, learner.user_id, **{"X-msgId": "message-1"})
    private = services.post(PRIVATE_STATE, {**learner.ids, "userId": "u"})

    body = response.json()
    assert TIME_PATTERN.fullmatch(body.pop("ts"))
    assert body == {
        "id": "api.content.state.read",
        "ver": "v1",
        "params": {"resmsgid": None, "msgid": "message-1", "err": None, "status": "success", "errmsg": None},
        "responseCode": "OK",
        "result": {"contentList": []},
    }
    assert response.headers["x-response-length"] == str(len('{"contentList":[]}'))
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert private.json()["id"] == ""
    assert re.fullmatch(r"[0-9a-f-]{36}", private.json()["params"]["msgid"])


def test_bodies_that_are_none(services: Services) -> None:
    headers = {"x-authenticated-user-token": services.issuer.token("u-1")}
    for body in (b"", b"null", b" null "):
        response = services.client.post(STATE, content=body, headers=headers)
        assert (response.status_code, response.json()["params"]["err"]) == (500, "INTERNAL_ERROR")
        response = services.client.post(SUBMIT, content=body, headers=headers)
        assert response.json()["result"] == {"request.assessments": "Field cannot be empty"}
        assert response.status_code == 400
    for body in (b"{", b"[]", b'{"request": []}', b'{"request": {"courseId": "\xff"}}', b"[" * 15_000):
        for path in PUBLIC:
            response = services.client.post(path, content=body, headers=headers)
            assert response.status_code == 400, (path, body, response.text)


def test_bodies_are_bounded(services: Services) -> None:
    headers = {"x-authenticated-user-token": services.issuer.token("u-1")}
    for path in (STATE, SUBMIT):
        known = services.client.post(path, content=b" " * (MAX_BODY + 1), headers=headers)
        chunked = services.client.post(path, content=(b" " * 1_000 for _ in range(30)), headers=headers)
        assert (known.status_code, chunked.status_code) == (413, 413)


def test_unknown_paths_and_methods(services: Services) -> None:
    assert services.client.post("/v1/unknown").status_code == 404
    response = services.client.get(STATE)
    assert (response.status_code, response.json()["responseCode"]) == (405, "CLIENT_ERROR")


def test_health_metrics_and_docs(services: Services) -> None:
    services.post(STATE, {}, "u-1")

    ready = services.internal.get("/health").json()["result"]
    metrics = services.internal.get("/metrics").text

    assert services.internal.get("/health/live").json() == {"healthy": True}
    assert ready["healthy"] is True
    assert {check["name"] for check in ready["checks"]} == {"cassandra", "redis", "kafka"}
    assert re.search(rf'aggregates_request_duration_seconds_count{{path="{STATE}",status="400"}} \d', metrics)
    assert "aggregates_rows_read_total" in metrics
    page = services.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(f"POST {path}" in page.text for path in PUBLIC)


def test_without_kafka_nothing_is_captured_reads_go_on_and_many_health_checks_do_not_delay_the_end(
    world: World, groups: HttpServices, learner: Learner, tmp_path: Path
) -> None:
    nowhere = {"AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "AGGREGATES__PUBLISH_TIMEOUT_MS": "1000"}
    with another(world, tmp_path, groups, "none", **nowhere) as services:
        response = services.post(SUBMIT, {"assessments": [attempt_of(learner)]}, learner.user_id)
        scores = services.result(READ, learner.viewer_ids, learner.user_id)
        health = services.internal.get("/health").json()["result"]

        checks = services.log.count("health of kafka: ")
        with ThreadPoolExecutor(40) as threads:
            # Without certificates, which each client would read.
            answers = list(
                threads.map(
                    lambda _: httpx.get(f"{services.internal_url}/health", timeout=TIMEOUT_SECONDS, verify=False),
                    range(40),
                )
            )
        services.process.terminate()
        assert services.process.wait(TIMEOUT_SECONDS) in (0, -signal.SIGTERM)
        # One check for all that ask meanwhile: the end waits for it, and not for one after the other.
        assert services.log.count("health of kafka: ") <= checks + 3

    assert {response.status_code for response in answers} == {503}
    params = response.json()["params"]
    assert (response.status_code, params["err"], params["status"]) == (500, "SERVER_ERROR", "failed")
    assert scores["contents"] == []
    assert {check["name"]: check["healthy"] for check in health["checks"]} == {
        "cassandra": True,
        "redis": True,
        "kafka": False,
    }


def test_slow_requests_end_many_are_refused_and_a_shutdown_waits(
    world: World, groups: HttpServices, learner: Learner, unique: str, tmp_path: Path
) -> None:
    groups.groups[unique] = [{"userId": learner.user_id}]
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}
    limits = {
        "AGGREGATES__SERVER__MAX_CONCURRENT_REQUESTS": "1",
        "AGGREGATES__SERVER__REQUEST_TIMEOUT_MS": "3000",
        "AGGREGATES__SERVER__PRIVATE_ROUTES": "false",
    }
    with another(world, tmp_path, groups, "none", **limits) as services, ThreadPoolExecutor() as threads:

        def slow(delay_ms: int) -> "Future[httpx.Response]":
            """A request that the group service has received and answers after a while."""
            seen = groups.requests[GROUP]
            groups.switch(GROUP, Switch(delay_ms=delay_ms, times=1))
            future = threads.submit(services.post, GROUP_AGG, request, learner.user_id)
            wait_until(lambda: groups.requests[GROUP] > seen, "the group service is asked")
            return future

        late = slow(delay_ms=20_000)
        refused = services.post(STATE, learner.ids, learner.user_id)
        healthy = services.internal.get("/health/live")
        assert (refused.status_code, refused.json()["responseCode"]) == (503, "SERVER_ERROR")
        assert refused.headers["Retry-After"] == "1"
        assert healthy.status_code == 200
        assert (late.result().status_code, late.result().json()["params"]["err"]) == (500, "INTERNAL_ERROR")
        assert services.post(PRIVATE_STATE, {**learner.ids, "userId": "u"}).status_code == 404

        last = slow(delay_ms=1_500)
        services.process.terminate()
        assert last.result().status_code == 200
        assert services.process.wait(TIMEOUT_SECONDS) in (0, -signal.SIGTERM)


def test_a_configuration_that_cannot_be_used_ends_the_program(tmp_path: Path) -> None:
    variables = {
        **REQUIRED[ServicesConfig],
        "AGGREGATES__TOKENS__PUBLIC_KEYS_FOLDER": str(tmp_path),
        "AGGREGATES__REDIS__PASSWORD": "secret-1",
    }
    command = [sys.executable, "-m", "services"]

    ended = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert ended.stderr == f"tokens.public_keys_folder = '{tmp_path}': must hold at least one public key\n"
