"""The stream graphs of jobs, which are not run. PyFlink's connector has to be on the classpath."""

import os
import runpy
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pyflink.datastream import StreamExecutionEnvironment

from local.http_services import job_settings

Kept = TypeVar("Kept")


def captured_graphs(modules: Iterable[str], read: Callable[[Any], Kept]) -> dict[str, Kept]:
    """What `read` makes of each job's stream graph, a Java object, by module. For a process of its own."""
    kept: list[Kept] = []

    def keep(environment: StreamExecutionEnvironment, job_name: str) -> None:
        kept.append(read(environment._generate_stream_graph(clear_transformations=True, job_name=job_name)))

    StreamExecutionEnvironment.execute = keep
    graphs = {}
    for module in modules:
        sys.argv = [module]
        # Each job refuses the keys of the others.
        own = job_settings("http://127.0.0.1:9")[module.removeprefix("jobs.")]
        os.environ.update(own)
        runpy.run_module(module, run_name="__main__")
        for name in own:
            del os.environ[name]
        graphs[module] = kept.pop()
    return graphs
