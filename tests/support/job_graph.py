"""What Flink is sent of jobs: `python -m tests.support.job_graph FOLDER MODULE ...` writes it to a file for each.

The connector has to be on the classpath. Nothing is connected to, and the job is not run.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local import jars
from local.config import REPOSITORY
from local.flink import FLINK_CONF
from local.prerequisites import Java


def serialized_jobs(
    java: Java, modules: Sequence[str], environment: Mapping[str, str], folder: Path
) -> dict[str, bytes]:
    """The stream graph and the job graph of each job that is configured by `environment`, as Java serializes them."""
    jars.FLINK_CONNECTOR.ensure(java, print)
    variables = {
        **os.environ,
        **environment,
        "JAVA_HOME": str(java.home),
        "FLINK_CONF_DIR": str(FLINK_CONF),
        "FLINK_LOG_DIR": str(folder),
        # How PyFlink takes a connector where no `flink run` brings it.
        "FLINK_TESTING": "1",
        "FLINK_TEST_LIBS": str(jars.FLINK_CONNECTOR_JAR),
    }
    result = subprocess.run(
        [sys.executable, "-m", "tests.support.job_graph", str(folder), *modules],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return {module: (folder / module).read_bytes() for module in modules}


def main(folder: str, *modules: str) -> None:
    from pyflink.java_gateway import get_gateway

    from common.flink import start_check
    from tests.support.captured_graphs import captured_graphs

    def serialized(graph: Any) -> bytes:
        serialize = get_gateway().jvm.org.apache.flink.util.InstantiationUtil.serializeObject
        return bytes(serialize(graph) + serialize(graph.getJobGraph()))

    start_check.check = lambda *_: None
    for module, graph in captured_graphs(modules, serialized).items():
        (Path(folder) / module).write_bytes(graph)


if __name__ == "__main__":
    main(*sys.argv[1:])
