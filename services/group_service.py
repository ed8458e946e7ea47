"""The group service: who is in a group.

One try, no retries: a learner waits for the answer.
"""

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from common.domain.faults import WorldFault
from services.envelope import USER_TOKEN, server_error
from services.group_activity import Member


class _Result(msgspec.Struct):
    members: list[dict[str, Any]] | None = None


class _Answer(msgspec.Struct):
    result: _Result | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class GroupService:
    """The client. Created inside the event loop in which it is used and closed."""

    def __init__(self, base_url: str, request_timeout_ms: int, max_connections: int) -> None:
        """Connects with the first call."""
        self._url = f"{base_url}/private/v1/group/read/"
        self._timeout_ms = request_timeout_ms
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=max_connections),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def members(self, group_id: str, user_token: str) -> list[Member]:
        """The members, none where the answer has none.

        Raises ApiError if the service answers with another status than 200, WorldFault if it cannot be reached or read.
        """
        if group_id.strip(".") == "":
            # As the last segment of a path these mean another path, and no group has such an id.
            raise _refused()
        url = f"{self._url}{quote(group_id, safe='')}?fields=members"
        try:
            async with (
                asyncio.timeout(self._timeout_ms / 1000),
                self._session.get(
                    URL(url, encoded=True),
                    headers={"Content-Type": "application/json", USER_TOKEN: user_token},
                    allow_redirects=False,
                ) as response,
            ):
                if response.status != 200:
                    raise _refused()
                answer = _ANSWER.decode(await response.read())
        except TimeoutError as error:
            raise WorldFault(f"{self._url} did not answer in {self._timeout_ms} ms") from error
        except (aiohttp.ClientError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise WorldFault(f"{self._url}: {type(error).__name__}: {error}") from error
        return list((answer.result.members if answer.result else None) or [])

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()


def _refused() -> Exception:
    return server_error(None, "Error while fetching group members record.")
