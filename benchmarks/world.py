"""The real servers that a benchmark runs on."""

import math
import os
from collections.abc import Iterable

from local.config import Config, environment_name, load_config
from local.flink import shipped_sizes
from local.world import World


def world_config(parallelism: int, commitlog_sync: str) -> Config:
    """TaskManagers of the shipped size, enough for one job of this parallelism.

    Environment variables override the sizes, but not ``commitlog_sync``.
    """
    sizes = shipped_sizes()
    sizes["flink.task_managers"] = math.ceil(parallelism / sizes["flink.slots_per_task_manager"])
    return load_config(os.environ | {environment_name("cassandra.commitlog_sync"): commitlog_sync}, sizes=sizes)


def benchmark_world(config: Config, servers: Iterable[str]) -> World:
    """The servers, not started. Cassandra has its whole heap from the start.

    While a heap grows, the serial collector stops Cassandra for 150 ms twice a minute. A production node does not.
    """
    world = World(config, servers)
    world.cassandra.java_options = (f"-Xms{config.cassandra.heap_mib}m",)
    return world
