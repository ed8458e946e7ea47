"""Closes two gaps in PyFlink 2.3's async operator that let a checkpoint complete past a record that failed.

**In the worker.** When ``async_invoke`` raises, ``AsyncOperation`` stores the exception and completes the record with
no result. At the end of a bundle it waits until no record is in flight, and looks for a stored exception only while it
waits. If the failed record is emitted before that wait begins, the bundle ends without an error, the checkpoint commits
the record's offset, and the exception is raised at the next record. The restored job never sees the failed record
again. :func:`install` makes the operator look for exceptions once more after the wait.

**In the TaskManager.** If a bundle that was ended by its timer fails, it fails in a callback, and Flink passes the
exception to another thread. A barrier that was waiting comes next: its checkpoint ends the bundle again, finds no
bundle, and completes. The failure of a killed worker is lost in the same way. The operator of :func:`process` keeps
failing once a bundle has failed.

``tests/faults/test_async_guard.py`` loses records through each gap.
"""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pyflink.common.typeinfo import TypeInformation
    from pyflink.datastream import DataStream
    from pyflink.datastream.functions import AsyncFunction, AsyncFunctionDescriptor, ProcessFunction

SUPPORTED_VERSION = "2.3.0"


@runtime_checkable
class BundleListener(Protocol):
    """An AsyncFunction that wants to know when a bundle ends, in the bundle's thread."""

    def bundle_finished(self) -> None:
        """Called when no record is in flight any more and none of the bundle has failed."""


def install() -> None:
    """Patches ``AsyncOperation`` in this process. A second call changes nothing.

    Raises RuntimeError if PyFlink's version is not the one that this was written and tested for.
    """
    # Only a Python worker needs these modules, and has loaded them already.
    from pyflink.fn_execution.datastream.process.async_function.operation import AsyncOperation  # noqa: PLC0415
    from pyflink.version import __version__  # noqa: PLC0415

    if __version__ != SUPPORTED_VERSION:
        raise RuntimeError(
            f"the guard of the async operator is written for apache-flink {SUPPORTED_VERSION}, and this is "
            f"{__version__}: check AsyncOperation._wait_for_in_flight_inputs_finished and run the test of the guard"
        )
    wait = AsyncOperation._wait_for_in_flight_inputs_finished
    if hasattr(wait, "unguarded"):
        return

    def wait_and_look_again(operation: Any) -> None:
        wait(operation)
        operation._raise_exception_if_exists()
        function = getattr(operation.async_invoke_func, "__self__", None)
        if isinstance(function, BundleListener):
            function.bundle_finished()

    wait_and_look_again.unguarded = wait  # type: ignore[attr-defined]
    AsyncOperation._wait_for_in_flight_inputs_finished = wait_and_look_again


def unordered_wait(
    stream: "DataStream", function: "AsyncFunction", capacity: int, output_type: "TypeInformation", name: str
) -> "DataStream":
    """``AsyncDataStream.unordered_wait`` without a timeout, with the operator of :func:`process`.

    ``capacity`` limits the records in flight in one subtask.
    """
    # Only the program that submits a job needs these modules.
    from pyflink.common import Time  # noqa: PLC0415
    from pyflink.datastream.async_data_stream import async_retry_strategies  # noqa: PLC0415
    from pyflink.datastream.functions import AsyncFunctionDescriptor  # noqa: PLC0415

    descriptor = AsyncFunctionDescriptor(
        function,
        Time.milliseconds(0),
        capacity,
        async_retry_strategies.NO_RETRY_STRATEGY,
        AsyncFunctionDescriptor.OutputMode.UNORDERED,
    )
    return process(stream, descriptor, output_type, name)


def process(
    stream: "DataStream",
    function: "ProcessFunction | AsyncFunctionDescriptor",
    output_type: "TypeInformation",
    name: str,
) -> "DataStream":
    """``DataStream.process`` with an operator that never lets a checkpoint pass a failed bundle.

    Needs the project's connector jar.
    """
    # Only the program that submits a job needs these modules.
    from pyflink.datastream import DataStream  # noqa: PLC0415
    from pyflink.datastream.data_stream import _get_one_input_stream_operator  # noqa: PLC0415
    from pyflink.fn_execution.flink_fn_execution_pb2 import UserDefinedDataStreamFunction  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    operator, java_output_type = _get_one_input_stream_operator(
        stream, function, UserDefinedDataStreamFunction.PROCESS, output_type
    )
    guarded = get_gateway().jvm.org.sunbird.aggregates.PythonStageOperator(operator)
    return DataStream(stream._j_data_stream.transform(name, java_output_type, guarded))
