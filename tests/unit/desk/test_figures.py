"""The figures of a batch, and their charts."""

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

import pytest

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.events import Refused
from desk.figures import BINS, MAX_WITHOUT, Figures, bin_of, units_of
from desk.records import AggregatesRow, EnrolmentRow
from desk.server import charts
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.events import CertificateRequest
from tests.support.desk_records import (
    AT_LEAST_75,
    COMPLETED,
    NOW_MS,
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


def score(sign: str, limit: float) -> dict[str, object]:
    return {"assessment": {"score": {sign: limit}}}


MERIT = {"Merit": {**COMPLETED, **AT_LEAST_75}}


def of_templates(*criteria_by_name: Mapping[str, object]) -> Figures:
    return Figures(
        batch(*(template(criteria, name) for named in criteria_by_name for name, criteria in named.items())), UNITS
    )


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
        held = [{"name": "completion"}]  # the job compares names in any case
        found.add(enrolment(issued_certificates=held), aggregates(9.0), TYPES, SETTINGS, "has it")
        found.add(enrolment(1), aggregates(9.0), TYPES, SETTINGS, "is not done")
        assert (found.reached, found.passed, found.without) == (MAX_WITHOUT + 7, MAX_WITHOUT + 6, MAX_WITHOUT + 5)
        assert found.first_without == [f"learner-{number}" for number in range(MAX_WITHOUT)]

    def test_a_template_that_is_met_hides_no_other(self) -> None:
        """Merit from 75 percent on, and a certificate for everybody who completes the course."""
        found = of_templates(MERIT, {"Completion": COMPLETED})
        for percent in (74, 88):
            found.add(enrolment(), aggregates(percent / 10), TYPES, SETTINGS)
        assert (found.nearly, found.reached, found.passed, found.without) == (1, 1, 1, 2)
        assert [number for number in range(BINS) if found.is_bin_enough(number)] == list(range(15, BINS))

    def test_whoever_has_one_certificate_may_miss_another(self) -> None:
        found = of_templates(MERIT, {"Completion": COMPLETED})
        for percent, names in ((74, ["Completion"]), (88, ["Completion"]), (90, ["Completion", "Merit"])):
            held = [{"name": name} for name in names]
            found.add(enrolment(issued_certificates=held), aggregates(percent / 10), TYPES, SETTINGS, f"has {percent}")
        assert found.first_without == ["has 88"]

    def test_an_old_certificate_is_one(self) -> None:
        found = figures()
        found.add(enrolment(certificates=[{"name": "x"}]), aggregates(9.0), TYPES, SETTINGS)
        assert (found.issued, found.without) == (1, 0)

    def test_who_has_the_lower_score_may_fall_short_of_the_higher_one(self) -> None:
        found = of_templates({"Gold": score(">=", 90)}, {"Bronze": score(">=", 40)})
        for percent in (34, 36, 41, 84, 88, 91):
            found.add(enrolment(), aggregates(percent / 10), TYPES, SETTINGS)
        assert (found.nearly, found.reached) == (2, 4)  # 36 and 88
        assert found.lower_limits == [(40, True), (90, True)]

    def test_a_certificate_for_certain_users_is_not_missed_by_the_others(self) -> None:
        found = of_templates({"Teachers": {**COMPLETED, "user": {"role": "teacher"}}})
        found.add(enrolment(), aggregates(9.0), TYPES, SETTINGS)
        assert (found.without, found.has_user_criteria) == (0, True)

    @pytest.mark.parametrize(
        ("criteria", "percents"),
        [
            (score(">", 75), [71, 74, 75]),
            (score("=", 75), [71, 74]),
            (score("<=", 75), []),
            (score("!=", 75), []),
            ({"assessment": {"score": {">=": 71, "<=": 73}}}, [70]),
            ({"assessment": {"score": {">": 71, ">=": 90}}}, []),
        ],
    )
    def test_only_a_limit_from_below_can_be_fallen_short_of(self, criteria: object, percents: list[int]) -> None:
        short = []
        for percent in (70, 71, 74, 75, 76):
            found = of_templates({"Merit": criteria})
            found.add(enrolment(), aggregates(percent / 10), TYPES, SETTINGS)
            short += [percent] * found.nearly
        assert short == percents

    @pytest.mark.parametrize(
        ("criteria", "bins"),
        [
            (score(">", 75), range(16, BINS)),
            (score(">=", 77), range(16, BINS)),
            (score("<=", 77), range(15)),
            (score("<", 10), range(2)),
            (score("=", 75), []),
            (score("=", 100), []),
            (score("!=", 75), [*range(15), *range(16, BINS)]),
        ],
    )
    def test_a_bin_is_enough_if_all_of_its_scores_are(self, criteria: object, bins: Iterable[int]) -> None:
        found = of_templates({"Merit": criteria})
        assert [number for number in range(BINS) if found.is_bin_enough(number)] == list(bins)

    @pytest.mark.parametrize("status", [0, 1, 2])
    @pytest.mark.parametrize("percent", [74, 75])
    @pytest.mark.parametrize("held", ["MERIT", "Other"])
    @pytest.mark.parametrize("criteria", [COMPLETED, {"enrollment": {"status": 0}}, {**COMPLETED, **AT_LEAST_75}])
    def test_a_certificate_is_missed_by_those_who_would_get_it(
        self, status: int, percent: float, held: str, criteria: object
    ) -> None:
        row, scores = enrolment(status, issued_certificates=[{"name": held}]), aggregates(percent / 10)
        found = of_templates({"Merit": criteria})
        found.add(row, scores, TYPES, SETTINGS)
        decisions = rules.select(
            CertificateRequest(("asha",), "do_course", "batch", re_issue=False, time_ms=NOW_MS),
            found.batch.templates,
            enrolment=row.for_certificates(),
            aggregates=scores.merged,
            content_types=TYPES,
            settings=SETTINGS.certificate,
        )
        assert found.without == len(decisions.earned)

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

    def test_the_funnel_has_no_step_for_a_score_that_nobody_asks_for(self) -> None:
        found = of_templates({"Completion": COMPLETED})
        found.add(enrolment(), aggregates(9.0), TYPES, SETTINGS)
        assert "reached the score" not in charts.funnel(found)
        assert "bar good" not in charts.best_scores(found)

    def test_names_are_escaped(self) -> None:
        chart = charts.unit_progress(self.many(), [("do_unit", '<script>"x"</script>')])
        assert "<script>" not in chart

    def test_the_picture_stands_alone(self) -> None:
        found = self.many()
        picture = charts.picture("May", [("Funnel", charts.funnel(found)), ("Scores", charts.best_scores(found))])
        root = ElementTree.fromstring(picture)
        assert root.tag.endswith("svg")
        assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2
