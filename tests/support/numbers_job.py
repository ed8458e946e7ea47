"""A job for tests of the cluster itself: `numbers_job.py FOLDER [stuck | broken]`.

It counts up in two subtasks for ever, each in a Python worker of its own, which writes a file
`FOLDER/worker-<subtask>-<pid>`, and `FOLDER/fixed-window-<pid>` if it has fixed the window of its connections. With
`stuck` the first record of each worker waits for a thread for ever, as it would for a server that does not answer, and
the worker of subtask 0 opens the stage of the real jobs, which has it watched: it ends with its task. With `broken`
each worker writes its file and fails before it takes a record.
"""

import importlib.resources
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyflink.common import Types, WatermarkStrategy
from pyflink.datastream import ProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.number_seq import NumberSequenceSource

from common.config.model import BatchConfig, RetryConfig
from common.flink.job import Job, Outcome
from common.flink.patches import async_guard
from common.flink.stage import Stage
from common.metrics import Metrics


class Unused(Job[int, int]):
    name = "Unused"
    batch = BatchConfig()
    retry = RetryConfig()

    def __init__(self) -> None:
        pass

    def decode(self, value: bytes, timestamp_ms: int) -> int:
        raise NotImplementedError

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        pass

    def group_of(self, event: int) -> int:
        raise NotImplementedError

    async def apply(self, events_by_group: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[Outcome]]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


class Count(ProcessFunction):
    def __init__(self, folder: Path, mode: str) -> None:
        self._folder = folder
        self._is_stuck = mode == "stuck"
        self._is_broken = mode == "broken"

    def open(self, runtime_context: RuntimeContext) -> None:
        self._subtask = runtime_context.get_index_of_this_subtask()
        if self._is_broken:
            self._say_that_the_worker_is_here()
            raise RuntimeError("this worker cannot be opened")
        if self._is_stuck and self._subtask == 0:
            Stage(Unused()).open(runtime_context)
        if "common.flink.patches.fixed_window" in sys.modules:
            (self._folder / f"fixed-window-{os.getpid()}").touch()
        self._counter = runtime_context.get_metrics_group().counter("events_in")

    def process_element(self, number: int, _: ProcessFunction.Context) -> Iterator[int]:
        self._counter.inc()
        self._say_that_the_worker_is_here()
        if self._is_stuck:
            ThreadPoolExecutor().submit(time.sleep, 3600).result()
        time.sleep(0.001)
        yield number

    def _say_that_the_worker_is_here(self) -> None:
        (self._folder / f"worker-{self._subtask}-{os.getpid()}").touch()


def main(folder: Path, mode: str = "") -> None:
    # Data files of a package are read out of the archive, on the client as on the workers.
    assert importlib.resources.files("jobs.numbers").joinpath("config.yaml").read_text() == "a: 1\n"
    environment = StreamExecutionEnvironment.get_execution_environment()
    numbers = environment.from_source(NumberSequenceSource(0, 1 << 40), WatermarkStrategy.no_watermarks(), "numbers")
    counted = async_guard.process(numbers, Count(folder, mode), Types.LONG(), "count").uid("count")
    counted.print().name("out")
    environment.execute("numbers")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
