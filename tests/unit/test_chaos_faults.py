"""Which faults there are, and that one which the machine does not allow says so."""

import random
import socket

import pytest

from chaos.faults import FAULTS, choose, faults_for
from chaos.node_faults import Impossible, packets_dropped
from local.config import LOOPBACK


def test_three_nodes_have_every_fault_and_one_node_has_those_that_it_survives() -> None:
    assert list(faults_for(3)) == list(FAULTS)
    left_out = set(FAULTS) - set(faults_for(1))
    assert left_out == {name for name, fault in FAULTS.items() if fault.needs_three}
    assert "kill -9 two Cassandra nodes" in left_out
    assert "kill -9 Cassandra" in faults_for(1)


def test_a_run_has_every_fault_before_one_is_there_again() -> None:
    names = list(FAULTS)
    chosen = [name for seed in range(1, 21) for name in choose(names, seed, 2)]
    assert sorted(chosen[: len(names)]) == sorted(names)
    assert chosen[len(names) :] == chosen[: len(chosen) - len(names)]


def test_the_faults_of_a_seed_do_not_depend_on_the_other_seeds() -> None:
    names = list(FAULTS)
    random.seed(1)
    alone = choose(names, 7, 2)
    random.seed(2)
    assert choose(names, 7, 2) == alone
    assert choose(["a", "b", "b"], 5, 3).count("b") == 2


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
