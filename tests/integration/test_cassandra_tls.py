"""TLS towards Cassandra: whose certificate is trusted, and what is said of one that is not."""

import socket
import ssl
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from common.config.model import CassandraConfig
from common.config.tls import CassandraTlsConfig
from common.domain.faults import TaskFault
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write
from local.world import World
from tests.support.cassandra_proxy import CassandraProxy
from tests.support.certificates import make_certificate

TABLE = "sunbird_courses.user_content_consumption"


class Certificate:
    """A key and its certificate, in files."""

    def __init__(self, folder: Path, name: str) -> None:
        key, certificate = make_certificate()
        self.key_file, self.file = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
        Path(self.key_file).write_bytes(key)
        Path(self.file).write_bytes(certificate)

    def of_the_node(self, authority_of_clients: str | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key_file)
        if authority_of_clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority_of_clients)
        return context


async def use(port: int, unique: str, address: str = "127.0.0.1", **tls: Any) -> None:
    """Connects, and has answers of many TLS records."""
    config = CassandraConfig(contact_points=(address,), port=port, tls=CassandraTlsConfig(enabled=True, **tls))
    cassandra = Cassandra(config, Metrics())
    try:
        await cassandra.open()
        insert = await cassandra.prepare(
            f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, progressdetails) VALUES (?, 'c', 'b', ?, ?)"
        )
        select = await cassandra.prepare(f"SELECT progressdetails FROM {TABLE} WHERE userid = ? AND courseid = 'c'")
        texts = [f"{n}" * 50_000 for n in range(8)]
        await cassandra.write([[Write(insert, (unique, f"do_{n}", text))] for n, text in enumerate(texts)])
        assert await cassandra.read(select, [(unique,)] * 3) == [[(text,) for text in texts]] * 3
    finally:
        await cassandra.close()


async def test_an_authority_from_a_file_is_trusted(world: World, tmp_path: Path, unique: str) -> None:
    certificate = Certificate(tmp_path, "node")
    async with CassandraProxy(world.cassandra.port, certificate.of_the_node()) as proxy:
        await use(proxy.port, unique, ca_file=certificate.file)


async def test_without_a_file_the_systems_authorities_are_trusted(
    world: World, tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate(tmp_path, "node")
    async with CassandraProxy(world.cassandra.port, certificate.of_the_node()) as proxy:
        with pytest.raises(TaskFault, match="certificate verify failed"):
            await use(proxy.port, unique)
        monkeypatch.setenv("SSL_CERT_FILE", certificate.file)
        await use(proxy.port, unique)


async def test_the_certificate_of_another_authority_is_refused(world: World, tmp_path: Path, unique: str) -> None:
    node, other = Certificate(tmp_path, "node"), Certificate(tmp_path, "other")
    async with CassandraProxy(world.cassandra.port, node.of_the_node()) as proxy:
        for verify in ("hostname", "certificate"):
            with pytest.raises(TaskFault, match=rf"127.0.0.1:{proxy.port}: .*certificate verify failed"):
                await use(proxy.port, unique, ca_file=other.file, verify=verify)
        await use(proxy.port, unique, ca_file=other.file, verify="none")


async def test_the_certificate_of_another_address_is_refused_unless_only_its_authority_counts(
    world: World, tmp_path: Path, unique: str
) -> None:
    certificate = Certificate(tmp_path, "node")
    # The certificate is that of 127.0.0.1.
    address = "127.0.0.2"
    async with CassandraProxy(world.cassandra.port, certificate.of_the_node(), address) as proxy:
        with pytest.raises(TaskFault, match=r"certificate verify failed: IP address mismatch"):
            await use(proxy.port, unique, address, ca_file=certificate.file)
        await use(proxy.port, unique, address, ca_file=certificate.file, verify="certificate")


async def test_a_node_that_asks_for_a_certificate_gets_ours(world: World, tmp_path: Path, unique: str) -> None:
    node, ours = Certificate(tmp_path, "node"), Certificate(tmp_path, "ours")
    async with CassandraProxy(world.cassandra.port, node.of_the_node(ours.file)) as proxy:
        await use(proxy.port, unique, ca_file=node.file, certificate_file=ours.file, key_file=ours.key_file)


class StrictNode(threading.Thread):
    """Ends the TLS handshake of a client whose certificate it does not trust as a node does: alert, then close."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._context = context
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def run(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._server.accept()
                with client, suppress(ssl.SSLError):
                    self._context.wrap_socket(client, server_side=True)

    def close(self) -> None:
        # A thread that waits in accept() does not notice a close.
        self._server.shutdown(socket.SHUT_RDWR)
        self.join()
        self._server.close()


async def test_a_node_that_refuses_our_certificate_ends_the_task(tmp_path: Path, unique: str) -> None:
    """Whether the client reads the alert first, or first notices that it can no longer write."""
    node, other = Certificate(tmp_path, "node"), Certificate(tmp_path, "other")
    strict = StrictNode(node.of_the_node(node.file))
    strict.start()

    with closing(strict):
        for _ in range(15):
            with pytest.raises(TaskFault, match="certificate required"):
                await use(strict.port, unique, ca_file=node.file)
            with pytest.raises(TaskFault, match="unknown ca"):
                await use(strict.port, unique, ca_file=node.file, certificate_file=other.file, key_file=other.key_file)
