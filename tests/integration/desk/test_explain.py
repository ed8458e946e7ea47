"""The desk on real servers: what it reads, and that it agrees with the job that reads the same rows."""

import json
import random

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.messages import failed
from common.domain.relations import leaf_nodes_key
from desk.config import DeskConfig, settings_of, wording_of
from desk.explanation import explain
from desk.explanation.steps import Verdict
from desk.reader import open_reader
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import USER, HttpServices, Switch
from local.readers import desk_environment
from local.world import World
from tests.conftest import Topics
from tests.support.certificate_job import AT_LEAST_75, COMPLETED, OUT, Course, names, running, template
from tests.support.desk_world import desk_config, explanation_of, run_desk

LEARNERS = 60


def key_of(course: Course, user_id: str) -> EnrolmentKey:
    return EnrolmentKey(user_id, course.course_id, course.batch_id)


def publish(world: World, course: Course, *contents: str) -> None:
    """Puts the leaf nodes of the course into the relation cache."""
    with world.redis.client(db=10) as client:
        client.sadd(leaf_nodes_key(course.course_id, course.course_id), *contents)


async def test_agrees_with_the_job_about_every_learner(
    course: Course, config: DeskConfig, job_config: CollectionCertPreProcessorConfig, world: World
) -> None:
    publish(world, course, course.quiz)
    course.templates(
        template({**COMPLETED, **AT_LEAST_75}, name="Distinction"),
        template(COMPLETED, name="Completion"),
        template({"assessment": {"score": {">": 50, "<=": 90}}}, name="Good"),
        template({"user": {"rootOrgId": "org-2"}}, name="Guest"),
    )
    source = random.Random(7)
    users = [f"{course.asha}-{number}" for number in range(LEARNERS)]
    for user_id in users:
        course.user(user_id, rootOrgId=source.choice(["org-1", "org-2"]), status=source.choice([1, 1, 1, 0]))
        if source.random() < 0.9:
            held = [{"name": "completion", "identifier": "c-1"}] if source.random() < 0.2 else None
            course.enrol(
                user_id,
                active=source.choice([True, True, False]),
                status=source.choice([0, 1, 2, 2, 2]),
                issued_certificates=held,
            )
        new, old = source.choice([None, 4.5, 7.4, 7.5, 9.5]), source.choice([None, None, 7, 8])
        course.score(
            user_id,
            None if new is None else course.quiz_of_10(new),
            None if old is None else course.quiz_of_10(old, int),
        )
    earned = 0
    async with running(job_config) as job:
        sent = await job.apply(*(course.request(user_id) for user_id in users))
    async with open_reader(config) as reader:
        records = [await reader.learner(key_of(course, user_id)) for user_id in users]
    for user_id, messages, record in zip(users, sent, records, strict=True):
        explanation = explain(record, settings_of(config), wording_of(config))
        steps = [step for step in explanation.steps if step.name == "decision"]
        said = [step.question.split("“")[1][:-2] for step in steps if step.sentence.startswith("Yes")]
        assert said == names(messages), user_id
        earned += len(said)
    assert 10 < earned < 3 * LEARNERS


class TestTheCommand:
    def test_says_why_there_is_no_certificate(self, course: Course, services: HttpServices, world: World) -> None:
        publish(world, course, course.quiz)
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        course.enrol(course.asha)
        course.score(course.asha, course.quiz_of_10(7.4))
        environment = desk_environment(world, services.base_url)
        # The only batch of the learner need not be named.
        result = run_desk(environment, "explain", "--user", course.asha, "--course", course.course_id)
        assert (result.returncode, result.stderr) == (0, "")
        assert "No certificate: the best score is 74.0 percent, 75 are asked for." in result.stdout
        result = run_desk(
            environment, "explain", "--user", course.asha, "--course", course.course_id, "--json", "--language", "en"
        )
        document = json.loads(result.stdout)
        assert document["steps"][-1]["verdict"] == "no"
        assert [step["step"] for step in document["steps"]][6] == "decision"

    def test_says_what_is_wrong_with_the_question(self, course: Course, services: HttpServices, world: World) -> None:
        environment = desk_environment(world, services.base_url)
        result = run_desk(environment, "explain", "--user", course.asha, "--course", course.course_id)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == (
            f"No enrolment of the learner “{course.asha}” in the course “{course.course_id}” was found. "
            "Check both ids.\n"
        )

    def test_sends_a_request_that_the_job_understands(
        self, course: Course, services: HttpServices, world: World, topics: Topics
    ) -> None:
        topic = topics.create("dev.issue.certificate.request")
        environment = {
            **desk_environment(world, services.base_url),
            "AGGREGATES__KAFKA__TOPICS__ISSUE_CERTIFICATE_REQUEST": topic,
        }
        learner = ("--user", course.asha, "--course", course.course_id, "--batch", course.batch_id)
        refused = run_desk(environment, "send", "certificate", *learner)
        assert refused.returncode == 1
        assert topics.read(topic) == []
        sent = run_desk(environment, "send", "certificate", *learner, "--yes")
        assert sent.returncode == 0, sent.stderr
        (message,) = topics.read(topic)
        assert json.loads(message.value() or b"")["edata"]["userIds"] == [course.asha]


class TestKafka:
    async def test_failed_events_and_requests_are_found(
        self, course: Course, services: HttpServices, world: World, topics: Topics
    ) -> None:
        failed_topic, generator = topics.create("desk.failed"), topics.create(OUT)
        config = desk_config(
            world,
            services,
            {
                "AGGREGATES__KAFKA__TOPICS__TELEMETRY_ASSESS_FAILED": failed_topic,
                "AGGREGATES__KAFKA__TOPICS__GENERATE_CERTIFICATE_REQUEST": generator,
            },
        )
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        course.enrol(course.asha)
        course.score(course.asha, course.quiz_of_10(7.5))
        event = {"userId": course.asha, "courseId": course.course_id, "batchId": course.batch_id}
        others = [{**event, "userId": f"{course.asha}-2"}, {**event, "batchId": "another"}]
        for document in (event, *others):
            message = failed(
                failed_topic, "AssessmentAggregator", json.dumps(document).encode(), "event has no attemptId"
            )
            topics.produce(failed_topic, [message.value], message.key)
        related = {"courseId": course.course_id, "batchId": course.batch_id}
        for user_id in (course.asha, f"{course.asha}-2"):
            asked = {"edata": {"userId": user_id, "name": "Completion", "related": related}}
            topics.produce(generator, [json.dumps(asked).encode()])
        explanation = await explanation_of(config, key_of(course, course.asha))
        step = explanation.step("requests")
        assert step.verdict is Verdict.NO
        assert step.sentence.startswith("1 event of the learner could not be processed. The latest is a quiz result")
        assert "The certificate was requested" in step.sentence
        assert explanation.verdict.verdict is Verdict.YES
        assert explanation.verdict.sentence.startswith("Certificate: earned with a best score of 75.0 percent")
        assert "Something is wrong: " in explanation.verdict.sentence
        assert "1 event of the learner could not be processed" in explanation.verdict.sentence

    async def test_a_search_of_the_latest_messages_says_so(
        self, course: Course, services: HttpServices, world: World, topics: Topics
    ) -> None:
        failed_topic = topics.create("desk.failed")
        topics.produce(failed_topic, [b"{}"] * 50)
        config = desk_config(
            world,
            services,
            {
                "AGGREGATES__KAFKA__TOPICS__TELEMETRY_ASSESS_FAILED": failed_topic,
                "AGGREGATES__KAFKA__SEARCH_MESSAGES": "20",
            },
        )
        step = (await explanation_of(config, key_of(course, course.asha))).step("requests")
        assert "No event of the learner has failed since " in step.sentence


class TestServersThatAreDown:
    @pytest.fixture
    def ravi(self, course: Course, world: World) -> EnrolmentKey:
        publish(world, course, course.quiz)
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        course.enrol(course.asha)
        course.score(course.asha, course.quiz_of_10(7.5))
        return key_of(course, course.asha)

    async def test_the_user_api_makes_the_decision_unknown(
        self, ravi: EnrolmentKey, services: HttpServices, world: World
    ) -> None:
        services.switch(USER, Switch(status=503))
        # The desk asks for so long. A busy machine answers one of its requests in that time, too.
        config = desk_config(
            world,
            services,
            {"AGGREGATES__HTTP__REQUEST_TIMEOUT_MS": "3900", "AGGREGATES__HTTP__CALL_TIMEOUT_MS": "4000"},
        )
        explanation = await explanation_of(config, ravi)
        assert explanation.verdict.verdict is Verdict.UNKNOWN
        assert "status 503" in explanation.verdict.sentence
        assert explanation.step("best_score").verdict is Verdict.YES

    async def test_a_topic_that_does_not_exist_leaves_unknown_what_it_would_hold(
        self, ravi: EnrolmentKey, services: HttpServices, world: World
    ) -> None:
        missing = f"desk.none.{ravi.batch_id}"
        config = desk_config(world, services, {"AGGREGATES__KAFKA__TOPICS__GENERATE_CERTIFICATE_REQUEST": missing})
        explanation = await explanation_of(config, ravi)
        assert explanation.verdict.verdict is Verdict.UNKNOWN
        assert f"{missing} does not exist" in explanation.verdict.sentence
        assert explanation.step("requests").verdict is Verdict.YES
        config = desk_config(world, services, {"AGGREGATES__KAFKA__TOPICS__ACTIVITY_AGG_FAILED": missing})
        step = (await explanation_of(config, ravi)).step("requests")
        assert step.verdict is Verdict.UNKNOWN
        assert f"{missing} does not exist" in step.sentence

    async def test_redis_and_kafka_leave_the_rows(
        self, ravi: EnrolmentKey, services: HttpServices, world: World
    ) -> None:
        config = desk_config(
            world,
            services,
            {"AGGREGATES__REDIS__PORT": "1", "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        )
        explanation = await explanation_of(config, ravi)
        verdicts = {step.name: step.verdict for step in explanation.steps}
        assert verdicts["enrolment"] is Verdict.YES
        assert [name for name, verdict in verdicts.items() if verdict is Verdict.UNKNOWN] == [
            "leaf_nodes",
            "progress",
            "best_score",
            "decision",
            "requests",
            "verdict",
        ]
