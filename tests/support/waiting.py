"""Waiting for what another process does."""

import time
from collections.abc import Callable

import psutil

TIMEOUT_SECONDS = 180.0
"""Only a test that fails waits for so long. A busy machine takes a minute for what an idle one does in two seconds."""


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Returns as soon as the condition is true. Raises AssertionError with `what` if that takes too long."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {timeout_seconds:g} s: {what}"
        time.sleep(0.05)


def wait_until_steady(value: Callable[[], float], what: str, seconds: float = 5.0) -> float:
    """Returns the value as soon as it is not 0 and has not changed for `seconds`."""
    last, since = 0.0, time.monotonic()

    def is_steady() -> bool:
        nonlocal last, since
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        return last != 0 and time.monotonic() - since > seconds

    wait_until(is_steady, what)
    return last


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or a zombie: it is one until its parent, or the machine's first process, has noticed."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
