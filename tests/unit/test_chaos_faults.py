"""Which faults there are, and that one which the machine does not allow says so."""

import socket

import pytest

from chaos.faults import FAULTS, faults_for
from chaos.node_faults import Impossible, packets_dropped
from local.config import LOOPBACK


def test_three_nodes_have_every_fault_and_one_node_has_those_that_it_survives() -> None:
    assert list(faults_for(3)) == list(FAULTS)
    left_out = set(FAULTS) - set(faults_for(1))
    assert left_out == {name for name, fault in FAULTS.items() if fault.needs_three}
    assert "kill -9 two Cassandra nodes" in left_out
    assert "kill -9 Cassandra" in faults_for(1)


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
