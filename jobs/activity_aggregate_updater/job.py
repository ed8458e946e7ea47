"""The activity aggregate updater: what it fetches for a batch of events, and how it writes what the rules decide."""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, to_datetime
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.redis import RedisClient
from jobs.activity_aggregate_updater import events, rules
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.events import JOB, LearnerEvent
from jobs.activity_aggregate_updater.relation_cache import RelationCache
from jobs.activity_aggregate_updater.relations import LeafNodes, search_request
from jobs.activity_aggregate_updater.rules import Decision, Effect, Settings
from jobs.activity_aggregate_updater.store import Store


class ActivityAggregateUpdater(Job[LearnerEvent, EnrolmentKey]):
    """Completed contents and syncs in; counts of contents, units and courses, and completed enrolments out."""

    name = JOB
    user_id_path = ("edata", "userId")
    decode = staticmethod(events.decode)

    def __init__(self, config: ActivityAggregateUpdaterConfig) -> None:
        """Connects to nothing."""
        super().__init__(config)
        self._config = config

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        """Connects to Cassandra and Redis."""
        config = self._config
        self._counts = metrics.counts
        self._settings = Settings(
            audit_topic=config.kafka.topic(topics.TELEMETRY_RAW),
            certificate_topic=config.kafka.topic(topics.ISSUE_CERTIFICATE_REQUEST),
            module_aggs=config.module_aggs,
            recount_after_ms=config.deduplication_seconds * 1000,
        )
        self._cassandra = Cassandra(config.cassandra, metrics, clock)
        self._redis = RedisClient(config.redis, config.redis.relation_database)
        self._search_api = ApiClient(
            "search",
            config.search_api,
            config.http,
            metrics,
            poison_after_ms=config.http.poison_after_ms,
            # Courses without leaf nodes are rare, so the one that fails is often the only one that is searched for.
            control=search_request(UNKNOWN_ID),
        )
        self._relations = RelationCache(self._redis, self._search_api, config, metrics)
        await self._cassandra.open()
        self._store = Store(self._cassandra, config.cassandra.keyspace, metrics)
        await self._store.prepare()
        await self._redis.open()

    async def close(self) -> None:
        """Closes what ``open`` has opened."""
        for resource in (self._cassandra, self._redis, self._search_api):
            await resource.close()

    def group_of(self, event: LearnerEvent) -> EnrolmentKey:
        return event.enrolment

    async def apply(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[LearnerEvent]]
    ) -> Mapping[EnrolmentKey, Sequence[Outcome]]:
        """Decides per enrolment, writes all decisions together, and gives each event its part of them."""
        decisions = await self._decide(events_by_enrolment)
        to_write = {enrolment: decision for enrolment, decision in decisions.items() if isinstance(decision, Decision)}
        await self._store.write(to_write, to_datetime(time.time_ns() // 1_000_000))
        return {
            enrolment: self._outcomes(events, decisions[enrolment]) for enrolment, events in events_by_enrolment.items()
        }

    async def _decide(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[LearnerEvent]]
    ) -> dict[EnrolmentKey, Decision | Refused]:
        """The decision about each enrolment, or why all its events are refused: its course or units cannot be used."""
        courses = await self._relations.courses(chain.from_iterable(events_by_enrolment.values()))
        decisions: dict[EnrolmentKey, Decision | Refused] = {}
        leaf_nodes: dict[EnrolmentKey, LeafNodes] = {}
        for enrolment in events_by_enrolment:
            course = courses[enrolment.course_id]
            if isinstance(course, Refused):
                decisions[enrolment] = course
            else:
                leaf_nodes[enrolment] = course
        stored = await self._store.read(list(leaf_nodes))
        contents = {
            enrolment: rules.contents_to_locate(stored[enrolment], events_by_enrolment[enrolment], self._settings)
            for enrolment in leaf_nodes
        }
        relations = await self._relations.relations(contents, leaf_nodes)
        for enrolment, found in relations.items():
            if isinstance(found, Refused):
                decisions[enrolment] = found
            else:
                decisions[enrolment] = rules.decide(
                    enrolment, events_by_enrolment[enrolment], stored[enrolment], found, self._settings
                )
        return decisions

    def _outcomes(self, events: Sequence[LearnerEvent], decision: Decision | Refused) -> Sequence[Outcome]:
        if isinstance(decision, Refused):
            return [(decision,)] * len(events)
        for result in decision.results:
            self._counts["events_applied", "effect", result.effect] += 1
            self._counts["duplicates"] += result.effects.count(Effect.DUPLICATE)
        return [result.messages for result in decision.results]
