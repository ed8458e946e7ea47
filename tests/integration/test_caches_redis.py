"""Reads of a real Redis: values, broken values, and every way in which a server can fail to answer."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import redis
from pydantic import SecretStr

from common.config.model import CacheConfig, RedisConfig
from common.config.tls import RedisTlsConfig
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.redis import RedisClient
from local.config import load_config
from local.servers import Redis

DATABASE = 10
OTHER_DATABASE = 5

# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -addext \
#     subjectAltName=IP:127.0.0.1
TLS_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgR7Gd9RLxHJZqJWuw
WKXRht7RGi57ifuQWdKrPL8lqCShRANCAATKzsa0IpwihnaZnz4w0CvtHxJCXjXO
t/Gc6WuiZKZL2jFf++WzbgRKW5yxvwW3s4jL0JJU41Q4ZoylvHDLjiir
-----END PRIVATE KEY-----
"""
TLS_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBrzCCAVSgAwIBAgIUBXZv39Lw2Tcp3xTt5vH4aWzSsHIwCgYIKoZIzj0EAwIw
IzEhMB8GA1UEAwwYbGVhcm5lciBhZ2dyZWdhdGVzIHRlc3RzMCAXDTI2MTEyMjIw
NDYzNloYDzIxMjYxMDI5MjA0NjM2WjAjMSEwHwYDVQQDDBhsZWFybmVyIGFnZ3Jl
Z2F0ZXMgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATKzsa0IpwihnaZ
nz4w0CvtHxJCXjXOt/Gc6WuiZKZL2jFf++WzbgRKW5yxvwW3s4jL0JJU41Q4Zoyl
vHDLjiiro2QwYjAdBgNVHQ4EFgQU0qCi2eXJzbdJzHck3sOPSDTZ1ewwHwYDVR0j
BBgwFoAU0qCi2eXJzbdJzHck3sOPSDTZ1ewwDwYDVR0TAQH/BAUwAwEB/zAPBgNV
HREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYCIQDBzDuWY+3mg6Ok7/sXsEDc
tjUKtnsmnIsG5ReJRKP7YAIhAKQzClL+kou4tO4xus0AC2Da3S0GHj+6oYxUzl6R
AlPH
-----END CERTIFICATE-----
"""


class Content(msgspec.Struct):
    totalQuestions: int | None = None  # noqa: N815


IMPATIENT = {"connect_timeout_ms": 1_000, "request_timeout_ms": 1_000}

CONTENT = msgspec.json.Decoder(Content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Not the session's: it is stopped, killed and given passwords."""
    server = Redis(load_config({}).isolated(tmp_path_factory.mktemp("redis")))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def admin(server: Redis) -> Iterator["redis.Redis"]:
    with server.client(db=DATABASE) as client:
        yield client
        client.flushall()


def info(admin: "redis.Redis", section: str) -> dict[str, Any]:
    """A section of what the server says about itself."""
    # The client's type covers its asynchronous twin, too, whose answer is awaited.
    return cast(dict[str, Any], admin.info(section))


@asynccontextmanager
async def database(server: Redis, number: int = DATABASE, **changes: Any) -> AsyncIterator[RedisClient]:
    """A client. Its timeouts are long so that a busy machine is no fault; tests of timeouts pass ``**IMPATIENT``."""
    values = {"host": server.host, "port": server.port, "connect_timeout_ms": 10_000, "request_timeout_ms": 10_000}
    client = RedisClient(RedisConfig(**{**values, **changes}), number)
    try:
        yield client
    finally:
        await client.close()


async def test_reads_sets_in_one_round_trip(server: Redis, admin: "redis.Redis") -> None:
    keys = [f"course-{number}:leafnodes" for number in range(300)]
    for number, key in enumerate(keys[:-1]):
        admin.sadd(key, f"do_{number}", "do_é")

    async with database(server) as relations:
        await relations.open()
        before = info(admin, "stats")["total_reads_processed"]
        found = await relations.sets(keys)
        reads = info(admin, "stats")["total_reads_processed"] - before
        assert found == {
            **{key: frozenset({f"do_{number}", "do_é"}) for number, key in enumerate(keys[:-1])},
            keys[-1]: frozenset(),
        }
        # One of them is that of the question how many there were.
        assert reads < 10
        assert await relations.sets([]) == {}


async def test_reads_json(server: Redis, admin: "redis.Redis") -> None:
    admin.set("do_1", '{"totalQuestions": 5, "name": "x"}')
    admin.set("do_2", "{}")

    async with database(server) as contents:
        assert await contents.structs(["do_1", "do_2", "do_3"], CONTENT) == {
            "do_1": Content(5),
            "do_2": Content(),
            "do_3": None,
        }


async def test_each_database_has_its_own_keys(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("key", "a")

    async with database(server) as relations, database(server, OTHER_DATABASE) as contents:
        assert await relations.sets(["key"]) == {"key": frozenset({"a"})}
        assert await contents.sets(["key"]) == {"key": frozenset()}


async def test_a_broken_value_concerns_its_key_alone(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("set", "a")
    admin.sadd("latin", b"\xe9")
    admin.lpush("list", "a")
    texts: dict[str, str | bytes] = {
        "text": '{"totalQuestions": 1}',
        "broken": "{",
        "number": "5",
        "type": '{"totalQuestions": "x"}',
        "deep": "[" * 100_000,
        "bytes": b'{"name": "\xff"}',
    }
    for key, text in texts.items():
        admin.set(key, text)
    name = f"Redis {server.host}:{server.port}, database {DATABASE}"

    async with database(server) as values:
        assert await values.sets(["text", "set", "list", "latin"]) == {
            "text": Refused("bad_cache_value", f"{name} holds no set at key text"),
            "set": frozenset({"a"}),
            "list": Refused("bad_cache_value", f"{name} holds no set at key list"),
            "latin": Refused("bad_cache_value", f"{name} holds a set at key latin with a member that is not UTF-8"),
        }
        structs = await values.structs(["set", "text", "broken", "number", "type", "deep", "list"], CONTENT)
        assert structs.pop("text") == Content(1)
        assert structs.pop("set") == Refused("bad_cache_value", f"{name} holds no text at key set")
        assert structs.pop("list") == Refused("bad_cache_value", f"{name} holds no text at key list")
        for key, value in structs.items():
            assert isinstance(value, Refused)
            assert value.reason.startswith(f"{name} holds no JSON that can be used at key {key}: ")


async def test_a_server_that_is_gone_is_the_world_and_comes_back(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("key", "a")

    async with database(server) as relations:
        assert await relations.sets(["key"]) == {"key": frozenset({"a"})}
        server.kill()
        for _ in range(2):
            with pytest.raises(WorldFault, match=f"Redis {server.host}:{server.port}, database {DATABASE}: "):
                await relations.sets(["key"])
        with pytest.raises(WorldFault):
            await relations.open()
        server.start()
        assert await relations.sets(["key"]) == {"key": frozenset({"a"})}


async def test_a_server_that_hangs_is_the_world_and_its_late_answer_is_not_another_ones(
    server: Redis, admin: "redis.Redis"
) -> None:
    admin.sadd("first", "1")
    admin.sadd("second", "2")

    async with database(server, **IMPATIENT) as relations:
        await relations.open()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(WorldFault, match=r"Timeout|did not answer within 2000 ms"):
                await relations.sets(["first"])
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await relations.sets(["second"]) == {"second": frozenset({"2"})}
        assert await relations.sets(["first"]) == {"first": frozenset({"1"})}


async def test_a_read_that_is_given_up_leaves_no_answer_behind(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("first", "1")
    admin.sadd("second", "2")

    async with database(server) as relations:
        await relations.open()
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(relations.sets(["first"]), 0.05)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert await relations.sets(["second"]) == {"second": frozenset({"2"})}


@asynccontextmanager
async def fake_server(answer: Callable[[], Awaitable[bytes]]) -> AsyncIterator[int]:
    """A port where every SMEMBERS gets `answer` and every other command OK."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.read(65536):
                for command in request.split(b"*")[1:]:
                    writer.write(await answer() if b"SMEMBERS" in command else b"+OK\r\n")
                    await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_server_that_answers_key_by_key_is_slow_as_a_whole(server: Redis) -> None:
    async def no_members() -> bytes:
        await asyncio.sleep(0.1)
        return b"*0\r\n"

    async with fake_server(no_members) as port, database(server, port=port, **IMPATIENT) as relations:
        assert await relations.sets(["a", "b"]) == {"a": frozenset(), "b": frozenset()}
        with pytest.raises(WorldFault, match="database 10 did not answer within 2000 ms"):
            await relations.sets([str(number) for number in range(40)])


@pytest.mark.parametrize(
    "answer",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'",
        "READONLY You can't write against a read only replica",
        "ERR max number of clients reached",
        "OOM command not allowed when used memory > 'maxmemory'",
    ],
)
async def test_a_server_that_says_not_now_is_the_world(server: Redis, answer: str) -> None:
    async def refusal() -> bytes:
        return f"-{answer}\r\n".encode()

    async with fake_server(refusal) as port, database(server, port=port) as relations:
        with pytest.raises(WorldFault, match=answer.rpartition(" ")[2]):
            await relations.sets(["key"])


async def test_passwords(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("key", "a")
    admin.config_set("requirepass", "hunter2!")
    admin.acl_setuser(
        "reader", enabled=True, passwords=["+reader-password"], keys=["*"], commands=["+smembers", "+select"]
    )
    try:
        async with database(server, password=SecretStr("hunter2!")) as relations:
            await relations.open()
            assert await relations.sets(["key"]) == {"key": frozenset({"a"})}
        for wrong in (
            {},
            {"password": SecretStr("wrong")},
            {"username": "nobody", "password": SecretStr("hunter2!")},
        ):
            async with database(server, **wrong) as relations:
                with pytest.raises(TaskFault, match="database 10 refuses the connection: ") as caught:
                    await relations.open()
                assert not any(word in str(caught.value) for word in ("hunter2!", "wrong"))
        async with database(server, username="reader", password=SecretStr("reader-password")) as relations:
            assert await relations.sets(["key"]) == {"key": frozenset({"a"})}
            with pytest.raises(TaskFault, match="database 10 does not permit a read: "):
                await relations.structs(["key"], CONTENT)
    finally:
        admin.acl_deluser("reader")
        admin.config_set("requirepass", "")


async def test_a_database_that_is_not_there_is_the_tasks_fault(server: Redis) -> None:
    async with database(server, 99) as relations:
        with pytest.raises(TaskFault, match="database 99 refuses the connection: DB index is out of range"):
            await relations.open()


async def test_tls(server: Redis, admin: "redis.Redis", tmp_path: Path) -> None:
    admin.sadd("key", "a")
    (tmp_path / "key.pem").write_text(TLS_KEY)
    (tmp_path / "certificate.pem").write_text(TLS_CERTIFICATE)
    certificate = str(tmp_path / "certificate.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, tmp_path / "key.pem")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                target.write(data)
            target.close()

        inner_reader, inner_writer = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    async def works(port: int, host: str = "127.0.0.1", **tls: Any) -> bool:
        async with database(server, host=host, port=port, tls=RedisTlsConfig(enabled=True, **tls)) as relations:
            try:
                return await relations.sets(["key"]) == {"key": frozenset({"a"})}
            except WorldFault as fault:
                assert "CERTIFICATE_VERIFY_FAILED" in str(fault)
                return False

    async with await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        assert await works(port, ca_file=certificate)
        assert await works(port, "localhost", ca_file=certificate, verify="certificate")
        assert await works(port, verify="none")
        assert not await works(port, "localhost", ca_file=certificate)
        assert not await works(port)
        assert not await works(port, verify="certificate")


async def test_a_cache_in_front_asks_redis_once(server: Redis, admin: "redis.Redis") -> None:
    admin.sadd("a", "1")
    admin.sadd("b", "2")

    async with database(server) as relations:
        await relations.open()
        metrics = Metrics()
        cache: TimedCache[str, frozenset[str] | Refused] = TimedCache("relation", CacheConfig(), metrics)
        admin.config_resetstat()
        found = await asyncio.gather(*(cache.get_many(["a", "b"], relations.sets) for _ in range(50)))
        assert all(answer == {"a": frozenset({"1"}), "b": frozenset({"2"})} for answer in found)
        assert info(admin, "commandstats")["cmdstat_smembers"]["calls"] == 2
        assert metrics.counts["cache_misses", "cache", "relation"] == 100
