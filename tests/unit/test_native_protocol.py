"""What is encoded here is what another driver, cassandra-driver, decodes."""

from decimal import Decimal

import pytest
from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from common.domain import native_protocol
from tests.support.strategies import finite_decimals, text_maps, texts, times_ms

PROTOCOL_VERSION = 5

TEXT_MAP = cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type])
TEXT_MAPS = cqltypes.ListType.apply_parameters([TEXT_MAP])


def value_of(sized: bytes) -> bytes:
    assert int.from_bytes(sized[:4], "big") == len(sized) - 4
    return sized[4:]


@pytest.mark.parametrize(
    ("text", "scale", "unscaled"),
    [
        ("12.4", 1, "7c"),
        ("12.40", 2, "04d8"),
        ("0", 0, "00"),
        ("-0.0", 1, "00"),
        ("127", 0, "7f"),
        ("128", 0, "0080"),
        ("12.8", 1, "0080"),
        ("25.6", 1, "0100"),
        ("-1", 0, "ff"),
        ("-128", 0, "80"),
        ("-129", 0, "ff7f"),
        ("-256", 0, "ff00"),
        ("1E+5", -5, "01"),
        ("5.5E-17", 18, "37"),
    ],
)
def test_decimals(text: str, scale: int, unscaled: str) -> None:
    expected = scale.to_bytes(4, "big", signed=True) + bytes.fromhex(unscaled)

    assert value_of(native_protocol.decimal(Decimal(text))) == expected


@given(finite_decimals)
def test_every_decimal_keeps_its_digits(value: Decimal) -> None:
    decoded = cqltypes.DecimalType.deserialize(value_of(native_protocol.decimal(value)), PROTOCOL_VERSION)

    # The protocol has no negative zero.
    assert decoded.as_tuple() == (value.copy_abs() if value.is_zero() else value).as_tuple()


@given(texts, st.floats(allow_nan=False), times_ms, text_maps)
def test_the_other_types(text: str, double: float, time_ms: int, maps: tuple[dict[str, str], ...]) -> None:
    assert value_of(native_protocol.text(text)).decode() == text
    assert cqltypes.DoubleType.deserialize(value_of(native_protocol.double(double)), PROTOCOL_VERSION) == double
    assert int.from_bytes(value_of(native_protocol.timestamp(time_ms)), "big") == time_ms
    decoded = TEXT_MAPS.deserialize(value_of(native_protocol.text_maps(maps)), PROTOCOL_VERSION)
    assert [dict(entries) for entries in decoded] == list(maps)


def test_none_is_a_null_and_an_empty_text_is_not() -> None:
    assert native_protocol.text(None) == native_protocol.decimal(None) == b"\xff\xff\xff\xff"
    assert native_protocol.text("") == b"\x00\x00\x00\x00"
