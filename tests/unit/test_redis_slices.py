"""Reads of many keys go to Redis in slices, each of which has the whole timeout, and what a failure of one means."""

from typing import Any, Self

import msgspec
import pytest
from redis.exceptions import AuthenticationError, ResponseError

from common.config.model import RedisConfig
from common.domain.faults import TaskFault, WorldFault
from common.servers.redis import RedisClient

KEYS = [f"key-{number}" for number in range(2_500)]


class Server:
    """It stands for the client of redis-py, and answers a command with what ``answer`` makes of the key."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.slices: list[int] = []

    def pipeline(self, transaction: bool) -> "Pipeline":
        assert not transaction
        return Pipeline(self)


class Pipeline:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._keys: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def execute_command(self, name: str, key: str, **_: Any) -> None:
        self._keys.append(key)

    async def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        self._server.slices.append(len(self._keys))
        return [self._server.answer(key) for key in self._keys]


def client_of(server: Server) -> RedisClient:
    client = RedisClient(RedisConfig(host="redis"), 0)
    client._client = server  # type: ignore[assignment]
    return client


async def test_sets_are_read_a_thousand_at_a_time_each_with_its_own_key() -> None:
    server = Server(lambda key: {key.encode()})
    assert await client_of(server).sets(KEYS) == {key: frozenset([key]) for key in KEYS}
    assert server.slices == [1_000, 1_000, 500]


async def test_so_are_hashes_and_structs() -> None:
    server = Server(lambda key: {b"id": key.encode()})
    assert await client_of(server).hashes(KEYS) == {key: {"id": key} for key in KEYS}
    server.answer = msgspec.json.encode
    assert await client_of(server).structs(KEYS, msgspec.json.Decoder(str)) == {key: key for key in KEYS}
    assert server.slices == [1_000, 1_000, 500] * 2


async def test_without_keys_nothing_is_asked() -> None:
    server = Server(None)
    assert await client_of(server).sets([]) == {}
    assert server.slices == []


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ResponseError("BUSY Redis is busy running a script."), WorldFault),
        (ResponseError("DB index is out of range"), TaskFault),
        (AuthenticationError("invalid username-password pair or user is disabled."), TaskFault),
    ],
)
async def test_a_server_that_is_busy_while_a_connection_is_made_refuses_nobody(
    error: Exception, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Pipeline, "execute", refuse)
    with pytest.raises(fault, match=str(error)):
        await client_of(Server(str.encode)).sets(KEYS[:1])
