"""What a course consists of, and what becomes of the events of a course that consists of nothing."""

import json

import pytest

from common.events import BadEvent
from jobs.activity_aggregate_updater.relations import (
    course_status,
    no_leaf_nodes,
    required_leaf_nodes,
    search_request,
    units_of,
)


def test_required_are_the_leaf_nodes_that_are_not_optional() -> None:
    assert required_leaf_nodes(frozenset("abc"), frozenset("bx")) == frozenset("ac")
    assert required_leaf_nodes(frozenset("abc"), frozenset()) == frozenset("abc")


def test_units_are_all_ancestors_but_the_course() -> None:
    ancestors = {"a": {"do_course", "unit-1"}, "b": {"do_course", "unit-1", "unit-2"}, "c": {"do_course"}, "d": set()}
    assert units_of("do_course", ancestors) == {"unit-1", "unit-2"}
    assert units_of("do_course", {}) == set()


def test_the_search_asks_for_published_and_retired_collections() -> None:
    assert json.loads(search_request("do_course")) == {
        "request": {
            "filters": {
                "objectType": "Collection",
                "identifier": "do_course",
                "status": ["Live", "Unlisted", "Retired"],
            },
            "fields": ["status"],
        }
    }


def answer(**result: object) -> bytes:
    return json.dumps({"id": "api.search", "responseCode": "OK", "result": result}).encode()


@pytest.mark.parametrize("listed_under", ["content", "collections", "Collection"])
def test_the_status_of_the_course_is_found(listed_under: str) -> None:
    found = [{"identifier": "do_course", "objectType": "Collection", "status": "Retired"}]
    assert course_status("do_course", answer(count=1, **{listed_under: found})) == "Retired"


def test_an_entry_that_does_not_name_itself_is_the_course() -> None:
    assert course_status("do_course", answer(count=1, content=[{"status": "Live"}])) == "Live"


@pytest.mark.parametrize(
    "value",
    [
        answer(count=0),
        answer(count=0, content=[]),
        answer(content=None),
        answer(content=[None]),
        answer(content=[{"identifier": "do_other", "status": "Live"}]),
        answer(content=[{"identifier": "do_course", "status": None}]),
        b'{"responseCode": "CLIENT_ERROR", "result": null}',
        b"{}",
    ],
)
def test_a_course_that_is_not_in_the_answer_has_no_status(value: bytes) -> None:
    assert course_status("do_course", value) is None


@pytest.mark.parametrize("value", [b"", b"<html>", b"[]", b'{"result": []}', b'{"result": {"content": "\xff"}}'])
def test_an_answer_of_another_shape_is_a_fault_of_the_data(value: bytes) -> None:
    with pytest.raises(BadEvent, match="do_course") as raised:
        course_status("do_course", value)
    assert raised.value.kind == "search_failed"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("Retired", "course_retired"),
        ("Live", "course_without_leaf_nodes"),
        ("Unlisted", "course_without_leaf_nodes"),
        (None, "course_unknown"),
    ],
)
def test_events_of_a_course_without_leaf_nodes_fail_and_say_why(status: str | None, kind: str) -> None:
    error = no_leaf_nodes("do_course", status)
    assert error.kind == kind
    assert "do_course" in error.reason
