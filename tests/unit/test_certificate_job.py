"""What the certificate pre-processor fetches for a batch of requests, and what it keeps: without servers."""

import asyncio
import json
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from common.config.http import JobHttpConfig
from common.config.loader import load
from common.domain.messages import Message
from common.metrics import Metrics
from common.servers.http_answers import Answer
from jobs.collection_cert_pre_processor import job as job_module
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor
from jobs.collection_cert_pre_processor.rules import EnrolmentRow
from jobs.collection_cert_pre_processor.store import BatchKey
from jobs.collection_cert_pre_processor.templates import Templates, parse
from tests.support.certificate_job import template
from tests.support.required_keys import REQUIRED

CONNECTIONS = 10


class Server:
    """Stands for whatever the job connects to."""

    async def open(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to close."""

    async def structs(self, keys: Sequence[str], decoder: Any) -> Mapping[str, Any]:
        return {key: decoder.decode(b'{"name": "Botany"}') for key in keys}


class Rows:
    """The store: everybody has completed every course. ``name`` is that of the one template of all batches."""

    def __init__(self) -> None:
        self.name = "first"
        self.reads: list[list[str]] = []

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def templates(self, batches: Sequence[BatchKey]) -> dict[BatchKey, Templates]:
        if batches:
            self.reads.append([batch.batch_id for batch in batches])
        return {batch: parse(batch.batch_id, {"t-0": template(name=self.name)}) for batch in batches}

    async def enrolments_and_aggregates(
        self, enrolments: Mapping[Any, bool], aggregates: Collection[Any]
    ) -> tuple[dict[Any, EnrolmentRow], dict[Any, dict[str, float]]]:
        return {key: EnrolmentRow(True, 2, None, None) for key in enrolments}, {key: {} for key in aggregates}


class Profile:
    """Part of an answer about a user. It says when nothing holds it any more."""


class Users(Server):
    """The user API. ``most`` is the greatest number of answers that were alive at a time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most = 0
        self._alive = weakref.WeakSet[Profile]()

    async def get(self, user_id: str, query: str) -> Answer:
        self.asked.append(user_id)
        await asyncio.sleep(0)
        profile = Profile()
        self._alive.add(profile)
        self.most = max(self.most, len(self._alive))
        return Answer(200, {"result": {"response": {"firstName": user_id, "rootOrgId": "o", "profile": profile}}})


class Setup:
    """The job on these stand-ins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows, self.users = Rows(), Users()
        monkeypatch.setattr(job_module, "Cassandra", lambda *_: Server())
        monkeypatch.setattr(job_module, "RedisClient", lambda *_: Server())
        monkeypatch.setattr(job_module, "ApiClient", lambda *_, **__: self.users)
        monkeypatch.setattr(job_module, "Store", lambda *_: self.rows)
        config = load(CollectionCertPreProcessorConfig, environ=REQUIRED[CollectionCertPreProcessorConfig])
        http = JobHttpConfig(max_connections=CONNECTIONS)
        self.job = CollectionCertPreProcessor(config.model_copy(update={"http": http}))

    async def apply(self, *requests: CertificateRequest) -> list[list[str]]:
        """User and template of each message, by request."""
        outcomes = await self.job.apply_batch(requests)
        return [[_said(part) for part in outcome if isinstance(part, Message)] for outcome in outcomes]


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    setup = Setup(monkeypatch)
    await setup.job.open(Metrics(), lambda: 1)
    return setup


def request(*user_ids: str, batch: str = "b-1", re_issue: bool = False) -> CertificateRequest:
    return CertificateRequest(user_ids, "do_1", batch, re_issue, 1_715_657_560_200)


def _said(message: Message) -> str:
    edata = json.loads(message.value)["edata"]
    return f"{edata['userId']} {edata['name']}"


async def test_a_request_of_many_users_keeps_few_answers_about_them(setup: Setup) -> None:
    user_ids = [f"u-{number}" for number in range(500)]
    (messages,) = await setup.apply(request(*user_ids))
    assert messages == [f"{user_id} first" for user_id in user_ids]
    assert sorted(setup.users.asked) == sorted(user_ids)
    # The answer that each connection has brought last, and the next one.
    assert setup.users.most <= 2 * CONNECTIONS


async def test_a_user_of_several_requests_is_asked_for_once(setup: Setup) -> None:
    assert await setup.apply(
        request("u-1", "u-2"), request("u-3", batch="b-2"), request("u-2", "u-1", batch="b-2")
    ) == [
        ["u-1 first", "u-2 first"],
        ["u-3 first"],
        ["u-2 first", "u-1 first"],
    ]
    assert sorted(setup.users.asked) == ["u-1", "u-2", "u-3"]


async def test_a_re_issue_uses_the_template_as_it_is_now(setup: Setup) -> None:
    assert await setup.apply(request("u-1")) == [["u-1 first"]]
    setup.rows.name = "corrected"
    assert await setup.apply(request("u-1")) == [["u-1 first"]]
    assert await setup.apply(request("u-1", re_issue=True)) == [["u-1 corrected"]]


async def test_the_templates_of_each_batch_are_read_once_however_many_re_issues_ask(setup: Setup) -> None:
    requests = [request("u-1", batch=batch, re_issue=batch == "b-1") for batch in ("b-1", "b-2", "b-1", "b-2")]
    await setup.apply(*requests)
    assert sorted(setup.rows.reads) == [["b-1"], ["b-2"]]
    await setup.apply(*requests)
    assert sorted(setup.rows.reads) == [["b-1"], ["b-1"], ["b-2"]]


def test_a_corrected_template_is_used_after_five_seconds() -> None:
    config = load(CollectionCertPreProcessorConfig, environ=REQUIRED[CollectionCertPreProcessorConfig])
    assert config.batch_cache.ttl_ms == 5_000
