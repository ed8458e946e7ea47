"""Values are encoded and decoded as the driver's own classes do it."""

import struct
from decimal import Decimal
from typing import Any

import pytest
from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from common.servers.cassandra_driver.values import PROTOCOL_VERSION, decoder, encoder
from tests.support.strategies import finite_decimals

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    cqltypes.UTF8Type: TEXTS,
    cqltypes.AsciiType: st.text(st.characters(max_codepoint=127), max_size=20),
    cqltypes.Int32Type: st.integers(-(2**31), 2**31 - 1),
    cqltypes.LongType: st.integers(-(2**63), 2**63 - 1),
    cqltypes.DoubleType: st.floats(allow_nan=False),
    cqltypes.FloatType: st.floats(allow_nan=False, width=32),
    cqltypes.BooleanType: st.booleans(),
    cqltypes.BytesType: st.binary(max_size=20),
    cqltypes.DecimalType: finite_decimals.filter(lambda value: not value.is_zero()),
    cqltypes.UUIDType: st.uuids(),
}


def typed(cql_type: Any) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(st.just(cql_type), SIMPLE[cql_type])


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """A type and a value of it, collections and collections of collections among them."""
    simple = st.sampled_from(list(SIMPLE))
    kind = draw(st.sampled_from(["simple", "list", "set", "map", "nested", "scores"]))
    inner = draw(simple) if kind != "scores" else cqltypes.DoubleType
    if kind == "simple":
        return inner, draw(SIMPLE[inner])
    if kind == "list":
        return cqltypes.ListType.apply_parameters([inner]), draw(st.lists(SIMPLE[inner], max_size=4))
    if kind == "set":
        return cqltypes.SetType.apply_parameters([inner]), draw(st.frozensets(SIMPLE[inner], max_size=4))
    key = draw(simple) if kind != "scores" else cqltypes.UTF8Type
    entries = st.dictionaries(SIMPLE[key], SIMPLE[inner], max_size=4)
    of_entries = cqltypes.MapType.apply_parameters([key, inner])
    if kind in ("map", "scores"):
        return of_entries, draw(entries)
    return cqltypes.ListType.apply_parameters([of_entries]), draw(st.lists(entries, max_size=3))


def plain(value: Any) -> Any:
    """The driver has collections of its own."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    if hasattr(value, "items"):
        return {key: plain(element) for key, element in value.items()}
    return set(value) if hasattr(value, "isdisjoint") else value


@given(typed_values())
def test_the_bytes_are_those_of_the_driver(typed_value: tuple[Any, Any]) -> None:
    cql_type, value = typed_value
    encoded = encoder(cql_type)(value)
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4
    assert plain(cql_type.deserialize(encoded[4:], PROTOCOL_VERSION)) == plain(value)
    if not isinstance(
        value, frozenset | Decimal
    ):  # a set has no order, and the driver's decimals may have zeros before
        assert plain(cql_type.deserialize(cql_type.serialize(value, PROTOCOL_VERSION), PROTOCOL_VERSION)) == plain(
            value
        )


@given(typed_values())
def test_the_value_is_that_of_the_driver(typed_value: tuple[Any, Any]) -> None:
    cql_type, value = typed_value
    data = cql_type.serialize(value, PROTOCOL_VERSION)
    decoded = decoder(cql_type)(data)
    assert decoded == plain(cql_type.deserialize(data, PROTOCOL_VERSION))
    assert type(decoded) in {type(plain(value)), set}


QUESTION = cqltypes.UserType.make_udt_class(
    "keyspace", "question", ("id", "score", "params"), (cqltypes.UTF8Type, cqltypes.DoubleType, cqltypes.Int32Type)
)


def test_fields_of_a_user_defined_type_that_are_newer_than_the_value_are_none() -> None:
    old = cqltypes.UserType.make_udt_class("keyspace", "question", ("id",), (cqltypes.UTF8Type,))
    data = old.serialize(("a",), PROTOCOL_VERSION)
    assert decoder(QUESTION)(data) == {"id": "a", "score": None, "params": None}
    data = QUESTION.serialize((None, 0.1, 7), PROTOCOL_VERSION)
    assert decoder(QUESTION)(data) == {"id": None, "score": 0.1, "params": 7}


ONE_SCORE = cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.DoubleType])
ONE_LIST = cqltypes.ListType.apply_parameters([cqltypes.Int32Type])


def tuple_of(*types: Any) -> Any:
    return cqltypes.TupleType.apply_parameters(types)


@pytest.mark.parametrize(
    ("element", "value", "decoded"),
    [
        (QUESTION, ("a", 0.5, 7), {"id": "a", "score": 0.5, "params": 7}),
        (ONE_SCORE, {"a": 0.5}, {"a": 0.5}),
        (ONE_LIST, [1, 2], [1, 2]),
        (cqltypes.SetType.apply_parameters([cqltypes.Int32Type]), {1, 2}, {1, 2}),
        (tuple_of(cqltypes.Int32Type, tuple_of(ONE_LIST)), (1, ([2],)), (1, ([2],))),
    ],
)
def test_a_set_or_a_map_of_what_cannot_be_hashed_is_a_list(element: Any, value: Any, decoded: Any) -> None:
    of_elements = cqltypes.SetType.apply_parameters([element])
    as_list = cqltypes.ListType.apply_parameters([element])
    assert decoder(of_elements)(as_list.serialize([value], PROTOCOL_VERSION)) == [decoded]
    of_keys = cqltypes.MapType.apply_parameters([element, cqltypes.Int32Type])
    key = element.serialize(value, PROTOCOL_VERSION)
    data = struct.pack(">ii", 1, len(key)) + key + struct.pack(">ii", 4, 9)
    assert decoder(of_keys)(data) == [(decoded, 9)]


def test_a_set_of_tuples_that_can_be_hashed_is_a_set() -> None:
    pair = tuple_of(cqltypes.Int32Type, cqltypes.UTF8Type)
    data = cqltypes.SetType.apply_parameters([pair]).serialize({(1, "a")}, PROTOCOL_VERSION)
    assert decoder(cqltypes.SetType.apply_parameters([pair]))(data) == {(1, "a")}


@pytest.mark.parametrize("cql_type", [*SIMPLE, cqltypes.DateType, cqltypes.ListType.apply_parameters([QUESTION])])
def test_an_empty_value_is_what_it_is_for_the_driver(cql_type: Any) -> None:
    assert decoder(cql_type)(b"") == (cql_type.from_binary(b"", PROTOCOL_VERSION) or decoder(cql_type)(b""))
    if cql_type not in (cqltypes.UTF8Type, cqltypes.AsciiType, cqltypes.BytesType):
        assert not decoder(cql_type)(b"")


NULL = (-1).to_bytes(4, "big", signed=True)
SCORES = {NULL: None, bytes(4): None, b"\0\0\0\x08\x3f\xf8" + bytes(6): 1.5}


@given(st.dictionaries(TEXTS | st.none(), st.sampled_from(list(SCORES)), max_size=4))
def test_an_empty_score_or_key_is_none_as_in_any_other_map(entries: dict[str | None, bytes]) -> None:
    keys = {key: NULL if key is None else encoder(cqltypes.UTF8Type)(key) for key in entries}
    data = len(entries).to_bytes(4, "big") + b"".join(keys[key] + value for key, value in entries.items())
    of_scores = cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.DoubleType])
    assert decoder(of_scores)(data) == {key: SCORES[value] for key, value in entries.items()}


@given(typed_values(), st.data())
def test_a_value_that_is_cut_short_is_never_another_value(typed_value: tuple[Any, Any], data: st.DataObject) -> None:
    cql_type, value = typed_value
    if not isinstance(value, list | dict) or not value:
        return
    whole = cql_type.serialize(value, PROTOCOL_VERSION)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(Exception):  # noqa: B017 - struct.error, ValueError, UnicodeDecodeError, ...
        decoder(cql_type)(whole[:cut])


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_timestamp_is_read_as_ms(time_ms: int) -> None:
    assert decoder(cqltypes.DateType)(encoder(cqltypes.DateType)(time_ms)[4:]) == time_ms
