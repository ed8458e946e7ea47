"""What makes a Kafka value an event, and the sentences for what does not."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.events import (
    MAX_SHOWN,
    MAX_TIME_MS,
    BadEvent,
    Refused,
    decode,
    require_text,
    require_time_ms,
    results_in_place,
    shown,
    to_datetime,
    to_number,
    to_time_ms,
)
from tests.support.strategies import times_ms


class Inner(msgspec.Struct):
    required: int


class Outer(msgspec.Struct):
    name: str | None = None
    inner: list[Inner] | None = None


DECODER = msgspec.json.Decoder(Outer)


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (b"", "not_json", "event is not JSON: input data was truncated"),
        (b'{"name": "a"', "not_json", "event is not JSON: input data was truncated"),
        (b"{} {}", "not_json", "event is not JSON: trailing characters (byte 4)"),
        (b'{"other": NaN}', "not_json", "event is not JSON: invalid character (byte 10)"),
        (b'\xef\xbb\xbf{"name": "a"}', "not_json", "event is not JSON: invalid character (byte 0)"),
        (b'{"name": "\xff"}', "not_json", "event is not UTF-8: byte 10 (invalid start byte)"),
        (b'{"other": "\xc3"}', "not_json", "event is not UTF-8: byte 11 (invalid continuation byte)"),
        (b"[" * 100_000, "not_an_object", "event is not a JSON object: expected 'object', got 'array'"),
        (
            b'{"other": ' + b"[" * 100_000,
            "not_json",
            "event is not JSON that can be read: it is nested too deeply",
        ),
        (b"null", "not_an_object", "event is not a JSON object: expected 'object', got 'null'"),
        (b'"text"', "not_an_object", "event is not a JSON object: expected 'object', got 'str'"),
        (b'{"name": 1}', "wrong_type", "event has a wrong field: expected 'str | null', got 'int' at '$.name'"),
        (b'{"inner": {}}', "wrong_type", "event has a wrong field: expected 'array | null', got 'object' at '$.inner'"),
        (b'{"inner": [1]}', "wrong_type", "event has a wrong field: expected 'object', got 'int' at '$.inner[0]'"),
        (
            b'{"inner": [{}]}',
            "missing_field",
            "event has a wrong field: object missing required field 'required' at '$.inner[0]'",
        ),
    ],
)
def test_what_is_no_event_is_refused_in_one_sentence(value: bytes, kind: str, reason: str) -> None:
    with pytest.raises(BadEvent) as refusal:
        decode(DECODER, value)

    assert (refusal.value.kind, refusal.value.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("value", "where"), [(b"5", "$.edata.item"), (b'{"name": 1}', "$.edata.item.name"), (b"[]", "$.edata.item")]
)
def test_a_part_of_an_event_is_refused_with_its_path_in_the_event(value: bytes, where: str) -> None:
    with pytest.raises(BadEvent) as refusal:
        decode(DECODER, value, "edata.item")

    assert refusal.value.kind == "wrong_type"
    assert refusal.value.reason.endswith(f" at '{where}'")


def test_fields_that_nobody_asked_for_are_passed_over_and_of_two_the_later_counts() -> None:
    assert decode(DECODER, '{"other": {"é": [1e9]}, "name": "a", "name": "b"}'.encode()) == Outer("b")


@given(st.binary())
def test_decoding_raises_nothing_but_bad_event(value: bytes) -> None:
    try:
        decode(DECODER, value)
    except BadEvent as bad:
        assert bad.reason.startswith("event ")


@pytest.mark.parametrize("value", [None, "", " ", "\t\n", "\u2003"])
def test_a_blank_text_is_none(value: str | None) -> None:
    with pytest.raises(BadEvent, match=r"^event has no userId: a non-blank text is required$"):
        require_text("userId", value)


def test_a_text_is_not_trimmed() -> None:
    assert require_text("userId", " u-1 ") == " u-1 "


@pytest.mark.parametrize(
    ("value", "time_ms"),
    [(0, 0), (1715657560002, 1715657560002), (1715657560002.0, 1715657560002), (MAX_TIME_MS, MAX_TIME_MS)],
)
def test_times(value: int | float, time_ms: int) -> None:
    assert require_time_ms("ets", value) == time_ms
    assert type(require_time_ms("ets", value)) is int


@pytest.mark.parametrize(
    "value", [-1, 0.5, 1715657560002.5, MAX_TIME_MS + 1, 1e308, float("nan"), float("inf"), 10**999]
)
def test_what_is_no_time_between_1970_and_9999_is_refused(value: int | float) -> None:
    with pytest.raises(BadEvent, match=r"^event has a wrong ets: .{1,210} is no time in ms between 1970 and 9999$"):
        require_time_ms("ets", value)


def test_a_missing_time_is_refused() -> None:
    with pytest.raises(BadEvent, match=r"^event has no ets: a time in ms is required$"):
        require_time_ms("ets", None)


@given(times_ms)
def test_a_time_survives_the_way_to_a_datetime_and_back(time_ms: int) -> None:
    moment = to_datetime(time_ms)

    assert to_time_ms(moment) == time_ms
    assert moment - datetime(1970, 1, 1, tzinfo=UTC) == timedelta(milliseconds=time_ms)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT-14", "Asia/Manila", "America/Juneau"])
def test_every_time_can_be_shown_in_every_zone(zone: str) -> None:
    for time_ms in (0, MAX_TIME_MS):
        assert to_time_ms(to_datetime(time_ms).astimezone(ZoneInfo(zone))) == time_ms


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.75, 0.75), (2, 2.0), (-1, -1.0),
        ("0.75", 0.75), ("2", 2.0), (" 10 ", 10.0), ("+1", 1.0), ("-.5", -0.5), ("5.", 5.0), ("1e3", 1000.0),
        ("1E-2", 0.01), ("1e-999", 0.0),
    ],
)  # fmt: skip
def test_numbers_and_numeric_texts(value: float | str, number: float) -> None:
    assert to_number(value) == number


@pytest.mark.parametrize(
    "value",
    [
        "", " ", ".", "-", "e5", "1e", "abc", "1,5", "0x10", "1_000", "1 2", "NaN", "nan", "Infinity", "-inf", "1e999",
        "١٢", "½", "1f", "true", float("nan"), float("inf"), 10**400, "9" * 400,
    ],
)  # fmt: skip
def test_what_no_double_can_hold_is_no_number(value: float | str) -> None:
    assert to_number(value) is None


@pytest.mark.timeout(5)
def test_a_long_text_that_is_almost_a_number_takes_no_time() -> None:
    assert to_number("1" * 1_000_000 + "x") is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**300), max_value=10**300))
def test_a_numeric_text_is_the_nearest_double(number: Decimal) -> None:
    assert to_number(str(number)) == float(number)


def test_a_reason_quotes_a_long_value_only_in_part() -> None:
    assert shown("do_1") == "'do_1'"
    assert len(shown("x" * 65_535)) == MAX_SHOWN + len("...")


def test_the_results_of_accepted_events_stand_where_their_events_do() -> None:
    refused = Refused("kind", "reason")
    assert list(results_in_place([refused, "a", refused, "b"], [1, 2])) == [refused, 1, refused, 2]
    assert list(results_in_place([refused], [])) == [refused]
