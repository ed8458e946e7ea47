"""Rows as the oracle compares them: every set column by itself, with lists and maps taken apart. Pure."""

from calendar import timegm
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from chaos.history import Key


def columns(key: Key, row: Mapping[str, Any]) -> dict[Key, Any]:
    """The set columns of the row with this key; times in ms, values of user-defined types as dicts."""
    return {
        (*key, column, *path): part
        for column, value in row.items()
        if value is not None
        for path, part in _parts(value)
    }


def counted_at(view_time_us: int, completed_time_us: int) -> Any:
    """The time (ms) of the event that was counted, if the write times of both counts agree on one; else these."""
    if view_time_us == completed_time_us and completed_time_us % 1000 == 0:
        return completed_time_us // 1000
    return view_time_us, completed_time_us


def _parts(value: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        return (((str(name),), _plain(part)) for name, part in value.items())
    if isinstance(value, list):
        return (((str(number),), _plain(part)) for number, part in enumerate(value))
    return [((), _plain(value))]


def _plain(value: Any) -> Any:
    """Times as ms, a user-defined type as a dict, and maps as dicts."""
    if isinstance(value, datetime):
        return timegm(value.utctimetuple()) * 1000 + value.microsecond // 1000
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
