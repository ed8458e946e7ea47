"""The assessment aggregator: what it fetches for a batch of events, and how it writes what the rules decide."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from zoneinfo import ZoneInfo

from common.domain import attempts, topics
from common.domain.attempts import AssessmentEvent
from common.domain.enrolments import EnrolmentKey
from common.domain.events import (
    Refused,
    awaited_or_refused,
    results_in_place,
    to_datetime,
    usable,
    value_or_refused,
)
from common.domain.relations import leaf_nodes_key
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.cassandra import Cassandra
from common.servers.concurrency import gather_all
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.redis import RedisClient
from jobs.assessment_aggregator import answers, rules
from jobs.assessment_aggregator.answers import CONTENT_METADATA
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.many_attempts import LargeEnrolments, unread_attempts
from jobs.assessment_aggregator.rules import JOB, Attempt, AttemptKey, Decision, Effect, Settings, Unread
from jobs.assessment_aggregator.store import Store

TotalQuestions = float | Refused | None
"""The number of questions of a content, why its attempts are refused, or None if it is not known."""

Checked = AssessmentEvent | Refused
"""An event that may be applied, or why it is refused."""


class AssessmentAggregator(Job[AssessmentEvent, EnrolmentKey]):
    """Assessment attempts in, best scores in ``user_activity_agg`` and certificate requests out."""

    name = JOB
    user_id_path = ("userId",)
    decode = staticmethod(attempts.decode)

    def __init__(self, config: AssessmentAggregatorConfig) -> None:
        """Connects to nothing."""
        super().__init__(config)
        self._config = config

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        """Connects to Cassandra and Redis."""
        config = self._config
        self._counts = metrics.counts
        self._settings = Settings(
            certificate_topic=config.kafka.topic(topics.ISSUE_CERTIFICATE_REQUEST),
            time_zone=ZoneInfo(config.agg_details_time_zone),
        )
        self._cassandra = Cassandra(config.cassandra, metrics, clock)
        self._relations = RedisClient(config.redis, config.redis.relation_database)
        self._contents = RedisClient(config.redis, config.redis.content_database)
        self._content_api = ApiClient(
            "content_read",
            config.content_read_api,
            config.http,
            metrics,
            poison_after_ms=config.http.poison_after_ms,
            # Nearly all contents are in the cache, so the one that fails is often the only one that is asked for.
            control=UNKNOWN_ID,
        )
        self._leaf_nodes = TimedCache[str, frozenset[str] | Refused]("leaf_nodes", config.relation_cache, metrics)
        self._large = LargeEnrolments()
        self._totals = TimedCache[str, TotalQuestions]("total_questions", config.content_cache, metrics)
        await self._cassandra.open()
        self._store = Store(self._cassandra, config.cassandra.keyspace)
        await self._store.prepare()
        await self._relations.open()

    async def close(self) -> None:
        """Closes what ``open`` has opened."""
        for resource in (self._cassandra, self._relations, self._contents, self._content_api):
            await resource.close()

    async def apply(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[AssessmentEvent]]
    ) -> Mapping[EnrolmentKey, Sequence[Outcome]]:
        """Checks the events, decides per enrolment, writes the attempts and then the aggregates."""
        checked = await self._check(events_by_enrolment)
        now_ms = time.time_ns() // 1_000_000
        decisions = await self._decide(checked, now_ms)
        await self._store.write_attempts({enrolment: decision.attempts for enrolment, decision in decisions.items()})
        await self._store.write_aggregates(
            {enrolment: decision.aggregates for enrolment, decision in decisions.items() if decision.aggregates},
            to_datetime(now_ms),
        )
        return {
            enrolment: list(self._outcomes(events, decisions.get(enrolment))) for enrolment, events in checked.items()
        }

    def group_of(self, event: AssessmentEvent) -> EnrolmentKey:
        return event.enrolment

    def _outcomes(self, checked: Sequence[Checked], decision: Decision | None) -> Iterator[Outcome]:
        """The outcomes of an enrolment's events; ``decision`` is about those that are not refused."""
        for result in results_in_place(checked, decision.results if decision else ()):
            if isinstance(result, Refused):
                yield (result,)
                continue
            if result.effect is Effect.STALE:
                self._counts["skipped", "reason", result.effect] += 1
            else:
                self._counts["events_applied", "effect", result.effect] += 1
            yield result.messages

    async def _check(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[AssessmentEvent]]
    ) -> dict[EnrolmentKey, list[Checked]]:
        """Each event, or why it is refused."""
        events = list(chain.from_iterable(events_by_enrolment.values()))
        checked = await self._check_with_caches(events)
        refused = [index for index, event in enumerate(checked) if isinstance(event, Refused)]
        if refused:
            # A course or a content may have been republished since it was cached.
            again = await self._check_with_caches([events[index] for index in refused], recent=True)
            for index, event in zip(refused, again, strict=True):
                checked[index] = event
        remaining = iter(checked)
        return {enrolment: list(islice(remaining, len(those))) for enrolment, those in events_by_enrolment.items()}

    async def _check_with_caches(self, events: Sequence[AssessmentEvent], recent: bool = False) -> list[Checked]:
        keys = [leaf_nodes_key(event.enrolment.course_id, event.enrolment.course_id) for event in events]
        leaf_nodes = await self._leaf_nodes.get_many(keys, self._relations.sets, recent=recent)
        totals: Mapping[str, TotalQuestions] = {}
        if self._config.skip_missing_records:
            contents = [event.content_id for event in events if event.attempt]
            totals = await self._totals.get_many(contents, self._load_total_questions, recent=recent)

        def check(event: AssessmentEvent, key: str) -> AssessmentEvent:
            rules.check_content(event, usable(leaf_nodes[key]))
            if event.attempt:
                # A recompute request needs nothing of its content, for which an attempt of the batch may have asked.
                rules.check_number_of_questions(event, usable(totals.get(event.content_id)))
            return event

        return [value_or_refused(partial(check, event, key)) for event, key in zip(events, keys, strict=True)]

    async def _load_total_questions(self, content_ids: Sequence[str]) -> Mapping[str, TotalQuestions]:
        """From the content cache, else from the content read API."""
        cached = await self._contents.structs(content_ids, CONTENT_METADATA)
        totals: dict[str, TotalQuestions] = {
            content_id: answers.cached_total_questions(cached[content_id]) for content_id in content_ids
        }
        unknown = [content_id for content_id, total in totals.items() if total is None]
        asked = [awaited_or_refused(self._ask_total_questions(content_id)) for content_id in unknown]
        totals.update(zip(unknown, await gather_all(asked), strict=True))
        return totals

    async def _ask_total_questions(self, content_id: str) -> float | None:
        return answers.total_questions(content_id, await self._content_api.get(content_id))

    async def _decide(
        self, checked: Mapping[EnrolmentKey, Sequence[Checked]], now_ms: int
    ) -> dict[EnrolmentKey, Decision]:
        """A decision for every enrolment with an event that is not refused."""
        events_by_enrolment = {
            enrolment: accepted
            for enrolment, events in checked.items()
            if (accepted := [event for event in events if not isinstance(event, Refused)])
        }
        recomputed = [
            enrolment for enrolment, events in events_by_enrolment.items() if rules.needs_aggregate_keys(events)
        ]
        of_large = await self._read_large(
            {
                enrolment: rules.submitted_keys(events)
                for enrolment, events in events_by_enrolment.items()
                if enrolment in self._large and enrolment not in recomputed
            }
        )
        others = [enrolment for enrolment in events_by_enrolment if enrolment not in of_large]
        attempts = dict(zip(others, await self._store.attempts(others), strict=True))
        for enrolment, of_enrolment in attempts.items():
            self._large.note(enrolment, of_enrolment)
        aggregate_keys = await self._store.aggregate_keys(recomputed)
        decisions = {}
        for enrolment, events in events_by_enrolment.items():
            stored, unread = of_large.get(enrolment) or (attempts[enrolment], None)
            keys = aggregate_keys.get(enrolment, ())
            decisions[enrolment] = rules.decide(stored, events, keys, self._settings, now_ms, unread)
        return decisions

    async def _read_large(
        self, keys: Mapping[EnrolmentKey, Collection[AttemptKey]]
    ) -> dict[EnrolmentKey, tuple[Sequence[Attempt], Unread]]:
        """These attempts, and what is known of all others, of the enrolments whose row tells it."""
        if not keys:
            return {}
        found = await self._store.in_part(keys)
        of_large: dict[EnrolmentKey, tuple[Sequence[Attempt], Unread]] = {
            enrolment: (part.attempts, unread)
            for (enrolment, attempt_keys), part in zip(keys.items(), found, strict=True)
            if (unread := unread_attempts(part.aggregates, part.agg_details, attempt_keys)) is not None
        }
        self._counts["cache_hits", "cache", "agg_details"] += len(of_large)
        self._counts["cache_misses", "cache", "agg_details"] += len(keys) - len(of_large)
        return of_large
