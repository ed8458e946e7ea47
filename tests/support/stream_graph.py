"""Prints the operators of jobs as JSON: `python -m tests.support.stream_graph MODULE ...`.

The connector has to be on the classpath.

{module: [[name, uid or null], ...]} from source to sink, as Flink would run them. The jobs are not run.
"""

import json
import sys
from typing import Any

from tests.support.captured_graphs import captured_graphs


def operators(graph: Any) -> list[list[Any]]:
    nodes = sorted(graph.getStreamNodes().toArray(), key=lambda node: node.getId())
    return [[node.getOperatorName(), node.getTransformationUID()] for node in nodes]


if __name__ == "__main__":
    print(json.dumps(captured_graphs(sys.argv[1:], operators)))
