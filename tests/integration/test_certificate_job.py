"""The certificate pre-processor with real tables, caches and HTTP services: what it fetches, and what comes of it."""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from cassandra.cluster import Session

from common.config.loader import load
from common.config.model import BatchConfig, CacheConfig, HttpConfig, RetryConfig
from common.domain.events import Refused, Skip
from common.domain.faults import TaskFault, WorldFault
from common.domain.messages import Message, repaired
from common.flink.group_commit import GroupCommit, Observer
from common.flink.job import Outcome
from common.metrics import Metrics
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor
from local.flink import FlinkCluster
from local.http_services import CONTENT, USER, HttpServices, Switch
from local.world import World
from tests.conftest import Topics

OUT = "dev.generate.certificate.request"
FAILED = "dev.issue.certificate.failed"

EVENT_TIME_MS = 1_715_657_560_200  # 2024-05-14T03:32:40Z
COMPLETED_ON = "2024-05-13 20:00:00.001Z"
COMPLETED_ON_MS = 1_715_630_400_001

COMPLETED = {"enrollment": {"status": 2}}
AT_LEAST_75 = {"assessment": {"score": {">=": 75}}}

QUICK = HttpConfig(
    request_timeout_ms=5_000,
    call_timeout_ms=30_000,
    initial_backoff_ms=5,
    max_backoff_ms=20,
    breaker_delay_ms=20,
)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in the service's thread
        await asyncio.sleep(0.005)


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


class Course:
    """A course of ids that no other test has, its name and its quiz in the caches, and Asha, who can be read."""

    def __init__(self, world: World, session: Session, services: HttpServices, unique: str) -> None:
        self.course_id = f"do_{unique}"
        self.batch_id = f"b-{unique}"
        self.quiz = f"do_{unique}q"
        self.asha = f"asha-{unique}"
        self._world = world
        self._session = session
        self._services = services
        self.cache(0, self.course_id, {"name": "Botany"})
        self.cache(5, self.quiz, {"contentType": "SelfAssess"})
        self.user(self.asha)

    def cache(self, database: int, key: str, value: object) -> None:
        with self._world.redis.client(db=database) as client:
            client.set(key, json.dumps(value))

    def user(self, user_id: str, **fields: object) -> str:
        self._services.users[user_id] = {"firstName": "Asha", "lastName": "Rao", "rootOrgId": "org-1", **fields}
        return user_id

    def templates(self, *templates: Mapping[str, str]) -> None:
        """With keys t-0, t-1, … in this order."""
        numbered = {f"t-{number}": template for number, template in enumerate(templates)}
        self._insert("course_batch", courseid=self.course_id, batchid=self.batch_id, cert_templates=numbered)

    def enrol(self, user_id: str, **columns: object) -> None:
        """As somebody who has completed the course; a column that is None stays unset."""
        row = {"active": True, "status": 2, "completedon": COMPLETED_ON, **columns}
        self._insert("user_enrolments", userid=user_id, courseid=self.course_id, batchid=self.batch_id, **row)

    def score(self, user_id: str, aggregates: Mapping[str, float] | None, agg: Mapping[str, int] | None = None) -> None:
        """The row of ``user_activity_agg`` with a column unset where it is None."""
        self._insert(
            "user_activity_agg",
            activity_type="Course",
            activity_id=self.course_id,
            user_id=user_id,
            context_id=f"cb:{self.batch_id}",
            agg=agg,
            aggregates=aggregates,
        )

    def quiz_of_10(self, score: float, metric_type: Callable[[float], Any] = float) -> dict[str, Any]:
        return {f"score:{self.quiz}": metric_type(score), f"max_score:{self.quiz}": metric_type(10)}

    def _insert(self, table: str, **row: object) -> None:
        values = {column: value for column, value in row.items() if value is not None}
        self._session.execute(f"INSERT INTO {table} JSON %s", [json.dumps(values)])

    def request(self, *user_ids: str, **edata: object) -> bytes:
        """For Asha if for nobody else."""
        document = {
            "eid": "BE_JOB_REQUEST",
            "ets": EVENT_TIME_MS,
            "mid": "LP.1715657560200.8a0f",
            "actor": {"id": "Course Certificate Generator", "type": "System"},
            "edata": {
                "userIds": user_ids or [self.asha],
                "action": "issue-certificate",
                "iteration": 1,
                "batchId": self.batch_id,
                "courseId": self.course_id,
                **edata,
            },
        }
        return json.dumps(document).encode()


@pytest.fixture
def course(world: World, cassandra_session: Session, services: HttpServices, unique: str) -> Course:
    return Course(world, cassandra_session, services, unique)


def template(criteria: object = COMPLETED, **fields: object) -> dict[str, str]:
    texts = {"identifier": "t-id", "name": "Completion", "url": "https://c/t.svg", "criteria": criteria, **fields}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in texts.items()}


class Running:
    """The job with the batches and the retries that the pipeline adds to it."""

    def __init__(self, job: CollectionCertPreProcessor, metrics: Metrics) -> None:
        self.counts = metrics.counts
        self.retries = 0
        self.refused: Counter[str] = Counter()
        """How often events were refused, by kind."""
        self._job = job
        self._commit = GroupCommit(job.apply_batch, self._refuse, job.batch, job.retry, Observer(retried=self._retried))

    async def apply(self, *values: bytes) -> list[list[Message]]:
        """The messages of each Kafka value; all go as one batch."""

        async def messages_of(index: int, value: bytes) -> list[Message]:
            request = self._job.decode(value, 0)
            assert not isinstance(request, Skip)
            outcome = await self._commit.submit(index, request)
            self.refused.update(part.kind for part in outcome if isinstance(part, Refused))
            return [
                part if isinstance(part, Message) else self._job.failed_message(value, part, part.user_id)
                for part in outcome
            ]

        return await asyncio.gather(*itertools.starmap(messages_of, enumerate(values)))

    @staticmethod
    def _refuse(request: CertificateRequest, error: Exception) -> Outcome:
        raise AssertionError(f"{request} is refused") from error

    def _retried(self) -> None:
        self.retries += 1

    def of(self, name: str) -> dict[str, int]:
        """The counts of a metric by their label."""
        return {key[2]: count for key, count in self.counts.items() if isinstance(key, tuple) and key[0] == name}


@pytest.fixture
def config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    addresses = {
        "AGGREGATES__LEARNER_BASE_URL": services.base_url,
        "AGGREGATES__CONTENT_BASE_URL": services.base_url,
    }
    loaded = load(
        CollectionCertPreProcessorConfig,
        environ=world.job_environment("jobs.collection_cert_pre_processor") | addresses,
    )
    return loaded.model_copy(
        update={"http": QUICK, "retry": RetryConfig(initial_backoff_ms=5, max_backoff_ms=20, patience_ms=60_000)}
    )


@asynccontextmanager
async def running(config: CollectionCertPreProcessorConfig) -> AsyncIterator[Running]:
    job, metrics = CollectionCertPreProcessor(config), Metrics()
    try:
        await job.open(metrics)
        yield Running(job, metrics)
    finally:
        await job.close()


async def applied(config: CollectionCertPreProcessorConfig, *values: bytes) -> tuple[list[Message], Running]:
    """The messages of one batch and the job that sent them."""
    async with running(config) as job:
        messages_by_request = await job.apply(*values)
    return [message for messages in messages_by_request for message in messages], job


def edata(messages: Sequence[Message]) -> dict[str, Any]:
    """Of the one certificate that is to be generated."""
    (message,) = messages
    assert message.topic == OUT
    found = json.loads(message.value)["edata"]
    assert isinstance(found, dict)
    return found


def names(messages: Iterable[Message]) -> list[str]:
    """Of the templates whose certificates are to be generated."""
    return [json.loads(message.value)["edata"]["name"] for message in messages if message.topic == OUT]


def failures(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [json.loads(message.value) for message in messages if message.topic == FAILED]


class TestWhatStopsTheScalaJobAndMustWork:
    async def test_completedon_is_unset(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template())
        course.enrol(course.asha, completedon=None)
        messages, _ = await applied(config, course.request())
        assert edata(messages)["issuedDate"] == "2024-05-14"

    async def test_criteria_of_assessment_alone(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template(AT_LEAST_75))
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, _ = await applied(config, course.request())
        assert edata(messages)["issuedDate"] == "2024-05-14"

    async def test_a_user_criterion_alone(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template({"user": {"rootOrgId": "org-1"}}))
        binod = course.user(f"binod-{course.asha}", rootOrgId="org-2")
        messages, job = await applied(config, course.request(course.asha, binod))
        assert edata(messages)["userId"] == course.asha
        assert job.of("skipped") == {"other_user": 1}

    async def test_a_plain_number_as_criterion(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(
            template({"assessment": {"score": 75}}, name="Exactly"),
            template({"assessment": {"score": 76}}, name="More"),
        )
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, job = await applied(config, course.request())
        assert names(messages) == ["Exactly"]
        assert job.of("skipped") == {"other_score": 1}

    @pytest.mark.parametrize(
        ("name", "expected"), [("C:\\q\\", "C:\\q\\"), ("\\ud83d\\x", "\ufffd\\x"), ("caf\\u00e9 \\n1", "café 1")]
    )
    @pytest.mark.parametrize("is_cached", [True, False])
    async def test_a_course_name_with_odd_escapes(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        redis_client: "redis.Redis",
        name: str,
        expected: str,
        is_cached: bool,
    ) -> None:
        course.templates(template())
        course.enrol(course.asha)
        if is_cached:
            course.cache(0, course.course_id, {"name": name})
        else:
            redis_client.delete(course.course_id)
            services.contents[course.course_id] = {"name": name}
        messages, _ = await applied(config, course.request())
        assert edata(messages)["courseName"] == expected
        assert services.requests[CONTENT] == (0 if is_cached else 1)


class TestWhatMustWaitAndThenWork:
    @pytest.mark.parametrize(
        "switch",
        [
            Switch(status=500, times=3),
            Switch(status=429, times=3),
            Switch(delay_ms=60_000, times=3),
            Switch(is_half=True, times=3),
            Switch(is_not_json=True, times=3),
        ],
        ids=["500", "429", "timeout", "half an answer", "no JSON"],
    )
    @pytest.mark.parametrize("route", [USER, CONTENT])
    async def test_a_service_that_misbehaves_for_a_while(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        route: str,
        switch: Switch,
    ) -> None:
        course.templates(template(AT_LEAST_75))
        course.score(course.asha, {f"score:{course.asha}": 9.0, f"max_score:{course.asha}": 10.0})
        services.contents[course.asha] = {"contentType": "SelfAssess"}
        services.switch(route, switch)
        http = QUICK.model_copy(update={"request_timeout_ms": 300 if switch.delay_ms else 5_000})
        messages, job = await applied(config.model_copy(update={"http": http}), course.request())
        assert names(messages) == ["Completion"]
        assert services.requests[route] == 4
        assert sum(job.of("api_failures").values()) == 3
        assert job.retries == 0

    async def test_a_service_that_is_down_for_longer_than_a_call_may_take(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        course.enrol(course.asha)
        impatient = QUICK.model_copy(update={"request_timeout_ms": 100, "call_timeout_ms": 200})

        async with running(config.model_copy(update={"http": impatient})) as job:
            services.refuse()
            waiting = asyncio.create_task(job.apply(course.request()))
            await until(lambda: job.retries >= 2)
            assert not waiting.done()
            services.accept()
            ((message,),) = await waiting
            assert message.topic == OUT
            assert job.of("events_applied") == {"issued": 1}

    async def test_while_it_is_down_one_call_at_a_time_looks_for_it(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        learners = [course.user(f"{course.asha}-{number}") for number in range(50)]
        for learner in learners:
            course.enrol(learner)
        services.switch(USER, Switch(status=503))
        http = QUICK.model_copy(update={"breaker_failures": 1, "breaker_delay_ms": 100})

        async with running(config.model_copy(update={"http": http})) as job:
            waiting = asyncio.create_task(job.apply(*map(course.request, learners)))
            await until(lambda: services.requests[USER] >= len(learners))
            started = time.monotonic()
            # Three probes, 100 ms apart; without a breaker each learner asks again after 5 ms.
            await until(lambda: services.requests[USER] >= len(learners) + 3)
            assert time.monotonic() - started >= 0.2
            services.switch(USER, Switch())
            messages_by_request = await waiting
            assert [edata(messages)["userId"] for messages in messages_by_request] == learners


class TestWhatMustGoToTheFailedTopicAlone:
    async def test_a_template_without_usable_criteria(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(name="One"), template({"other": {}}, name="Bad"), template(name="Two"))
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert names(messages) == ["One", "Two"]
        (failed,) = failures(messages)
        assert failed == {
            **json.loads(course.request()),
            "metadata": {
                "validation_error": f"Invalid template for batch : {course.batch_id}: template t-1: "
                "criteria hold no criterion in enrollment, assessment, user or users",
                "src": "CollectionCertPreProcessor",
            },
        }
        assert [message.key for message in messages] == [None, None, course.asha.encode()]
        assert job.refused == {"bad_template": 1}
        assert job.of("events_applied") == {"issued": 1}

    async def test_a_user_whom_the_api_does_not_know(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        binod, chitra = (course.user(f"{name}-{course.asha}") for name in ("binod", "chitra"))
        for learner in (course.asha, binod, chitra):
            course.enrol(learner)
        del services.users[binod]

        async with running(config) as job:
            ((first, failed, last),) = await job.apply(course.request(course.asha, binod, chitra))
            assert [edata([message])["userId"] for message in (first, last)] == [course.asha, chitra]
            assert failed.topic == FAILED
            assert failed.key == binod.encode()
            event = json.loads(failed.value)
            assert event["edata"]["userIds"] == [binod]
            assert event["metadata"]["validation_error"] == f"user read API answered 404 for user {binod}"
            assert job.refused == {"user_api": 1}

            course.user(binod)
            (messages,) = await job.apply(repaired(failed.value))
            assert edata(messages)["userId"] == binod

    @pytest.mark.parametrize("enable_suppress_exception", [True, False])
    async def test_a_content_whose_metadata_is_nowhere(
        self, course: Course, config: CollectionCertPreProcessorConfig, enable_suppress_exception: bool
    ) -> None:
        course.templates(template(AT_LEAST_75, name="Merit"), template())
        course.enrol(course.asha)
        unknown = f"{course.quiz}-unknown"
        course.score(course.asha, {**course.quiz_of_10(8), f"score:{unknown}": 1.0})
        strict = config.model_copy(update={"enable_suppress_exception": enable_suppress_exception})
        messages, _ = await applied(strict, course.request())
        if enable_suppress_exception:
            assert names(messages) == ["Merit", "Completion"]
            assert not failures(messages)
        else:
            assert names(messages) == ["Completion"]
            (failed,) = failures(messages)
            reason = f"content {unknown} has no metadata in the cache or the content read API"
            assert failed["metadata"]["validation_error"] == reason

    async def test_a_course_whose_name_is_nowhere(
        self, course: Course, config: CollectionCertPreProcessorConfig, redis_client: "redis.Redis"
    ) -> None:
        redis_client.delete(course.course_id)
        course.templates(template())
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert not names(messages)
        (failed,) = failures(messages)
        reason = f"content read API does not know course {course.course_id}: it answered 404"
        assert failed["metadata"]["validation_error"] == reason
        assert job.of("events_applied") == {"failed": 1}


class TestTheBestScore:
    @pytest.mark.parametrize(
        ("agg", "aggregates", "is_enough"),
        [
            (None, 7.5, True),
            (None, 7.4, False),
            (8, None, True),
            (7, None, False),
            (9, 7.4, False),
            (7, 7.5, True),
        ],
    )
    async def test_of_the_merged_columns_decides(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        agg: int | None,
        aggregates: float | None,
        is_enough: bool,
    ) -> None:
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        course.enrol(course.asha)
        course.score(
            course.asha,
            None if aggregates is None else course.quiz_of_10(aggregates),
            None if agg is None else course.quiz_of_10(agg, int),
        )
        messages, job = await applied(config, course.request())
        assert len(messages) == is_enough
        assert job.of("skipped") == ({} if is_enough else {"other_score": 1})
        assert job.of("events_applied") == {"issued" if is_enough else "not_earned": 1}

    async def test_of_somebody_without_a_row_is_zero(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(AT_LEAST_75), template({"assessment": {"score": {"<=": 0}}}, name="Everybody"))
        messages, _ = await applied(config, course.request())
        assert names(messages) == ["Everybody"]

    async def test_is_that_of_contents_of_supported_types_in_cache_and_api(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        asked, resource = f"{course.quiz}-asked", f"{course.quiz}-resource"
        services.contents[asked] = {"contentType": "SelfAssess"}
        course.cache(5, resource, {"contenttype": "Resource"})
        course.templates(
            template({"assessment": {"score": {"=": 80}}}, additionalProps={"assessment": ["score"]}),
        )
        maxima = {f"max_score:{content}": 10.0 for content in (course.quiz, asked, resource)}
        scores = {f"score:{course.quiz}": 3.0, f"score:{asked}": 8.0, f"score:{resource}": 10.0}
        course.score(course.asha, scores | maxima)
        messages, _ = await applied(config, course.request())
        assert edata(messages)["related"]["assessment"] == {"score": {course.quiz: 30.0, asked: 80.0}}
        assert services.requests[CONTENT] == 1

    async def test_counts_a_content_whose_cache_entry_is_of_no_use(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices, world: World
    ) -> None:
        broken, other_type, numbers = (f"{course.quiz}-{number}" for number in range(3))
        with world.redis.client(db=5) as client:
            client.set(broken, b"{\xff")
            client.sadd(other_type, "SelfAssess")
            client.set(numbers, "[1]")
        for content in (broken, other_type, numbers):
            services.contents[content] = {"contentType": "SelfAssess"}
        course.templates(template(AT_LEAST_75, additionalProps={"assessment": ["score"]}))
        course.score(course.asha, {f"score:{content}": 0.8 for content in (broken, other_type, numbers)})
        messages, _ = await applied(config, course.request())
        expected = dict.fromkeys((broken, other_type, numbers), 80.0)
        assert edata(messages)["related"]["assessment"] == {"score": expected}


class TestWhoGetsACertificate:
    async def test_and_what_it_says(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.user(course.asha, email="a***@example.org", userLocations=[{"type": "state", "name": "Goa"}])
        columns = ["completedOn", "progress", "contentstatus", "issued_certificates", "addedBy"]
        course.templates(
            template(
                {**COMPLETED, **AT_LEAST_75, "user": {"rootOrgId": "org-1"}},
                url="CLOUD_BASE_PATH/t/t.svg",
                issuer={"name": "Goa"},
                signatoryList=[{"name": "S"}],
                additionalProps={
                    "location": ["state"],
                    "enrollment": columns,
                    "assessment": ["score"],
                    "user": ["email"],
                    "course": ["name"],
                },
            )
        )
        other = [{"name": "Other", "identifier": "c-0"}]
        course.enrol(course.asha, progress=4, contentstatus={course.quiz: 2}, issued_certificates=other)
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, _ = await applied(config, course.request())
        assert edata(messages) == {
            "issuedDate": "2024-05-13",
            "data": [{"recipientName": "Asha Rao", "recipientId": course.asha}],
            "criteria": {"narrative": "Completion"},
            "svgTemplate": "https://storage.example.org/sunbird-content-dev/t/t.svg",
            "oldId": "",
            "templateId": "t-id",
            "userId": course.asha,
            "orgId": "org-1",
            "issuer": {"name": "Goa"},
            "signatoryList": [{"name": "S"}],
            "courseName": "Botany",
            "basePath": "https://certificates.example.org/certs",
            "related": {
                "batchId": course.batch_id,
                "courseId": course.course_id,
                "type": "Completion",
                "location": {"state": "Goa"},
                "enrollment": {
                    "completedOn": COMPLETED_ON_MS,
                    "progress": 4,
                    "contentstatus": {course.quiz: 2},
                    "issued_certificates": other,
                    "addedBy": None,
                },
                "assessment": {"score": {course.quiz: 75.0}},
                "email": "a***@example.org",
                "course": {"name": "Botany"},
            },
            "name": "Completion",
            "tag": course.batch_id,
        }

    async def test_a_column_that_the_table_does_not_have_reaches_no_statement(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        evil = 'progress FROM user_enrolments; DROP TABLE user_enrolments; --"'
        course.templates(
            template(name="One"),
            template(additionalProps={"enrollment": [evil]}, name="Evil"),
            template(additionalProps={"enrollment": ["progress"]}, name="Two"),
        )
        course.enrol(course.asha)
        messages, _ = await applied(config, course.request())
        assert names(messages) == ["One", "Two"]
        (failed,) = failures(messages)
        assert failed["metadata"]["validation_error"].endswith("which is no column")

    @pytest.mark.parametrize(
        ("columns", "skipped"),
        [
            ({"active": False}, "not_active"),
            ({"active": None, "status": None, "completedon": None, "lastreadcontentid": "do_1"}, "not_active"),
            ({"status": 1}, "other_status"),
            ({"issued_certificates": [{"name": "COMPLETION", "identifier": "c-1"}]}, "already_issued"),
            (None, "not_enrolled"),
        ],
        ids=["not active", "phantom row", "not completed", "has one", "no row"],
    )
    async def test_is_not_who_does_not_fulfil_the_enrolment_criteria(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        columns: dict[str, object] | None,
        skipped: str,
    ) -> None:
        course.templates(template())
        if columns is not None:
            course.enrol(course.asha, **columns)
        messages, job = await applied(config, course.request())
        assert messages == []
        assert job.of("skipped") == {skipped: 1}
        assert services.requests[USER] == 0

    async def test_a_re_issue_replaces_the_certificate_of_that_name(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template())
        issued = [{"name": "Other", "identifier": "c-0"}, {"name": "COMPLETION", "identifier": "c-1"}]
        course.enrol(course.asha, issued_certificates=issued)
        messages, _ = await applied(config, course.request(reIssue=True))
        assert edata(messages)["oldId"] == "c-1"

    async def test_a_blocked_user_is_passed_over(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template())
        blocked = course.user(f"blocked-{course.asha}", status=0)
        course.enrol(blocked)
        course.enrol(course.asha)
        messages, job = await applied(config, course.request(blocked, course.asha))
        assert edata(messages)["userId"] == course.asha
        assert job.of("skipped") == {"blocked_user": 1}

    @pytest.mark.parametrize("has_row", [True, False])
    async def test_is_nobody_in_a_batch_without_templates(
        self, course: Course, config: CollectionCertPreProcessorConfig, has_row: bool
    ) -> None:
        if has_row:
            course.templates()
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert messages == []
        assert job.of("skipped") == {"no_template": 1}

    async def test_is_the_same_whenever_the_same_is_asked(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(), template(name="Bad", criteria="{}"))
        course.enrol(course.asha, contentstatus={"a": 2, "b": 1})
        first, _ = await applied(config, course.request())
        again, _ = await applied(config, course.request())
        assert len(first) == 2
        assert again == first


class TestFetching:
    async def test_one_read_and_one_call_per_key_however_many_ask(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        redis_client: "redis.Redis",
    ) -> None:
        redis_client.delete(course.course_id)
        content = f"{course.quiz}-asked"
        services.contents |= {course.course_id: {"name": "Botany"}, content: {"contentType": "SelfAssess"}}
        course.templates(template({**COMPLETED, **AT_LEAST_75}), template(AT_LEAST_75))
        learners = [course.user(f"{course.asha}-{number}") for number in range(5)]
        for learner in learners:
            course.enrol(learner)
            course.score(learner, {f"score:{content}": 0.9})
        in_two_batches = config.model_copy(
            update={"batch": BatchConfig(max_batch_size=50, max_in_flight_requests=2, max_buffered_requests=100)}
        )

        async with running(in_two_batches) as job:
            before = job.counts["rows_read"]
            messages_by_request = await job.apply(*(course.request(learner) for learner in learners * 20))
            assert [len(messages) for messages in messages_by_request] == [2] * 100
            # The name of the course and the type of the content; of each learner one answer in each batch.
            assert services.requests == {CONTENT: 2, USER: 10}
            # The row of the course's batch, and two of each learner in each batch.
            assert job.counts["rows_read"] - before == 1 + 20
            assert job.of("events_applied") == {"issued": 100}

    async def test_templates_that_are_added_or_repaired_are_soon_seen(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.enrol(course.asha)
        forgetful = config.model_copy(update={"batch_cache": CacheConfig(ttl_ms=3_600_000, empty_ttl_ms=20)})

        async with running(forgetful) as job:

            async def until_topics_are(*topics: str) -> None:
                while [message.topic for message in (await job.apply(course.request()))[0]] != list(topics):
                    pass

            await until_topics_are()
            course.templates(template({"other": {}}))
            await until_topics_are(FAILED)
            course.templates(template())
            await until_topics_are(OUT)

    async def test_a_server_that_is_not_there_is_a_fault_of_the_world(
        self, config: CollectionCertPreProcessorConfig, world: World
    ) -> None:
        nowhere = config.redis.model_copy(update={"port": world.config.flink.rest_port})

        with pytest.raises(WorldFault, match="Redis"):
            async with running(config.model_copy(update={"redis": nowhere})):
                pass

    async def test_a_missing_table_ends_the_task(self, config: CollectionCertPreProcessorConfig) -> None:
        nowhere = config.cassandra.model_copy(update={"keyspace": "nowhere"})

        with pytest.raises(TaskFault, match="nowhere"):
            async with running(config.model_copy(update={"cassandra": nowhere})):
                pass


def test_from_topic_to_topics(
    world: World, flink_cluster: FlinkCluster, topics: Topics, course: Course, services: HttpServices, unique: str
) -> None:
    course.templates(template())
    binod = course.user(f"binod-{course.asha}")
    nobody = f"nobody-{unique}"
    for learner in (course.asha, binod, nobody):
        course.enrol(learner)
    requested, issued, failed = (
        f"{unique}.{name}"
        for name in ("issue.certificate.request", "generate.certificate.request", "issue.certificate.failed")
    )
    world.kafka.create_topics([requested, issued, failed])
    values = [
        course.request(course.asha, nobody, binod),
        course.request(action="revoke-certificate"),
        b"no JSON",
        course.request("unknown", batchId=7),
    ]
    topics.produce(requested, values)

    job = world.submit(
        "jobs.collection_cert_pre_processor",
        environment={
            "AGGREGATES__KAFKA__ENV": unique,
            "AGGREGATES__LEARNER_BASE_URL": services.base_url,
            "AGGREGATES__CONTENT_BASE_URL": services.base_url,
        },
    )
    flink_cluster.client.wait_until_running(job)

    certificates = [json.loads(message.value()) for message in topics.wait_for(issued, 2, timeout_seconds=120)]
    assert sorted(certificate["edata"]["userId"] for certificate in certificates) == sorted([course.asha, binod])
    failed_messages = topics.wait_for(failed, 3)
    reasons = {
        json.loads(message.value())["metadata"]["validation_error"]: message.key() for message in failed_messages
    }
    assert reasons[f"user read API answered 404 for user {nobody}"] == nobody.encode()
    assert len(reasons) == len(failed_messages) == 3
