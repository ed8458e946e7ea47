"""A job for tests of the cluster itself: `numbers_job.py FOLDER [watched] [stuck]`.

It counts up in two subtasks for ever, and each Python worker writes a file `FOLDER/worker-<pid>`. `watched` workers end
with their task. In a `stuck` worker the first record waits for a thread for ever, as it would for a server that does
not answer.
"""

import importlib.resources
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import ProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource

from common.flink import worker_watch
from common.flink.patches import async_guard


class Count(ProcessFunction):
    def __init__(self, folder: Path, options: list[str]) -> None:
        self._folder = folder
        self._options = options

    def open(self, runtime_context: RuntimeContext) -> None:
        if "watched" in self._options:
            worker_watch.end_with_task()
        self._counter = runtime_context.get_metrics_group().counter("events_in")

    def process_element(self, number: int, _: ProcessFunction.Context) -> Iterator[int]:
        self._counter.inc()
        (self._folder / f"worker-{os.getpid()}").touch()
        if "stuck" in self._options:
            ThreadPoolExecutor().submit(time.sleep, 3600).result()
        time.sleep(0.001)
        yield number


def main(folder: Path, options: list[str]) -> None:
    # Data files of a package are read out of the archive, on the client as on the workers.
    assert importlib.resources.files("jobs.numbers").joinpath("config.yaml").read_text() == "a: 1\n"
    environment = StreamExecutionEnvironment.get_execution_environment()
    numbers = environment.from_source(NumberSequenceSource(0, 1 << 40), WatermarkStrategy.no_watermarks(), "numbers")
    counted = async_guard.process(numbers, Count(folder, options), Types.LONG(), "count").uid("count")
    counted.print().name("out")
    environment.execute("numbers")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
