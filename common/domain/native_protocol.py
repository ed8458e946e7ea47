"""Values of Cassandra's types as its native protocol (version 3 and later) puts them on the wire. Pure.

Each function returns a value with its length before it, as it stands in a request, a collection or a user-defined type;
None becomes a null. What repeats, such as the fixed part of a question, can be encoded once and kept.

Source: native_protocol_v4.spec, section 6. Integers are big-endian.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from common.domain.events import to_time_ms

Encoder = Callable[[Any], bytes]
"""Makes a value its bytes with their length before them. Raises TypeError, ValueError or struct.error."""


class UserTypeEncoder(NamedTuple):
    """An encoder of lists whose elements are of a user-defined type."""

    encode: Encoder
    fields: Mapping[str, str]
    """The type of each field as CQL spells it, without ``frozen``, in the order in which they are encoded. On the wire
    they have no names, so those of the cluster's type must be the same. It may have more behind them."""

    def fits(self, found: Mapping[str, str]) -> bool:
        """Whether a type of the cluster with these fields begins with those of the encoder."""
        return list(found.items())[: len(self.fields)] == list(self.fields.items())


def shown_fields(fields: Mapping[str, str]) -> str:
    """The fields of a user-defined type as text: ``id text, score double``."""
    return ", ".join(f"{name} {cql}" for name, cql in fields.items())


_INT = struct.Struct(">i")
_SIZE_AND_BOOLEAN = struct.Struct(">i?")
_SIZE_AND_INT = struct.Struct(">ii")
_SIZE_AND_BIGINT = struct.Struct(">iq")
_SIZE_AND_FLOAT = struct.Struct(">if")
_SIZE_AND_DOUBLE = struct.Struct(">id")

NULL = _INT.pack(-1)


def sized(value: bytes) -> bytes:
    """Encoded bytes, such as a ``blob``, with their length before them."""
    return _INT.pack(len(value)) + value


def text(value: str | None) -> bytes:
    """A ``text``, ``varchar`` or ``ascii``."""
    if value is None:
        return NULL
    encoded = value.encode()
    return _INT.pack(len(encoded)) + encoded


def boolean(value: bool) -> bytes:
    """A ``boolean``."""
    return _SIZE_AND_BOOLEAN.pack(1, value)


def int32(value: int) -> bytes:
    """An ``int``."""
    return _SIZE_AND_INT.pack(4, value)


def bigint(value: int) -> bytes:
    """A ``bigint`` or ``counter``."""
    return _SIZE_AND_BIGINT.pack(8, value)


def float32(value: float) -> bytes:
    """A ``float``."""
    return _SIZE_AND_FLOAT.pack(4, value)


def double(value: float) -> bytes:
    """A ``double``."""
    return _SIZE_AND_DOUBLE.pack(8, value)


def timestamp(time_ms: int) -> bytes:
    """A ``timestamp``, from ms since 1970."""
    return _SIZE_AND_BIGINT.pack(8, time_ms)


def moment(value: int | datetime) -> bytes:
    """A ``timestamp``, from ms since 1970 or an aware datetime."""
    return _SIZE_AND_BIGINT.pack(8, value if isinstance(value, int) else to_time_ms(value))


def decimal(value: Decimal | None) -> bytes:
    """A ``decimal``, digit by digit: 12.40 stays 12.40. ``value`` is finite."""
    if value is None:
        return NULL
    digits, _, exponent = str(value).partition("E")
    whole, _, fraction = digits.partition(".")
    unscaled = int(whole + fraction)
    # Two's complement in the fewest bytes: a negative number needs no more bits than the number above it.
    length = (unscaled + (unscaled < 0)).bit_length() // 8 + 1
    return sized(_INT.pack(len(fraction) - int(exponent or 0)) + unscaled.to_bytes(length, "big", signed=True))


def elements(encoded: Sequence[bytes]) -> bytes:
    """A ``list`` or ``set`` of encoded elements."""
    return sized(_INT.pack(len(encoded)) + b"".join(encoded))


def entries(encode_key: Encoder, encode_value: Encoder, values: Mapping[Any, Any]) -> bytes:
    """A ``map``."""
    encoded = [encode_key(key) + encode_value(value) for key, value in values.items()]
    return sized(_INT.pack(len(encoded)) + b"".join(encoded))


def text_maps(maps: Iterable[Mapping[str, str]]) -> bytes:
    """A ``list<frozen<map<text, text>>>``."""
    return elements([entries(text, text, of_one) for of_one in maps])
