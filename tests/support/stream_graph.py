"""Prints the operators of jobs as JSON: `python -m tests.support.stream_graph MODULE ...`.

The connector has to be on the classpath.

{module: [[name, uid or null], ...]} from source to sink, as Flink would run them. The jobs are not run.
"""

import json
import os
import runpy
import sys
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment

from local.http_services import job_settings


def main(modules: list[str]) -> None:
    operators: list[list[Any]] = []

    def keep(environment: StreamExecutionEnvironment, job_name: str) -> None:
        graph = environment._generate_stream_graph(clear_transformations=True, job_name=job_name)
        nodes = sorted(graph.getStreamNodes().toArray(), key=lambda node: node.getId())
        operators.extend([node.getOperatorName(), node.getTransformationUID()] for node in nodes)

    StreamExecutionEnvironment.execute = keep
    graphs = {}
    for module in modules:
        operators = []
        sys.argv = [module]
        # Each job refuses the keys of the others.
        own = job_settings("http://127.0.0.1:9")[module.removeprefix("jobs.")]
        os.environ.update(own)
        runpy.run_module(module, run_name="__main__")
        for name in own:
            del os.environ[name]
        graphs[module] = operators
    print(json.dumps(graphs))


if __name__ == "__main__":
    main(sys.argv[1:])
