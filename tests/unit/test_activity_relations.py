"""What a course consists of, and what becomes of the events of a course that consists of nothing."""

import json

import msgspec
import pytest

from common.domain.events import Refused
from common.servers.http_answers import Answer
from jobs.activity_aggregate_updater.relations import (
    CourseStatus,
    course_status,
    leaf_nodes,
    no_leaf_nodes,
    search_request,
    units_of,
)


def test_required_are_the_leaf_nodes_that_are_not_optional() -> None:
    assert leaf_nodes(frozenset("abc"), frozenset("bx")) == (frozenset("abc"), frozenset("ac"))
    assert leaf_nodes(frozenset("abc"), frozenset()) == (frozenset("abc"), frozenset("abc"))
    assert leaf_nodes(frozenset("abc"), frozenset("abc")) == (frozenset("abc"), frozenset())


def test_a_collection_without_leaf_nodes_is_none() -> None:
    assert leaf_nodes(frozenset(), frozenset()) is None
    assert leaf_nodes(frozenset(), frozenset("a")) is None


def test_units_are_all_ancestors_but_the_course() -> None:
    ancestors = {"a": {"do_course", "unit-1"}, "b": {"do_course", "unit-1", "unit-2"}, "c": {"do_course"}, "d": set()}
    assert units_of("do_course", ancestors) == {"unit-1", "unit-2"}
    assert units_of("do_course", {}) == set()


def test_the_search_asks_for_published_and_retired_collections() -> None:
    assert json.loads(msgspec.json.encode(search_request("do_course"))) == {
        "request": {
            "filters": {
                "objectType": "Collection",
                "identifier": "do_course",
                "status": ["Live", "Unlisted", "Retired"],
            },
            "fields": ["status"],
        }
    }


def answer(**result: object) -> Answer:
    return Answer(200, {"id": "api.search", "responseCode": "OK", "result": result})


@pytest.mark.parametrize("listed_under", ["content", "collections", "Collection"])
def test_the_status_of_the_course_is_found(listed_under: str) -> None:
    found = [{"identifier": "do_course", "objectType": "Collection", "status": "Retired"}]
    assert course_status("do_course", answer(count=1, **{listed_under: found})) == CourseStatus("Retired")


def test_an_entry_that_does_not_name_itself_is_the_course() -> None:
    assert course_status("do_course", answer(count=1, content=[{"status": "Live"}])) == CourseStatus("Live")


@pytest.mark.parametrize(
    "unknown",
    [
        answer(count=0),
        answer(count=0, content=[]),
        answer(content=None),
        answer(content=[None]),
        answer(content=[{"identifier": "do_other", "status": "Live"}]),
        answer(content=[{"identifier": "do_course", "status": None}]),
        answer(content={"identifier": "do_course", "status": "Live"}),
        Answer(200, {"result": []}),
        Answer(200, {"result": None}),
        Answer(200, {}),
    ],
)
def test_a_course_that_is_not_in_the_answer_has_no_status(unknown: Answer) -> None:
    assert course_status("do_course", unknown) == CourseStatus(None)


@pytest.mark.parametrize(
    "refusal", [Answer(400, {}), Answer(401, {"result": {}}), Answer(200, {"responseCode": "CLIENT_ERROR"})]
)
def test_a_refusal_says_nothing_about_the_course(refusal: Answer) -> None:
    found = course_status("do_course", refusal)
    assert isinstance(found, Refused)
    assert found.kind == "search_api"
    assert "do_course" in found.reason


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
    error = no_leaf_nodes("do_course", CourseStatus(status))
    assert error.kind == kind
    assert "do_course" in error.reason
