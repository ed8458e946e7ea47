"""What a request says and does that can be sent to no node."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import DriverException
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


async def test_the_contact_points_are_resolved_again_after_a_while_and_by_one_search_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[float] = []
    may_end = threading.Event()

    def search(_: object) -> None:
        assert threading.current_thread().daemon
        begun.append(time.monotonic())
        may_end.wait()

    monkeypatch.setattr(no_node, "search", search)
    monkeypatch.setattr(no_node, "_SEARCH_SECONDS", 0.1)
    async with cluster() as nodes:
        lose_all(nodes)

        async def fail() -> float:
            with pytest.raises(WorldFault):
                await nodes.execute()
            await asyncio.sleep(0.01)
            return time.monotonic()

        first = time.monotonic()
        while not begun or await fail() < begun[0] + 0.3:
            await fail()
        ended = time.monotonic()
        may_end.set()
        while len(begun) < 2:
            await fail()
    # The loop's timers may be early by the resolution of its clock.
    assert begun[0] > first + 0.09
    assert begun[1] > ended + 0.09


class Driver:
    """The driver's Session and Cluster, which knows 10.0.0.1. ``nodes`` are those that take a connection."""

    port = PORT
    contact_points = ("unknown", "cassandra")

    def __init__(self, *nodes: str) -> None:
        self.cluster = self
        self.is_shutdown = self.is_connected = self.is_connected_later = False
        self._nodes = nodes
        self.events: list[str] = []
        known = SimpleNamespace(endpoint=DefaultEndPoint("10.0.0.1", PORT))
        self.metadata = SimpleNamespace(all_hosts=lambda: [known])

    def get_pool_state(self) -> dict[str, dict[str, int]]:
        return {"lost": {"open_count": 0}, "10.0.0.1": {"open_count": int(self.is_connected)}}

    def connection_factory(self, endpoint: DefaultEndPoint) -> Any:
        if endpoint.address not in self._nodes:
            raise ConnectionException("refused")
        self.is_connected = self.is_connected_later
        return SimpleNamespace(close=lambda: None)

    def add_host(self, endpoint: DefaultEndPoint, refresh_nodes: bool) -> None:
        assert not refresh_nodes
        self.events.append(endpoint.address)

    def refresh_nodes(self) -> None:
        self.events.append("refresh")
        raise DriverException("there is no control connection")


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were resolved. The last one has the addresses 10.0.0.1 to 10.0.0.3."""
    names: list[str] = []

    def resolve(name: str, port: int, *_: object) -> list[Any]:
        names.append(name)
        if name == "unknown":
            raise socket.gaierror("no such name")
        return [(2, 1, 6, "", (f"10.0.0.{n}", port)) for n in (1, 2, 3, 3)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return names


def search(driver: Any) -> list[str]:
    no_node.search(driver)
    return list(driver.events)


@pytest.mark.usefixtures("resolved")
def test_the_driver_is_given_each_new_address_of_a_node() -> None:
    """Not those that it knows, nor those where there is no node. Those that its nodes do not name are forgotten."""
    assert search(Driver("10.0.0.1", "10.0.0.3")) == ["10.0.0.3", "refresh"]
    assert search(Driver("10.0.0.1")) == []


@pytest.mark.usefixtures("resolved")
def test_the_driver_is_given_no_second_address_of_a_node_that_has_come_back() -> None:
    driver = Driver("10.0.0.1", "10.0.0.3")
    driver.is_connected_later = True
    assert search(driver) == []


@pytest.mark.parametrize("reason", ["is_shutdown", "is_connected"])
def test_nothing_is_resolved_when_no_search_is_needed_any_more(reason: str, resolved: list[str]) -> None:
    driver = Driver("10.0.0.1", "10.0.0.3")
    setattr(driver, reason, True)
    assert search(driver) == []
    assert resolved == []
