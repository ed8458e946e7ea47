"""The figures of a batch, and their charts."""

import re
from xml.etree import ElementTree

import pytest

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.events import Refused
from desk.figures import BINS, MAX_WITHOUT, Figures, bin_of, units_of
from desk.records import AggregatesRow, EnrolmentRow
from desk.server import charts
from tests.support.desk_records import (
    AT_LEAST_75,
    COMPLETED,
    QUIZ,
    SETTINGS,
    VIDEO,
    aggregates,
    batch,
    template,
)

UNITS = {"do_unit": frozenset({VIDEO, QUIZ})}
TYPES: dict[str, str | Refused | None] = {QUIZ: "SelfAssess"}


def enrolment(status: int | None = 2, done: tuple[str, ...] = (VIDEO, QUIZ), **columns: object) -> EnrolmentRow:
    row: dict[str, object] = {
        "active": True,
        "status": status,
        "enrolled_on": None,
        "completed_on": None,
        "progress": len(done),
        "content_status": dict.fromkeys(done, 2),
        "issued_certificates": None,
        **columns,
    }
    return EnrolmentRow(**row)  # type: ignore[arg-type]


def figures() -> Figures:
    return Figures(batch(template({**COMPLETED, **AT_LEAST_75})), UNITS)


class TestFigures:
    def test_of_nobody(self) -> None:
        found = figures()
        assert (found.enrolled, found.limits, found.hardest) == (0, [75], [])
        assert found.unit_percent("do_unit") == 0

    def test_of_one_learner(self) -> None:
        found = figures()
        found.add(enrolment(issued_certificates=[{"name": "x"}]), aggregates(7.5), TYPES, SETTINGS)
        assert (found.enrolled, found.started, found.completed, found.passed, found.issued) == (1, 1, 1, 1, 1)
        assert found.bins == {15: 1}
        assert found.unit_percent("do_unit") == 100
        assert found.hardest[0].average_percent == 75

    def test_of_a_hundred_thousand_learners(self) -> None:
        found = figures()
        rows = [aggregates(score / 10) for score in range(100)]
        rights = enrolment()
        for number in range(100_000):
            found.add(rights, rows[number % 100], TYPES, SETTINGS)
        assert found.completed == 100_000
        assert found.passed == 25_000
        assert found.nearly == 4_000  # 71 to 74 percent: 70 is short by 5
        assert sum(found.bins.values()) == 100_000
        assert found.bins[15] == 5_000
        assert found.assessments[QUIZ].average_attempts == 1

    def test_a_score_alone_is_not_enough_to_pass(self) -> None:
        found = figures()
        found.add(enrolment(1, (VIDEO,)), aggregates(9.0), TYPES, SETTINGS)
        assert (found.completed, found.passed) == (0, 0)
        assert found.unit_percent("do_unit") == 50

    def test_those_who_passed_and_have_no_certificate_are_named_up_to_a_bound(self) -> None:
        found = figures()
        for number in range(MAX_WITHOUT + 5):
            found.add(enrolment(), aggregates(9.0), TYPES, SETTINGS, f"learner-{number}")
        found.add(enrolment(issued_certificates=[{"name": "x"}]), aggregates(9.0), TYPES, SETTINGS, "has one")
        found.add(enrolment(1), aggregates(9.0), TYPES, SETTINGS, "is not done")
        assert (found.reached, found.passed, found.without) == (MAX_WITHOUT + 7, MAX_WITHOUT + 6, MAX_WITHOUT + 5)
        assert found.first_without == [f"learner-{number}" for number in range(MAX_WITHOUT)]

    def test_phantoms_and_inactive_enrolments_do_not_count(self) -> None:
        found = figures()
        found.add(enrolment(None, active=None), AggregatesRow(), TYPES, SETTINGS)
        found.add(enrolment(active=False), AggregatesRow(), TYPES, SETTINGS)
        assert found.enrolled == 0

    def test_a_learner_without_a_score_is_in_no_bin(self) -> None:
        found = figures()
        found.add(enrolment(0, ()), AggregatesRow(aggregates={COMPLETED_COUNT: 0.0}), TYPES, SETTINGS)
        assert (found.enrolled, found.started, sum(found.bins.values())) == (1, 0, 0)

    def test_a_score_that_cannot_be_computed_is_counted_apart(self) -> None:
        found = figures()
        found.add(enrolment(), aggregates(7.5), {QUIZ: Refused("content_api", "no")}, SETTINGS)
        assert (found.enrolled, found.completed, found.unusable) == (1, 1, 1)

    @pytest.mark.parametrize(
        ("percent", "number"), [(-3, 0), (0, 0), (4.99, 0), (5, 1), (74.99, 14), (75, 15), (100, 20), (250, BINS - 1)]
    )
    def test_the_bin_of_a_score(self, percent: float, number: int) -> None:
        assert bin_of(percent) == number

    def test_a_content_belongs_to_every_unit_above_it_and_the_course_is_no_unit(self) -> None:
        above = {
            VIDEO: frozenset({"do_part", "do_unit", "do_course"}),
            QUIZ: frozenset({"do_unit", "do_course"}),
            "do_intro": frozenset({"do_course"}),
        }
        assert units_of(above, "do_course") == {"do_part": {VIDEO}, "do_unit": {VIDEO, QUIZ}}


class TestCharts:
    def many(self) -> Figures:
        found = figures()
        for number in range(101):
            found.add(enrolment(), aggregates(number / 10), TYPES, SETTINGS)
        return found

    @pytest.mark.parametrize("count", ["none", "many"])
    def test_are_well_formed_and_described(self, count: str) -> None:
        found = figures() if count == "none" else self.many()
        for chart in (
            charts.funnel(found),
            charts.best_scores(found),
            charts.unit_progress(found, [("do_unit", "<Unit> & more")]),
        ):
            root = ElementTree.fromstring(chart)
            assert root.attrib["role"] == "img"
            assert root.attrib["aria-label"]
            # The Content-Security-Policy would block inline styles, and a viewBox would shrink the text.
            assert "style=" not in chart
            assert "viewBox" not in chart

    def test_the_line_of_the_criterion_is_where_its_bars_begin(self) -> None:
        chart = charts.best_scores(self.many())
        bars = re.findall(
            r'<rect x="([\d.]+)%" y="[\d.]+" width="[\d.]+%" height="[\d.]+" rx="2" class="([^"]+)"', chart
        )
        (line,) = re.findall(r'<line x1="([\d.]+)%" x2="[\d.]+%" y1="34" y2="192" class="limit"/>', chart)
        below = [float(x) for x, kind in bars if kind == "bar"]
        above = [float(x) for x, kind in bars if kind == "bar good"]
        assert (len(below), len(above)) == (15, 6)
        assert max(below) < float(line) < min(above)

    def test_one_learner_is_not_written_as_several(self) -> None:
        found = figures()
        found.add(enrolment(), aggregates(7.4), TYPES, SETTINGS)
        chart = charts.best_scores(found)
        assert "1 learner has a best score." in chart
        assert "1 falls short by less than 5 percentage points." in chart
        assert re.findall(r'class="tick number" text-anchor="middle">([^<]+)<', chart) == ["1"]

    def test_the_bars_of_the_funnel_are_in_proportion(self) -> None:
        chart = charts.funnel(self.many())
        assert re.findall(r'width="([\d.]+)%" height="18" rx="3" class="bar"', chart) == [
            "100.00",
            "100.00",
            "100.00",
            "25.74",
            "0.00",
        ]

    def test_names_are_escaped(self) -> None:
        chart = charts.unit_progress(self.many(), [("do_unit", '<script>"x"</script>')])
        assert "<script>" not in chart

    def test_the_picture_stands_alone(self) -> None:
        found = self.many()
        picture = charts.picture("May", [("Funnel", charts.funnel(found)), ("Scores", charts.best_scores(found))])
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2
