"""What each operation does: checks the request, asks the servers, shapes the answer. Errors are ApiError or faults."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from common.domain import messages
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.domain.messages import Message
from common.domain.relations import leaf_nodes_key
from services import assessment, assessment_scores, content_state, group_activity
from services.assessment import AcceptedAssessment, Assessment, RefusedAssessment
from services.config import ServicesConfig
from services.envelope import CourseEnvelope, course_request, decode_body, message_ids, server_error
from services.metrics import RequestMetrics
from services.servers import Servers
from services.tokens import Identity

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request. On private routes ``identity`` is None; ``user_token`` is the header as it came."""

    path: str
    body: bytes
    identity: Identity | None
    user_token: str

    @property
    def user(self) -> Identity:
        """The identity, on a route that needs a token."""
        assert self.identity is not None
        return self.identity


Handler = Callable[[Call], Awaitable[Any]]


class Handlers:
    """The handlers of all operations. Each returns the ``result`` of its answer."""

    def __init__(self, config: ServicesConfig, servers: Servers, metrics: RequestMetrics) -> None:
        """Connects to nothing: ``servers`` are open."""
        self._config = config
        self._servers = servers
        self._metrics = metrics
        self._time_zone = ZoneInfo(config.time_zone)
        self._course_envelope = CourseEnvelope(self._time_zone)

    def by_operation(self) -> dict[str, Handler]:
        """The handler of each operation, by its name."""
        return {
            "content_state": self._content_state,
            "private_content_state": self._content_state,
            "group_activity": self._group_activity,
            "submit": self._submit,
            "save": self._save,
            "read": self._read,
        }

    async def _content_state(self, call: Call) -> Any:
        user_id = call.identity.user_id if call.identity else None
        query = content_state.parse(course_request(call.body), user_id)
        rows, attempts, aggregates = await self._servers.store.content_states(query)
        return content_state.shape(
            rows, attempts, aggregates, query.with_score, self._config.assessment_attempts_limit, self._time_zone
        )

    async def _group_activity(self, call: Call) -> Any:
        query = group_activity.parse(course_request(call.body))
        user_ids = [user_id for user_id in call.user if user_id]
        if self._config.group_activity_agg_cache_enable:
            cached = await self._cached_group(query.cache_key)
            if cached and group_activity.usable(cached, query, user_ids):
                return cached
        members = group_activity.members_by_id(
            await self._servers.group_service.members(query.group_id, call.user_token)
        )
        group_activity.check_member(members, user_ids)
        try:
            rows = await self._servers.store.group(query.activity_id, members)
        except (WorldFault, TaskFault) as error:
            raise server_error("ERR_CALLING_GROUOP_API", "Error while calling group api.") from error
        answer = group_activity.shape(query, members, rows, now_ms())
        if not answer.members:
            return answer
        encoded = msgspec.Raw(msgspec.json.encode(answer))
        await self._cache_group(query.cache_key, call.path, encoded)
        return encoded

    async def _cached_group(self, key: str) -> group_activity.GroupActivity | None:
        try:
            cached = (await self._servers.group_cache.structs([key], group_activity.CACHED_ANSWER))[key]
        except (WorldFault, TaskFault) as error:
            # Without the cache answers are slower, not wrong.
            self._cache_failed(error)
            return None
        return None if cached is None or isinstance(cached, Refused) else cached.result

    async def _cache_group(self, key: str, path: str, answer: msgspec.Raw) -> None:
        body, _ = self._course_envelope.success(path, message_ids(None), now_ms(), answer)
        try:
            await self._servers.group_cache.put(key, body, self._config.group_activity_agg_cache_ttl)
        except (WorldFault, TaskFault) as error:
            self._cache_failed(error)

    def _cache_failed(self, error: Exception) -> None:
        self._metrics.cache_failures.inc()
        _LOG.warning("the cache of groups cannot be used: %s", error)

    async def _submit(self, call: Call) -> Any:
        checked = await self._checked_assessments(call)
        accepted = {index: one for index, one in enumerate(checked) if isinstance(one, AcceptedAssessment)}
        topic = self._config.kafka.topic(self._config.assess_topic)
        await self._servers.publisher.publish(
            [
                *(Message(topic, one.message, one.user_id.encode()) for one in accepted.values()),
                *self._failed(checked),
            ]
        )
        return assessment.results(checked, dict.fromkeys(accepted, assessment.CAPTURED))

    async def _save(self, call: Call) -> Any:
        checked = await self._checked_assessments(call)
        drafts = {index: one for index, one in enumerate(checked) if isinstance(one, AcceptedAssessment)}
        are_saved = await self._servers.store.save_drafts(list(drafts.values()), now_ms())
        # A refused draft is only answered: on the failed topic it would look like a submission, and a replay counts it.
        saved = [index for index, is_saved in zip(drafts, are_saved, strict=True) if is_saved]
        return assessment.results(checked, dict.fromkeys(saved, assessment.SAVED))

    async def _checked_assessments(self, call: Call) -> list[Assessment]:
        """The assessments of a request; those whose content is not in its collection are refused."""
        limit = self._config.server.max_assessments_per_request
        parsed = assessment.parse(decode_body(call.body), call.user.user_id, now_ms(), limit)
        keys = {_leaf_nodes_key(one) for one in parsed if isinstance(one, AcceptedAssessment)}
        leaf_nodes = await self._servers.relations.sets(keys) if keys else {}
        return [
            assessment.check_content(one, leaf_nodes[_leaf_nodes_key(one)])
            if isinstance(one, AcceptedAssessment)
            else one
            for one in parsed
        ]

    def _failed(self, checked: Sequence[Assessment]) -> list[Message]:
        """The failed-topic messages of what was refused.

        They have the envelope of the jobs: members that a client put there to look like one do not survive it.
        """
        topic = self._config.kafka.topic(self._config.failed_topic)
        return [
            messages.failed(topic, messages.ASSESSMENT_API, one.message, one.refusal.reason, one.user_id)
            for one in checked
            if isinstance(one, RefusedAssessment)
        ]

    async def _read(self, call: Call) -> Any:
        query = assessment_scores.parse(decode_body(call.body), call.user.user_id)
        aggregates = await self._servers.store.aggregates(query.user_id, query.collection_id, query.context_id)
        return assessment_scores.shape(query, aggregates)


def _leaf_nodes_key(accepted: AcceptedAssessment) -> str:
    course_id = accepted.event.enrolment.course_id
    return leaf_nodes_key(course_id, course_id)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
