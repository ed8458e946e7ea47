"""The activity aggregate updater: what it fetches for a batch of events, and how it writes what the rules decide."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, results_in_place, to_datetime
from common.domain.faults import WorldFault
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.redis import RedisClient
from jobs.activity_aggregate_updater import events, rules
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.events import JOB, LearnerEvent
from jobs.activity_aggregate_updater.relation_cache import RelationCache
from jobs.activity_aggregate_updater.relations import LeafNodes, Relations, search_request
from jobs.activity_aggregate_updater.rules import Decision, Effect, Settings, Stored
from jobs.activity_aggregate_updater.store import Store

Checked = LearnerEvent | Refused


class ActivityAggregateUpdater(Job[LearnerEvent, EnrolmentKey]):
    """Completed contents and syncs in; counts of contents, units and courses, and completed enrolments out."""

    name = JOB
    user_id_path = ("edata", "userId")
    decode = staticmethod(events.decode)

    def __init__(self, config: ActivityAggregateUpdaterConfig) -> None:
        """Connects to nothing."""
        super().__init__(config)
        self._config = config
        # Units that are to be counted in the metric once their batch is written. A write that fails may have written a
        # part, of which a retry decides nothing any more. What it has not written, each retry decides again.
        self._uncounted: dict[EnrolmentKey, set[str]] = {}

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

    def must_follow(self, earlier: LearnerEvent, later: LearnerEvent) -> bool:
        return rules.may_recount(earlier, later, self._config.deduplication_seconds * 1000)

    async def apply(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[LearnerEvent]]
    ) -> Mapping[EnrolmentKey, Sequence[Outcome]]:
        """Decides per enrolment, writes all decisions together, and gives each event its part of them."""
        checked, decisions = await self._decide(events_by_enrolment)
        for enrolment, decision in decisions.items():
            if decision.uncounted_units:
                self._uncounted.setdefault(enrolment, set()).update(decision.uncounted_units)
        try:
            await self._store.write(decisions, to_datetime(time.time_ns() // 1_000_000))
        except WorldFault:
            raise
        except Exception:
            # The batch is halved, and each half decides again. An event may be refused in the end.
            for enrolment in decisions:
                self._uncounted.pop(enrolment, None)
            raise
        self._counts["uncounted_units"] += sum(len(self._uncounted.pop(key, ())) for key in events_by_enrolment)
        return {enrolment: [*self._outcomes(those, decisions.get(enrolment))] for enrolment, those in checked.items()}

    async def _decide(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[LearnerEvent]]
    ) -> tuple[dict[EnrolmentKey, Sequence[Checked]], dict[EnrolmentKey, Decision]]:
        """Each event, or why it is refused: its course or units cannot be used. And the decision about the others."""
        courses = await self._relations.courses(chain.from_iterable(events_by_enrolment.values()))
        checked: dict[EnrolmentKey, Sequence[Checked]] = dict(events_by_enrolment)
        leaf_nodes: dict[EnrolmentKey, LeafNodes] = {}
        for enrolment, of_enrolment in events_by_enrolment.items():
            course = courses[enrolment.course_id]
            if isinstance(course, Refused):
                checked[enrolment] = [course] * len(of_enrolment)
            else:
                leaf_nodes[enrolment] = course
        stored = await self._store.read(list(leaf_nodes))
        contents = {
            enrolment: rules.contents_to_locate(stored[enrolment], events_by_enrolment[enrolment], self._settings)
            for enrolment in leaf_nodes
        }
        relations = await self._relations.relations(contents, leaf_nodes)
        decisions: dict[EnrolmentKey, Decision] = {}
        for enrolment, course in leaf_nodes.items():
            found: Relations | Refused | None = relations[enrolment]
            if isinstance(found, Refused):
                checked[enrolment], found = await self._check(events_by_enrolment[enrolment], stored[enrolment], course)
            if found is not None:
                accepted = [event for event in checked[enrolment] if not isinstance(event, Refused)]
                decisions[enrolment] = rules.decide(enrolment, accepted, stored[enrolment], found, self._settings)
        return checked, decisions

    async def _check(
        self, events_of_one: Sequence[LearnerEvent], stored: Stored, course: LeafNodes
    ) -> tuple[Sequence[Checked], Relations | None]:
        """One event of an enrolment after the other, so that one whose units cannot be used refuses no other."""
        enrolment = events_of_one[0].enrolment
        accepted: list[LearnerEvent] = []
        checked: list[Checked] = []
        relations = None
        for event in events_of_one:
            contents = rules.contents_to_locate(stored, [*accepted, event], self._settings)
            found = (await self._relations.relations({enrolment: contents}, {enrolment: course}))[enrolment]
            if isinstance(found, Refused):
                checked.append(found)
            else:
                checked.append(event)
                accepted.append(event)
                relations = found
        return checked, relations

    def _outcomes(self, checked: Sequence[Checked], decision: Decision | None) -> Iterator[Outcome]:
        """The outcomes of an enrolment's events; ``decision`` is about those that are not refused."""
        for result in results_in_place(checked, decision.results if decision else ()):
            if isinstance(result, Refused):
                yield (result,)
                continue
            self._counts["events_applied", "effect", result.effect] += 1
            self._counts["duplicates"] += result.effects.count(Effect.DUPLICATE)
            yield result.messages
