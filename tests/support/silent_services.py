"""The HTTP services where some ids are never answered, while all others are."""

import asyncio
from typing import Any

from local.http_services import HttpServices


class SilentServices(HttpServices):
    """Requests whose path or body has one of ``silent`` wait for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[str] = set()
        self.delay_of_others_ms = 0

    async def _answer(self, request: Any) -> Any:
        if any(identifier in f"{request.path} {request.body}" for identifier in self.silent):
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay_of_others_ms / 1000)
        return await super()._answer(request)
