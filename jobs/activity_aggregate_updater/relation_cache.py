"""What the activity aggregate updater knows about courses, from Redis, the search API and its own memory."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, awaited_or_refused, usable, value_or_refused
from common.domain.relations import ancestors_key, leaf_nodes_key, optional_nodes_key
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.concurrency import gather_all
from common.servers.http import ApiClient
from common.servers.redis import RedisClient
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.events import LearnerEvent
from jobs.activity_aggregate_updater.relations import (
    CourseStatus,
    LeafNodes,
    Relations,
    course_status,
    leaf_nodes,
    no_leaf_nodes,
    search_request,
    units_of,
)


class Node(NamedTuple):
    """A content or a collection in a course. The course is a collection of itself."""

    course_id: str
    node_id: str


class RelationCache:
    """The relations of courses in the form that the rules need. Its methods raise WorldFault and TaskFault."""

    def __init__(
        self, redis: RedisClient, search_api: ApiClient, config: ActivityAggregateUpdaterConfig, metrics: Metrics
    ) -> None:
        self._redis = redis
        self._search_api = search_api
        self._leaf_nodes = TimedCache[Node, LeafNodes | Refused | None]("leaf_nodes", config.relation_cache, metrics)
        self._ancestors = TimedCache[Node, frozenset[str] | Refused]("ancestors", config.relation_cache, metrics)
        self._statuses = TimedCache[str, CourseStatus | Refused]("course_status", config.search_cache, metrics)

    async def courses(self, events: Iterable[LearnerEvent]) -> dict[str, LeafNodes | Refused]:
        """Rule U2: the leaf nodes of each event's course, or why the events of that course are refused."""
        contents = defaultdict[Node, set[str]](set)
        for event in events:
            course_id = event.enrolment.course_id
            contents[Node(course_id, course_id)].update(event.content_ids)
        found = await self._leaf_nodes_with(contents)
        empty = [course.course_id for course, nodes in found.items() if nodes is None]
        statuses = await self._statuses.get_many(empty, self._search)
        courses: dict[str, LeafNodes | Refused] = {}
        for (course_id, _), nodes in found.items():
            courses[course_id] = nodes or _why_no_leaf_nodes(course_id, statuses[course_id])
        return courses

    async def relations(
        self, contents: Mapping[EnrolmentKey, Collection[str]], courses: Mapping[EnrolmentKey, LeafNodes]
    ) -> dict[EnrolmentKey, Relations | Refused]:
        """The relations of each enrolment in ``contents``, or why its events are refused.

        ``contents`` are the contents whose units are needed; ``courses`` are the leaf nodes of the enrolments' courses.
        """
        located = (Node(enrolment.course_id, content_id) for enrolment, ids in contents.items() for content_id in ids)
        ancestors = await self._ancestors.get_many(located, self._load_ancestors)
        in_units = defaultdict[Node, set[str]](set)
        for (course_id, content_id), collections in ancestors.items():
            if not isinstance(collections, Refused):
                for unit_id in units_of(course_id, {content_id: collections}):
                    in_units[Node(course_id, unit_id)].add(content_id)
        units = await self._leaf_nodes_with(in_units)
        return {
            enrolment: value_or_refused(
                partial(_relations, enrolment.course_id, courses[enrolment].required, content_ids, ancestors, units)
            )
            for enrolment, content_ids in contents.items()
        }

    async def _leaf_nodes_with(
        self, contents: Mapping[Node, Collection[str]]
    ) -> dict[Node, LeafNodes | Refused | None]:
        """The leaf nodes of collections in which learners have completed these contents.

        A cached collection that lacks one of the contents is loaded again, because it may have been added since.
        """
        found = await self._leaf_nodes.get_many(contents, self._load_leaf_nodes)
        outdated = [
            collection
            for collection, nodes in found.items()
            if isinstance(nodes, LeafNodes) and not nodes.all.issuperset(contents[collection])
        ]
        return found | await self._leaf_nodes.get_many(outdated, self._load_leaf_nodes, recent=True)

    async def _load_leaf_nodes(self, collections: Sequence[Node]) -> dict[Node, LeafNodes | Refused | None]:
        all_keys = [leaf_nodes_key(*collection) for collection in collections]
        optional_keys = [optional_nodes_key(*collection) for collection in collections]
        sets = await self._redis.sets([*all_keys, *optional_keys])
        loaded: dict[Node, LeafNodes | Refused | None] = {}
        for collection, all_key, optional_key in zip(collections, all_keys, optional_keys, strict=True):
            all_nodes, optional_nodes = sets[all_key], sets[optional_key]
            if isinstance(all_nodes, Refused):
                loaded[collection] = all_nodes
            elif isinstance(optional_nodes, Refused):
                loaded[collection] = optional_nodes
            else:
                loaded[collection] = leaf_nodes(all_nodes, optional_nodes)
        return loaded

    async def _load_ancestors(self, contents: Sequence[Node]) -> dict[Node, frozenset[str] | Refused]:
        keys = [ancestors_key(*content) for content in contents]
        sets = await self._redis.sets(keys)
        return {content: sets[key] for content, key in zip(contents, keys, strict=True)}

    async def _search(self, course_ids: Sequence[str]) -> dict[str, CourseStatus | Refused]:
        asked = [awaited_or_refused(self._ask_status(course_id)) for course_id in course_ids]
        return dict(zip(course_ids, await gather_all(asked), strict=True))

    async def _ask_status(self, course_id: str) -> CourseStatus | Refused:
        return course_status(course_id, await self._search_api.post(search_request(course_id)))


def _why_no_leaf_nodes(course_id: str, found: CourseStatus | Refused) -> Refused:
    return found if isinstance(found, Refused) else no_leaf_nodes(course_id, found)


def _relations(
    course_id: str,
    required: frozenset[str],
    content_ids: Collection[str],
    ancestors: Mapping[Node, frozenset[str] | Refused],
    units: Mapping[Node, LeafNodes | Refused | None],
) -> Relations:
    """Raises BadEvent if one of the sets cannot be used."""
    of_contents = {content_id: usable(ancestors[Node(course_id, content_id)]) for content_id in content_ids}
    of_units = {
        unit_id: nodes.required if (nodes := usable(units[Node(course_id, unit_id)])) else None
        for unit_id in units_of(course_id, of_contents)
    }
    return Relations(required, of_contents, of_units)
