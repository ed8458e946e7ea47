"""A limit for the bytes of the events that are inside a stage."""

import threading


class ByteBudget:
    """Bytes that the thread of the bundle takes and the event loop gives back. Thread-safe."""

    def __init__(self, limit: int) -> None:
        """``limit`` is in bytes. One event that is larger than the limit passes alone."""
        self._limit = limit
        self._in_use = 0
        self._is_awaited = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Blocks until there is room for ``size`` bytes."""
        with self._changed:
            while self._in_use and self._in_use + size > self._limit:
                self._is_awaited = True
                self._changed.wait()
            self._is_awaited = False
            self._in_use += size

    def give_back(self, size: int) -> None:
        """Makes room for others."""
        with self._changed:
            self._in_use -= size
            if self._is_awaited:
                self._changed.notify()
