"""Closes a gap in PyFlink 2.3's async operator through which a checkpoint can complete past a record that failed.

When ``async_invoke`` raises, ``AsyncOperation`` stores the exception and completes the record with no result. At the
end of a bundle it waits until no record is in flight and looks for a stored exception only while it waits. Is the
failed record emitted before that wait begins, the bundle ends well, the checkpoint commits the record's offset, and the
exception is thrown at the next record. The restored job never sees the failed one again.

The guard looks once more after the wait, before the bundle may end. ``tests/faults/test_async_guard.py`` loses
records without it.
"""

from typing import Any, Protocol, runtime_checkable

SUPPORTED_VERSION = "2.3.0"


@runtime_checkable
class BundleListener(Protocol):
    """An AsyncFunction that wants to know when a bundle ends, in the bundle's thread."""

    def bundle_finished(self) -> None:
        """Called when nothing is in flight any more, and no record of the bundle has failed."""


def install() -> None:
    """Patches this process's ``AsyncOperation``; a second call changes nothing.

    Raises RuntimeError if PyFlink is another version than the one this was written and tested for.
    """
    # Only a Python worker needs these, and there they are loaded already.
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
