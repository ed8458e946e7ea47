"""What the reports read: Cassandra in pages, Redis, the content search. Writes nothing.

Enrolments are read a page at a time, and what belongs to their learners by key: attempts and aggregates of other users
are never read, and never more than one page is in memory.
"""

import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from common.domain.events import Refused
from common.domain.faults import TaskFault
from common.domain.relations import optional_nodes_key
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, Statement
from common.servers.concurrency import gather_all
from common.servers.http import ApiClient
from common.servers.redis import RedisClient
from reports import model
from reports.config import ReportsConfig
from reports.model import Batch, EnrolmentRow, Learner, ReportError
from reports.response import AttemptRow

Item = TypeVar("Item")

_logger = logging.getLogger(__name__)

_STATUSES = ("Live", "Unlisted", "Retired")
_RETIRED = "Retired"
_SEARCH_PAGE = 100
"""Ids of one search, so that its query and its answer stay small."""
_NOT_MINE = (401, 403, 404)
"""A search is answered so where the URL or the permission is wrong, whatever was asked."""


class Store:
    """Everything that reports are made from; from :func:`open_store`."""

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

    async def batches(self, batch_ids: Collection[str]) -> dict[str, Batch]:
        """Those that exist, by id. The id alone is not the table's key, so the whole table is read once for all ids."""
        if not (wanted := set(batch_ids)):
            return {}
        statement = await self._prepare(f"{self._batches} WHERE token(courseid) > ? AND token(courseid) <= ?")
        found: dict[str, Batch] = {}
        async for rows in self._cassandra.scan(statement, (), self._config.scan_ranges, self._config.page_size):
            found |= {row[1]: Batch(*row) for row in rows if row[1] in wanted}
        return found

    async def batches_of(self, course_id: str) -> list[Batch]:
        """All batches of a course."""
        return [Batch(*row) for row in await self._rows(f"{self._batches} WHERE courseid = ?", course_id)]

    async def collections(self, course_ids: Collection[str]) -> dict[str, model.Collection]:
        """The courses that the search knows and that are not retired, by id. Raises as :meth:`search`."""
        found = {}
        for ids in chunks(sorted(set(course_ids)), _SEARCH_PAGE):
            filters = {"identifier": ids, "status": _STATUSES}
            found.update(await self._collections({"filters": filters, "limit": len(ids)}))
        return found

    async def search(self, request: Mapping[str, Any]) -> dict[str, model.Collection]:
        """The courses that a request of the content search finds, without the retired ones, by id.

        Raises ReportError if the search refuses the request, WorldFault and TaskFault.
        """
        return await self._collections(request)

    async def titles(self, content_ids: Collection[str]) -> dict[str, str]:
        """The names of contents by id, without those that the search does not know."""
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

    async def enrolments(self, batches: Collection[Batch]) -> AsyncIterator[list[EnrolmentRow]]:
        """All rows of the batches a page at a time, also those that no report shows.

        ``user_enrolments`` is read once for all batches, whose rows are mixed in the pages.
        """
        table = f"{self._config.cassandra.keyspace}.{self._config.enrolments_table}"
        select = (
            "SELECT userid, courseid, batchid, active, enrolled_date, enrolleddate, completedon, contentstatus, "
            f"certificates, issued_certificates FROM {table} WHERE"
        )
        keys = {(batch.course_id, batch.batch_id) for batch in batches}
        if self._config.enrolments_table == "report_user_enrolments":
            by_batch = await self._prepare(f"{select} courseid = ? AND batchid = ?")
            for key in sorted(keys):
                async for rows in self._cassandra.pages(by_batch, key, self._config.page_size):
                    yield [self._enrolment(row) for row in rows]
            return
        statement = await self._prepare(
            f"{select} courseid IN ? AND batchid IN ? AND token(userid) > ? AND token(userid) <= ? ALLOW FILTERING"
        )
        ids = [sorted({key[0] for key in keys}), sorted({key[1] for key in keys})]
        async for rows in self._cassandra.scan(statement, ids, self._config.scan_ranges, self._config.page_size):
            # A batch id in a row of another course of the same scan.
            yield [self._enrolment(row) for row in rows if row[1:3] in keys]

    async def learners(self, user_ids: Sequence[str]) -> dict[str, Learner]:
        """The hashes of the users by id, without users who have none that can be read."""
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

    async def attempts(self, batch: Batch, user_ids: Sequence[str]) -> list[list[AttemptRow]]:
        """The submitted attempts of each user, in order of content and attempt."""
        # As JSON, so that questions are decoded only when their rows are written.
        statement = await self._prepare(
            "SELECT content_id, attempt_id, last_attempted_on, total_score, toJson(question) "
            f"FROM {self._config.cassandra.keyspace}.assessment_aggregator "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )

        async def of(user_id: str) -> list[AttemptRow]:
            pages = self._cassandra.pages(statement, (user_id, batch.course_id, batch.batch_id), self._config.page_size)
            attempts = [self._attempt(row) async for rows in pages for row in rows]
            return [attempt for attempt in attempts if attempt.is_submitted]

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
        if answer.status in _NOT_MINE:
            raise TaskFault(f"the content search refuses the reports: status {answer.status}")
        if not answer.is_success:
            raise ReportError(
                f"The content search answered with status {answer.status}: {answer.at('params', 'errmsg')}"
            )
        return answer.at("result", "content") or []

    def _enrolment(self, row: Row) -> EnrolmentRow:
        user_id, course_id, batch_id, active, enrolled_date_ms, enrolleddate, completedon_ms, *rest = row
        return EnrolmentRow(
            user_id,
            course_id,
            batch_id,
            active,
            self._time("enrolled_date", enrolled_date_ms, user_id),
            enrolleddate,
            self._time("completedon", completedon_ms, user_id),
            *rest,
        )

    def _attempt(self, row: Row) -> AttemptRow:
        content_id, attempt_id, last_attempted_on_ms, *rest = row
        return AttemptRow(
            content_id, attempt_id, self._time("last_attempted_on", last_attempted_on_ms, attempt_id), *rest
        )

    def _time(self, column: str, time_ms: int | None, of: str) -> datetime | None:
        moment = self._cassandra.to_datetime(column, time_ms)
        if moment is None and time_ms is not None:
            _logger.warning("%s of %s is left out, it is no time in ms: %d", column, of, time_ms)
        return moment

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
