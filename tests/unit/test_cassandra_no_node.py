"""What a request says and does that can be sent to no node."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra.connection import ConnectionException, DefaultEndPoint

from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra_driver import no_node
from common.servers.cassandra_driver.errors import Refused
from tests.support.cassandra_nodes import Cluster, Node, cluster

PORT = 9042


def lose_all(nodes: Cluster) -> None:
    for node in nodes.nodes.values():
        node.is_shutdown = True


async def test_a_refusal_by_a_node_that_was_not_asked_is_none() -> None:
    async with cluster() as nodes:
        lose_all(nodes)
        nodes.problems["removed long ago"] = Refused("the certificate is too old")
        with pytest.raises(WorldFault, match="A: no connection is open; B: no connection is open; C:"):
            await nodes.execute()


async def test_if_all_nodes_refuse_that_fails_the_task() -> None:
    async with cluster() as nodes:
        lose_all(nodes)
        nodes.problems |= {name: Refused("wrong password") for name in "AB"}
        with pytest.raises(WorldFault, match="A: wrong password; B: wrong password; C: no connection is open"):
            await nodes.execute()
        nodes.problems["C"] = Refused("wrong password")
        with pytest.raises(TaskFault, match="wrong password"):
            await nodes.execute()


async def test_nodes_of_another_datacenter_need_not_refuse() -> None:
    """The driver never connects to them, so it does not know whether they are up."""
    async with cluster() as nodes:
        other = Node("D")
        other.is_up = None
        nodes.others.append(other)
        lose_all(nodes)
        nodes.problems |= {name: Refused("wrong password") for name in "ABC"}
        with pytest.raises(TaskFault, match="wrong password"):
            await nodes.execute()


@pytest.mark.parametrize(("seconds", "is_often"), [(30, False), (0, True)])
async def test_the_contact_points_are_resolved_again_but_not_all_the_time(
    seconds: int, is_often: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[object] = []
    monkeypatch.setattr(no_node, "search", searched.append)
    monkeypatch.setattr(no_node, "_SEARCH_SECONDS", seconds)
    async with cluster() as nodes:
        lose_all(nodes)
        for _ in range(3):
            with pytest.raises(WorldFault):
                await nodes.execute()
        # They are resolved in other threads.
        await asyncio.get_running_loop().shutdown_default_executor()
        assert len(searched) == (3 if is_often else 1)


class Driver:
    """The driver's Cluster, which knows 10.0.0.1."""

    is_shutdown = False
    port = PORT
    contact_points = ("cassandra", "unknown")

    def __init__(self, nodes: set[str]) -> None:
        self._nodes = nodes
        self.added: list[str] = []
        known = SimpleNamespace(endpoint=DefaultEndPoint("10.0.0.1", PORT))
        self.metadata = SimpleNamespace(all_hosts=lambda: [known])

    def connection_factory(self, endpoint: DefaultEndPoint) -> Any:
        if endpoint.address not in self._nodes:
            raise ConnectionException("refused")
        return SimpleNamespace(close=lambda: None)

    def add_host(self, endpoint: DefaultEndPoint, refresh_nodes: bool) -> None:
        assert not refresh_nodes
        self.added.append(endpoint.address)


def test_the_driver_is_given_each_new_address_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those that it knows, nor those where there is no node."""

    def resolve(name: str, port: int, *_: object) -> list[Any]:
        if name == "unknown":
            raise socket.gaierror("no such name")
        return [(2, 1, 6, "", (f"10.0.0.{n}", port)) for n in (1, 2, 3, 3)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    driver: Any = Driver({"10.0.0.1", "10.0.0.3"})
    no_node.search(driver)
    assert driver.added == ["10.0.0.3"]
    driver = Driver({"10.0.0.1", "10.0.0.3"})
    driver.is_shutdown = True
    no_node.search(driver)
    assert driver.added == []
