"""The certificate pre-processor: what it fetches for a batch of requests, and the messages that the rules decide on."""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar
from zoneinfo import ZoneInfo

from common.domain import topics
from common.domain.aggregates import SCORE, contents_of
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, Skip, awaited_or_refused
from common.domain.messages import Message
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.cassandra import Cassandra
from common.servers.concurrency import gather_all
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.http_answers import Answer
from common.servers.redis import RedisClient
from jobs.collection_cert_pre_processor import answers, events, rules
from jobs.collection_cert_pre_processor.answers import CONTENT_METADATA, User
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.events import JOB, CertificateRequest
from jobs.collection_cert_pre_processor.rules import Decisions
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.store import BatchKey, Store
from jobs.collection_cert_pre_processor.templates import Templates

Known = TypeVar("Known")

# The ids of users are UUIDs: of another form, an API may refuse it before it looks for it.
_UNKNOWN_USER_ID = "00000000-0000-0000-0000-000000000000"
_USERS_AT_ONCE = 1_000
"""More than connections: users that cannot be read wait most of the time, and must not wait for each other."""


@dataclass(frozen=True, slots=True)
class Learner:
    """One learner of one request: what a decision is about."""

    request: CertificateRequest
    user_id: str
    templates: Templates

    @property
    def enrolment(self) -> EnrolmentKey:
        """Of the rows that are needed."""
        return EnrolmentKey(self.user_id, self.request.course_id, self.request.batch_id)


class CollectionCertPreProcessor(Job[CertificateRequest, BatchKey]):
    """Requests to check for a certificate in, requests to generate one out. Writes no rows."""

    name = JOB
    user_id_path = ("edata", "userIds")
    decode = staticmethod(events.decode)
    part_of = staticmethod(events.narrowed)

    def __init__(self, config: CollectionCertPreProcessorConfig) -> None:
        """Connects to nothing."""
        super().__init__(config)
        self._config = config

    def group_of(self, event: CertificateRequest) -> BatchKey:
        return BatchKey(event.course_id, event.batch_id)

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        """Connects to Cassandra and Redis."""
        config = self._config
        self._counts = metrics.counts
        self._settings = Settings(
            topic=config.kafka.topic(topics.GENERATE_CERTIFICATE_REQUEST),
            cert_domain_url=config.cert_domain_url,
            cloud_storage_base_url=config.cloud_storage_base_url,
            content_cloud_storage_container=config.content_cloud_storage_container,
            cloud_storage_cname_url=config.cloud_storage_cname_url,
            supported_content_types=frozenset(config.supported_content_types),
            enable_suppress_exception=config.enable_suppress_exception,
            zone=ZoneInfo(config.time_zone),
        )
        self._cassandra = Cassandra(config.cassandra, metrics, clock)
        self._contents = RedisClient(config.redis, config.redis.content_database)
        self._collections = RedisClient(config.redis, config.redis.collection_database)
        client = partial(ApiClient, config=config.http, metrics=metrics, poison_after_ms=config.http.poison_after_ms)
        # For a user that exists, this API also needs organisations, locations and declarations.
        self._user_api = client(
            "user_read",
            f"{config.learner_base_url}/private/user/v1/read/",
            control=_UNKNOWN_USER_ID,
            control_suffices=False,
        )
        self._content_api = client("content_read", f"{config.content_base_url}/content/v3/read/", control=UNKNOWN_ID)
        self._templates = TimedCache[BatchKey, Templates]("templates", config.batch_cache, metrics)
        self._content_types = TimedCache[str, str | Refused | None]("content_types", config.content_cache, metrics)
        self._course_names = TimedCache[str, str | Refused]("course_names", config.course_cache, metrics)
        await self._cassandra.open()
        self._store = Store(self._cassandra, config.cassandra.keyspace)
        await self._store.prepare()
        await self._contents.open()
        await self._collections.open()

    async def close(self) -> None:
        """Closes what ``open`` has opened."""
        for resource in (self._cassandra, self._contents, self._collections, self._user_api, self._content_api):
            await resource.close()

    async def apply(
        self, requests_by_batch: Mapping[BatchKey, Sequence[CertificateRequest]]
    ) -> Mapping[BatchKey, Sequence[Outcome]]:
        """Decides about every learner of every request: first by the rows, then by the answers of the APIs."""
        templates = await self._templates_of(requests_by_batch)
        learners = [
            Learner(request, user_id, templates[batch])
            for batch, requests in requests_by_batch.items()
            for request in requests
            for user_id in request.user_ids
        ]
        decisions = iter(await self._issue(learners, await self._select(learners)))
        return {
            batch: [self._outcome(request, list(islice(decisions, len(request.user_ids)))) for request in requests]
            for batch, requests in requests_by_batch.items()
        }

    async def _templates_of(
        self, requests_by_batch: Mapping[BatchKey, Sequence[CertificateRequest]]
    ) -> Mapping[BatchKey, Templates]:
        """From the cache, but as they are now for batches with a re-issue: that is asked for when one was corrected."""
        to_read = [batch for batch, requests in requests_by_batch.items() if any(each.re_issue for each in requests)]
        cacheable = requests_by_batch.keys() - to_read
        cached, read = await gather_all(
            (self._templates.get_many(cacheable, self._store.templates), self._store.templates(to_read))
        )
        return cached | read

    def _outcome(self, request: CertificateRequest, decisions: Sequence[Decisions]) -> Outcome:
        """That of a request, by what is decided about each of its learners."""
        self._counts["events_applied", "effect", rules.effect(decisions)] += 1
        outcome: list[Message | Refused] = []
        for user_id, decision in zip(request.user_ids, decisions, strict=True):
            for kind in decision.skipped:
                self._counts["skipped", "reason", kind] += 1
            outcome += decision.messages
            if decision.failed:
                outcome.append(rules.refused(user_id, decision.failed))
        return outcome

    async def _select(self, learners: Sequence[Learner]) -> list[Decisions]:
        """Rules C2 to C4: what each learner has earned as far as the rows say."""
        enrolments, aggregates = await self._store.enrolments_and_aggregates(
            {
                learner.enrolment: bool(learner.templates.enrolment_columns)
                for learner in learners
                if learner.templates.need_enrolment
            },
            dict.fromkeys(learner.enrolment for learner in learners if learner.templates.need_aggregates),
        )
        # Learners of a course have the same contents, so all of them together have few keys.
        metrics = dict.fromkeys(set().union(*aggregates.values()), 0.0)
        content_types = await self._content_types.get_many(contents_of(SCORE, metrics), self._load_content_types)
        return [
            rules.select(
                learner.request,
                learner.templates,
                enrolment=enrolments.get(learner.enrolment),
                aggregates=aggregates.get(learner.enrolment, {}),
                content_types=content_types,
                settings=self._settings,
            )
            for learner in learners
        ]

    async def _issue(self, learners: Sequence[Learner], selected: Sequence[Decisions]) -> list[Decisions]:
        """Rules C5 to C7 for those who have earned something. Nobody else is asked for."""
        indexes_by_user = defaultdict[str, list[int]](list)
        for index, decision in enumerate(selected):
            if decision.earned:
                indexes_by_user[learners[index].user_id].append(index)
        course_names = await self._course_names.get_many(
            (learners[index].request.course_id for indexes in indexes_by_user.values() for index in indexes),
            self._load_course_names,
        )
        user_ids = list(indexes_by_user)
        # In another order at each try. If very many users cannot be read, those behind them, whose answers would show
        # that the API is up, are not asked in this try.
        random.shuffle(user_ids)
        decisions = list(selected)
        remaining = iter(user_ids)

        async def issue_one_after_the_other() -> None:
            # No answer is kept: one may have 12 KB, and a request of 1 MB has 26,000 users.
            for user_id in remaining:
                user = await awaited_or_refused(self._ask_user(user_id))
                for index in indexes_by_user[user_id]:
                    request = learners[index].request
                    decisions[index] = rules.issue(
                        request,
                        user_id,
                        selected[index],
                        user=user,
                        course_name=course_names[request.course_id],
                        settings=self._settings,
                    )

        await gather_all(issue_one_after_the_other() for _ in range(min(len(user_ids), _USERS_AT_ONCE)))
        return decisions

    async def _ask_user(self, user_id: str) -> User | Skip:
        return answers.user(user_id, await self._user_api.get(user_id, answers.USER_FIELDS))

    async def _load_content_types(self, content_ids: Sequence[str]) -> Mapping[str, str | Refused | None]:
        """From the content cache, else from the content read API."""
        cached = await self._contents.structs(content_ids, CONTENT_METADATA)
        known = {content_id: answers.cached_content_type(cached[content_id]) for content_id in content_ids}
        return await self._ask_for_missing(known, "", answers.content_type)

    async def _load_course_names(self, course_ids: Sequence[str]) -> Mapping[str, str | Refused]:
        """From the collection cache, else from the content read API."""
        cached = await self._collections.structs(course_ids, CONTENT_METADATA)
        known = {course_id: answers.cached_course_name(cached[course_id]) for course_id in course_ids}
        return await self._ask_for_missing(known, "?fields=name", answers.course_name)

    async def _ask_for_missing(
        self, known: Mapping[str, Known | None], query: str, read: Callable[[str, Answer], Known]
    ) -> dict[str, Known | Refused]:
        """``known`` with what the content read API says where it has None."""

        async def ask(identifier: str) -> Known:
            return read(identifier, await self._content_api.get(identifier, query))

        found: dict[str, Known | Refused] = {key: value for key, value in known.items() if value is not None}
        missing = [identifier for identifier, value in known.items() if value is None]
        asked = [awaited_or_refused(ask(identifier)) for identifier in missing]
        found.update(zip(missing, await gather_all(asked), strict=True))
        return found
