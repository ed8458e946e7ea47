"""CQL values as Cassandra's native protocol (version 3 and later) puts them on the wire. Pure.

For what the driver cannot bind: acsylla 1.2.0 sends the text of a decimal as if it were its number (12.4 arrives as
82537221.2), and walks nested collections value by value. A value that is encoded here is bound as bytes to a statement
that is not prepared, where the driver has no type to convert it to. What repeats can be encoded once and kept.

Source: native_protocol_v5.spec, section 6. Integers are big-endian. All functions but :func:`list_value` return a
value with its length before it, as it stands in a collection or a user-defined type; None becomes a null.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

_INT = struct.Struct(">i")
_SIZE_AND_DOUBLE = struct.Struct(">id")
_SIZE_AND_BIGINT = struct.Struct(">iq")
_NULL = _INT.pack(-1)


def sized(value: bytes) -> bytes:
    """An encoded value with its length before it."""
    return _INT.pack(len(value)) + value


def text(value: str | None) -> bytes:
    """A ``text``."""
    return _NULL if value is None else sized(value.encode())


def double(value: float) -> bytes:
    """A ``double``."""
    return _SIZE_AND_DOUBLE.pack(8, value)


def timestamp(time_ms: int) -> bytes:
    """A ``timestamp``, from ms since 1970."""
    return _SIZE_AND_BIGINT.pack(8, time_ms)


def decimal(value: Decimal | None) -> bytes:
    """A ``decimal``, digit by digit: 12.40 stays 12.40. ``value`` is finite."""
    if value is None:
        return _NULL
    digits, _, exponent = str(value).partition("E")
    whole, _, fraction = digits.partition(".")
    unscaled = int(whole + fraction)
    # Two's complement in the fewest bytes: a negative number needs no more bits than the number above it.
    length = (unscaled + (unscaled < 0)).bit_length() // 8 + 1
    return sized(_INT.pack(len(fraction) - int(exponent or 0)) + unscaled.to_bytes(length, "big", signed=True))


def text_maps(maps: Iterable[Mapping[str, str]]) -> bytes:
    """A ``list<frozen<map<text, text>>>``."""
    return sized(list_value([_text_map(entries) for entries in maps]))


def _text_map(entries: Mapping[str, str]) -> bytes:
    return sized(_INT.pack(len(entries)) + b"".join([text(key) + text(value) for key, value in entries.items()]))


def list_value(elements: Sequence[bytes]) -> bytes:
    """A ``list`` of sized elements, without its own length: ready to be bound."""
    return _INT.pack(len(elements)) + b"".join(elements)
