"""Converts values to bytes and back, by the type of their column.

The driver's own conversion is slow. The types that our tables use are converted here, all others by the driver.

A ``timestamp`` is read as ms since 1970 and not as a datetime, because a column may hold times that no datetime can.
"""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cassandra import cqltypes

from common.domain import native_protocol
from common.domain.native_protocol import Encoder

PROTOCOL_VERSION = 4
"""Version 5 adds checksums that the driver computes in Python. Cassandra has known version 4 since 2.2."""

Decoder = Callable[[bytes], Any]
"""Decodes the bytes of one value, without their length. Raises an error if they are not of its type."""

_unpack_int = struct.Struct(">i").unpack_from
_unpack_double = struct.Struct(">d").unpack
_unpack_float = struct.Struct(">f").unpack
_unpack_size_and_double = struct.Struct(">id").unpack_from

_ENCODERS: dict[str, Encoder] = {
    "ascii": native_protocol.text,
    "bigint": native_protocol.bigint,
    "blob": native_protocol.sized,
    "boolean": native_protocol.boolean,
    "counter": native_protocol.bigint,
    "decimal": native_protocol.decimal,
    "double": native_protocol.double,
    "float": native_protocol.float32,
    "int": native_protocol.int32,
    "text": native_protocol.text,
    "timestamp": native_protocol.moment,
    "varchar": native_protocol.text,
}


def encoder(cql_type: Any) -> Encoder:
    """The function that encodes values of a type."""
    if (simple := _ENCODERS.get(cql_type.typename)) is not None:
        return simple
    if issubclass(cql_type, cqltypes.MapType):
        encode_key, encode_value = map(encoder, cql_type.subtypes)
        return partial(native_protocol.entries, encode_key, encode_value)
    if issubclass(cql_type, cqltypes.ListType | cqltypes.SetType):
        encode = encoder(cql_type.subtypes[0])
        return lambda values: native_protocol.elements([encode(value) for value in values])
    return lambda value: native_protocol.sized(cql_type.to_binary(value, PROTOCOL_VERSION))


def decoder(cql_type: Any) -> Decoder:
    """The function that decodes values of a type.

    What cannot be hashed is neither in a set nor a key here: a set of such elements is a list, and a map with such keys
    a list of pairs.
    """
    if (simple := _DECODERS.get(cql_type.typename)) is not None:
        return simple
    if issubclass(cql_type, cqltypes.MapType):
        decode_key, decode_value = map(decoder, cql_type.subtypes)
        if (decode_key, decode_value) == (bytes.decode, _double):
            return _numbers_by_text
        return partial(_map if _is_hashable(cql_type.subtypes[0]) else _pairs, decode_key, decode_value)
    if issubclass(cql_type, cqltypes.ListType | cqltypes.SetType):
        (element,) = cql_type.subtypes
        is_set = issubclass(cql_type, cqltypes.SetType) and _is_hashable(element)
        return partial(_elements, set if is_set else list, decoder(element))
    if issubclass(cql_type, cqltypes.UserType):
        return partial(_fields, cql_type.fieldnames, [decoder(subtype) for subtype in cql_type.subtypes])
    return lambda value: cql_type.from_binary(value, PROTOCOL_VERSION)


def _is_hashable(cql_type: Any) -> bool:
    """Whether what is read of a type can be hashed: not a dict, a list or a set, nor a tuple that has one."""
    if issubclass(cql_type, cqltypes.TupleType) and not issubclass(cql_type, cqltypes.UserType):
        return all(map(_is_hashable, cql_type.subtypes))
    return not issubclass(cql_type, cqltypes.MapType | cqltypes.ListType | cqltypes.SetType | cqltypes.UserType)


def _integer(value: bytes) -> int | None:
    # Cassandra accepts an empty value for any type. Drivers take it as null.
    return int.from_bytes(value, "big", signed=True) if value else None


def _double(value: bytes) -> Any:
    return _unpack_double(value)[0] if value else None


def _float(value: bytes) -> Any:
    return _unpack_float(value)[0] if value else None


def _boolean(value: bytes) -> bool | None:
    return value != b"\0" if value else None


_DECODERS: dict[str, Decoder] = {
    "ascii": bytes.decode,
    "bigint": _integer,
    "blob": bytes,
    "boolean": _boolean,
    "counter": _integer,
    "double": _double,
    "float": _float,
    "int": _integer,
    "text": bytes.decode,
    "timestamp": _integer,
    "varchar": bytes.decode,
}


def _next(data: bytes, position: int, decode: Decoder) -> tuple[Any, int]:
    """The value at a position, and the position after it."""
    (size,) = _unpack_int(data, position)
    position += 4
    if size < 0:
        return None, position
    return decode(data[position : position + size]), position + size


def _map(decode_key: Decoder, decode_value: Decoder, data: bytes) -> dict[Any, Any]:
    position, entries = 4, {}
    for _ in range(_count(data)):
        key, position = _next(data, position, decode_key)
        entries[key], position = _next(data, position, decode_value)
    _check_end(data, position)
    return entries


def _pairs(decode_key: Decoder, decode_value: Decoder, data: bytes) -> list[tuple[Any, Any]]:
    position, pairs = 4, []
    for _ in range(_count(data)):
        key, position = _next(data, position, decode_key)
        value, position = _next(data, position, decode_value)
        pairs.append((key, value))
    _check_end(data, position)
    return pairs


def _numbers_by_text(data: bytes) -> dict[Any, Any]:
    """A ``map<text, double>``, such as ``aggregates``, in half the time."""
    position, entries = 4, {}
    try:
        for _ in range(_count(data)):
            (key_size,) = _unpack_int(data, position)
            position += 4
            end = position + key_size
            value_size, value = _unpack_size_and_double(data, end)
            if key_size < 0 or value_size != 8:
                return _map(bytes.decode, _double, data)
            entries[data[position:end].decode()] = value
            position = end + 12
    except struct.error:
        # An empty value at the end, or no whole value.
        return _map(bytes.decode, _double, data)
    _check_end(data, position)
    return entries


def _elements(collection: Callable[[list[Any]], Any], decode: Decoder, data: bytes) -> Any:
    position, elements = 4, []
    for _ in range(_count(data)):
        element, position = _next(data, position, decode)
        elements.append(element)
    _check_end(data, position)
    return elements if collection is list else collection(elements)


def _fields(names: Sequence[str], decoders: Sequence[Decoder], data: bytes) -> dict[str, Any]:
    """The fields by name. A field that was added to the type after the value was written is None."""
    position, fields = 0, dict.fromkeys(names)
    for name, decode in zip(names, decoders, strict=True):
        if position == len(data):
            break
        fields[name], position = _next(data, position, decode)
    if position > len(data):
        raise ValueError("the value ends too early")
    return fields


def _count(data: bytes) -> int:
    return int(_unpack_int(data)[0]) if data else 0


def _check_end(data: bytes, position: int) -> None:
    if position != len(data) and data:
        raise ValueError(f"the value has {len(data)} bytes instead of {position}")
