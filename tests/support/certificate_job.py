"""The certificate pre-processor with its batches and retries, and a course that it decides about."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from cassandra.cluster import Session

from common.config.http import JobHttpConfig
from common.config.loader import load
from common.config.model import RetryConfig
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor
from local.http_services import HttpServices
from local.world import World
from tests.support import job_process
from tests.support.job_process import RunningJob
from tests.support.tables import Tables

OUT = "dev.generate.certificate.request"


FAILED = "dev.issue.certificate.failed"


EVENT_TIME_MS = 1_715_657_560_200  # 2024-05-14T03:32:40Z


COMPLETED_ON = "2024-05-13 20:00:00.001Z"


COMPLETED_ON_MS = 1_715_630_400_001


COMPLETED = {"enrollment": {"status": 2}}


AT_LEAST_75 = {"assessment": {"score": {">=": 75}}}


QUICK = JobHttpConfig(
    request_timeout_ms=5_000,
    call_timeout_ms=30_000,
    initial_backoff_ms=5,
    max_backoff_ms=20,
    breaker_delay_ms=20,
)


def quick_config(world: World, services: HttpServices) -> CollectionCertPreProcessorConfig:
    """Of a job on these servers that retries without long waits."""
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


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in the service's thread
        await asyncio.sleep(0.005)


class Course:
    """A course of ids that no other test has, its name and its quiz in the caches, and Asha, who can be read."""

    def __init__(self, world: World, session: Session, services: HttpServices, unique: str) -> None:
        self.course_id = f"do_{unique}"
        self.batch_id = f"b-{unique}"
        self.quiz = f"do_{unique}q"
        self.asha = f"asha-{unique}"
        self._world = world
        self._tables = Tables(session)
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
        self._tables.insert("course_batch", courseid=self.course_id, batchid=self.batch_id, cert_templates=numbered)

    def enrolment(self, user_id: str) -> EnrolmentKey:
        return EnrolmentKey(user_id, self.course_id, self.batch_id)

    def enrol(self, user_id: str, **columns: object) -> None:
        """As somebody who has completed the course; a column that is None stays unset."""
        completed = {"status": 2, "completedon": COMPLETED_ON}
        self._tables.insert_enrolment(self.enrolment(user_id), **{**completed, **columns})

    def enrolled(self, count: int) -> list[str]:
        """So many others than Asha, who can be read and have completed the course."""
        learners = [self.user(f"{self.asha}-{number}") for number in range(count)]
        for learner in learners:
            self.enrol(learner)
        return learners

    def score(self, user_id: str, aggregates: Mapping[str, float] | None, agg: Mapping[str, int] | None = None) -> None:
        """The row of ``user_activity_agg`` with a column unset where it is None."""
        self._tables.insert_aggregates(self.enrolment(user_id), agg, aggregates)

    def quiz_of_10(self, score: float, metric_type: Callable[[float], Any] = float) -> dict[str, Any]:
        return {f"score:{self.quiz}": metric_type(score), f"max_score:{self.quiz}": metric_type(10)}

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


def template(criteria: object = COMPLETED, **fields: object) -> dict[str, str]:
    texts = {"identifier": "t-id", "name": "Completion", "url": "https://c/t.svg", "criteria": criteria, **fields}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in texts.items()}


def running(config: CollectionCertPreProcessorConfig) -> AbstractAsyncContextManager[RunningJob]:
    return job_process.running(CollectionCertPreProcessor(config))


async def applied(config: CollectionCertPreProcessorConfig, *values: bytes) -> tuple[list[Message], RunningJob]:
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
