"""The HTTP services as several instances behind a balancer."""

import asyncio
from typing import Any

from local.http_services import USER, HttpServices, Switch


class Instances(HttpServices):
    """Those whose numbers are in ``bad`` answer every request for a user with 500.

    Connections, or with ``per_request`` the requests of all connections, go to one instance after the other.
    """

    def __init__(self, count: int, *, per_request: bool = False) -> None:
        super().__init__()
        self.bad: set[int] = set()
        self._count = count
        self._per_request = per_request
        self._instance_of: dict[Any, int] = {}

    @property
    def connections(self) -> int:
        """How many were opened."""
        return len(self._instance_of)

    async def _answer(self, request: Any) -> Any:
        turn = self.requests[USER] if self._per_request else len(self._instance_of)
        instance = self._instance_of.setdefault(asyncio.current_task(), turn)
        if self._per_request:
            instance = turn
        self.switch(USER, Switch(status=500) if instance % self._count in self.bad else Switch())
        return await super()._answer(request)
