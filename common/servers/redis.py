"""Reads of Redis: what it holds about courses and contents, up to 1,000 keys in one round trip.

A read has one of three results: the value; Refused if a key holds something other than it should, which is a fault of
the data and concerns only the events that need this key; WorldFault or TaskFault if the server does not answer or
refuses the login.
"""

import asyncio
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any, TypeVar

import msgspec
import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from common.config.model import RedisConfig
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault

Struct = TypeVar("Struct")

_KEYS_AT_ONCE = 1_000
"""In one pipeline, which has one timeout. A batch may need 240,000 keys, which take longer than that each time."""

BAD_CACHE_VALUE = "bad_cache_value"
"""The kind of a refusal because a key holds a value that cannot be used."""


class RedisClient:
    """A client of one database. It is created, used and closed in one event loop."""

    def __init__(self, config: RedisConfig, database: int) -> None:
        """Does not connect yet."""
        self._name = f"Redis {config.host}:{config.port}, database {database}"
        self._timeout_ms = config.connect_timeout_ms + config.request_timeout_ms
        tls = config.tls
        self._client = redis.asyncio.Redis(
            host=config.host,
            port=config.port,
            db=database,
            username=config.username,
            password=config.password.get_secret_value() if config.password else None,
            socket_connect_timeout=config.connect_timeout_ms / 1000,
            socket_timeout=config.request_timeout_ms / 1000,
            ssl=tls.enabled,
            ssl_ca_certs=tls.ca_file,
            ssl_certfile=tls.certificate_file,
            ssl_keyfile=tls.key_file,
            ssl_cert_reqs="none" if tls.verify == "none" else "required",
            ssl_check_hostname=tls.verify == "hostname",
        )

    async def open(self) -> None:
        """Connects. Raises WorldFault if the server does not answer, TaskFault if it refuses login or database."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.ping()
            await self._execute(pipeline)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def sets(self, keys: Collection[str]) -> dict[str, frozenset[str] | Refused]:
        """The members of the set at each key; empty if the key is missing. Raises WorldFault and TaskFault."""
        answers = await self._read(keys, Pipeline.smembers)
        return {key: self._to_set(key, answer) for key, answer in zip(keys, answers, strict=True)}

    async def hashes(self, keys: Collection[str]) -> dict[str, dict[str, str] | Refused]:
        """The fields of the hash at each key; empty if the key is missing. Bytes that are not UTF-8 become U+FFFD.

        Raises WorldFault and TaskFault.
        """
        answers = await self._read(keys, Pipeline.hgetall)
        return {key: self._to_hash(key, answer) for key, answer in zip(keys, answers, strict=True)}

    async def structs(
        self, keys: Collection[str], decoder: msgspec.json.Decoder[Struct]
    ) -> dict[str, Struct | Refused | None]:
        """The value that ``decoder`` reads from the text at each key; None if the key is missing.

        Raises WorldFault and TaskFault.
        """
        # Not MGET, which returns null for a key of another type.
        answers = await self._read(keys, Pipeline.get)
        structs: dict[str, Struct | Refused | None] = {}
        for key, answer in zip(keys, answers, strict=True):
            struct = self._to_struct(key, answer, decoder)
            structs[key] = struct
        return structs

    async def _read(self, keys: Collection[str], command: Callable[[Pipeline, str], Any]) -> list[Any]:
        """The reply to ``command`` for each key, in order. Every :data:`_KEYS_AT_ONCE` keys have a timeout."""
        answers: list[Any] = []
        remaining = iter(keys)
        while some := list(islice(remaining, _KEYS_AT_ONCE)):
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in some:
                    command(pipeline, key)
                answers += await self._execute(pipeline)
        return answers

    async def _execute(self, pipeline: Pipeline) -> list[Any]:
        """The replies; a key of another type has an error as its reply."""
        try:
            # The client's own timeout is per reply.
            async with asyncio.timeout(self._timeout_ms / 1000):
                answers = await pipeline.execute(raise_on_error=False)
        except TimeoutError as error:
            raise WorldFault(f"{self._name} did not answer within {self._timeout_ms} ms") from error
        except (AuthenticationError, ResponseError) as error:
            if _is_busy(error):
                raise WorldFault(f"{self._name}: {error}") from error
            raise TaskFault(f"{self._name} refuses the connection: {error}") from error
        except (RedisError, OSError) as error:
            raise WorldFault(f"{self._name}: {error}") from error
        for answer in answers:
            if isinstance(answer, NoPermissionError):
                raise TaskFault(f"{self._name} does not permit a read: {answer}") from answer
            if isinstance(answer, ResponseError) and not _is_wrong_type(answer):
                raise WorldFault(f"{self._name}: {answer}") from answer
        return answers

    def _to_set(self, key: str, answer: set[bytes] | ResponseError) -> frozenset[str] | Refused:
        if isinstance(answer, ResponseError):
            return Refused(BAD_CACHE_VALUE, f"{self._name} holds no set at key {key}")
        try:
            return frozenset(member.decode() for member in answer)
        except UnicodeDecodeError:
            return Refused(BAD_CACHE_VALUE, f"{self._name} holds a set at key {key} with a member that is not UTF-8")

    def _to_hash(self, key: str, answer: dict[bytes, bytes] | ResponseError) -> dict[str, str] | Refused:
        if isinstance(answer, ResponseError):
            return Refused(BAD_CACHE_VALUE, f"{self._name} holds no hash at key {key}")
        return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in answer.items()}

    def _to_struct(
        self, key: str, answer: bytes | ResponseError | None, decoder: msgspec.json.Decoder[Struct]
    ) -> Struct | Refused | None:
        if answer is None:
            return None
        if isinstance(answer, ResponseError):
            return Refused(BAD_CACHE_VALUE, f"{self._name} holds no text at key {key}")
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Refused(BAD_CACHE_VALUE, f"{self._name} holds no JSON that can be used at key {key}: {error}")


def _is_busy(error: RedisError) -> bool:
    """A script runs. Until it ends, the server does not even let a connection choose its database."""
    return str(error).startswith("BUSY ")


def _is_wrong_type(error: ResponseError) -> bool:
    return str(error).startswith("WRONGTYPE")
