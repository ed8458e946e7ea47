"""What a learner, or anybody who reaches the port, cannot do to others."""

import asyncio
import base64
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cassandra.cluster import Session

from common.config.model import CassandraConfig, KafkaConfig
from common.domain.attempts import decode
from common.domain.messages import Message, repaired
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, next_timestamp_us
from local.http_services import GROUP, HttpServices, Switch
from local.world import World
from services import assessment
from services.assessment import AcceptedAssessment
from services.publisher import Publisher
from services.store import Store
from tests.conftest import Topics
from tests.support.read_apis import (
    GROUP_AGG,
    PUBLIC,
    READ,
    SAVE,
    STATE,
    SUBMIT,
    TIME_MS,
    Learner,
    Services,
    another,
    answer,
    attempt_of,
)
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def groups() -> Iterator[HttpServices]:
    with HttpServices() as groups:
        yield groups


@pytest.fixture(scope="module")
def services(world: World, groups: HttpServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    env = f"abuse-{folder.parent.name}-{folder.name}"
    world.kafka.create_topics([f"{env}.telemetry.assess", f"{env}.telemetry.assess.failed"], 1)
    limits = {"AGGREGATES__SERVER__MAX_CONCURRENT_REQUESTS": "2", "AGGREGATES__SERVER__ACCESS_LOG": "true"}
    with another(world, folder, groups, env, **limits) as services:
        yield services
        assert "Traceback" not in services.log, services.log


@pytest.fixture
def learner(cassandra_session: Session, unique: str) -> Learner:
    return Learner(cassandra_session, unique)


# What is refused


def test_a_refused_assessment_cannot_carry_an_event_of_another_learner(
    services: Services, learner: Learner, topics: Topics
) -> None:
    """The failed topic is sent to the input topic again, and an event in a client's metadata must not be unwrapped."""
    victim = f"victim-of-{learner.user_id}"
    event = {**attempt_of(learner), **learner.ids, "userId": victim, "events": [answer(0.0)]}
    forged: dict[str, Any] = {
        "metadata": {"validation_error": "x", "src": "AssessmentAggregator", "encoding": "base64"},
        "payload": base64.b64encode(json.dumps(event).encode()).decode(),
    }

    result = services.result(SUBMIT, {"assessments": [attempt_of(learner, events=[], **forged)]}, learner.user_id)

    assert result == {"do_quiz": ["Invalid Request"]}
    [message] = [
        message
        for message in topics.read(f"{services.env}.telemetry.assess.failed")
        if message.key() == learner.user_id.encode()
    ]
    envelope = json.loads(message.value())
    assert envelope["metadata"]["src"] == "AssessmentApi"
    assert "encoding" not in envelope["metadata"]
    again = json.loads(repaired(message.value()))
    assert again["userId"] == learner.user_id
    assert decode(repaired(message.value()), 0).enrolment.user_id == learner.user_id
    assert again["metadata"] == forged["metadata"]


def test_the_failed_topic_says_why(services: Services, learner: Learner, topics: Topics, world: World) -> None:
    with world.redis.client(db=10) as relations:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_quiz")
    attempts = [
        attempt_of(learner, "do_foreign"),
        attempt_of(learner, events=[]),
        attempt_of(learner, events=[{**answer(1), "ets": None}]),
    ]

    services.result(SUBMIT, {"assessments": attempts}, learner.user_id)

    reasons = [
        json.loads(message.value())["metadata"]["validation_error"]
        for message in topics.read(f"{services.env}.telemetry.assess.failed")
        if message.key() == learner.user_id.encode()
    ]
    assert reasons == [
        f"content 'do_foreign' is not part of course '{learner.course_id}'",
        "event has no events: an attempt needs at least one answer",
        "event has no ets: a time in ms is required, in events[0]",
    ]


def test_the_number_of_assessments_is_bounded(services: Services, learner: Learner) -> None:
    for path in (SUBMIT, SAVE):
        taken = services.post(path, {"assessments": [{"contentId": "x"}] * 100}, learner.user_id)
        refused = services.post(path, {"assessments": [{"contentId": "x"}] * 101}, learner.user_id)
        empty = services.post(path, {"assessments": [{}] * 5_000}, learner.user_id)

        assert [response.status_code for response in (taken, refused, empty)] == [200, 400, 400]
        assert len(refused.content) < 1_000


def test_one_flat_attempt_is_captured_on_both_paths(services: Services, learner: Learner, topics: Topics) -> None:
    flat = {**learner.viewer_ids, "contentId": "do_quiz", "assessmentTs": str(TIME_MS), "assessments": [answer(7.5)]}

    for path in (SUBMIT, "/v1/assessment/submit"):
        assert services.result(path, flat, learner.user_id) == {"do_quiz": ["Score Captured Successfully"]}

    first, second = (
        decode(message.value(), 0)
        for message in topics.read(f"{services.env}.telemetry.assess")
        if message.key() == learner.user_id.encode()
    )
    assert first == second
    assert first.enrolment == (learner.user_id, learner.course_id, learner.batch_id)
    assert first.attempt is not None
    assert (first.time_ms, first.attempt.total_score) == (TIME_MS, 7.5)
    assert services.post(SUBMIT, {**flat, "assessments": [{"text": "neither"}]}, learner.user_id).status_code == 400


# Drafts


class HeldCassandra(Cassandra):
    """Holds each reader, after its read, until it is let go."""

    def __init__(self, world: World) -> None:
        contact_points = tuple(world.cassandra.contact_points)
        super().__init__(CassandraConfig(contact_points=contact_points, port=world.cassandra.port), Metrics())
        self.held: list[asyncio.Event] = []

    async def read(self, *arguments: Any) -> list[list[Row]]:
        rows = await super().read(*arguments)
        release = asyncio.Event()
        self.held.append(release)
        await release.wait()
        return rows

    async def reads_done(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.held) < count:  # noqa: ASYNC110 - what counts is that the read of another task is done
                await asyncio.sleep(0.001)


@asynccontextmanager
async def held_store(world: World) -> AsyncIterator[tuple[HeldCassandra, Store]]:
    cassandra = HeldCassandra(world)
    await cassandra.open()
    try:
        store = Store(cassandra, "sunbird_courses")
        await store.prepare()
        yield cassandra, store
    finally:
        await cassandra.close()


def draft_of(learner: Learner, *answers: dict[str, Any]) -> AcceptedAssessment:
    request = json.dumps({"assessments": [attempt_of(learner, events=list(answers))]}).encode()
    [draft] = assessment.parse(request, learner.user_id, TIME_MS, 1)
    assert isinstance(draft, AcceptedAssessment)
    return draft


async def test_two_drafts_at_a_time_never_become_one_list(world: World, learner: Learner) -> None:
    async with held_store(world) as (cassandra, store):
        drafts = [
            draft_of(learner, answer(1.0), answer(2.0, "q2")),
            draft_of(learner, answer(3.0), answer(4.0, "q2")),
        ]
        saves = []
        for number, draft in enumerate(drafts):
            saves.append(asyncio.create_task(store.save_drafts([draft], TIME_MS)))
            await cassandra.reads_done(number + 1)
        for release in reversed(cassandra.held):
            release.set()
        assert list(await asyncio.gather(*saves)) == [[True], [True]]
    # The later request wins, although it has written first.
    [row] = learner.attempts()
    assert [question.score for question in row.question] == [3.0, 4.0]


async def test_a_draft_that_was_overtaken_by_its_submission_changes_nothing(world: World, learner: Learner) -> None:
    async with held_store(world) as (cassandra, store):
        early = asyncio.create_task(store.save_drafts([draft_of(learner, answer(1.0))], TIME_MS))
        await cassandra.reads_done(1)
        learner.session.execute(
            "UPDATE assessment_aggregator SET total_score = 7.5, question = [{id: 'q1', score: 7.5}] "
            "WHERE user_id = %s AND course_id = %s AND batch_id = %s "
            "AND content_id = 'do_quiz' AND attempt_id = 'attempt-1'",
            (learner.user_id, learner.course_id, learner.batch_id),
        )
        late = asyncio.create_task(store.save_drafts([draft_of(learner, answer(2.0))], TIME_MS))
        await cassandra.reads_done(2)
        for release in cassandra.held:
            release.set()
        assert list(await asyncio.gather(early, late)) == [[True], [False]]

    [row] = learner.attempts()
    assert (row.total_score, [question.score for question in row.question]) == (7.5, [7.5])


async def test_a_draft_never_replaces_a_submission_that_was_sent_before_it_and_arrives_after_its_read(
    world: World, learner: Learner
) -> None:
    sent_at_us = next_timestamp_us()
    async with held_store(world) as (cassandra, store):
        draft = asyncio.create_task(store.save_drafts([draft_of(learner, answer(1.0))], TIME_MS))
        await cassandra.reads_done(1)
        learner.session.execute(
            f"UPDATE assessment_aggregator USING TIMESTAMP {sent_at_us} "
            "SET total_score = 7.5, question = [{id: 'q1', score: 7.5}] "
            "WHERE user_id = %s AND course_id = %s AND batch_id = %s "
            "AND content_id = 'do_quiz' AND attempt_id = 'attempt-1'",
            (learner.user_id, learner.course_id, learner.batch_id),
        )
        for release in cassandra.held:
            release.set()
        assert await draft == [True]
    [row] = learner.attempts()
    assert (row.total_score, [question.score for question in row.question]) == (7.5, [7.5])


# Slots


def test_bodies_that_trickle_in_without_a_token_hold_no_slot(services: Services, learner: Learner) -> None:
    """Two slots, and on every route three bodies that never come."""
    connections = []
    for path in PUBLIC:
        for token in ("", f"x-authenticated-user-token: {services.issuer.token('u', life_seconds=-1)}\r\n"):
            connection = socket.create_connection(("127.0.0.1", services.port), timeout=30)
            connections.append(connection)
            connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{token}content-length: 100\r\n\r\n".encode())
            # Refused before the body is there.
            status = int(connection.recv(65_536).split(b" ", 2)[1])
            assert status == (400 if "assess" in path else 401)

    assert services.post(READ, learner.viewer_ids, learner.user_id).status_code == 200
    for connection in connections:
        connection.close()


def test_bodies_that_trickle_in_with_a_token_hold_slots_and_the_rest_is_told_to_come_back(
    services: Services, learner: Learner
) -> None:
    token = services.issuer.token(learner.user_id)
    head = f"POST {STATE} HTTP/1.1\r\nhost: x\r\nx-authenticated-user-token: {token}\r\ncontent-length: 100\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", services.port), timeout=30) for _ in range(2)]
    for connection in connections:
        connection.sendall(head.encode())

    def refused() -> bool:
        response = services.post(READ, learner.viewer_ids, learner.user_id)
        assert response.status_code in (200, 503)
        assert response.status_code == 200 or response.headers["Retry-After"] == "1"
        return response.status_code == 503

    wait_until(refused, "both slots are held")
    assert services.internal.get("/health/live").status_code == 200
    for connection in connections:
        connection.close()
    wait_until(lambda: not refused(), "the slots are free again")


# Members of a group


def test_who_was_removed_from_a_group_does_not_read_it(services: Services, learner: Learner, unique: str) -> None:
    other = Learner(learner.session, unique)
    other.user_id += "-removed"
    for one in (learner, other):
        one.aggregates(None, {"score:do_quiz": 7.5})
    services.groups.groups[unique] = [
        {"userId": learner.user_id, "removedOn": None},
        {"userId": other.user_id, "removedOn": "2024-05-14 09:12:44:310+0530"},
    ]
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}

    refused = services.post(GROUP_AGG, request, other.user_id)
    stranger = services.post(GROUP_AGG, request, "u-stranger")
    answer = services.result(GROUP_AGG, request, learner.user_id)

    for response in (refused, stranger):
        assert (response.status_code, response.json()["responseCode"]) == (403, "FORBIDDEN")
    assert [member["userId"] for member in answer["members"]] == [learner.user_id]


# Paths and ports


@pytest.mark.parametrize("path", [f"{STATE}/", f"{READ}/", "/health/", "/v1/", "//evil.example/v1/content/state/read"])
def test_no_path_leads_anywhere_else(services: Services, path: str) -> None:
    for base in (services.url, services.internal_url):
        response = httpx.post(f"{base}{path}", headers={"host": "evil.example"}, json={})
        assert (response.status_code, response.json()["responseCode"]) == (404, "RESOURCE_NOT_FOUND")
        assert "location" not in response.headers


def test_the_ports_share_no_route(services: Services) -> None:
    """Whatever the Host header says."""
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        host = {"host": f"127.0.0.1:{services.internal_port}"}
        assert services.client.get(path, headers=host).status_code == 404
        assert services.internal.get(path).status_code == 200
    body = {"request": {"userId": "u", "courseId": "c", "batchId": "b"}}
    private = "/private/v1/content/state/read"
    assert services.client.post(private, json=body).status_code == 404
    assert services.internal.post(private, json=body).status_code == 200
    for path in PUBLIC:
        assert services.internal.post(path, json=body).status_code == 404
    assert services.client.get("/openapi.json").json()["paths"].keys() == set(PUBLIC)
    assert services.internal.get("/openapi.json").json()["paths"].keys() == {private}


def test_every_line_about_a_request_has_its_message_id(
    services: Services, groups: HttpServices, learner: Learner, unique: str
) -> None:
    groups.groups[unique] = [{"userId": learner.user_id}]
    request = {"groupId": unique, "activityId": learner.course_id, "activityType": "Course"}
    groups.switch(GROUP, Switch(is_not_json=True))
    try:
        sent = services.post(GROUP_AGG, request, learner.user_id, **{"X-msgId": f"message-{unique}"})
        own = services.post(GROUP_AGG, request, learner.user_id)
    finally:
        groups.switch(GROUP, Switch())

    assert (sent.status_code, own.status_code) == (500, 500)
    for message_id in (sent.json()["params"]["msgid"], own.json()["params"]["msgid"]):
        warning, access = [line for line in services.log.splitlines() if message_id in line]
        assert f"WARNING services.endpoints [{message_id}] {GROUP_AGG}: " in warning
        line = json.loads(access)
        assert (line["path"], line["status"], line["messageId"]) == (GROUP_AGG, 500, message_id)
        assert line["ms"] > 0
        assert learner.user_id not in access
    assert sent.json()["params"]["msgid"] == f"message-{unique}"


# The process


async def test_nothing_is_captured_before_the_broker_has_acknowledged_it(world: World, topics: Topics) -> None:
    """A broker that takes the bytes and says nothing, for a second: the session's, which goes on then."""
    topic = topics.create("acknowledged")
    kafka = KafkaConfig(bootstrap_servers=world.kafka.bootstrap_servers, env="e")
    publisher = Publisher(kafka, 30_000, 1_000_000)
    try:
        await publisher.publish([Message(topic, b"first", b"u")])
        os.kill(world.kafka.pid, signal.SIGSTOP)
        try:
            publishing = asyncio.create_task(publisher.publish([Message(topic, b"second", b"u")]))
            done, _ = await asyncio.wait([publishing], timeout=1)
            assert not done
        finally:
            os.kill(world.kafka.pid, signal.SIGCONT)
        await publishing
    finally:
        await publisher.close()
    assert [message.value() for message in topics.read(topic)] == [b"first", b"second"]
