"""Charts as SVG, made on the server. Pure.

Lengths across are percentages and there is no ``viewBox``, so that text keeps its size on any screen. Colours come from
classes, because the Content-Security-Policy allows no inline styles and dark mode needs others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from desk.figures import BIN_PERCENT, BINS, Figures

_BAR, _GAP = 22, 26
_PLOT_TOP, _PLOT_HEIGHT, _AXIS = 42, 150, 36
_NUMBER = 16
"""Room for the number above the highest bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar: ``percent`` of the full width, with a label above and a value at the right."""

    label: str
    value: str
    percent: float


def bars(title: str, rows: Sequence[Bar], *, names_are_short: bool = False) -> str:
    """Horizontal bars below each other. Names that may be long are cut off before they run into the value."""
    name_class = "whole" if names_are_short else "name"
    height = len(rows) * (_BAR + _GAP) + 4
    parts = [_head(title, ", ".join(f"{row.label}: {row.value}" for row in rows), height)]
    for number, row in enumerate(rows):
        top = number * (_BAR + _GAP)
        value, bracket, share = row.value.partition(" (")
        parts.append(
            # A svg of its own cuts off what is longer.
            f'<svg y="{top}" width="68%" class="{name_class}" height="{_BAR}"><title>{escape(row.label)}</title>'
            f'<text x="0" y="16" class="label">{escape(row.label)}</text></svg>'
            f'<text x="100%" y="{top + 16}" class="value" text-anchor="end">{escape(value)}'
            f'<tspan class="share">{escape(bracket + share)}</tspan></text>'
            f'<rect y="{top + 22}" width="100%" height="{_BAR - 4}" rx="3" class="track"/>'
            f'<rect y="{top + 22}" width="{_percent(row.percent)}" height="{_BAR - 4}" rx="3" class="bar"/>'
        )
    return "".join((*parts, "</svg>"))


def funnel(figures: Figures) -> str:
    """From the enrolment to the certificate."""
    total = figures.enrolled
    steps = [
        ("Enrolled", figures.enrolled),
        ("Started", figures.started),
        ("Completed the course", figures.completed),
        *([("Completed and reached the score", figures.passed)] if figures.limits else []),
        ("Certificate issued", figures.issued),
    ]
    rows = [
        Bar(
            label,
            f"{number:,}" + (f" ({100 * number / total:.0f} %)" if total else ""),
            100 * number / total if total else 0,
        )
        for label, number in steps
    ]
    return bars("From the enrolment to the certificate", rows, names_are_short=True)


def best_scores(figures: Figures) -> str:
    """How many learners have which best score, and the criteria as lines."""
    highest = max(figures.bins.values(), default=0)
    width = 100 / BINS
    limits = figures.limits
    with_score = sum(figures.bins.values())
    summary = (
        f"{_learners(with_score)} {'has' if with_score == 1 else 'have'} a best score. "
        + "".join(f"The line is at {limit:g} percent. " for limit in limits)
        + f"{figures.nearly:,} {'falls' if figures.nearly == 1 else 'fall'} short by less than 5 percentage points."
    )
    bottom = _PLOT_TOP + _PLOT_HEIGHT
    parts = [_head("Best scores of the learners", summary, bottom + _AXIS)]
    for number in range(BINS):
        count = figures.bins[number]
        height = (_PLOT_HEIGHT - _NUMBER) * count / highest if highest else 0
        name = bin_name(number)
        parts.append(
            f'<rect x="{number * width + 0.4:.2f}%" y="{bottom - height:.1f}" width="{width - 0.8:.2f}%" '
            f'height="{height:.1f}" rx="2" class="{"bar good" if figures.is_bin_enough(number) else "bar"}">'
            f"<title>{name}: {count:,}</title></rect>"
        )
        if count:
            parts.append(
                f'<text x="{(number + 0.5) * width:.2f}%" y="{bottom - height - 4:.1f}" class="tick number" '
                f'text-anchor="middle">{_short(count)}</text>'
            )
    parts.append(f'<line x1="0" x2="100%" y1="{bottom}" y2="{bottom}" class="axis"/>')
    for low in (0, 25, 50, 75, 100):
        x = low / BIN_PERCENT * width
        anchor = "start" if low == 0 else "middle"
        parts.append(f'<text x="{x:.2f}%" y="{bottom + 18}" class="tick" text-anchor="{anchor}">{low}</text>')
    parts.append(f'<text x="100%" y="{bottom + 34}" class="tick" text-anchor="end">best score in percent</text>')
    parts.append('<text x="0" y="14" class="tick">number of learners</text>')
    for limit in limits:
        x = min(max(limit, 0) / BIN_PERCENT * width, 100)
        parts.append(
            f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{_PLOT_TOP - 8}" y2="{bottom}" class="limit"/>'
            f'<text x="{x:.2f}%" y="30" class="limit-label" text-anchor="{"end" if limit > 15 else "start"}" '
            f'dx="{-4 if limit > 15 else 4}">asked for: {limit:g}</text>'
        )
    return "".join((*parts, "</svg>"))


def bin_name(number: int) -> str:
    """The percents of a bar: ``70 percent to less than 75``."""
    low = number * BIN_PERCENT
    return f"{low} percent and more" if number == BINS - 1 else f"{low} percent to less than {low + BIN_PERCENT}"


def _short(count: int) -> str:
    """A number that fits above a narrow bar: 12345 is ``12k``."""
    return f"{count}" if count < 1000 else f"{count / 1000:.0f}k"


def unit_progress(figures: Figures, names: Sequence[tuple[str, str]]) -> str:
    """How much of each unit is completed. ``names`` are pairs of a unit's id and its name, in order."""
    rows = []
    for unit_id, name in names:
        percent = figures.unit_percent(unit_id)
        rows.append(Bar(name, f"{percent:.0f} %", percent))
    return bars("Completed contents by unit, in percent", rows)


def _head(title: str, summary: str, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="100%" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}. {escape(summary)}">'
    )


def _learners(number: int) -> str:
    return "1 learner" if number == 1 else f"{number:,} learners"


def _percent(value: float) -> str:
    return f"{min(max(value, 0), 100):.2f}%"


_PICTURE_STYLE = (
    "svg{font:13px system-ui,sans-serif}text{fill:#1d2733}.tick,.value{fill:#4a5868}.number{font-size:10px}"
    ".track{fill:#e7ecf2}"
    ".bar{fill:#3867b7}.bar.good{fill:#2b7a4b}.axis{stroke:#4a5868}.limit{stroke:#b3261e;stroke-width:2}"
    ".limit-label{fill:#b3261e}h,.title{font-weight:600;font-size:15px}"
)
_PICTURE_WIDTH = 720


def picture(heading: str, charts: Sequence[tuple[str, str]]) -> str:
    """Charts with their titles as one file that stands alone."""
    parts, top = [], 70
    for title, chart in charts:
        height = int(chart.split('height="', 1)[1].split('"', 1)[0])
        inner = chart.replace('width="100%"', f'width="{_PICTURE_WIDTH - 60}"', 1).replace(
            "<svg ", f'<svg x="30" y="{top}" ', 1
        )
        parts.append(f'<text x="30" y="{top - 14}" class="title">{escape(title)}</text>{inner}')
        top += height + 60
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_PICTURE_WIDTH}" height="{top}">'
        f"<style>{_PICTURE_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="30" y="30" class="title">{escape(heading)}</text>{"".join(parts)}</svg>'
    )
