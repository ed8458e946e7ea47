"""The order in which nodes are tried, with the driver's own metadata and policies."""

import random
from types import SimpleNamespace

import pytest
from cassandra.connection import DefaultEndPoint
from cassandra.metadata import Metadata, Murmur3Token, TokenMap
from cassandra.policies import DCAwareRoundRobinPolicy, SimpleConvictionPolicy
from cassandra.pool import Host

from common.servers.cassandra_driver.query_plan import ShuffledTokenAwarePolicy, SilentNodes

REQUEST = SimpleNamespace(keyspace="sunbird_courses", routing_key=b"user-1")


def node(number: int) -> Host:
    host = Host(DefaultEndPoint(f"127.0.0.{number}"), SimpleConvictionPolicy, "datacenter1", "rack1", number)
    host.set_up()
    return host


@pytest.fixture
def nodes() -> list[Host]:
    return [node(number) for number in range(1, 6)]


@pytest.fixture
def policy(nodes: list[Host]) -> ShuffledTokenAwarePolicy:
    """Of five nodes; the first three have the replicas of every key."""
    metadata = Metadata()
    ring = [Murmur3Token(number) for number in range(len(nodes))]
    metadata.token_map = TokenMap(Murmur3Token, dict(zip(ring, nodes, strict=True)), ring, metadata)
    metadata.token_map.tokens_to_hosts_by_ks[REQUEST.keyspace] = dict.fromkeys(ring, nodes[:3])
    policy = ShuffledTokenAwarePolicy(DCAwareRoundRobinPolicy("datacenter1"))
    policy.populate(SimpleNamespace(metadata=metadata, endpoints_resolved=[]), nodes)
    return policy


def test_a_plan_names_each_node_once_replicas_first(policy: ShuffledTokenAwarePolicy, nodes: list[Host]) -> None:
    plan = list(policy.make_query_plan(None, REQUEST))
    assert set(plan[:3]) == set(nodes[:3])
    assert set(plan[3:]) == set(nodes[3:])
    assert len(plan) == len(nodes)


def test_plans_begin_with_different_replicas(policy: ShuffledTokenAwarePolicy, nodes: list[Host]) -> None:
    random.seed(1)
    assert {next(policy.make_query_plan(None, REQUEST)) for _ in range(50)} == set(nodes[:3])


def test_a_plan_that_is_continued_later_names_no_node_twice(policy: ShuffledTokenAwarePolicy) -> None:
    """A late request continues its plan when others have begun theirs."""
    random.seed(1)
    begun = []
    for _ in range(50):
        plan = policy.make_query_plan(None, REQUEST)
        begun.append((next(plan), plan))
    for first, plan in begun:
        assert first not in set(plan)


def test_a_node_that_is_down_is_not_named_among_the_replicas(
    policy: ShuffledTokenAwarePolicy, nodes: list[Host]
) -> None:
    nodes[1].set_down()
    assert nodes[1] not in list(policy.make_query_plan(None, REQUEST))


def test_without_a_key_all_nodes_are_named(policy: ShuffledTokenAwarePolicy, nodes: list[Host]) -> None:
    for request in (None, SimpleNamespace(keyspace="sunbird_courses", routing_key=None)):
        assert set(policy.make_query_plan("sunbird_courses", request)) == set(nodes)


def connection(heard_at: float) -> SimpleNamespace:
    return SimpleNamespace(heard_at=heard_at, is_closed=False)


def test_a_silent_node_comes_last_until_it_sends_something(nodes: list[Host]) -> None:
    silent_nodes, silent = SilentNodes(), connection(heard_at=9.9)
    silent_nodes.note(nodes[1], silent)
    last = [*nodes[:1], *nodes[2:], nodes[1]]
    assert [list(silent_nodes.put_last(nodes)) for _ in range(2)] == [last, last]
    silent.heard_at = 12.0
    assert list(silent_nodes.put_last(nodes)) == nodes


def test_a_silent_node_has_its_place_again_once_its_connection_is_closed(nodes: list[Host]) -> None:
    silent_nodes, silent = SilentNodes(), connection(heard_at=9)
    silent_nodes.note(nodes[0], silent)
    silent.is_closed = True
    assert list(silent_nodes.put_last(nodes)) == nodes


def test_if_all_nodes_are_silent_their_order_stays(nodes: list[Host]) -> None:
    silent_nodes = SilentNodes()
    for each in nodes:
        silent_nodes.note(each, connection(heard_at=9))
    assert list(silent_nodes.put_last(nodes)) == nodes
