"""The servers that requests are answered from: connected at start, closed at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from common.metrics import Metrics
from common.servers.access import verify_access
from common.servers.cassandra import Cassandra
from common.servers.kafka import check_login
from common.servers.redis import RedisClient
from services.caches import GroupCache
from services.config import MESSAGE_OVERHEAD_IN_BYTES, ServicesConfig
from services.group_service import GroupService
from services.publisher import Publisher
from services.store import Store


@dataclass(frozen=True, slots=True)
class Servers:
    """Everything outside the process that requests are answered from."""

    store: Store
    relations: RedisClient
    group_cache: GroupCache
    group_service: GroupService
    publisher: Publisher


@asynccontextmanager
async def open_servers(config: ServicesConfig, metrics: Metrics) -> AsyncIterator[Servers]:
    """Connects, and closes at the end. Raises WorldFault where Cassandra is down, TaskFault where it refuses us.

    Redis, Kafka and the group service may be down: each is needed by some routes only.
    """
    async with AsyncExitStack() as stack:
        cassandra = Cassandra(config.cassandra, metrics)
        stack.push_async_callback(cassandra.close)
        await cassandra.open()
        store = Store(cassandra, config.cassandra.keyspace)
        await store.prepare()
        relations = RedisClient(config.redis, config.redis.relation_database)
        stack.push_async_callback(relations.close)
        group_cache = GroupCache(config.redis, config.redis.group_cache_database)
        stack.push_async_callback(group_cache.close)
        group = config.group_service
        group_service = GroupService(group.base_url, group.request_timeout_ms, group.max_connections)
        stack.push_async_callback(group_service.close)
        max_message_in_bytes = config.server.max_body_in_bytes + MESSAGE_OVERHEAD_IN_BYTES
        publisher = Publisher(config.kafka, config.publish_timeout_ms, max_message_in_bytes)
        stack.push_async_callback(publisher.close)
        yield Servers(store, relations, group_cache, group_service, publisher)


async def check_logins(config: ServicesConfig) -> None:
    """Raises TaskFault if Kafka, Cassandra or Redis refuses us, WorldFault where Cassandra is down.

    Otherwise a wrong password of Kafka or Redis would show only with the first request that needs them.
    """
    await verify_access(asyncio.to_thread(check_login, config.kafka))
    async with open_servers(config, Metrics()) as servers:
        for database in (servers.relations, servers.group_cache):
            await verify_access(database.open())
