"""The assessment aggregator: what it fetches for a batch of events, and how it writes what the rules decide."""

import time
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from common.domain import attempts
from common.domain.attempts import AssessmentEvent, Enrolment
from common.domain.events import BadEvent, BadValue, to_datetime, usable
from common.domain.relations import leaf_nodes_key
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.cassandra import Cassandra
from common.servers.concurrency import gather_all
from common.servers.http import ApiClient
from common.servers.redis import RedisClient
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.rules import CONTENT_METADATA, JOB, Decision, Settings
from jobs.assessment_aggregator.store import Store

TotalQuestions = float | BadEvent | None
"""The number of questions of a content, why its events have to fail, or None where nobody knows it."""


class AssessmentAggregator(Job[AssessmentEvent]):
    """Assessment attempts in, best scores in ``user_activity_agg`` and certificate requests out."""

    name = JOB
    user_id_path = ("userId",)
    decode = staticmethod(attempts.decode)

    def __init__(self, config: AssessmentAggregatorConfig) -> None:
        """Connects to nothing."""
        super().__init__(config)
        self._config = config

    async def open(self, metrics: Metrics) -> None:
        """Connects to Cassandra and Redis."""
        config = self._config
        self._counts = metrics.counts
        self._settings = Settings(
            certificate_topic=config.kafka.topic("issue.certificate.request"),
            time_zone=ZoneInfo(config.agg_details_time_zone),
        )
        self._cassandra = Cassandra(config.cassandra, metrics)
        self._relations = RedisClient(config.redis, config.redis.relation_database)
        self._contents = RedisClient(config.redis, config.redis.content_database)
        self._content_api = ApiClient("content_read", config.content_read_api, config.http, metrics)
        self._leaf_nodes = TimedCache[str, frozenset[str] | BadValue]("leaf_nodes", config.relation_cache, metrics)
        self._totals = TimedCache[str, TotalQuestions]("total_questions", config.content_cache, metrics)
        await self._cassandra.open()
        self._store = Store(self._cassandra, config.cassandra.keyspace)
        await self._store.prepare()
        await self._relations.open()

    async def close(self) -> None:
        """Closes what ``open`` has opened."""
        for resource in (self._cassandra, self._relations, self._contents, self._content_api):
            await resource.close()

    async def apply(self, batch: Sequence[AssessmentEvent]) -> Sequence[Outcome]:
        """Checks the events, decides per enrolment, writes the attempts and then the aggregates."""
        faults = await self._check(batch)
        enrolments: dict[Enrolment, list[int]] = {}
        for index, event in enumerate(batch):
            if index not in faults:
                enrolments.setdefault(event.enrolment, []).append(index)
        now_ms = time.time_ns() // 1_000_000
        decisions = await self._decide(batch, enrolments, now_ms)
        await self._store.write_attempts({enrolment: decision.attempts for enrolment, decision in decisions.items()})
        await self._store.write_aggregates(
            {enrolment: decision.aggregates for enrolment, decision in decisions.items() if decision.aggregates},
            to_datetime(now_ms),
        )
        outcomes: dict[int, Outcome] = dict(faults)
        for enrolment, decision in decisions.items():
            for index, outcome in zip(enrolments[enrolment], decision.outcomes, strict=True):
                self._counts["events_applied", "effect", outcome.effect] += 1
                outcomes[index] = outcome.messages
        return [outcomes[index] for index in range(len(batch))]

    async def _check(self, batch: Sequence[AssessmentEvent]) -> dict[int, BadEvent]:
        """The events at fault, by their index in the batch."""
        faults = await self._find_faults(dict(enumerate(batch)))
        # A course or a content may have been published anew since it was cached.
        return await self._find_faults({index: batch[index] for index in faults}, recent=True) if faults else faults

    async def _find_faults(self, events: Mapping[int, AssessmentEvent], recent: bool = False) -> dict[int, BadEvent]:
        """Steps 1 and 3."""
        keys = [leaf_nodes_key(event.enrolment.course_id, event.enrolment.course_id) for event in events.values()]
        leaf_nodes = await self._leaf_nodes.get_many(keys, self._relations.sets, recent=recent)
        totals: Mapping[str, TotalQuestions] = {}
        if self._config.skip_missing_records:
            contents = [event.content_id for event in events.values() if event.attempt]
            totals = await self._totals.get_many(contents, self._load_total_questions, recent=recent)
        faults = {}
        for (index, event), key in zip(events.items(), keys, strict=True):
            try:
                rules.check_content(event, usable(leaf_nodes[key]))
                total = totals.get(event.content_id)
                if isinstance(total, BadEvent):
                    raise total
                rules.check_number_of_questions(event, total)
            except BadEvent as bad:
                faults[index] = bad
        return faults

    async def _load_total_questions(self, content_ids: Sequence[str]) -> Mapping[str, TotalQuestions]:
        """From the content cache, else from the content read API."""
        cached = await self._contents.structs(content_ids, CONTENT_METADATA)
        totals: dict[str, TotalQuestions] = {
            content_id: rules.cached_total_questions(cached[content_id]) for content_id in content_ids
        }
        unknown = [content_id for content_id, total in totals.items() if total is None]
        totals.update(zip(unknown, await gather_all(map(self._ask_total_questions, unknown)), strict=True))
        return totals

    async def _ask_total_questions(self, content_id: str) -> TotalQuestions:
        answer = await self._content_api.get(content_id)
        try:
            return rules.total_questions(content_id, answer)
        except BadEvent as bad:
            return bad

    async def _decide(
        self, batch: Sequence[AssessmentEvent], enrolments: Mapping[Enrolment, Sequence[int]], now_ms: int
    ) -> dict[Enrolment, Decision]:
        """Steps 5 to 7 for every enrolment."""
        of_each = {enrolment: [batch[index] for index in indexes] for enrolment, indexes in enrolments.items()}
        recomputed = [enrolment for enrolment, of_one in of_each.items() if rules.needs_aggregate_keys(of_one)]
        attempts = await self._store.attempts(of_each)
        aggregate_keys = await self._store.aggregate_keys(recomputed)
        return {
            enrolment: rules.decide(stored, of_one, aggregate_keys.get(enrolment, ()), self._settings, now_ms)
            for (enrolment, of_one), stored in zip(of_each.items(), attempts, strict=True)
        }
