"""The tables of the local world, one query at a time, for programs that are not asynchronous."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import acsylla


class Tables:
    """A session with the keyspace `sunbird_courses`; closed by `with`."""

    def __init__(self, contact_points: Sequence[str], port: int) -> None:
        """Connects."""
        self._runner = asyncio.Runner()

        async def connect() -> acsylla.Session:
            cluster = acsylla.create_cluster(list(contact_points), port=port, log_level="critical")
            return await cluster.create_session(keyspace="sunbird_courses")

        self._session = self._runner.run(connect())
        self._statements: dict[str, acsylla.PreparedStatement] = {}

    def execute(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows by column name; none for a write."""
        return self._runner.run(self._execute(statement, list(parameters)))

    async def _execute(self, statement: str, parameters: list[Any]) -> list[dict[str, Any]]:
        if statement not in self._statements:
            self._statements[statement] = await self._session.create_prepared(statement)
        bound = self._statements[statement].bind()
        bound.bind_list(parameters)
        return [row.as_dict() for row in await self._session.execute(bound)]

    def __enter__(self) -> Self:
        """Is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the session."""
        self._runner.run(self._session.close())
        self._runner.close()
