"""Synchronous access to the tables of the local world, one query at a time."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import acsylla


class Tables:
    """A session in the keyspace `sunbird_courses`, to be used in a `with` statement."""

    def __init__(self, contact_points: Sequence[str], port: int) -> None:
        self._runner = asyncio.Runner()

        async def connect() -> acsylla.Session:
            cluster = acsylla.create_cluster(list(contact_points), port=port, log_level="critical")
            return await cluster.create_session(keyspace="sunbird_courses")

        self._session = self._runner.run(connect())
        self._statements: dict[str, acsylla.PreparedStatement] = {}

    def execute(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Executes a statement and returns its rows by column name. A write returns no rows."""
        return self._runner.run(self._execute(statement, list(parameters)))

    async def _execute(self, statement: str, parameters: list[Any]) -> list[dict[str, Any]]:
        if statement not in self._statements:
            self._statements[statement] = await self._session.create_prepared(statement)
        bound = self._statements[statement].bind()
        bound.bind_list(parameters)
        return [row.as_dict() for row in await self._session.execute(bound)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._session.close())
        self._runner.close()
