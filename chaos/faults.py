"""The faults. Each one does its damage and then repairs what an operator or Kubernetes would repair."""

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import psutil

from chaos import node_faults
from chaos.cluster import PARALLELISM, Cluster, Edit
from jobs import JOBS
from local.flink import TaskManager
from local.http_services import CONTENT, SEARCH, USER, Switch
from local.process import Server

CODE_CHANGE = Edit("common/flink/stage.py", "", "\nCHANGED = True\n")
"""Changes the archive of a job, but not what the job does."""

_ROUTES = (USER, CONTENT, SEARCH)


def _process(server: Server) -> psutil.Process:
    return psutil.Process(server.pid)


def _task_manager(cluster: Cluster) -> TaskManager:
    """A random TaskManager that runs tasks. Waits until there is one."""
    task_managers = cluster.world.flink.task_managers
    while not (at_work := [server for server in task_managers if server.is_running and server.python_workers()]):
        time.sleep(0.1)
    return cluster.source.choice(at_work)


def _worker(cluster: Cluster) -> psutil.Process:
    """A random Python worker. Waits until there is one."""
    while not (workers := _task_manager(cluster).python_workers()):
        time.sleep(0.1)
    return cluster.source.choice(workers)


def _pause(cluster: Cluster, processes: Iterable[psutil.Process]) -> None:
    """If this is longer than Flink's heartbeat timeout, paused tasks have successors when they go on."""
    paused: list[psutil.Process] = []
    for process in processes:
        process.suspend()
        paused.append(process)
    time.sleep(cluster.pause_seconds)
    for process in paused:
        # Flink may have killed a paused worker.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def _pause_machine(cluster: Cluster) -> None:
    """A TaskManager and its workers stop and go on together, like a virtual machine that is moved."""
    task_manager = _task_manager(cluster)
    _pause(cluster, [*task_manager.python_workers(), _process(task_manager)])


def _replace_paused_worker(cluster: Cluster) -> None:
    """Pauses a worker and kills all others: the jobs restart, and the paused worker goes on beside its successor."""
    paused = _worker(cluster)
    paused.suspend()
    for task_manager in cluster.world.flink.task_managers:
        for worker in task_manager.python_workers():
            if worker != paused:
                worker.kill()
    time.sleep(cluster.pause_seconds)
    with contextlib.suppress(psutil.NoSuchProcess):
        paused.resume()


def _kill_job_manager(cluster: Cluster) -> None:
    """Without high availability the jobs are gone, but their latest checkpoints remain: submits the jobs from these."""
    cluster.world.flink.job_manager.restart()
    cluster.submit_all({name: cluster.last_checkpoint(name) for name in JOBS})


def _refuse(cluster: Cluster) -> None:
    cluster.services.refuse()
    time.sleep(cluster.pause_seconds)
    cluster.services.accept()


def _misbehave(cluster: Cluster, switch: Switch) -> None:
    for route in _ROUTES:
        cluster.services.switch(route, switch)
    time.sleep(cluster.pause_seconds)
    for route in _ROUTES:
        cluster.services.switch(route, Switch())


def _rescale(cluster: Cluster) -> None:
    name = cluster.source.choice(list(JOBS))
    for parallelism in (1, PARALLELISM):
        cluster.submit(name, cluster.stop_with_savepoint(name), parallelism)
        cluster.wait_until_recovered(checkpoints=1)


def _change_code(cluster: Cluster) -> None:
    name = cluster.source.choice(list(JOBS))
    cluster.submit(name, cluster.stop_with_savepoint(name), edits=[CODE_CHANGE])


class Fault(NamedTuple):
    """A fault. ``needs_three`` faults make sense only with three Cassandra nodes and three Kafka brokers."""

    inject: Callable[[Cluster], None]
    """Returns after the damage, once everything that does not recover by itself has been restarted. Raises
    Impossible."""
    needs_three: bool = False


FAULTS: dict[str, Fault] = {
    "kill -9 TaskManager": Fault(lambda cluster: _task_manager(cluster).restart()),
    "kill -9 JobManager": Fault(_kill_job_manager),
    "kill -9 Python worker": Fault(lambda cluster: _worker(cluster).kill()),
    "kill -9 Cassandra": Fault(node_faults.kill_cassandra),
    "kill -9 Kafka": Fault(node_faults.kill_kafka),
    "kill -9 Cassandra and Kafka": Fault(node_faults.kill_cassandra_and_kafka, needs_three=True),
    "kill -9 Redis": Fault(lambda cluster: cluster.world.redis.restart()),
    "kill -9 two Cassandra nodes": Fault(node_faults.kill_two_cassandra, needs_three=True),
    "kill -9 two Kafka brokers": Fault(node_faults.kill_two_kafka, needs_three=True),
    "rolling restart of Cassandra": Fault(node_faults.restart_cassandra_in_turn, needs_three=True),
    "rolling restart of Kafka": Fault(node_faults.restart_kafka_in_turn, needs_three=True),
    "Cassandra node cut off": Fault(node_faults.cut_off_cassandra, needs_three=True),
    "clock jump under Cassandra": Fault(node_faults.move_clock_of_cassandra),
    "full disk under Cassandra": Fault(node_faults.fill_disk_of_cassandra),
    "full disk under Kafka": Fault(node_faults.fill_disk_of_kafka),
    "SIGSTOP TaskManager": Fault(lambda cluster: _pause(cluster, [_process(_task_manager(cluster))])),
    "SIGSTOP TaskManager and workers": Fault(_pause_machine),
    "SIGSTOP JobManager": Fault(lambda cluster: _pause(cluster, [_process(cluster.world.flink.job_manager)])),
    "SIGSTOP Python worker": Fault(lambda cluster: _pause(cluster, [_worker(cluster)])),
    "SIGSTOP Python worker, kill -9 others": Fault(_replace_paused_worker),
    "SIGSTOP Cassandra": Fault(node_faults.pause_cassandra),
    "SIGSTOP Kafka": Fault(node_faults.pause_kafka),
    "SIGSTOP Redis": Fault(lambda cluster: _pause(cluster, [_process(cluster.world.redis)])),
    "HTTP services down": Fault(_refuse),
    "HTTP services slow": Fault(lambda cluster: _misbehave(cluster, Switch(delay_ms=3_000))),
    "HTTP services answer 500": Fault(lambda cluster: _misbehave(cluster, Switch(status=500))),
    "rescale to 1 and back": Fault(_rescale),
    "stop, start changed code": Fault(_change_code),
}
"""The faults by name."""


def faults_for(nodes: int) -> Sequence[str]:
    """The names of the faults that make sense with so many nodes and brokers."""
    return [name for name, fault in FAULTS.items() if nodes > 1 or not fault.needs_three]


class Chosen(NamedTuple):
    """A fault by its name, and how long it lasts (s), if it is one that lasts."""

    name: str
    pause_seconds: float


def choose(names: Sequence[str], pauses: Sequence[float], seed: int, number: int) -> list[Chosen]:
    """Chooses `number` of the names for a seed, each with one of the pauses (s).

    They are in one shuffled order, of which the next seed gets the next ones: with enough seeds, a run has all of them.
    Each time that a name comes, it has the next of the pauses: with twice as many seeds, each has had two of them. They
    do not all begin with the same one, so that a short run has different pauses, too.
    """
    shuffled = random.Random(0).sample(names, len(names))
    endless = [shuffled[index % len(shuffled)] for index in range((seed + 1) * number)]
    return [
        Chosen(name, pauses[(shuffled.index(name) + endless[:index].count(name)) % len(pauses)])
        for index, name in enumerate(endless)
        if index >= seed * number
    ]
