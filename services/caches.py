"""The cache of group answers in Redis."""

from common.domain.faults import WorldFault
from common.servers.redis import RedisClient


class GroupCache(RedisClient):
    """The database with the answers of the group read."""

    async def put(self, key: str, value: bytes, ttl_seconds: int) -> None:
        """Stores a text for a time. Raises WorldFault and TaskFault, as reads do."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, value, ex=ttl_seconds)
            for answer in await self._execute(pipeline):
                if isinstance(answer, Exception):
                    raise WorldFault(f"{self._name}: {answer}") from answer
