"""Reads of many rows, page by page: the only place in the reports that knows the driver."""

import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import acsylla
from acsylla import errors

from common.config.model import CassandraConfig
from common.metrics import Metrics
from common.servers import cassandra
from common.servers.cassandra import Cassandra, Row

_FIRST_TOKEN, _LAST_TOKEN = -(2**63), 2**63 - 1
"""Of the Murmur3 partitioner. No row has the first one."""

Statement: TypeAlias = "acsylla.PreparedStatement"


class PagedCassandra(Cassandra):
    """A session that also hands out the rows of one statement page by page."""

    def __init__(self, config: CassandraConfig, page_size: int) -> None:
        """``page_size`` in rows."""
        super().__init__(config, Metrics())
        self._page_size = page_size

    async def pages(self, prepared: Statement, parameters: Sequence[Any]) -> AsyncIterator[list[Row]]:
        """One page at a time, none of them empty. Raises WorldFault, TaskFault, or the driver's own error."""
        session = self._open_session()
        state: bytes | None = None
        while True:
            statement = prepared.bind(page_size=self._page_size, page_state=state)
            statement.bind_list(list(parameters))
            statement.set_is_idempotent(True)
            try:
                result = await session.execute(statement)
            except errors.CassException as error:
                raise cassandra._fault(error) or error from error
            if rows := [row.as_tuple() for row in result]:
                yield rows
            if not result.has_more_pages():
                return
            state = result.page_state()

    async def scan(self, prepared: Statement, parameters: Sequence[Any], ranges: int) -> AsyncIterator[list[Row]]:
        """The pages of a whole table, token range by token range, so that no query reads too much at once.

        The statement's last two parameters are the bounds of the range: ``token(key) > ? AND token(key) <= ?``.
        """
        for bounds in token_ranges(ranges):
            async for rows in self.pages(prepared, (*parameters, *bounds)):
                yield rows


def token_ranges(count: int) -> list[tuple[int, int]]:
    """The ring in ``count`` parts of the same size; the first token of a part does not belong to it."""
    span = _LAST_TOKEN - _FIRST_TOKEN
    bounds = [_FIRST_TOKEN + span * number // count for number in range(count + 1)]
    return list(itertools.pairwise(bounds))
