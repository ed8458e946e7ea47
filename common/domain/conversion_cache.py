"""A cache of what pieces of JSON were converted to. Pure, but for what it remembers."""

from collections.abc import Callable
from typing import Protocol, TypeVar


class Converted(Protocol):
    """What a piece of JSON was converted to: its texts, as ``str`` and once more encoded."""

    @property
    def parts(self) -> int:
        """The maps in it and their entries."""


Value = TypeVar("Value", bound=Converted)


# A dict, because then a hit is one look-up by the interpreter itself: for an item of 370 bytes 0.2 us, most of it for
# the hash of the JSON. An LRUCache of cachetools needs 0.4 us. An attempt at 10 questions has 20 hits.
class ConversionCache(dict[bytes, Value]):
    """``cache[json]`` is what ``convert`` makes of the JSON, and the same object for as long as it is remembered.

    The entries take at most ``max_size_in_bytes``. Once they would take more, they become the older generation. Its
    entries make room for new ones, one by one, except for those that are asked for again. A value that would need more
    than all of the room is not kept. Belongs to one thread.

    ``convert`` must be pure. What it raises is raised, and not kept.
    """

    def __init__(self, convert: Callable[[bytes], Value], max_size_in_bytes: int) -> None:
        """Remembers nothing yet."""
        super().__init__()
        self._convert = convert
        self._max_bytes = max_size_in_bytes
        self._bytes = 0
        self._older: dict[bytes, Value] = {}

    def __missing__(self, json: bytes) -> Value:
        """What is not in the younger generation, which is the dict itself."""
        value = self._older.pop(json, None)
        if value is None:
            value = self._convert(json)
            size = max_entry_bytes(json, value.parts)
            if size > self._max_bytes:
                return value
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._forget_one()
        self[json] = value
        return value

    def _forget_one(self) -> None:
        if not self._older:
            self._older = self.copy()
            self.clear()
        # The last one to come into its generation. What is asked for often came early, and is now asked for again.
        json, value = self._older.popitem()
        self._bytes -= max_entry_bytes(json, value.parts)


def max_entry_bytes(json: bytes, parts: int) -> int:
    """The memory that an entry takes at most: usually twice as much as it does take.

    The texts are in the key and in the encoding as UTF-8, and in ``str`` objects, with four bytes for each character if
    one of a text needs them. A map with one entry, which is two parts, takes up to 340 bytes besides. The rest are the
    other objects of an ``Item``, and 120 bytes in a dict that has just grown. To ask each object for its size would
    take longer than to convert responses.
    """
    return len(json) * 6 + parts * 180 + 800
