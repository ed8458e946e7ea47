"""The relations of many courses for the checks: read from Redis once, and remembered."""

from collections.abc import Collection, Iterable, Mapping

from cachetools import LRUCache

from common.domain.events import BadEvent, Refused, usable
from common.domain.relations import ancestors_key, leaf_nodes_key, optional_nodes_key
from common.servers.redis import RedisClient
from jobs.activity_aggregate_updater import relations
from jobs.activity_aggregate_updater.relations import LeafNodes, Relations

MAX_REMEMBERED = 20_000
"""Sets of the relation cache: some 200 bytes each, or 10 KB for the leaf nodes of a large course."""
_KEYS_OF_A_READ = 1_000

Sets = Mapping[str, frozenset[str] | Refused]
ContentsByCourse = Mapping[str, Collection[str]]
"""The contents of learners, by course id."""


class RelationSets:
    """What the relation cache knows of courses (rule U2), as one scan sees it: a set is read once."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self._remembered: LRUCache[str, frozenset[str] | Refused] = LRUCache(MAX_REMEMBERED)

    async def of(self, contents: ContentsByCourse) -> Sets:
        """All sets that :func:`of_course` and :func:`of_contents` need. Raises WorldFault."""
        courses = [key for course_id in contents for key in _of_collection(course_id, course_id)]
        located = [ancestors_key(course_id, content) for course_id, ids in contents.items() for content in ids]
        sets = await self._read([*courses, *located])
        units = [
            key
            for course_id, ids in contents.items()
            for unit_id in units_of(course_id, ids, sets)
            for key in _of_collection(course_id, unit_id)
        ]
        return sets | await self._read(units)

    async def _read(self, keys: Iterable[str]) -> dict[str, frozenset[str] | Refused]:
        wanted = dict.fromkeys(keys)
        found = {key: self._remembered[key] for key in wanted if key in self._remembered}
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), _KEYS_OF_A_READ):
            found |= await self._redis.sets(missing[start : start + _KEYS_OF_A_READ])
        self._remembered.update({key: found[key] for key in missing})
        return found


def units_of(course_id: str, content_ids: Iterable[str], sets: Sets) -> set[str]:
    """The units that hold any of the contents. A set that cannot be used names none."""
    ancestors = {content_id: sets[ancestors_key(course_id, content_id)] for content_id in content_ids}
    return relations.units_of(
        course_id, {content_id: ids for content_id, ids in ancestors.items() if not isinstance(ids, Refused)}
    )


def of_course(course_id: str, sets: Sets) -> LeafNodes | Refused | None:
    """The leaf nodes of a course; None if the cache has none."""
    return _leaf_nodes(course_id, course_id, sets)


def of_contents(course_id: str, content_ids: Collection[str], sets: Sets) -> Relations | Refused:
    """The relations that a decision about an enrolment with these contents needs, or why there are none."""
    try:
        nodes = usable(of_course(course_id, sets))
        if nodes is None:
            return Refused("course_without_leaf_nodes", f"the relation cache has no leaf nodes of course {course_id}")
        ancestors = {content_id: usable(sets[ancestors_key(course_id, content_id)]) for content_id in content_ids}
        units = {
            unit_id: of_unit.required if (of_unit := usable(_leaf_nodes(course_id, unit_id, sets))) else None
            for unit_id in relations.units_of(course_id, ancestors)
        }
    except BadEvent as bad:
        return Refused(bad.kind, bad.reason)
    return Relations(nodes.required, ancestors, units)


def _leaf_nodes(course_id: str, collection_id: str, sets: Sets) -> LeafNodes | Refused | None:
    all_nodes, optional_nodes = (sets[key] for key in _of_collection(course_id, collection_id))
    if isinstance(all_nodes, Refused):
        return all_nodes
    return optional_nodes if isinstance(optional_nodes, Refused) else relations.leaf_nodes(all_nodes, optional_nodes)


def _of_collection(course_id: str, collection_id: str) -> tuple[str, str]:
    return leaf_nodes_key(course_id, collection_id), optional_nodes_key(course_id, collection_id)
