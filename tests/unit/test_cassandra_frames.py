"""Requests are byte for byte what the driver sends, and answers are read as the driver reads them."""

import io
import struct
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from cassandra import ConsistencyLevel, cqltypes, protocol
from cassandra.protocol import BatchMessage, ExecuteMessage, ProtocolHandler
from cassandra.query import BatchType, PreparedStatement
from hypothesis import given
from hypothesis import strategies as st

from common.config.model import CassandraConfig
from common.domain.faults import TaskFault, WorldFault
from common.domain.native_protocol import UserTypeEncoder
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from common.servers.cassandra_driver import frames
from common.servers.cassandra_driver.cluster import check_version
from common.servers.cassandra_driver.connection import DirectConnection
from common.servers.cassandra_driver.errors import StatementError, fault
from common.servers.cassandra_driver.frames import Columns, Statement, Undecodable, batch_body, decode, with_timestamp

VERSION, STREAM, RESULT = 4, 77, 0x08
QUERY_ID = b"\x01id of the statement"
FLAGS_AT, SKIP_METADATA = 2 + len(QUERY_ID) + 2, 0x02
TEXT, DOUBLE, BIGINT = cqltypes.UTF8Type, cqltypes.DoubleType, cqltypes.LongType
SCORES = cqltypes.MapType.apply_parameters([TEXT, DOUBLE])
TYPES = (TEXT, BIGINT, DOUBLE, SCORES)
NAMES = ("id", "number", "score", "scores")

texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.tuples(
    texts,
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.dictionaries(st.text("abcß", max_size=3), st.floats(allow_nan=False), max_size=3),
)


def metadata(types: Sequence[Any] = TYPES) -> list[Any]:
    return [protocol.ColumnMetadata("k", "t", name, type_) for name, type_ in zip(NAMES, types, strict=False)]


def statement(text: str = "INSERT", *, is_read: bool = False, types: Sequence[Any] = TYPES) -> Statement:
    result = [tuple(column) for column in metadata()] if is_read else None
    prepared = PreparedStatement(metadata(types), QUERY_ID, [0, 1], text, "k", VERSION, result, None, None)
    return Statement.of(prepared, {}, ConsistencyLevel.LOCAL_QUORUM)


def raw(values: Sequence[Any]) -> list[bytes | None]:
    return [
        None if value is None else type_.serialize(value, VERSION) for type_, value in zip(TYPES, values, strict=True)
    ]


def body_of(message: Any) -> bytes:
    frame = ProtocolHandler.encode_message(message, STREAM, VERSION, None, False)
    assert frame[:9] == frames.HEADER.pack(VERSION, 0, STREAM, message.opcode, len(frame) - 9)
    return bytes(frame[9:])


@given(rows, st.integers(0, 2**62), st.none() | st.tuples(st.integers(1, 5_000), st.none() | st.binary(min_size=1)))
def test_an_execute_is_the_drivers(values: Any, timestamp_us: int, page: Any) -> None:
    for is_read in (True, False):
        mine = statement("SELECT" if is_read else "INSERT", is_read=is_read)
        size, state = page or (None, None)
        message = ExecuteMessage(
            QUERY_ID,
            raw(values),
            ConsistencyLevel.LOCAL_QUORUM,
            fetch_size=size,
            paging_state=state,
            timestamp=timestamp_us,
        )
        theirs = bytearray(body_of(message))
        if is_read:
            # The driver sends and parses the names and types of all columns with each result.
            theirs[FLAGS_AT] |= SKIP_METADATA
        body = mine.execute_body(mine.encode(values), timestamp_us, page)
        assert body == theirs
        theirs[-8:] = struct.pack(">q", timestamp_us + 1)
        assert with_timestamp(body, timestamp_us + 1) == theirs


@given(st.lists(rows, min_size=1, max_size=4), st.integers(0, 2**62))
def test_a_batch_is_the_drivers(batch: list[Any], timestamp_us: int) -> None:
    mine = statement()
    message = BatchMessage(
        BatchType.UNLOGGED,
        [(True, QUERY_ID, raw(values)) for values in batch],
        ConsistencyLevel.LOCAL_QUORUM,
        timestamp=timestamp_us,
    )
    parts = [mine.batch_part(mine.encode(values)) for values in batch]
    body = batch_body(parts, mine.batch_end(timestamp_us))
    assert body == body_of(message)
    message.timestamp = 5
    assert with_timestamp(body, 5) == body_of(message)


def test_a_batch_has_as_many_statements_as_the_protocol_allows() -> None:
    batch_body([b""] * 65_535, b"")
    with pytest.raises(StatementError, match="65536 statements"):
        batch_body([b""] * 65_536, b"")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=3))
def test_the_routing_key_is_the_drivers(ids: list[str]) -> None:
    types = [TEXT] * len(ids)
    names = "abc"[: len(ids)]
    columns = [protocol.ColumnMetadata("k", "t", name, TEXT) for name in names]
    prepared = PreparedStatement(columns, b"id", list(range(len(ids))), "SELECT", "k", VERSION, None, None, None)
    mine = Statement.of(prepared, {}, ConsistencyLevel.ONE)
    assert mine.routing_key(mine.encode(ids)) == prepared.bind(ids).routing_key
    assert len(types) == len(mine.parameters)


def body_with(values: Sequence[Any], state: bytes | None = None, warnings: Sequence[str] = ()) -> bytes:
    """A result of these rows, as a node sends it."""
    out = io.BytesIO()
    if warnings:
        out.write(struct.pack(">H", len(warnings)))
        for warning in warnings:
            out.write(struct.pack(">H", len(warning)) + warning.encode())
    out.write(struct.pack(">iii", 2, 4 | (2 if state else 0), len(TYPES)))
    if state:
        out.write(struct.pack(">i", len(state)) + state)
    out.write(struct.pack(">i", len(values)))
    for row in values:
        for value in raw(row):
            out.write(struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value)
    return out.getvalue()


def read(body: bytes, flags: int = 0, columns: Any = None) -> Any:
    columns = Columns.of([tuple(column) for column in metadata()]) if columns is None else columns
    return decode(VERSION, {}, STREAM, flags, RESULT, body, None, columns)


@given(st.lists(rows, max_size=4), st.none() | st.binary(min_size=1), st.lists(st.text("ab"), max_size=2))
def test_rows_are_the_drivers(values: list[Any], state: bytes | None, warnings: list[str]) -> None:
    body = body_with(values, state, warnings)
    flags = 0x08 if warnings else 0
    result = protocol.ProtocolHandler.decode_message(
        VERSION, {}, STREAM, flags, RESULT, body, None, [tuple(column) for column in metadata()]
    )
    theirs = [tuple(dict(value) if hasattr(value, "items") else value for value in row) for row in result.parsed_rows]
    assert read(body, flags) == (theirs, result.paging_state)
    assert theirs == values


@given(st.lists(rows, min_size=1, max_size=2))
def test_an_answer_that_is_cut_anywhere_is_no_answer(values: list[Any]) -> None:
    body = body_with(values, b"state", ["a warning"])
    for end in range(len(body)):
        assert isinstance(read(body[:end], 0x08), Undecodable), end
    assert isinstance(read(body + b"\0", 0x08), Undecodable)


@given(st.binary(max_size=60), st.integers(0, 255), st.integers(0, 16))
def test_whatever_comes_never_raises(body: bytes, flags: int, opcode: int) -> None:
    """An error raised here would close the connection, with everything that is in flight on it."""
    decode(VERSION, {}, STREAM, flags, opcode, body, None, Columns.of([tuple(column) for column in metadata()]))
    decode(VERSION, {}, STREAM, flags, opcode, body, None, None)


def test_what_has_no_rows_is_an_empty_page() -> None:
    for kind in (1, 3, 5):
        assert decode(VERSION, {}, STREAM, 0, RESULT, struct.pack(">i", kind), None, None) == ([], None)
    assert isinstance(read(struct.pack(">i", 1)), Undecodable)


@pytest.mark.parametrize("code", sorted(protocol.error_classes))
def test_errors_are_the_drivers(code: int) -> None:
    body = struct.pack(">iH", code, 4) + b"text" + struct.pack(">Hii", 6, 2, 1)
    body += {0x1100: b"\0\6SIMPLE", 0x1500: b"\0\0\0\1\0\6SIMPLE"}.get(code, b"\0" * 40)
    theirs = ProtocolHandler.decode_message(VERSION, {}, STREAM, 0, 0, body, None, None)
    mine = decode(VERSION, {}, STREAM, 0, 0, body, None, None)
    assert type(mine) is type(theirs)
    assert str(mine) == str(theirs)


class Cut(DirectConnection):
    """The frames that a connection takes, without a socket."""

    def __init__(self) -> None:
        self._pieces = []
        self._missing = 0
        self.is_closed = False
        self.taken: list[tuple[int, int, int, bytes]] = []

    def process_msg(self, header: Any, body: bytes) -> None:
        self.taken.append((header.version, header.stream, header.opcode, body))

    def __del__(self) -> None:
        pass


@given(st.lists(st.tuples(st.integers(-5, 99), st.integers(0, 16), st.binary(max_size=30)), max_size=6), st.data())
def test_frames_are_the_same_wherever_they_are_cut(sent: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frames.HEADER.pack(0x84, 0, number, opcode, len(body)) + body for number, opcode, body in sent)
    expected = [(4, number, opcode, body) for number, opcode, body in sent]
    for step in (1, len(stream) or 1, data.draw(st.integers(1, 40))):
        connection = Cut()
        for start in range(0, len(stream), step):
            connection._take(stream[start : start + step])
        assert connection.taken == expected
        assert connection._pieces == []


def test_a_large_frame_that_comes_in_small_pieces_is_not_copied_with_each() -> None:
    body = bytes(4_000_000)
    stream = frames.HEADER.pack(0x84, 0, STREAM, 8, len(body)) + body
    connection = Cut()
    tracemalloc.start()
    try:
        for start in range(0, len(stream), 16_384):
            connection._take(stream[start : start + 16_384])
            if start > len(stream) // 2:
                tracemalloc.reset_peak()
                break
        taken, _ = tracemalloc.get_traced_memory()
        connection._take(stream[start + 16_384 : start + 32_768])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - taken < 100_000


@pytest.mark.parametrize(
    ("text", "types", "is_repeatable"),
    [
        ("SELECT a FROM t WHERE id = ? AND number IN ?", (TEXT, cqltypes.ListType.apply_parameters([TEXT])), True),
        ("UPDATE t SET scores = scores + ?", (SCORES,), True),
        ("INSERT INTO t (id, number) VALUES (?, ?)", (TEXT, cqltypes.ListType.apply_parameters([TEXT])), True),
        ("UPDATE t SET id = id + ?", (cqltypes.CounterColumnType,), False),
        ("UPDATE t SET scores = scores - ? WHERE k = 1", (SCORES,), True),
        ("UPDATE t SET id = id + ?", (cqltypes.ListType.apply_parameters([TEXT]),), False),
        ("UPDATE t SET id=?+id WHERE k = 1", (cqltypes.ListType.apply_parameters([TEXT]),), False),
        ("UPDATE t SET id = ? WHERE k = 1", (cqltypes.ListType.apply_parameters([TEXT]),), True),
        ("update t set id = ? where k = 1 if id = 'a'", (TEXT,), False),
        ("INSERT INTO t (id) VALUES (?) IF NOT EXISTS", (TEXT,), False),
    ],
)
def test_what_may_be_sent_again(text: str, types: Sequence[Any], is_repeatable: bool) -> None:
    assert statement(text, types=types).is_repeatable is is_repeatable


def test_a_list_with_the_callers_timestamp_may_not_be_sent_again() -> None:
    texts_type = cqltypes.ListType.apply_parameters([TEXT])
    columns = [
        protocol.ColumnMetadata("k", "t", "answers", texts_type),
        protocol.ColumnMetadata("k", "t", "[timestamp]", BIGINT),
    ]
    for some, is_repeatable in ((columns, False), (columns[1:], True), (columns[:1], True)):
        prepared = PreparedStatement(some, b"id", [], "INSERT", "k", VERSION, None, None, None)
        assert Statement.of(prepared, {}, ConsistencyLevel.ONE).is_repeatable is is_repeatable


async def test_another_version_of_the_driver_is_refused_before_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    check_version()
    monkeypatch.setattr("cassandra.__version__", "3.31.0")
    nobody = Cassandra(CassandraConfig(contact_points=("127.0.0.1",), port=1), Metrics())
    with pytest.raises(TaskFault, match=r"written for cassandra-driver 3\.30\.1, and this is 3\.31\.0"):
        await nobody.open()


FIELDS = ("id", "score", "scores")
OWN = UserTypeEncoder(lambda _: b"own", {"id": "text", "score": "double", "scores": "map<text, double>"})


def user_type_list(names: Sequence[str], types: Sequence[Any]) -> Any:
    return cqltypes.ListType.apply_parameters([cqltypes.UserType.make_udt_class("k", "question", names, types)])


def prepared_with(cql_type: Any) -> PreparedStatement:
    return PreparedStatement(metadata([cql_type]), QUERY_ID, [], "INSERT", "k", VERSION, None, None, None)


def test_a_type_with_the_fields_of_the_encoder_and_more_behind_them_is_accepted() -> None:
    cql_type = user_type_list((*FIELDS, "new"), (TEXT, DOUBLE, SCORES, BIGINT))
    own = Statement.of(prepared_with(cql_type), {"id": OWN}, ConsistencyLevel.ONE)
    assert own.encode([[1]]) == [b"own"]


@pytest.mark.parametrize(
    "cql_type",
    [
        user_type_list(("id", "scores", "score"), (TEXT, SCORES, DOUBLE)),
        user_type_list(FIELDS, (TEXT, cqltypes.Int32Type, SCORES)),
        user_type_list(FIELDS[:2], (TEXT, DOUBLE)),
        cqltypes.ListType.apply_parameters([TEXT]),
        TEXT,
    ],
)
def test_a_type_with_other_fields_than_the_encoder_is_refused(cql_type: Any) -> None:
    """Fields have no names on the wire: the score would be stored as the maximum."""
    with pytest.raises(TaskFault, match=r"k\.t\.id is .* must be a list of a type that begins with \(id text, score"):
        Statement.of(prepared_with(cql_type), {"id": OWN}, ConsistencyLevel.ONE)


def test_a_node_without_space_for_change_data_capture_is_a_fault_of_the_world() -> None:
    body = io.BytesIO(struct.pack(">iH4s", 0x1600, 4, b"full"))
    full = protocol.ErrorMessage.recv_body(body, VERSION, {}, None, None)
    assert isinstance(fault(full), WorldFault)
