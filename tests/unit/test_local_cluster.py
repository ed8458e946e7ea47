"""Clusters of one and of three: what the configuration says, and what the servers are started with."""

import os
import socket
from itertools import pairwise
from pathlib import Path

import pytest

from local.config import LOOPBACK, Config, is_free, load_config
from local.errors import LocalWorldError
from local.kafka_broker import Kafka
from local.prerequisites import Java, find_java
from local.servers import Cassandra, token_lines
from local.supervisor import RunningProcess, State, as_running
from local.world import World, addresses


@pytest.fixture
def java() -> Java:
    return find_java()


@pytest.fixture
def three(tmp_path: Path) -> Config:
    return load_config({}).isolated(tmp_path).with_nodes(3)


def test_a_world_has_one_node_and_one_broker_unless_it_is_told_otherwise() -> None:
    world = World(load_config({}))
    assert [server.name for server in (*world.cassandra_nodes, *world.kafka_brokers)] == ["Cassandra", "Kafka"]


def test_variables_make_a_world_of_three() -> None:
    config = load_config({"SUNBIRD_LOCAL_CASSANDRA_NODES": "3", "SUNBIRD_LOCAL_KAFKA_BROKERS": "3"})
    world = World(config)
    names = [server.name for server in (*world.cassandra_nodes, *world.kafka_brokers)]
    assert names == ["Cassandra 1", "Cassandra 2", "Cassandra 3", "Kafka 1", "Kafka 2", "Kafka 3"]
    assert addresses(config)["Cassandra"] == "127.0.0.1:19142,127.0.0.2:19142,127.0.0.3:19142"
    assert addresses(config)["Kafka"] == world.kafka.bootstrap_servers


@pytest.mark.parametrize("number", ["0", "2", "4"])
def test_a_cluster_of_another_size_is_refused(number: str) -> None:
    with pytest.raises(LocalWorldError, match=rf"cassandra\.nodes .* is '{number}': .*should be 1 or 3"):
        load_config({"SUNBIRD_LOCAL_CASSANDRA_NODES": number})


def test_three_nodes_have_folders_of_their_own_and_none_of_the_single_one(three: Config, java: Java) -> None:
    servers = [
        *(Cassandra(three, java, number) for number in (1, 2, 3)),
        *(Kafka(three, java, number) for number in (1, 2, 3)),
        Cassandra(three.with_nodes(1), java),
        Kafka(three.with_nodes(1), java),
    ]
    assert len({server.state_folder for server in servers}) == len(servers)


def test_three_nodes_have_smaller_heaps(three: Config) -> None:
    one = load_config({})
    assert three.cassandra.heap_mib < one.cassandra.heap_mib
    assert three.kafka.heap_mib < one.kafka.heap_mib


def test_the_tokens_of_three_nodes_are_spread_evenly() -> None:
    tokens: list[int] = []
    for number in (1, 2, 3):
        (line,) = [line for line in token_lines(number, 3).splitlines() if line.startswith("initial_token: ")]
        tokens += map(int, line.removeprefix("initial_token: ").strip('"').split(","))
    tokens.sort()
    assert len(tokens) == 48
    assert {second - first for first, second in pairwise(tokens)} == {2**64 // 48}
    assert -(2**63) <= tokens[0] <= tokens[-1] < 2**63


def test_every_node_has_an_address_of_its_own_and_clients_know_all(three: Config, java: Java) -> None:
    nodes = [Cassandra(three, java, number) for number in (1, 2, 3)]
    assert [node.address for node in nodes] == list(LOOPBACK)
    assert all(node.contact_points == list(LOOPBACK) for node in nodes)
    assert [Kafka(three, java, number).address for number in (1, 2, 3)] == list(LOOPBACK)


def test_the_ports_of_an_isolated_world_are_free_on_every_address(three: Config) -> None:
    assert all(is_free(port, address) for _, port in three.ports() for address in LOOPBACK)


def test_a_port_that_is_taken_on_another_address_is_free_here() -> None:
    with socket.create_server((LOOPBACK[1], 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port, LOOPBACK[1])
        assert is_free(port)


def test_commands_use_the_nodes_that_are_running_whatever_the_configuration_says(three: Config) -> None:
    one = three.with_nodes(1)
    names = [f"{name} {number}" for name in ("Cassandra", "Kafka") for number in (1, 2, 3)]
    servers = tuple(RunningProcess.of(name, os.getpid()) for name in names)
    one.state_folder.mkdir(parents=True, exist_ok=True)
    State(RunningProcess.of("supervisor", os.getpid()), servers).write(one)
    assert addresses(as_running(one)) == addresses(three)


def test_commands_use_the_configuration_if_nothing_is_running(three: Config) -> None:
    assert as_running(three) == three
