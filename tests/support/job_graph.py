"""What Flink is sent of a job: `python -m tests.support.job_graph MODULE FILE` writes it to a file.

The connector has to be on the classpath. Nothing is connected to, and the job is not run.
"""

import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from local import jars
from local.config import REPOSITORY
from local.flink import FLINK_CONF
from local.prerequisites import Java


def serialized_job(java: Java, module: str, environment: Mapping[str, str], folder: Path) -> bytes:
    """The stream graph and the job graph of a job that is configured by `environment`, as Java serializes them."""
    jars.FLINK_CONNECTOR.ensure(java, print)
    file = folder / "graph"
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
        [sys.executable, "-m", "tests.support.job_graph", module, str(file)],
        cwd=REPOSITORY,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return file.read_bytes()


def main(module: str, file: str) -> None:
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.java_gateway import get_gateway

    from common.flink import start_check

    def keep(environment: StreamExecutionEnvironment, job_name: str) -> None:
        graph = environment._generate_stream_graph(clear_transformations=True, job_name=job_name)
        serialize = get_gateway().jvm.org.apache.flink.util.InstantiationUtil.serializeObject
        Path(file).write_bytes(serialize(graph) + serialize(graph.getJobGraph()))

    StreamExecutionEnvironment.execute = keep
    start_check.check = lambda *_: None
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
