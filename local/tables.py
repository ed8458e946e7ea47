"""Synchronous access to the tables of the local world, one query at a time."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

from common.config.model import CassandraConfig
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Statement

Result = TypeVar("Result")


class Tables:
    """A session in the keyspace `sunbird_courses`, to be used in a `with` statement."""

    def __init__(self, contact_points: Sequence[str], port: int) -> None:
        """Connects. The event loop runs in a thread, because a session also responds to nodes between queries."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tables", daemon=True)
        self._thread.start()
        config = CassandraConfig(contact_points=tuple(contact_points), port=port)
        self._cassandra = Cassandra(config, Metrics())
        self._statements: dict[str, Statement] = {}
        try:
            self._run(self._cassandra.open(config.keyspace))
        except BaseException:
            self._end()
            raise

    def execute(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Executes a statement and returns its rows by column name, with times in ms. A write returns no rows."""
        return self._run(self._execute(statement, parameters))

    async def _execute(self, text: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        if text not in self._statements:
            self._statements[text] = await self._cassandra.prepare(text)
        statement = self._statements[text]
        (rows,) = await self._cassandra.read(statement, [parameters])
        return [dict(zip(statement.column_names, row, strict=True)) for row in rows]

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._run(self._cassandra.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
