"""Prints the operators of jobs as JSON: `python -m tests.support.stream_graph MODULE ...`.

The connector has to be on the classpath.

{module: [[name, uid or null], ...]} from source to sink, as Flink would run them. The jobs are not run.
"""

import json
import runpy
import sys
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment


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
        runpy.run_module(module, run_name="__main__")
        graphs[module] = operators
    print(json.dumps(graphs))


if __name__ == "__main__":
    main(sys.argv[1:])
