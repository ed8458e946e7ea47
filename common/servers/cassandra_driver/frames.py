"""Requests and answers of Cassandra's native protocol, version 4, as bytes.

The driver's messages and rows cost several times as much CPU as writing and reading the bytes. So EXECUTE and BATCH
are encoded here, and so are answers decoded that hold rows or nothing. The driver decodes all others, such as errors.

Source: native_protocol_v4.spec, sections 2 and 4.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cassandra import cqltypes
from cassandra.connection import ConnectionException
from cassandra.protocol import ProtocolHandler

from common.domain import native_protocol
from common.domain.faults import TaskFault
from common.domain.native_protocol import NULL, Encoder, UserTypeEncoder, shown_fields
from common.servers.cassandra_driver.errors import StatementError
from common.servers.cassandra_driver.values import PROTOCOL_VERSION, decoder, encoder

Row = tuple[Any, ...]
Page = tuple[list[Row], bytes | None]
"""Rows, and the paging state if there are more."""

HEADER = struct.Struct(">BBhBI")
"""Version, flags, stream, opcode, length of the body."""
EXECUTE, BATCH = 0x0A, 0x0D

_RESULT = 0x08
_ROWS = 2
_WITHOUT_ROWS = (1, 3, 5)
"""Void, a keyspace that was set, a schema change."""
_NO_PAGE: Page = ([], None)

_WITH_WARNINGS = 0x08
_UNLOGGED = b"\x01"
_IS_PREPARED = b"\x01"
_WITH_VALUES, _SKIP_METADATA, _PAGE_SIZE, _PAGING_STATE, _WITH_TIMESTAMP = 0x01, 0x02, 0x04, 0x08, 0x20
_HAS_MORE_PAGES, _NO_METADATA = 0x02, 0x04

_SHORT = struct.Struct(">H")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_OPTIONS = struct.Struct(">HBH")
_CONSISTENCY_AND_FLAGS = struct.Struct(">HB")
_unpack_int = _INT.unpack_from

_CONDITION = re.compile(r"\bif\b", re.IGNORECASE)
_ADDITION = re.compile(r"(\w+)\s*=\s*\1\s*\+|\?\s*\+\s*(\w+)", re.IGNORECASE)
"""``column = column + ?`` or ``? + column``."""


@dataclass(frozen=True, slots=True)
class Column:
    """A parameter of a statement, or a column of its rows."""

    name: str
    type: str
    """As CQL spells it: ``map<text, double>``."""


@dataclass(eq=False, slots=True)
class Columns:
    """The columns of the rows that a statement returns."""

    columns: Sequence[Column]
    decoders: Sequence[Any]

    @classmethod
    def of(cls, metadata: Sequence[Any]) -> "Columns":
        """From the driver's (keyspace, table, name, type) of each column."""
        return cls(
            [Column(name, _cql(type_)) for _, _, name, type_ in metadata],
            [decoder(type_) for _, _, _, type_ in metadata],
        )


@dataclass(eq=False, slots=True)
class Statement:
    """A prepared statement. Made by :meth:`common.servers.cassandra.Cassandra.prepare`, for that session."""

    prepared: Any
    """The driver's own object. The driver prepares it on each node that comes back, but has only a weak reference to
    it: without this one it would forget the statement."""
    text: str
    keyspace: str | None
    parameters: Sequence[Column]
    encoders: Sequence[Encoder]
    key_indexes: Sequence[int] | None
    """Which parameters form the partition key; None if some part of the key is not a parameter."""
    columns: Columns | None
    is_repeatable: bool
    """Whether it may be executed again with a newer timestamp while the first execution may still happen."""
    _consistency: int
    _id: bytes = field(init=False)
    _execute_head: bytes = field(init=False)
    _batch_head: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Encodes the parts that are the same in each request."""
        query_id = self.prepared.query_id
        self._id = _SHORT.pack(len(query_id)) + query_id
        self._execute_head = self._head(0)
        self._batch_head = _IS_PREPARED + self._id + _SHORT.pack(len(self.parameters))

    @property
    def column_names(self) -> list[str]:
        """The columns of the rows; empty for a write."""
        return [column.name for column in self.columns.columns] if self.columns else []

    @classmethod
    def of(cls, prepared: Any, encoders: Mapping[str, UserTypeEncoder], consistency: int) -> "Statement":
        """From the driver's prepared statement. ``encoders`` replace those of the parameters with these names.

        Raises TaskFault if a parameter's type has other fields than its encoder.
        """
        bound = prepared.column_metadata or ()
        if unknown := encoders.keys() - {column.name for column in bound}:
            raise ValueError(f"the statement has no parameter {', '.join(sorted(unknown))}: {prepared.query_string}")
        own = {column.name: _checked(column, encoders[column.name]) for column in bound if column.name in encoders}
        parameters = [Column(column.name, _cql(column.type)) for column in bound]
        return cls(
            prepared,
            prepared.query_string,
            bound[0].keyspace_name if bound else None,
            parameters,
            [own.get(column.name) or encoder(column.type) for column in bound],
            prepared.routing_key_indexes,
            Columns.of(prepared.result_metadata) if prepared.result_metadata else None,
            _is_repeatable(prepared.query_string, parameters),
            consistency,
        )

    def encode(self, values: Sequence[Any]) -> list[bytes]:
        """Encodes the values of a request. Raises StatementError, which names the parameter at fault."""
        try:
            return [
                NULL if value is None else encode(value) for encode, value in zip(self.encoders, values, strict=True)
            ]
        except Exception as error:
            raise self._wrong_values(values, error) from error

    def routing_key(self, encoded: Sequence[bytes]) -> bytes | None:
        """The partition key in ``encoded`` values, from which the driver finds the replicas. None if it has no key."""
        if self.key_indexes is None or not self.key_indexes:
            return None
        if len(self.key_indexes) == 1:
            return encoded[self.key_indexes[0]][4:]
        parts = [encoded[index][4:] for index in self.key_indexes]
        if max(map(len, parts)) > 0xFFFF:
            return None  # Cassandra refuses it and says why
        return b"".join([_SHORT.pack(len(part)) + part + b"\0" for part in parts])

    def execute_body(self, encoded: Sequence[bytes], timestamp_us: int, page: tuple[int, bytes | None] | None) -> bytes:
        """The body of an EXECUTE. Its last 8 bytes are the timestamp."""
        if page is None:
            return b"".join((self._execute_head, *encoded, _LONG.pack(timestamp_us)))
        size, state = page
        head = self._head(_PAGE_SIZE | (_PAGING_STATE if state else 0))
        paging = _INT.pack(size) + (native_protocol.sized(state) if state else b"")
        return b"".join((head, *encoded, paging, _LONG.pack(timestamp_us)))

    def batch_part(self, encoded: Sequence[bytes]) -> bytes:
        """The statement's part of a BATCH."""
        return self._batch_head + b"".join(encoded)

    def batch_end(self, timestamp_us: int) -> bytes:
        """The part of a BATCH after its last statement."""
        return _CONSISTENCY_AND_FLAGS.pack(self._consistency, _WITH_TIMESTAMP) + _LONG.pack(timestamp_us)

    def _head(self, flags: int) -> bytes:
        flags |= _WITH_TIMESTAMP | _WITH_VALUES | (_SKIP_METADATA if self.columns else 0)
        return self._id + _OPTIONS.pack(self._consistency, flags, len(self.parameters))

    def _wrong_values(self, values: Sequence[Any], error: Exception) -> StatementError:
        if len(values) != len(self.parameters):
            return StatementError(f"{len(values)} values for {len(self.parameters)} parameters: {self.text}")
        for column, encode, value in zip(self.parameters, self.encoders, values, strict=True):
            try:
                NULL if value is None else encode(value)
            except Exception as reason:  # noqa: BLE001 - it is quoted
                return StatementError(f"{column.name} is no {column.type}: {reason}: {self.text}")
        return StatementError(f"{error}: {self.text}")


def batch_body(parts: Sequence[bytes], end: bytes) -> bytes:
    """The body of an unlogged BATCH. Its last 8 bytes are the timestamp."""
    if len(parts) > 0xFFFF:
        raise StatementError(f"a batch has {len(parts)} statements, and the protocol allows 65535")
    return b"".join((_UNLOGGED, _SHORT.pack(len(parts)), *parts, end))


def with_timestamp(body: bytes, timestamp_us: int) -> bytes:
    """The same EXECUTE or BATCH with another timestamp."""
    return body[:-8] + _LONG.pack(timestamp_us)


@dataclass(frozen=True, slots=True)
class Undecodable:
    """An answer that cannot be decoded.

    It is a value because the driver closes the connection when a decoder raises an error, and then everything in flight
    on it fails.
    """

    error: Exception


def encode(request: Any, stream: int, version: int, **_: Any) -> bytes:
    """The frame of a :class:`calls.Request`. Called as the driver's ``ProtocolHandler.encode_message``."""
    body: bytes = request.body
    return HEADER.pack(PROTOCOL_VERSION, 0, stream, request.opcode, len(body)) + body


def decode(
    version: int, user_types: Any, stream: int, flags: int, opcode: int, body: bytes, decompress: Any, columns: Any
) -> Any:
    """Decodes the answer to an EXECUTE or BATCH: a Page, one of the driver's errors, or Undecodable.

    The parameters are those of the driver's ``ProtocolHandler.decode_message``.
    """
    try:
        if opcode != _RESULT or flags & ~_WITH_WARNINGS:
            return ProtocolHandler.decode_message(version, user_types, stream, flags, opcode, body, decompress, columns)
        return _page(body, _end_of_warnings(body) if flags else 0, columns)
    except Exception as error:  # noqa: BLE001 - the caller's statement fails with it
        return Undecodable(error)


def error_of(answer: Any) -> Exception:
    """The driver's exception for an answer that is no Page."""
    if isinstance(answer, Undecodable):
        return answer.error
    if hasattr(answer, "to_exception"):
        error: Exception = answer.to_exception()
        return error
    return answer if isinstance(answer, Exception) else ConnectionException(f"unexpected answer {answer!r}")


def decode_prepared(version: int, user_types: Any, stream: int, flags: int, opcode: int, *rest: Any) -> Any:
    """Decodes the answer to a PREPARE of a statement that is known already: None, or an error as :func:`decode`."""
    return None if opcode == _RESULT else decode(version, user_types, stream, flags, opcode, *rest)


def _end_of_warnings(body: bytes) -> int:
    position = 2
    for _ in range(_SHORT.unpack_from(body)[0]):
        position += 2 + _SHORT.unpack_from(body, position)[0]
    return position


def _page(body: bytes, position: int, columns: Columns | None) -> Page:
    (kind,) = _unpack_int(body, position)
    if kind in _WITHOUT_ROWS and columns is None:
        return _NO_PAGE
    if kind != _ROWS or columns is None:
        raise ValueError(f"the result is of kind {kind}, which this statement does not have")
    flags, count = struct.unpack_from(">ii", body, position + 4)
    position += 12
    if not flags & _NO_METADATA or count != len(columns.decoders):
        raise ValueError(f"the result has {count} columns, and the statement {len(columns.decoders)}")
    state = None
    if flags & _HAS_MORE_PAGES:
        (size,) = _unpack_int(body, position)
        state = body[position + 4 : position + 4 + size]
        position += 4 + size
    (row_count,) = _unpack_int(body, position)
    position += 4
    decoders = columns.decoders
    rows = []
    for _ in range(row_count):
        row: list[Any] = []
        for decode_value in decoders:
            (size,) = _unpack_int(body, position)
            position += 4
            if size < 0:
                row.append(None)
            else:
                end = position + size
                row.append(decode_value(body[position:end]))
                position = end
        rows.append(tuple(row))
    if position != len(body):
        raise ValueError(f"the result has {len(body)} bytes instead of {position}")
    return rows, state


def _checked(column: Any, own: UserTypeEncoder) -> Encoder:
    """The encoder of a parameter, if its fields come first in the type of the column's elements."""
    (element,) = column.type.subtypes if issubclass(column.type, cqltypes.ListType) else (column.type,)
    is_user_type = issubclass(element, cqltypes.UserType)
    found = dict(zip(element.fieldnames, map(_cql, element.subtypes), strict=True)) if is_user_type else {}
    if own.fits(found):
        return own.encode
    raise TaskFault(
        f"Cassandra: {column.keyspace_name}.{column.table_name}.{column.name} is {_cql(column.type)} with the fields "
        f"({shown_fields(found)}), and must be a list of a type that begins with ({shown_fields(own.fields)})"
    )


def _cql(cql_type: Any) -> str:
    # The driver calls a text by its older name.
    return str(cql_type.cql_parameterized_type()).replace("varchar", "text")


def _is_repeatable(text: str, parameters: Sequence[Column]) -> bool:
    """Whether a statement may be executed twice, the second time with a newer timestamp.

    Setting a list that is not frozen removes older elements, but not those with the same timestamp. So two executions
    with one timestamp leave the elements of both. A newer timestamp removes those of the first execution, but a
    timestamp that is a parameter stays the same. Lists and counters that are added to keep both additions, and a
    condition (IF) is checked against what the first execution has written.
    """
    if text.lstrip()[:6].upper() == "SELECT":
        return True
    if _CONDITION.search(text):
        return False
    lists = {column.name for column in parameters if column.type.startswith("list<")}
    if lists & {match[1] or match[2] for match in _ADDITION.finditer(text)}:
        return False
    has_timestamp = any(column.name == "[timestamp]" for column in parameters)
    return not (lists and has_timestamp) and all(column.type != "counter" for column in parameters)
