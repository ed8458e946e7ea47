"""Which faults there are, and that one which the machine does not allow says so."""

import random
import socket

import pytest

from chaos.faults import FAULTS, choose, faults_for
from chaos.node_faults import Impossible, packets_dropped
from local.config import LOOPBACK

PAUSES = (20, 45)


def test_three_nodes_have_every_fault_and_one_node_has_those_that_it_survives() -> None:
    assert list(faults_for(3)) == list(FAULTS)
    left_out = set(FAULTS) - set(faults_for(1))
    assert left_out == {name for name, fault in FAULTS.items() if fault.needs_three}
    assert "kill -9 two Cassandra nodes" in left_out
    assert "kill -9 Cassandra" in faults_for(1)


def test_a_run_has_every_fault_before_one_is_there_again() -> None:
    names = list(FAULTS)
    chosen = [fault.name for seed in range(1, 21) for fault in choose(names, PAUSES, seed, 2)]
    assert sorted(chosen[: len(names)]) == sorted(names)
    assert chosen[len(names) :] == chosen[: len(chosen) - len(names)]


def test_in_twenty_seeds_each_fault_has_every_pause_and_in_turn() -> None:
    names = list(FAULTS)
    chosen = [fault for seed in range(1, 21) for fault in choose(names, PAUSES, seed, 3)]
    for name in names:
        pauses = [fault.pause_seconds for fault in chosen if fault.name == name]
        assert set(pauses[:2]) == set(PAUSES), name
        assert pauses[2:] == pauses[: len(pauses) - 2], name


def test_a_short_run_has_different_pauses() -> None:
    chosen = [fault for seed in range(1, 4) for fault in choose(list(FAULTS), PAUSES, seed, 3)]
    assert {fault.pause_seconds for fault in chosen} == set(PAUSES)


def test_a_fault_that_is_the_only_one_alternates_within_a_seed() -> None:
    assert [fault.pause_seconds for fault in choose(["a"], PAUSES, 3, 3)] == [45, 20, 45]
    assert [fault.pause_seconds for fault in choose(["a", "a"], PAUSES, 3, 2)] == [20, 45]
    assert [fault.pause_seconds for fault in choose(["a", "a", "a"], (90,), 7, 3)] == [90, 90, 90]


def test_the_faults_of_a_seed_do_not_depend_on_the_other_seeds() -> None:
    names = list(FAULTS)
    random.seed(1)
    alone = choose(names, PAUSES, 7, 2)
    random.seed(2)
    assert choose(names, PAUSES, 7, 2) == alone
    assert [fault.name for fault in choose(["a", "b", "b"], PAUSES, 5, 3)].count("b") == 2


def test_without_nft_packets_cannot_be_dropped_and_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Impossible, match=r"as root, with nft"), packets_dropped("tcp dport 1 drop"):
        pytest.fail("the packets cannot have been dropped")


def test_packets_are_dropped_as_long_as_the_fault_lasts_or_the_reason_is_given() -> None:
    with socket.create_server((LOOPBACK[2], 0)) as server:
        address = server.getsockname()
        try:
            rule = f"ip daddr {address[0]} tcp dport {address[1]} drop"
            with packets_dropped(rule), pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.5)
        except Impossible as reason:
            # In a container without the capability to filter packets, or without root.
            assert str(reason)
        with socket.create_connection(address, timeout=5):
            pass
