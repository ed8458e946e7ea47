"""Draws the dashboard as an SVG from the data of a Prometheus, to see what its panels show where there is no Grafana.

Expressions, titles, units and legends are those that Grafana gets.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from deploy.prometheus.dashboard import ROWS, Graph
from deploy.prometheus.expressions import as_grafana_sends_it
from deploy.prometheus.server import Client

_COLUMNS = 4
_WIDTH, _HEIGHT, _GAP, _HEADING = 340, 228, 10, 32
"""Of a panel, of the gap between two, and of the heading of a row."""
_LEFT, _RIGHT, _TOP, _PLOT_HEIGHT = 62, 12, 30, 118
_POINTS = 120
"""Values of a line: more cannot be told apart at this width."""
_LEGENDS = 4
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a6100", "#56b4e9", "#555555", "#e69f00")
_SUFFIXES = {
    "eps": " evt/s",
    "rps": " rd/s",
    "wps": " wr/s",
    "ms": " ms",
    "s": " s",
    "bytes": "B",
}
"""As in Grafana, by its names of units."""
_PREFIXES = ("", "K", "M", "G")

Series = tuple[str, Sequence[tuple[float, float]]]
"""The legend of a line, and its points (s since 1970, value)."""


def legend(template: str, labels: Mapping[str, str]) -> str:
    """Grafana's ``{{label}}`` replaced; a label that the series does not have is nothing."""
    text = template
    for name in [part.partition("}}")[0] for part in template.split("{{")[1:]]:
        text = text.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return text.strip()


def quantity(value: float, unit: str) -> str:
    """A value as on the axis: three digits, with a prefix and its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "ms" and value >= 1000:
        value, unit = value / 1000, "s"
    step = _step(unit)
    power = min(int(math.log(value, step)), len(_PREFIXES) - 1) if value >= step else 0
    prefix = f" {_PREFIXES[power]}i" if unit == "bytes" and power else _PREFIXES[power].replace("K", "k")
    return f"{value / step**power:.3g}{prefix}{_SUFFIXES.get(unit, '')}"


def top_of_axis(largest: float, unit: str) -> float:
    """A round number that is not below ``largest``."""
    if largest <= 0:
        return 1.0
    scale = _step(unit) ** math.floor(math.log(largest, _step(unit)))
    power = scale * 10.0 ** math.floor(math.log10(largest / scale))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if largest <= factor * power)


def _step(unit: str) -> float:
    return 1024.0 if unit == "bytes" else 1000.0


def _runs(points: Iterable[tuple[float, float]], step: float) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line without gap. NaN and infinity are gaps, too."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if run and (not math.isfinite(value) or at - run[-1][0] > 1.5 * step):
            yield run
            run = []
        if math.isfinite(value):
            run.append((at, value))
    if run:
        yield run


def draw_panel(graph: Graph, series: Sequence[Series], start: float, end: float) -> Iterator[str]:
    """The elements of a panel whose upper left corner is at 0, 0."""
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="4" fill="#fff" stroke="#ccc"/>'
    yield f'<text x="10" y="19" font-weight="bold">{escape(graph.title)}</text>'
    right, bottom = _WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT
    values = [value for _, points in series for _, value in points if math.isfinite(value)]
    if not values:
        yield f'<text x="{_WIDTH / 2}" y="{_TOP + 60}" text-anchor="middle" fill="#888">No data</text>'
        return
    top = top_of_axis(max(values), graph.unit)
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * _PLOT_HEIGHT
        yield f'<path d="M{_LEFT} {y}H{right}" stroke="#e4e4e4"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4}" text-anchor="end" class="s">{quantity(part * top, graph.unit)}</text>'
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        at = datetime.fromtimestamp(start + part * (end - start), UTC)
        x = _LEFT + part * (right - _LEFT)
        yield f'<text x="{x}" y="{bottom + 14}" text-anchor="{anchor}" class="s">{at:%H:%M}</text>'
    for number, (name, points) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        path = "".join(
            ("M" if index == 0 else "L")
            + f"{_LEFT + (at - start) / (end - start) * (right - _LEFT):.0f} {bottom - value / top * _PLOT_HEIGHT:.0f}"
            for run in _runs(points, (end - start) / _POINTS)
            for index, (at, value) in enumerate([*run, run[-1]] if len(run) == 1 else run)
        )
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-linecap="round"/>'
        if number < _LEGENDS:
            y = bottom + 30 + 13 * number
            more = f" (and {len(series) - _LEGENDS} more)" if number == _LEGENDS - 1 and len(series) > _LEGENDS else ""
            yield f'<path d="M10 {y - 4}h12" stroke="{colour}" stroke-width="2"/>'
            yield f'<text x="27" y="{y}" class="s">{escape(name)}{more}</text>'


def draw(found: Mapping[str, Sequence[Series]], start: float, end: float) -> str:
    """The whole dashboard. ``found`` has the series by the title of the panel."""
    elements: list[str] = []
    y = _GAP
    for heading, graphs in ROWS.items():
        elements.append(f'<text x="{_GAP}" y="{y + 18}" font-size="16" font-weight="bold">{escape(heading)}</text>')
        y += _HEADING
        for number, graph in enumerate(graphs):
            row, column = divmod(number, _COLUMNS)
            at = f"{_GAP + column * (_WIDTH + _GAP)} {y + row * (_HEIGHT + _GAP)}"
            elements.append(f'<g transform="translate({at})">')
            elements += draw_panel(graph, found[graph.title], start, end)
            elements.append("</g>")
        y += math.ceil(len(graphs) / _COLUMNS) * (_HEIGHT + _GAP)
    width = _GAP + _COLUMNS * (_WIDTH + _GAP)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}"'
    style = "<style>.s{font-size:10.5px;fill:#444}</style>"
    background = f'<rect width="{width}" height="{y}" fill="#f4f5f5"/>'
    return "\n".join((f'{head} font-family="sans-serif" font-size="13">', style, background, *elements, "</svg>\n"))


def read(prometheus: Client, start: float, end: float) -> dict[str, list[Series]]:
    """The series of every panel by its title, sorted by their legends."""
    found: dict[str, list[Series]] = {}
    for graph in (graph for graphs in ROWS.values() for graph in graphs):
        expression = as_grafana_sends_it(graph.expression)
        answers: list[dict[str, Any]] = prometheus.query_range(expression, start, end, (end - start) / _POINTS)
        found[graph.title] = sorted(
            (legend(graph.legend, one["metric"]), [(at, float(value)) for at, value in one["values"]])
            for one in answers
        )
    return found
