"""The table of job requests."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from reports.config import RequestsPostgresConfig
from reports.requests import OPEN, PROCESSING, Outcome, ProcessedBatch, Request

_logger = logging.getLogger(__name__)

_COLUMNS = sql.SQL(
    "tag, request_id, job_id, coalesce(request_data::text, 'null') AS request_text, "
    "coalesce(requested_by, '') AS requested_by, coalesce(requested_channel, '') AS requested_channel, encryption_key, "
    "coalesce(iteration, 0) AS iteration, coalesce(processed_batches::text, '[]') AS processed_batches"
)
_processed = msgspec.json.Decoder(tuple[ProcessedBatch, ...])


class JobRequests:
    """The requests of all reports; from :func:`open_job_requests`. Every method raises psycopg.Error."""

    def __init__(self, connection: "psycopg.AsyncConnection[dict[str, Any]]", table: str) -> None:
        """The connection commits each statement by itself."""
        self._connection = connection
        self._table = sql.Identifier(table)

    async def fetch(self, job_id: str, max_iterations: int, batch_number: int | None) -> list[Request]:
        """The open requests of one report that have not failed too often, the oldest first."""
        query = sql.SQL(
            "SELECT {columns} FROM {table} WHERE job_id = %(job_id)s AND status = ANY(%(open)s) "
            "AND coalesce(iteration, 0) < %(max_iterations)s "
            "AND (%(batch_number)s::int IS NULL OR batch_number = %(batch_number)s::int) "
            "ORDER BY dt_job_submitted, request_id"
        ).format(columns=_COLUMNS, table=self._table)
        cursor = await self._connection.execute(
            query,
            {
                "job_id": job_id,
                "open": list(OPEN),
                "max_iterations": max_iterations,
                "batch_number": batch_number,
            },
        )
        return [_to_request(row) for row in await cursor.fetchall()]

    async def claim(self, request: Request) -> bool:
        """Makes an open request ``PROCESSING``; False if another run was faster."""
        query = sql.SQL(
            "UPDATE {table} SET status = %s WHERE tag = %s AND request_id = %s "
            "AND status = ANY(%s) AND coalesce(iteration, 0) = %s"
        ).format(table=self._table)
        cursor = await self._connection.execute(
            query, (PROCESSING, request.tag, request.request_id, list(OPEN), request.iteration)
        )
        return cursor.rowcount == 1

    async def save_processed(self, request: Request, batches: Sequence[ProcessedBatch]) -> None:
        """Keeps the batches that are finished, so that not even a killed run has made them in vain."""
        query = sql.SQL("UPDATE {table} SET processed_batches = %s WHERE tag = %s AND request_id = %s").format(
            table=self._table
        )
        await self._connection.execute(query, (msgspec.json.encode(batches).decode(), request.tag, request.request_id))

    async def save_outcome(self, requests: Sequence[Request], outcome: Outcome) -> None:
        """Of a request and of its duplicates, all at once."""
        query = sql.SQL(
            "UPDATE {table} SET status = %s, iteration = %s, download_urls = %s, err_message = %s, "
            "dt_job_completed = %s, execution_time = %s "
            "WHERE (tag, request_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        ).format(table=self._table)
        await self._connection.execute(
            query,
            (
                outcome.status,
                outcome.iteration,
                list(outcome.download_urls),
                outcome.err_message,
                outcome.completed_at,
                outcome.execution_time_ms,
                [request.tag for request in requests],
                [request.request_id for request in requests],
            ),
        )


@asynccontextmanager
async def open_job_requests(config: RequestsPostgresConfig) -> AsyncIterator[JobRequests]:
    """Connects, and closes at the end. Raises psycopg.Error; its text holds no password."""
    connection = await psycopg.AsyncConnection.connect(
        host=config.host,
        port=config.port,
        dbname=config.database,
        user=config.username,
        password=config.password.get_secret_value() if config.password else None,
        sslmode=config.ssl_mode,
        sslrootcert=config.ssl_ca_file,
        connect_timeout=config.connect_timeout_seconds,
        application_name="sunbird-reports",
        # The columns are timestamps without a zone, in UTC.
        options="-c timezone=UTC",
        autocommit=True,
        row_factory=dict_row,
    )
    async with connection:
        yield JobRequests(connection, config.table)


def _to_request(row: dict[str, Any]) -> Request:
    return Request(
        tag=row["tag"],
        request_id=row["request_id"],
        job_id=row["job_id"],
        request_text=row["request_text"],
        request_data=msgspec.json.decode(row["request_text"]),
        requested_by=row["requested_by"],
        requested_channel=row["requested_channel"],
        encryption_key=row["encryption_key"],
        iteration=row["iteration"],
        processed_batches=_to_processed(row["processed_batches"]),
    )


def _to_processed(text: str) -> tuple[ProcessedBatch, ...]:
    try:
        return _processed.decode(text)
    except msgspec.DecodeError as error:
        _logger.warning("all batches are made again, because processed_batches cannot be read: %s", error)
        return ()
