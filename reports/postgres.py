"""The table of job requests, and the leases of those who work on them.

Whoever processes a request holds a lease: ``lease_owner`` names the run, ``lease_expires`` is the time until which it
has promised to renew the lease. A run that was killed renews nothing, so its requests are free again soon after. What
a run saves it saves only where it is still the owner: a run that was stopped for a long time cannot overwrite the
outcome of the one that took over. The times are those of the database, so that clocks of machines do not matter.
"""

import asyncio
import logging
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from common.domain.faults import TaskFault, WorldFault
from reports.config import RequestsPostgresConfig
from reports.job_requests import OPEN, PROCESSING, SUBMITTED, JobRequest, ProcessedBatch, RequestOutcome

_logger = logging.getLogger(__name__)

_COLUMNS = sql.SQL(
    "tag, request_id, job_id, coalesce(request_data::text, 'null') AS request_text, "
    "coalesce(requested_by, '') AS requested_by, coalesce(requested_channel, '') AS requested_channel, encryption_key, "
    "coalesce(iteration, 0) AS iteration, coalesce(processed_batches::text, '[]') AS processed_batches"
)
_IS_FREE = sql.SQL(
    "(status = ANY(%(open)s) AND coalesce(iteration, 0) < %(max_iterations)s "
    "OR status = %(processing)s AND (lease_expires IS NULL OR lease_expires < now()))"
)
_LEASE_COLUMNS = frozenset({"lease_owner", "lease_expires"})
_BACKOFF_SECONDS = (0.1, 2.0)

_processed = msgspec.json.Decoder(tuple[ProcessedBatch, ...])

Key = tuple[str, str]
"""Tag and id of a request."""


class RequestStatus(NamedTuple):
    """A request as an operator sees it; times are in UTC."""

    job_id: str
    tag: str
    request_id: str
    status: str
    iteration: int
    submitted_at: datetime | None
    completed_at: datetime | None
    batches: int
    """That are finished."""
    lease_owner: str | None
    lease_expires_in_seconds: float | None
    """Below 0 for a lease that has expired. None without a lease."""
    err_message: str | None


class JobRequests:
    """The table as one run sees it; from :func:`open_job_requests`.

    A statement whose connection breaks is repeated on a new one until ``patience_seconds`` are over, so every statement
    here can be repeated. Every method raises WorldFault after that, and TaskFault if the server refuses the statement.
    """

    def __init__(
        self, pool: "AsyncConnectionPool[psycopg.AsyncConnection[DictRow]]", config: RequestsPostgresConfig
    ) -> None:
        """``pool`` is open."""
        self._pool = pool
        self._config = config
        self._table = sql.Identifier(config.table)
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        """The name of this run in ``lease_owner``."""

    async def check_table(self) -> None:
        """Raises TaskFault if the table or a column is missing, and says how to add it."""
        rows, _ = await self._execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = ANY(current_schemas(false)) "
            "AND table_name = %(table)s",
            {"table": self._config.table},
        )
        columns = {row["column_name"] for row in rows}
        if not columns:
            raise TaskFault(f"PostgreSQL has no table {self._config.table}, or does not show it to this user")
        if missing := _LEASE_COLUMNS - columns:
            raise TaskFault(
                f"the table {self._config.table} lacks {', '.join(sorted(missing))}: apply schema/job_request.sql"
            )

    async def free(self, job_ids: Sequence[str], max_iterations: int, batch_number: int | None) -> list[Key]:
        """The requests that may be claimed, the oldest first. Those of a run that died come last.

        Otherwise a request that kills every run, by the memory that it needs, would keep all others from being made.
        """
        rows, _ = await self._execute(
            "SELECT tag, request_id FROM {table} WHERE job_id = ANY(%(job_ids)s) AND {is_free} "
            "AND (%(batch_number)s::int IS NULL OR batch_number = %(batch_number)s::int) "
            "ORDER BY status = %(processing)s, dt_job_submitted, request_id",
            {**_free(max_iterations), "job_ids": list(job_ids), "batch_number": batch_number},
        )
        return [(row["tag"], row["request_id"]) for row in rows]

    async def claim(self, key: Key, max_iterations: int) -> JobRequest | None:
        """Takes the lease; the request as it is now, or None if another run was faster."""
        rows, _ = await self._execute(
            "UPDATE {table} SET status = %(processing)s, iteration = coalesce(iteration, 0), lease_owner = %(owner)s, "
            "lease_expires = {expires} "
            # The second condition makes a repeated statement see its own success.
            "WHERE tag = %(tag)s AND request_id = %(request_id)s "
            "AND ({is_free} OR status = %(processing)s AND lease_owner = %(owner)s) RETURNING {columns}",
            {**_free(max_iterations), **self._key(key)},
        )
        return _to_request(rows[0]) if rows else None

    async def renew(self) -> None:
        """Renews all leases of this run."""
        await self._execute(
            "UPDATE {table} SET lease_expires = {expires} WHERE lease_owner = %(owner)s AND status = %(processing)s",
            {"owner": self.owner, "processing": PROCESSING},
        )

    async def is_owned(self, key: Key) -> bool:
        """Whether this run still has the lease."""
        rows, _ = await self._execute(
            "SELECT 1 AS found FROM {table} WHERE tag = %(tag)s AND request_id = %(request_id)s "
            "AND lease_owner = %(owner)s AND status = %(processing)s",
            {"processing": PROCESSING, **self._key(key)},
        )
        return bool(rows)

    async def save_processed(self, key: Key, batches: Sequence[ProcessedBatch]) -> bool:
        """Keeps the finished batches, so that nobody has to make them again. False if the lease is another run's."""
        _, count = await self._execute(
            "UPDATE {table} SET processed_batches = %(batches)s "
            "WHERE tag = %(tag)s AND request_id = %(request_id)s AND lease_owner = %(owner)s",
            {"batches": msgspec.json.encode(batches).decode(), **self._key(key)},
        )
        return count == 1

    async def save_outcome(self, key: Key, outcome: RequestOutcome) -> bool:
        """Ends the lease and saves what became of the request. False if the lease is another run's."""
        # The owner stays in the row, so that a repeated statement sees its own success.
        _, count = await self._execute(
            "UPDATE {table} SET status = %(status)s, iteration = %(iteration)s, download_urls = %(urls)s, "
            "err_message = %(message)s, processed_batches = %(batches)s, dt_job_completed = %(completed)s, "
            "execution_time = %(time)s, lease_expires = NULL "
            "WHERE tag = %(tag)s AND request_id = %(request_id)s AND lease_owner = %(owner)s",
            {
                "status": outcome.status,
                "iteration": outcome.iteration,
                "urls": list(outcome.download_urls),
                "message": outcome.err_message,
                "batches": msgspec.json.encode(outcome.processed_batches).decode(),
                "completed": outcome.completed_at,
                "time": outcome.execution_time_ms,
                **self._key(key),
            },
        )
        return count == 1

    async def give_back(self) -> None:
        """Makes every request that this run still has ``SUBMITTED``. Finished batches are kept."""
        await self._execute(
            "UPDATE {table} SET status = %(submitted)s, lease_expires = NULL "
            "WHERE lease_owner = %(owner)s AND status = %(processing)s",
            {"owner": self.owner, "submitted": SUBMITTED, "processing": PROCESSING},
        )

    async def statuses(self, job_ids: Sequence[str], limit: int) -> list[RequestStatus]:
        """The requests of some reports, the youngest first, at most ``limit``."""
        rows, _ = await self._execute(
            "SELECT job_id, tag, request_id, status, coalesce(iteration, 0) AS iteration, "
            "dt_job_submitted AS submitted_at, dt_job_completed AS completed_at, "
            "coalesce(processed_batches::text, '[]') AS batches, lease_owner, "
            "extract(epoch FROM lease_expires - now())::float AS lease_expires_in_seconds, err_message "
            "FROM {table} WHERE job_id = ANY(%(job_ids)s) ORDER BY dt_job_submitted DESC, request_id LIMIT %(limit)s",
            {"job_ids": list(job_ids), "limit": limit},
        )
        return [RequestStatus(**{**row, "batches": len(_to_processed(row["batches"]))}) for row in rows]

    async def counts(self, job_ids: Sequence[str]) -> dict[str, int]:
        """How many requests of some reports have each status."""
        rows, _ = await self._execute(
            "SELECT status, count(*) AS number FROM {table} WHERE job_id = ANY(%(job_ids)s) GROUP BY status",
            {"job_ids": list(job_ids)},
        )
        return {row["status"]: row["number"] for row in rows}

    def _key(self, key: Key) -> dict[str, Any]:
        return {"tag": key[0], "request_id": key[1], "owner": self.owner}

    async def _execute(self, query: str, parameters: Mapping[str, Any]) -> tuple[list[DictRow], int]:
        """The rows of an answer, and how many there are or were changed."""
        statement = sql.SQL(query).format(
            table=self._table,
            columns=_COLUMNS,
            is_free=_IS_FREE,
            expires=sql.SQL("now() + make_interval(secs => %(lease_seconds)s)"),
        )
        values = {**parameters, "lease_seconds": self._config.lease_seconds}
        deadline = asyncio.get_running_loop().time() + self._config.patience_seconds
        backoff, longest = _BACKOFF_SECONDS
        while True:
            try:
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(statement, values)
                    return (await cursor.fetchall() if cursor.description else []), cursor.rowcount
            except psycopg.OperationalError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise WorldFault(f"PostgreSQL: {error}") from error
                _logger.warning("PostgreSQL is asked again: %s", error)
            except psycopg.Error as error:
                raise TaskFault(f"PostgreSQL refuses a statement: {error}") from error
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, longest)


@asynccontextmanager
async def open_job_requests(config: RequestsPostgresConfig) -> AsyncIterator[JobRequests]:
    """Connects, and closes at the end. Raises WorldFault and TaskFault; their texts hold no password."""
    arguments: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "dbname": config.database,
        "user": config.username,
        "password": config.password.get_secret_value() if config.password else None,
        "sslmode": config.ssl_mode,
        "sslrootcert": config.ssl_ca_file,
        "connect_timeout": config.connect_timeout_seconds,
        "application_name": "sunbird-reports",
        # The columns are timestamps without a zone, in UTC.
        "options": "-c timezone=UTC",
        "autocommit": True,
        "row_factory": dict_row,
    }
    try:
        # Once without the pool, which would try for ever and not say what is wrong.
        await (await psycopg.AsyncConnection.connect(**arguments)).close()
    except psycopg.Error as error:
        raise WorldFault(f"PostgreSQL: {error}") from error
    # Two connections: a lease is renewed while another statement waits for its answer.
    pool: AsyncConnectionPool[psycopg.AsyncConnection[DictRow]] = AsyncConnectionPool(
        kwargs=arguments, min_size=1, max_size=2, timeout=config.connect_timeout_seconds, open=False
    )
    async with pool:
        yield JobRequests(pool, config)


def _free(max_iterations: int) -> dict[str, Any]:
    return {"open": list(OPEN), "processing": PROCESSING, "max_iterations": max_iterations}


def _to_request(row: DictRow) -> JobRequest:
    return JobRequest(**{**row, "processed_batches": _to_processed(row["processed_batches"])})


def _to_processed(text: str) -> tuple[ProcessedBatch, ...]:
    try:
        return _processed.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _logger.warning("all batches are made again, because processed_batches cannot be read: %s", error)
        return ()
