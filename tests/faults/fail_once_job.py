"""A Flink job in which every record fails the first time it is seen: ``fail_once_job.py FOLDER ROWS [GUARD ...]``.

GUARD is ``worker`` or ``operator``, the two halves of ``async_guard``. Prints nothing; a record that was applied
has a file ``FOLDER/applied-<n>``.

The gaps are open only if the record has failed before the bundle's end begins to wait, and if a checkpoint begins while
it waits. A worker that is slow at the end of its bundle opens them nearly every time, so this one is made slow.
"""

import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Row, Time, Types
from pyflink.datastream import AsyncDataStream, StreamExecutionEnvironment
from pyflink.datastream.functions import AsyncFunction, RuntimeContext
from pyflink.fn_execution.datastream.process.async_function.operation import AsyncOperation
from pyflink.table import StreamTableEnvironment

from common.flink.patches import async_guard
from local.jars import FLINK_CONNECTOR_JAR


class FailOnce(AsyncFunction):
    def __init__(self, folder: Path, guard_worker: bool) -> None:
        self._folder = folder
        self._guard_worker = guard_worker

    def open(self, runtime_context: RuntimeContext) -> None:
        make_end_of_bundles_slow()
        if self._guard_worker:
            async_guard.install()

    async def async_invoke(self, row: Row) -> list[Any]:
        seen = self._folder / f"seen-{row[0]}"
        if not seen.exists():
            seen.touch()
            raise ConnectionError(f"record {row[0]} fails the first time")
        (self._folder / f"applied-{row[0]}").touch()
        return []


def make_end_of_bundles_slow() -> None:
    finish = AsyncOperation.finish
    if not hasattr(finish, "__wrapped__"):

        @wraps(finish)
        def finish_slowly(operation: AsyncOperation) -> None:
            time.sleep(0.2)
            finish(operation)

        AsyncOperation.finish = finish_slowly


def main(folder: Path, rows: int, guards: list[str]) -> None:
    configuration = Configuration()
    for key, value in {
        "execution.checkpointing.interval": "100 ms",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "100000",
        "restart-strategy.fixed-delay.delay": "50 ms",
        "python.fn-execution.bundle.time": "20",
        "parallelism.default": "1",
    }.items():
        configuration.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.add_jars(FLINK_CONNECTOR_JAR.as_uri())
    tables = StreamTableEnvironment.create(environment)
    tables.execute_sql(
        f"""CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '5',
        'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '{rows}')"""
    )
    numbers = tables.to_data_stream(tables.from_path("numbers"))
    function = FailOnce(folder, "worker" in guards)
    if "operator" in guards:
        stage = async_guard.unordered_wait(numbers, function, 100, Types.STRING(), "fail once")
    else:
        stage = AsyncDataStream.unordered_wait(numbers, function, Time.milliseconds(0), 100, Types.STRING())
    stage.print()
    environment.execute("fail once")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
