"""The dashboard as a picture: legends, axes, and what is drawn of the series."""

import math
from xml.etree import ElementTree

import pytest

from deploy.prometheus.dashboard import ROWS, Graph
from deploy.prometheus.picture import draw, draw_panel, legend, quantity, top_of_axis

GRAPH = Graph("Time of a batch", "a", unit="ms")
START, END = 1_000.0, 1_120.0
"""One value a second, as many as a line has."""


def panel(*points: tuple[float, float]) -> str:
    return "".join(draw_panel(GRAPH, [("job & task", points)], START, END))


@pytest.mark.parametrize(
    ("template", "text"),
    [("{{job}} {{reason}}", "a not_json"), ("{{job}}", "a"), ("{{job}} {{missing}}", "a"), ("all", "all")],
)
def test_labels_are_put_into_the_legend(template: str, text: str) -> None:
    assert legend(template, {"job": "a", "reason": "not_json"}) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "s", "0 s"),
        (2_500.0, "short", "2.5k"),
        (0.25, "percentunit", "25 %"),
        (999.0, "ms", "999 ms"),
        (1_500.0, "ms", "1.5 s"),
        (200.0 * 2**20, "bytes", "200 MiB"),
        (12.5, "eps", "12.5 evt/s"),
    ],
)
def test_values_have_units(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("largest", "unit", "top"),
    [
        (0.0, "s", 1.0),
        (0.03, "s", 0.05),
        (1.0, "short", 1.0),
        (101.0, "short", 200.0),
        (210.0, "short", 250.0),
        (190.0 * 2**20, "bytes", 200.0 * 2**20),
    ],
)
def test_an_axis_ends_at_a_round_number(largest: float, unit: str, top: float) -> None:
    assert top_of_axis(largest, unit) == pytest.approx(top)


def test_a_line_is_interrupted_where_there_is_no_value() -> None:
    # The plot is 118 high and ends 148 below the top; its axis ends at 10 ms.
    drawn = panel((1_000, 10), (1_001, 5), (1_002, math.inf), (1_003, 0), (1_004, 0), (1_010, 10))
    (path,) = [part.partition('"')[0] for part in drawn.split('d="') if part.startswith("M62 30L")]
    assert [part.split("L")[0].split(" ")[1] for part in path.split("M")[1:]] == ["30", "148", "30"]
    assert path.count("L") == 3
    assert "job &amp; task" in drawn


def test_a_panel_without_a_number_says_so() -> None:
    assert "No data" in panel()
    assert "No data" in panel((1_000, math.nan))
    assert "No data" in panel((1_000, math.inf))
    assert "No data" not in panel((1_000, 0.0))


def test_all_panels_are_in_the_picture() -> None:
    titles = [graph.title for graphs in ROWS.values() for graph in graphs]
    picture = ElementTree.fromstring(draw({title: [] for title in titles}, START, END))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in titles] == titles
    assert texts.count("No data") == len(titles)
    # Panels lie inside the picture and beside each other.
    places = [element.get("transform") for element in picture.iter("{http://www.w3.org/2000/svg}g")]
    assert len(set(places)) == len(titles)
