"""Faults of Cassandra nodes and Kafka brokers. With several, a random one is hit.

Each fault ends when the cluster is whole again, as an operator would wait for it before the next step.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from chaos.cluster import POLL_SECONDS, RECOVERY_TIMEOUT_SECONDS, Cluster
from chaos.observe import open_tables
from local import jars
from local.errors import LocalWorldError
from local.kafka_broker import Kafka
from local.process import Server
from local.servers import Cassandra

CLOCK_JUMP_SECONDS = 300
_CLOCK_SOURCE = Path(__file__).with_name("JumpingClock.java")
_FILTER_TABLE = "sunbird_chaos"
_FILLER_KEYSPACE = "chaos_filler"
_FILLER_BYTES = 512 * 1024


class Impossible(Exception):
    """The machine does not allow this fault. The message says what is missing."""


def kill_cassandra(cluster: Cluster) -> None:
    _cassandra(cluster).restart()
    _wait_for_cassandra(cluster)


def kill_kafka(cluster: Cluster) -> None:
    _kafka(cluster).restart()
    _wait_for_kafka(cluster)


def kill_cassandra_and_kafka(cluster: Cluster) -> None:
    """A node and a broker at once, as if they had been on the same machine."""
    _kill_together([_cassandra(cluster), _kafka(cluster)])
    _wait_for_cassandra(cluster)
    _wait_for_kafka(cluster)


def kill_two_cassandra(cluster: Cluster) -> None:
    """Nothing can be read or written until one is back: the jobs have to wait."""
    _kill_two(cluster, cluster.world.cassandra_nodes)
    _wait_for_cassandra(cluster)


def kill_two_kafka(cluster: Cluster) -> None:
    """Neither a record nor a change of the cluster can be acknowledged until one is back."""
    _kill_two(cluster, cluster.world.kafka_brokers)
    _wait_for_kafka(cluster)


def restart_cassandra_in_turn(cluster: Cluster) -> None:
    """As in an upgrade: SIGTERM, start, wait until the cluster is whole, next node."""
    _restart_in_turn(cluster.world.cassandra_nodes, lambda: _wait_for_cassandra(cluster))


def restart_kafka_in_turn(cluster: Cluster) -> None:
    """As in an upgrade: SIGTERM, start, wait until all replicas are in sync, next broker."""
    _restart_in_turn(cluster.world.kafka_brokers, lambda: _wait_for_kafka(cluster))


def pause_cassandra(cluster: Cluster) -> None:
    """The others wait for its answers until they take it for dead. It does not know that it was away."""
    _pause(cluster, _cassandra(cluster))
    _wait_for_cassandra(cluster)


def pause_kafka(cluster: Cluster) -> None:
    """The others take over its partitions. It does not know that it was away."""
    _pause(cluster, _kafka(cluster))
    _wait_for_kafka(cluster)


def cut_off_cassandra(cluster: Cluster) -> None:
    """Clients reach the node, but what the other nodes send it is dropped. Needs root and nft.

    Its own messages get through, and the answers do not: as a coordinator it writes without learning so, until it takes
    the others for dead. All connections have the source 127.0.0.1, so those of one node cannot be told from others.
    """
    node = _cassandra(cluster)
    port = cluster.world.config.cassandra.storage_port
    with packets_dropped(f"ip daddr {node.address} tcp dport {port} drop"):
        time.sleep(cluster.pause_seconds)
    _wait_for_cassandra(cluster)


def move_clock_of_cassandra(cluster: Cluster) -> None:
    """Restarts a node with a clock of our own, which then jumps ahead, and back again.

    Not with libfaketime: its version of Debian 12 lets no thread of a JVM wait, so the node never starts.
    """
    node = _cassandra(cluster)
    classes = node.state_folder / "clock"
    javac = cluster.world.java.home / "bin" / "javac"
    subprocess.run([javac, "-cp", jars.CASSANDRA.classpath, "-d", classes, _CLOCK_SOURCE], check=True)
    jump = classes / "jump"
    node.java_options = (
        *("-cp", f"{classes}:{jars.CASSANDRA.classpath}"),
        f"-Dcassandra.clock={_CLOCK_SOURCE.stem}",
        f"-Dchaos.clock.file={jump}",
        f"-Dchaos.clock.jump_ms={CLOCK_JUMP_SECONDS * 1000}",
    )
    try:
        node.restart()
        _wait_for_cassandra(cluster)
        jump.touch()
        if (seen := node.clock() - time.time()) < CLOCK_JUMP_SECONDS / 2:
            raise LocalWorldError(f"the clock of {node.name} is ahead by {seen:g} s and not {CLOCK_JUMP_SECONDS} s")
        time.sleep(cluster.pause_seconds / 2)
        jump.unlink()
        time.sleep(cluster.pause_seconds / 2)
    finally:
        jump.unlink(missing_ok=True)
        node.java_options = ()
    node.restart()
    _wait_for_cassandra(cluster)


def fill_disk_of_cassandra(cluster: Cluster) -> None:
    """Limits the size of the node's files to 0, so that its next file cannot be written, and the node ends.

    The segment of its commit log exists already: rows of another keyspace fill it.
    """
    node = _cassandra(cluster)
    # Before the limit, because a change of the schema is written to disk.
    with open_tables(cluster.world) as session:
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {_FILLER_KEYSPACE} WITH replication = "
            f"{{'class': 'SimpleStrategy', 'replication_factor': {len(cluster.world.cassandra_nodes)}}}"
        )
        session.execute(f"CREATE TABLE IF NOT EXISTS {_FILLER_KEYSPACE}.rows (id int PRIMARY KEY, filler blob)")
        insert = session.prepare(f"INSERT INTO {_FILLER_KEYSPACE}.rows (id, filler) VALUES (?, ?)")
        psutil.Process(node.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
        deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
        number = 0
        while node.is_running:
            # The answer does not matter: a node that is alone cannot give one.
            session.execute_async(insert, (number % 8, bytes(_FILLER_BYTES)))
            number += 1
            if time.monotonic() > deadline:
                raise LocalWorldError(f"{node.name} is still running after {number} rows that it cannot store")
            time.sleep(POLL_SECONDS)
    node.start()
    _wait_for_cassandra(cluster)


def fill_disk_of_kafka(cluster: Cluster) -> None:
    """Limits the size of the broker's files to 0, so that every write fails and the broker shuts down. Restarts it."""
    broker = _kafka(cluster)
    psutil.Process(broker.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    while broker.is_running:
        time.sleep(POLL_SECONDS)
    broker.start()
    _wait_for_kafka(cluster)


def _cassandra(cluster: Cluster) -> Cassandra:
    return cluster.source.choice(cluster.world.cassandra_nodes)


def _kafka(cluster: Cluster) -> Kafka:
    return cluster.source.choice(cluster.world.kafka_brokers)


def _wait_for_cassandra(cluster: Cluster) -> None:
    cluster.world.wait_until_nodes_see_each_other()


def _wait_for_kafka(cluster: Cluster) -> None:
    deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
    while not cluster.world.kafka.has_all_replicas():
        if time.monotonic() > deadline:
            raise LocalWorldError(f"replicas are not in sync {RECOVERY_TIMEOUT_SECONDS:g} s after a fault of Kafka")
        time.sleep(POLL_SECONDS)


def _kill_two(cluster: Cluster, nodes: list[Cassandra] | list[Kafka]) -> None:
    _kill_together(cluster.source.sample(list(nodes), 2), cluster.pause_seconds)


def _kill_together(servers: Sequence[Server], down_seconds: float = 0) -> None:
    for server in servers:
        server.kill()
    time.sleep(down_seconds)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_until_ready()


def _restart_in_turn(nodes: list[Cassandra] | list[Kafka], wait: Callable[[], None]) -> None:
    for node in nodes:
        process = psutil.Process(node.pid)
        process.terminate()
        deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
        while node.is_running:
            if time.monotonic() > deadline:
                raise LocalWorldError(f"{node.name} has not ended {RECOVERY_TIMEOUT_SECONDS:g} s after SIGTERM")
            time.sleep(POLL_SECONDS)
        node.start()
        wait()


def _pause(cluster: Cluster, server: Server) -> None:
    process = psutil.Process(server.pid)
    process.suspend()
    time.sleep(cluster.pause_seconds)
    process.resume()


@contextmanager
def packets_dropped(rule: str) -> Iterator[None]:
    """Drops the packets that arrive and match the rule of nftables. Raises Impossible."""
    nft = shutil.which("nft")
    if nft is None or os.geteuid() != 0:
        raise Impossible("packets can only be filtered as root, with nft (Debian: nftables)")
    table = f"inet {_FILTER_TABLE}_{os.getpid()}"
    rules = f"table {table} {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}"
    result = subprocess.run([nft, rules], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Impossible(f"nft refuses to filter packets: {result.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([nft, "delete", "table", *table.split()], check=True)
