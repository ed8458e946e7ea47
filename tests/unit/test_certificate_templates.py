"""Which templates of a batch apply, which are bad, and what the others need to be fetched."""

import json

import msgspec
import pytest

from jobs.collection_cert_pre_processor.templates import AdditionalProps, Template, parse

COMPLETED = '{"enrollment": {"status": 2}}'
SCORE = '{"assessment": {"score": {">=": 75}}}'


def fields(**changes: str) -> dict[str, str]:
    return {"identifier": "t-1", "name": "Course", "url": "https://c/t.svg", "criteria": COMPLETED, **changes}


def only(template: dict[str, str]) -> Template:
    templates = parse("b-1", {"t-1": template})
    assert templates.faults == ()
    return templates.usable[0]


@pytest.mark.parametrize("cert_templates", [None, {}])
def test_a_batch_without_templates(cert_templates: dict[str, dict[str, str]] | None) -> None:
    templates = parse("b-1", cert_templates)
    assert (templates.usable, templates.faults) == ((), ())


@pytest.mark.parametrize("url", ["https://c/t.svg", "CLOUD_BASE_PATH/t.svg?v=1", "t.svg.zip"])
def test_a_template_applies_if_its_url_contains_svg(url: str) -> None:
    assert only(fields(url=url)).url == url


@pytest.mark.parametrize("url", ["", "https://c/t.zip", "https://c/svg"])
def test_other_templates_are_passed_over_even_if_they_are_bad(url: str) -> None:
    without_url = {"criteria": "{"}
    templates = parse("b-1", {"t-1": fields(url=url, criteria="{"), "t-2": without_url})
    assert (templates.usable, templates.faults) == ((), ())


def test_texts_that_hold_json_are_read() -> None:
    template = only(
        fields(
            issuer='{"name": "Gujarat", "url": "https://g"}',
            signatoryList='[{"name": "A", "id": "1"}]',
            additionalProps='{"location": ["state"], "course": ["name"], "other": 7}',
            notifyTemplate="{",
        )
    )
    assert msgspec.json.encode(template.issuer) == b'{"name":"Gujarat","url":"https://g"}'
    assert msgspec.json.encode(template.signatory_list) == b'[{"name":"A","id":"1"}]'
    assert template.additional_props == AdditionalProps(location=("state",), course=("name",))


@pytest.mark.parametrize("text", [None, "", " ", "null"])
def test_those_that_are_missing_are_empty(text: str | None) -> None:
    given = {} if text is None else {"issuer": text, "signatoryList": text, "additionalProps": text}
    template = only(fields(**given))
    assert (template.issuer, template.signatory_list, template.additional_props) == ({}, [], AdditionalProps())


def test_without_an_identifier_the_key_is_the_identifier() -> None:
    template = fields()
    del template["identifier"]
    assert only(template).identifier == "t-1"


@pytest.mark.parametrize(
    "bad",
    [
        fields(criteria=""),
        fields(criteria="{}"),
        fields(criteria='{"other": {}}'),
        fields(name=" "),
        fields(issuer="[]"),
        fields(issuer="{"),
        fields(signatoryList="{}"),
        fields(signatoryList='["A"]'),
        fields(additionalProps="[]"),
        fields(additionalProps='{"user": "email"}'),
        fields(additionalProps='{"user": [1]}'),
        {"url": "t.svg", "criteria": COMPLETED},
        {"url": "t.svg", "name": "Course"},
    ],
    ids=str,
)
def test_a_bad_template_is_a_fault_and_spoils_no_other(bad: dict[str, str]) -> None:
    templates = parse("b-1", {"t-2": fields(name="Good"), "t-1": bad, "t-3": fields(name="Good too")})
    assert [template.key for template in templates.usable] == ["t-2", "t-3"]
    (fault,) = templates.faults
    assert fault.kind == "bad_template"
    assert fault.reason.startswith("Invalid template for batch : b-1: template t-1: ")


@pytest.mark.parametrize(
    ("cert_templates", "is_settled"),
    [
        ({"t-1": fields()}, True),
        ({"t-1": fields(), "t-2": fields(criteria="{}")}, False),
        ({"t-1": fields(url="https://c/t.zip")}, False),
        (None, False),
    ],
)
def test_what_is_missing_or_waits_for_its_repair_is_not_for_long(
    cert_templates: dict[str, dict[str, str]] | None, is_settled: bool
) -> None:
    assert bool(parse("b-1", cert_templates)) is is_settled


def test_the_order_is_that_of_the_keys() -> None:
    templates = parse("b-1", {"b": fields(), "a": fields(), "c": fields()})
    assert [template.key for template in templates.usable] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("criteria", "need_enrolment", "need_aggregates"),
    [
        (COMPLETED, True, False),
        (SCORE, False, True),
        ('{"user": {"rootOrgId": "o"}}', False, False),
        ('{"enrollment": {}, "assessment": {"score": 75}, "user": {"a": 1}}', True, True),
    ],
)
def test_only_what_some_template_needs_is_read(criteria: str, need_enrolment: bool, need_aggregates: bool) -> None:
    templates = parse("b-1", {"t-1": fields(criteria=criteria), "bad": fields(criteria="{}")})
    assert (templates.need_enrolment, templates.need_aggregates) == (need_enrolment, need_aggregates)


def test_columns_of_the_enrolment_are_wanted_only_where_the_row_is_read() -> None:
    props = json.dumps({"enrollment": ["enrolledDate", "Progress"]})
    wanted = {"t-1": fields(additionalProps=props), "t-2": fields(additionalProps='{"enrollment": ["progress"]}')}
    assert parse("b-1", wanted).enrolment_columns == ("enrolleddate", "progress")
    assert parse("b-1", {"t-1": fields(criteria=SCORE, additionalProps=props)}).enrolment_columns == ()
