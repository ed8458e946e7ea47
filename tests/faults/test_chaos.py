"""The short form of `make chaos`: two faults on a cluster of its own, and the oracle has nothing to say."""

from chaos.__main__ import main


def test_nothing_is_lost_and_nothing_is_counted_twice() -> None:
    faults = ["kill -9 Python worker", "kill -9 Cassandra"]
    assert main(["--seeds", "1", "--faults-per-seed", "2", "--faults", *faults]) == 0
