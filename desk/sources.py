"""Reads Redis and Sunbird's APIs for the desk, by the same clients and answers as the jobs.

A server that does not answer makes a part of the record :class:`Unknown`; the rest is still worth showing.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from common.domain.events import Refused, Skip, value_or_refused
from common.domain.faults import TaskFault, WorldFault
from common.domain.relations import ancestors_key, leaf_nodes_key, optional_nodes_key
from common.metrics import Metrics
from common.servers.concurrency import gather_all
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.redis import RedisClient
from desk.config import DeskConfig
from desk.records import Course, Unknown
from jobs.activity_aggregate_updater import relations
from jobs.activity_aggregate_updater.relations import CourseStatus, LeafNodes
from jobs.collection_cert_pre_processor import answers
from jobs.collection_cert_pre_processor.answers import CONTENT_METADATA, ContentMetadata, User

Found = TypeVar("Found")

MAX_ASKED_NAMES = 50
"""Contents without a name in the cache that the content read API is asked about for one look-up."""

MAX_ASKED_OTHERS = 5
"""Other users that the user API is asked for, to see whether it answers at all."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known about contents: names, without those that have none, and types of the contents with a score."""

    names: Mapping[str, str]
    types: Mapping[str, str | Refused | None] | Unknown


@dataclass(frozen=True, slots=True)
class KnownContents:
    """What is known about contents, with a type of each that was asked for."""

    names: Mapping[str, str]
    types: Mapping[str, str | Refused | None]


class Sources:
    """The caches and the APIs. Created, used and closed in one event loop."""

    def __init__(self, config: DeskConfig, metrics: Metrics) -> None:
        """Connects with the first read."""
        redis = config.redis
        self._relations = RedisClient(redis, redis.relation_database)
        self._contents = RedisClient(redis, redis.content_database)
        self._collections = RedisClient(redis, redis.collection_database)
        base = config.learner_base_url
        self._user_api = ApiClient("user_read", f"{base}/private/user/v1/read/", config.http, metrics)
        self._content_api = ApiClient(
            "content_read", f"{config.content_base_url}/content/v3/read/", config.http, metrics
        )
        self._search_api = ApiClient("search", config.search_api, config.http, metrics)

    async def close(self) -> None:
        """Closes all connections."""
        for client in (
            self._relations,
            self._contents,
            self._collections,
            self._user_api,
            self._content_api,
            self._search_api,
        ):
            await client.close()

    async def course(self, course_id: str) -> Course:
        """The course: its name, its leaf nodes and, only if it has none, its status."""
        name, nodes = await gather_all((self.course_name(course_id), _or_unknown(lambda: self.leaf_nodes(course_id))))
        assert not isinstance(name, LeafNodes)
        assert not isinstance(nodes, str)
        status = None if nodes is not None else await _or_unknown(lambda: self._status(course_id))
        return Course(course_id, name if name is not None else course_id, nodes, status)

    async def course_name(self, course_id: str) -> str | Refused | Unknown:
        """The name of a course, as a certificate has it."""
        return await _or_unknown(lambda: self._course_name(course_id))

    async def course_names(self, course_ids: Sequence[str]) -> dict[str, str | Refused]:
        """The names by course. One is Refused if the API fails for this course alone; else raises WorldFault."""
        found = dict(zip(course_ids, await gather_all(map(self.course_name, course_ids)), strict=True))
        failed = [course_id for course_id, name in found.items() if isinstance(name, Unknown)]
        if failed:
            _require_answer(await self.course_name(UNKNOWN_ID))
            # Once more: it may have been a fault of the moment.
            found.update(zip(failed, await gather_all(map(self.course_name, failed)), strict=True))
        return {
            course_id: Refused("content_api", name.reason) if isinstance(name, Unknown) else name
            for course_id, name in found.items()
        }

    async def leaf_nodes(self, course_id: str, collection_id: str | None = None) -> LeafNodes | Refused | None:
        """Rule U2: the leaf nodes of a course, or of a unit of it; None if the cache has none."""
        keys = (
            leaf_nodes_key(course_id, collection_id or course_id),
            optional_nodes_key(course_id, collection_id or course_id),
        )
        sets = await self._relations.sets(keys)
        all_nodes, optional_nodes = (sets[key] for key in keys)
        if isinstance(all_nodes, Refused):
            return all_nodes
        if isinstance(optional_nodes, Refused):
            return optional_nodes
        return relations.leaf_nodes(all_nodes, optional_nodes)

    async def ancestors(self, course_id: str, content_ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """The collections above each content, without contents whose set cannot be used."""
        keys = {content_id: ancestors_key(course_id, content_id) for content_id in content_ids}
        sets = await self._relations.sets(list(keys.values()))
        found = {content_id: sets[key] for content_id, key in keys.items()}
        return {content_id: above for content_id, above in found.items() if not isinstance(above, Refused)}

    async def user(self, user_id: str) -> User | Skip | Refused | Unknown:
        """Rule C5: the user, or the skip of a blocked account."""

        async def ask() -> User | Skip | Refused:
            answer = await self._user_api.get(user_id, answers.USER_FIELDS)
            return value_or_refused(lambda: answers.user(user_id, answer))

        return await _or_unknown(ask)

    async def users(self, user_ids: Sequence[str], others: Sequence[str] = ()) -> list[User | Skip | Refused | Unknown]:
        """The users, in this order. One is Unknown if the API fails for this user alone; else raises WorldFault.

        Alone: somebody of these or of ``others`` is answered. A user that does not exist is answered, too, while what
        the API needs for those that do is down, so that would prove nothing.
        """
        found = await gather_all(self.user(user_id) for user_id in user_ids)
        failed = [index for index, user in enumerate(found) if isinstance(user, Unknown)]
        # Once more: it may have been a fault of the moment.
        for index, user in zip(failed, await gather_all(self.user(user_ids[index]) for index in failed), strict=True):
            found[index] = user
        unknown = next((user for user in found if isinstance(user, Unknown)), None)
        if unknown is not None and not any(isinstance(user, Mapping) for user in found):
            asked = await gather_all(self.user(user_id) for user_id in others[:MAX_ASKED_OTHERS])
            if not any(isinstance(user, Mapping) for user in asked):
                raise WorldFault(unknown.reason)
        return found

    async def known_contents(self, named: Collection[str], typed: Sequence[str]) -> KnownContents:
        """As :meth:`contents`. A type is Refused if the API fails for this content alone; else raises WorldFault.

        So one content for which the API always fails does not stop what asks for many.
        """
        found = await self.contents(named, typed)
        if not isinstance(found.types, Unknown):
            return KnownContents(found.names, found.types)
        _require_answer((await self.contents((), [UNKNOWN_ID])).types)
        each = await gather_all(self.contents((), [content_id]) for content_id in typed)
        types: dict[str, str | Refused | None] = {}
        for content_id, alone in zip(typed, each, strict=True):
            if isinstance(alone.types, Unknown):
                types[content_id] = Refused("content_api", alone.types.reason)
            else:
                types |= alone.types
        return KnownContents(found.names, types)

    async def contents(self, named: Collection[str], typed: Sequence[str]) -> Contents:
        """The names of some contents and the types of others, from the content cache, else from the content read API.

        The API is asked for every type that the cache lacks, and for some of the names.
        """
        ids = list(dict.fromkeys((*typed, *named)))
        try:
            cached = await self._contents.structs(ids, CONTENT_METADATA)
        except (WorldFault, TaskFault) as fault:
            return Contents({}, Unknown(str(fault)))
        names = {content_id: name for content_id in ids if (name := answers.cached_course_name(cached[content_id]))}
        types = {content_id: answers.cached_content_type(cached[content_id]) for content_id in typed}
        nameless = [content_id for content_id in named if content_id not in names][:MAX_ASKED_NAMES]
        to_ask = dict.fromkeys((*(content_id for content_id, found in types.items() if found is None), *nameless))
        return await self._asked(names, types, list(to_ask))

    async def _asked(
        self, names: Mapping[str, str], types: Mapping[str, str | None], to_ask: Sequence[str]
    ) -> Contents:
        """With what the content read API says about the contents that it is to be asked for."""
        all_names, all_types = dict(names), dict[str, str | Refused | None](types)
        found = await gather_all(_or_unknown(partial(self._ask, content_id)) for content_id in to_ask)
        unknown: Unknown | None = None
        for content_id, asked in zip(to_ask, found, strict=True):
            lacks_type = content_id in types and types[content_id] is None
            if isinstance(asked, Unknown):
                unknown = asked if lacks_type else unknown
                continue
            if asked.name is not None:
                all_names.setdefault(content_id, asked.name)
            # The job takes the type from the cache if it is there, whatever the API says.
            if lacks_type:
                all_types[content_id] = asked.content_type
        return Contents(all_names, unknown or all_types)

    async def _ask(self, content_id: str) -> "_Asked":
        answer = await self._content_api.get(content_id)
        name = value_or_refused(lambda: answers.course_name(content_id, answer))
        content_type = value_or_refused(lambda: answers.content_type(content_id, answer))
        return _Asked(None if isinstance(name, Refused) else name, content_type)

    async def _course_name(self, course_id: str) -> str | Refused:
        """Rule C6."""
        cached = (await self._collections.structs([course_id], CONTENT_METADATA))[course_id]
        if isinstance(cached, ContentMetadata) and (name := answers.cached_course_name(cached)) is not None:
            return name
        answer = await self._content_api.get(course_id, "?fields=name")
        return value_or_refused(lambda: answers.course_name(course_id, answer))

    async def _status(self, course_id: str) -> CourseStatus | Refused:
        answer = await self._search_api.post(relations.search_request(course_id))
        return relations.course_status(course_id, answer)


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str | None
    content_type: str | Refused | None


def _require_answer(found: object) -> None:
    """Raises WorldFault if not even this question, which any healthy server answers, was answered."""
    if isinstance(found, Unknown):
        raise WorldFault(found.reason)


async def _or_unknown(read: Callable[[], Awaitable[Found]]) -> Found | Unknown:
    """What ``read`` returns, or why it could not be read."""
    try:
        return await read()
    except (WorldFault, TaskFault) as fault:
        return Unknown(str(fault))
