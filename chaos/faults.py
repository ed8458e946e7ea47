"""The faults. Each one does its damage and then repairs what an operator or Kubernetes would repair."""

import time
from collections.abc import Callable

import psutil

from chaos.cluster import Cluster, Edit
from jobs import JOBS
from local.http_services import CONTENT, SEARCH, USER, Switch
from local.process import Server

Fault = Callable[[Cluster], None]
"""Returns after the damage, once everything that does not recover by itself has been restarted."""

CODE_CHANGE = Edit("common/flink/stage.py", "", "\nCHANGED = True\n")
"""Changes the archive of a job, but not what the job does."""

_ROUTES = (USER, CONTENT, SEARCH)


def _process(server: Server) -> psutil.Process:
    return psutil.Process(server.pid)


def _worker(cluster: Cluster) -> psutil.Process:
    """A random Python worker. Waits until there is one."""
    while not (workers := cluster.world.flink.task_managers[0].python_workers()):
        time.sleep(0.1)
    return cluster.source.choice(workers)


def _pause(cluster: Cluster, process: psutil.Process) -> None:
    process.suspend()
    time.sleep(cluster.pause_seconds)
    process.resume()


def _fill_disk_of_kafka(cluster: Cluster) -> None:
    """Limits the size of the broker's files to 0, so that every write fails and the broker shuts down. Restarts it."""
    kafka = cluster.world.kafka
    _process(kafka).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    while kafka.is_running:
        time.sleep(0.1)
    kafka.start()


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
    for parallelism in (2, 1):
        cluster.submit(name, cluster.stop_with_savepoint(name), parallelism)
        cluster.wait_until_recovered(checkpoints=1)


def _change_code(cluster: Cluster) -> None:
    name = cluster.source.choice(list(JOBS))
    cluster.submit(name, cluster.stop_with_savepoint(name), edits=[CODE_CHANGE])


FAULTS: dict[str, Fault] = {
    "kill -9 TaskManager": lambda cluster: cluster.world.flink.task_managers[0].restart(),
    "kill -9 JobManager": _kill_job_manager,
    "kill -9 Python worker": lambda cluster: _worker(cluster).kill(),
    "kill -9 Cassandra": lambda cluster: cluster.world.cassandra.restart(),
    "kill -9 Kafka": lambda cluster: cluster.world.kafka.restart(),
    "full disk under Kafka": _fill_disk_of_kafka,
    "kill -9 Redis": lambda cluster: cluster.world.redis.restart(),
    "SIGSTOP TaskManager": lambda cluster: _pause(cluster, _process(cluster.world.flink.task_managers[0])),
    "SIGSTOP JobManager": lambda cluster: _pause(cluster, _process(cluster.world.flink.job_manager)),
    "SIGSTOP Python worker": lambda cluster: _pause(cluster, _worker(cluster)),
    "SIGSTOP Cassandra": lambda cluster: _pause(cluster, _process(cluster.world.cassandra)),
    "SIGSTOP Kafka": lambda cluster: _pause(cluster, _process(cluster.world.kafka)),
    "SIGSTOP Redis": lambda cluster: _pause(cluster, _process(cluster.world.redis)),
    "HTTP services down": _refuse,
    "HTTP services slow": lambda cluster: _misbehave(cluster, Switch(delay_ms=3_000)),
    "HTTP services answer 500": lambda cluster: _misbehave(cluster, Switch(status=500)),
    "rescale to 2 and back": _rescale,
    "stop, start changed code": _change_code,
}
"""The faults by name."""
