"""The cache of converted JSON: what it remembers, and in how many bytes."""

import json
from collections import Counter
from collections.abc import Sequence
from sys import getsizeof
from typing import Any
from weakref import WeakSet

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.domain import attempts
from common.domain.conversion_cache import ConversionCache, max_entry_bytes
from common.domain.events import BadEvent
from common.domain.questions import TextMaps
from tests.support.strategies import item

MAX_BYTES = 10 * max_entry_bytes(b"key 1000", 0)


class Value:
    def __init__(self, json: bytes) -> None:
        if json == b"bad":
            raise BadEvent("wrong_type", "bad")
        self.json = json
        self.parts = len(json) // 100


class Cache:
    """The cache of a test, with the values that are alive, and how often each piece of JSON was converted."""

    def __init__(self) -> None:
        self.alive: WeakSet[Value] = WeakSet()
        self.conversions: Counter[bytes] = Counter()
        self.cache = ConversionCache(self.convert, MAX_BYTES)

    def convert(self, json: bytes) -> Value:
        self.conversions[json] += 1
        value = Value(json)
        self.alive.add(value)
        return value

    def ask(self, jsons: Sequence[bytes]) -> None:
        for one in jsons:
            assert self.cache[one].json == one

    @property
    def size(self) -> int:
        return sum(max_entry_bytes(value.json, value.parts) for value in self.alive)


def keys(*numbers: int) -> list[bytes]:
    return [b"key %d" % number for number in numbers]


def test_the_same_json_is_converted_once() -> None:
    cache = Cache()
    first = cache.cache[b"key 1"]
    assert cache.cache[bytes(bytearray(b"key 1"))] is first
    assert cache.conversions == {b"key 1": 1}


def test_what_fits_is_never_forgotten() -> None:
    cache = Cache()
    cache.ask(keys(*range(10)) * 3)
    assert set(cache.conversions.values()) == {1}


def test_what_is_asked_for_often_is_kept_while_others_come_and_go() -> None:
    cache = Cache()
    for number in range(1_000):
        cache.ask(keys(0, number))
    assert cache.conversions[b"key 0"] == 1
    assert len(cache.alive) == 10


def test_what_is_asked_for_often_only_later_is_kept_from_then_on() -> None:
    cache = Cache()
    for number in range(1_000):
        cache.ask(keys(number))
    for number in range(1_000, 2_000):
        cache.ask(keys(0, number))
    assert cache.conversions[b"key 0"] == 2


def test_a_value_that_would_need_all_of_the_room_is_not_kept() -> None:
    cache = Cache()
    cache.ask(keys(1, 2))
    huge = b"x" * MAX_BYTES
    cache.ask([huge, huge])
    assert cache.conversions[huge] == 2
    assert {value.json for value in cache.alive} == set(keys(1, 2))


def test_what_the_conversion_raises_is_raised_each_time() -> None:
    cache = Cache()
    for _ in range(2):
        with pytest.raises(BadEvent):
            cache.cache[b"bad"]
    assert cache.conversions[b"bad"] == 2


@given(st.lists(st.integers(0, 40).map(lambda number: b"%d" % number * (1 + number * number)), max_size=200))
def test_what_is_remembered_takes_no_more_bytes_than_it_may(jsons: list[bytes]) -> None:
    cache = Cache()
    for one in jsons:
        cache.ask([one])
        assert cache.size <= MAX_BYTES


TEXTS = st.text(max_size=30) | st.text("aé€\N{OK HAND SIGN}", max_size=200)
MAPS = st.lists(st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=12) | TEXTS | st.integers(), max_size=20)


def bytes_of(*objects: Any) -> int:
    return sum(map(getsizeof, objects))


def bytes_of_maps(maps: TextMaps) -> int:
    return bytes_of(maps) + sum(bytes_of(texts, *texts, *texts.values()) for texts in maps)


class TestMaxEntryBytes:
    """Are as many as the objects of an entry take and 120 in a dict, or more."""

    @given(TEXTS, MAPS, st.booleans())
    @example("\N{OK HAND SIGN}" + "a" * 5_000, [], False)
    @example("", [{}] * 1_000, False)
    @example("", [1] * 1_000, False)
    def test_of_an_item(self, title: str, params: list[object], ensure_ascii: bool) -> None:
        raw = json.dumps(item(title=title, desc=title, params=params), ensure_ascii=ensure_ascii).encode()
        value = attempts._item(raw)
        fields = (value.id, value.max_score, value.type, value.title, value.description, value.encoded, *value.encoded)
        size = bytes_of(raw, value, *fields) + bytes_of_maps(value.params) + 120
        assert size <= max_entry_bytes(raw, value.parts)

    @given(MAPS, st.booleans())
    @example([], False)
    @example([[1] * 200], False)
    def test_of_responses(self, maps: list[object], ensure_ascii: bool) -> None:
        raw = json.dumps(maps, ensure_ascii=ensure_ascii).encode()
        value = attempts._responses(raw)
        size = bytes_of(raw, value, value.encoded) + bytes_of_maps(value.maps) + 120
        assert size <= max_entry_bytes(raw, value.parts)
