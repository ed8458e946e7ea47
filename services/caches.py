"""What the services keep in Redis: answers for groups, scores of submitted attempts."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio.client import Pipeline

from common.domain.faults import WorldFault
from common.servers.redis import RedisClient


class WritableRedisClient(RedisClient):
    """A database that is written, too. Writes raise WorldFault and TaskFault, as reads do."""

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Sets a text that lives for a time, whatever the key held before."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, value, ex=ttl_seconds)
            await self._write(pipeline)

    async def put_hashes(self, hashes: Mapping[str, Mapping[str, str]]) -> None:
        """Sets fields of hashes."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, fields in hashes.items():
                pipeline.hset(key, mapping=dict(fields))
            await self._write(pipeline)

    async def _write(self, pipeline: Pipeline) -> None:
        answers: list[Any] = await self._execute(pipeline)
        for answer in answers:
            if isinstance(answer, Exception):
                raise WorldFault(f"{self._name}: {answer}") from answer
