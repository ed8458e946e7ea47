"""What the reports read: Cassandra in pages, Redis, the content search. Writes nothing.

A batch is read a page of learners at a time, and what belongs to those learners by their keys: attempts and
aggregates of other users are never looked at, and never more than one page is in memory.
"""

import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from common.domain.events import Refused
from common.domain.relations import optional_nodes_key
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, Statement, token_ranges
from common.servers.concurrency import gather_all
from common.servers.http import ApiClient
from common.servers.redis import RedisClient
from reports import model
from reports.config import ReportsConfig
from reports.model import Batch, Enrolment, Learner, ReportError
from reports.response import Attempt

Item = TypeVar("Item")

_logger = logging.getLogger(__name__)

_STATUSES = ("Live", "Unlisted", "Retired")
_RETIRED = "Retired"
_SEARCH_PAGE = 100
"""Ids of one search: its answer and its query stay small."""


class Store:
    """All sources of a report; from :func:`open_store`."""

    def __init__(self, config: ReportsConfig) -> None:
        """Connects to nothing yet. To be called inside the event loop."""
        self._config = config
        self._cassandra = Cassandra(config.cassandra, Metrics())
        self._users = RedisClient(config.redis, config.redis.user_database)
        self._relations = RedisClient(config.redis, config.redis.relation_database)
        self._search = ApiClient("search", f"{config.content_base_url}/v3/search", config.http, Metrics())
        self._statements: dict[str, Statement] = {}

    async def open(self) -> None:
        """Connects. Raises WorldFault or TaskFault; :meth:`close` is to be called then, too."""
        await self._cassandra.open()
        await self._users.open()
        await self._relations.open()

    async def close(self) -> None:
        """Closes all connections."""
        await self._search.close()
        await self._relations.close()
        await self._users.close()
        await self._cassandra.close()

    async def batch(self, batch_id: str) -> Batch | None:
        """By its id alone, which is not the table's key: a small table is read as a whole."""
        rows = await self._rows(f"{self._batches} WHERE batchid = ? ALLOW FILTERING", batch_id)
        return Batch(*rows[0]) if rows else None

    async def batches_of(self, course_id: str) -> list[Batch]:
        """All batches of a course."""
        return [Batch(*row) for row in await self._rows(f"{self._batches} WHERE courseid = ?", course_id)]

    async def collections(self, course_ids: Collection[str]) -> dict[str, model.Collection]:
        """The courses that the search knows and that are not retired, by id."""
        found = {}
        for ids in chunks(sorted(set(course_ids)), _SEARCH_PAGE):
            filters = {"identifier": ids, "status": _STATUSES}
            found.update(await self._collections({"filters": filters, "limit": len(ids)}))
        return found

    async def search(self, request: Mapping[str, Any]) -> dict[str, model.Collection]:
        """The courses that a request of the content search finds, without the retired ones, by id."""
        return await self._collections(request)

    async def titles(self, content_ids: Collection[str]) -> dict[str, str]:
        """The names of contents by id; one that the search does not know is left out."""
        found = {}
        for ids in chunks(sorted(content_ids), _SEARCH_PAGE):
            filters = {"identifier": ids, "status": _STATUSES}
            for content in await self._contents({"filters": filters, "fields": ["name"], "limit": len(ids)}):
                found[content["identifier"]] = content.get("name") or ""
        return found

    async def hierarchy(self, course_id: str) -> str:
        """The JSON text of a course's tree. Raises ReportError if there is none."""
        table = f"{self._config.hierarchy_keyspace}.content_hierarchy"
        rows = await self._rows(f"SELECT hierarchy FROM {table} WHERE identifier = ?", course_id)
        if not rows or not rows[0][0]:
            raise ReportError(f"No hierarchy found for the collection {course_id}")
        return str(rows[0][0])

    async def optional_contents(self, course_id: str) -> frozenset[str]:
        """Contents that do not count for a course's progress. Raises ReportError if the key holds no set."""
        key = optional_nodes_key(course_id, course_id)
        contents = (await self._relations.sets([key]))[key]
        if isinstance(contents, Refused):
            raise ReportError(contents.reason)
        return contents

    async def enrolments(self, batch: Batch) -> AsyncIterator[list[Enrolment]]:
        """All rows of the batch, also those that no report shows, a page at a time."""
        table = f"{self._config.cassandra.keyspace}.{self._config.enrolments_table}"
        select = (
            "SELECT userid, active, enrolled_date, enrolleddate, completedon, contentstatus, certificates, "
            f"issued_certificates FROM {table} WHERE courseid = ? AND batchid = ?"
        )
        if self._config.enrolments_table == "report_user_enrolments":
            queries: list[tuple[str, tuple[Any, ...]]] = [(select, (batch.course_id, batch.batch_id))]
        else:
            # By ranges, so that no single query has to read the whole table until it finds a page of rows.
            by_range = f"{select} AND token(userid) > ? AND token(userid) <= ? ALLOW FILTERING"
            ranges = token_ranges(self._config.scan_ranges)
            queries = [(by_range, (batch.course_id, batch.batch_id, *bounds)) for bounds in ranges]
        for text, parameters in queries:
            async for rows in self._pages(text, parameters):
                yield [self._enrolment(row) for row in rows]

    async def learners(self, user_ids: Sequence[str]) -> dict[str, Learner]:
        """The hashes of the users by id; users without one that can be read are left out."""
        hashes = await self._users.hashes([f"user:{user_id}" for user_id in user_ids])
        found: dict[str, Learner] = {}
        for user_id in user_ids:
            learner = hashes[f"user:{user_id}"]
            if isinstance(learner, Refused):
                _logger.warning("a learner is not in the report: %s", learner.reason)
            elif learner:
                found[user_id] = learner
        return found

    async def aggregates(self, batch: Batch, user_ids: Sequence[str]) -> list[dict[str, float]]:
        """The merged aggregates of each user, empty where there is no row."""
        statement = await self._prepare(
            f"SELECT agg, aggregates FROM {self._config.cassandra.keyspace}.user_activity_agg "
            "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
        )
        context = context_id(batch.batch_id)
        found = await self._cassandra.read(
            statement, [(ACTIVITY_TYPE, batch.course_id, user_id, context) for user_id in user_ids]
        )
        return [merge(*rows[0]) if rows else {} for rows in found]

    async def attempts(self, batch: Batch, user_ids: Sequence[str]) -> list[list[Attempt]]:
        """The attempts of each user, in order of content and attempt."""
        # As JSON, so that questions are decoded only when their rows are written.
        text = (
            "SELECT content_id, attempt_id, last_attempted_on, toJson(question) "
            f"FROM {self._config.cassandra.keyspace}.assessment_aggregator "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )

        async def of(user_id: str) -> list[Attempt]:
            pages = self._pages(text, (user_id, batch.course_id, batch.batch_id))
            return [self._attempt(row) async for rows in pages for row in rows]

        return await gather_all(map(of, user_ids))

    @property
    def _batches(self) -> str:
        return f"SELECT courseid, batchid, name FROM {self._config.cassandra.keyspace}.course_batch"

    async def _collections(self, request: Mapping[str, Any]) -> dict[str, model.Collection]:
        fields = ["identifier", "name", "channel", "status"]
        return {
            course["identifier"]: model.Collection(
                course["identifier"], course.get("name") or "", course.get("channel") or ""
            )
            for course in await self._contents({**request, "fields": fields})
            if course.get("status") != _RETIRED
        }

    async def _contents(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await self._search.post({"request": request})
        if not answer.is_success:
            raise ReportError(
                f"The content search answered with status {answer.status}: {answer.at('params', 'errmsg')}"
            )
        return answer.at("result", "content") or []

    def _enrolment(self, row: Row) -> Enrolment:
        user_id, active, enrolled_date_ms, enrolleddate, completedon_ms, *rest = row
        enrolled_date = self._time("enrolled_date", enrolled_date_ms, user_id)
        return Enrolment(
            user_id, active, enrolled_date, enrolleddate, self._time("completedon", completedon_ms, user_id), *rest
        )

    def _attempt(self, row: Row) -> Attempt:
        content_id, attempt_id, last_attempted_on_ms, questions = row
        last_attempted_on = self._time("last_attempted_on", last_attempted_on_ms, attempt_id)
        return Attempt(content_id, attempt_id, last_attempted_on, questions)

    def _time(self, column: str, time_ms: int | None, of: str) -> datetime | None:
        moment = self._cassandra.to_datetime(column, time_ms)
        if moment is None and time_ms is not None:
            _logger.warning("%s of %s is left out, it is no time in ms: %d", column, of, time_ms)
        return moment

    async def _pages(self, text: str, parameters: Sequence[Any]) -> AsyncIterator[list[Row]]:
        async for rows in self._cassandra.pages(await self._prepare(text), parameters, self._config.page_size):
            yield rows

    async def _rows(self, statement: str, *parameters: Any) -> list[Row]:
        (rows,) = await self._cassandra.read(await self._prepare(statement), [parameters])
        return rows

    async def _prepare(self, statement: str) -> Statement:
        if statement not in self._statements:
            self._statements[statement] = await self._cassandra.prepare(statement)
        return self._statements[statement]


@asynccontextmanager
async def open_store(config: ReportsConfig) -> AsyncIterator[Store]:
    """Connects, and closes at the end. Raises WorldFault and TaskFault."""
    store = Store(config)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in parts of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
