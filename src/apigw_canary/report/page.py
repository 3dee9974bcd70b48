"""A document as one HTML page that needs nothing but itself, its charts as inline SVG.

Colors and dashes of a chart are the page's, by class.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import NamedTuple, assert_never

from apigw_canary.report.document import (
    Block,
    Chart,
    Document,
    Facts,
    Line,
    LineStyle,
    Mark,
    Paragraph,
    Point,
    Section,
    Shape,
    Table,
)
from apigw_canary.report.escape import html as safe
from apigw_canary.values import Tone

WIDTH, HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 338, 10, 182
_EDGE = 3
"""Half of a line, which is not to be cut where it runs along the frame."""

_FRAME = (
    f'<svg x="{_LEFT}" y="{_TOP - _EDGE}" '
    f'width="{_RIGHT - _LEFT + _EDGE}" height="{_BOTTOM - _TOP + 2 * _EDGE}" '
    f'viewBox="{_LEFT} {_TOP - _EDGE} {_RIGHT - _LEFT + _EDGE} {_BOTTOM - _TOP + 2 * _EDGE}">'
)
"""Cuts off what leaves the scale. A clip path would need an id, unique in any page around it."""

_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

SHAPES: dict[Shape, str] = {
    "shift": "M0 -6 L6 5 L-6 5 Z",
    "promote": "M0 -7 L7 0 L0 7 L-7 0 Z",
    "rollback": "M-5 -5 L5 5 M5 -5 L-5 5",
}
"""Paths around the origin: distinguishable without their color."""

_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200)
"""Steps of a time axis."""


class _Scale(NamedTuple):
    x: Callable[[datetime], float]
    y: Callable[[float], float]


def svg(chart: Chart) -> str:
    """The picture, described for those who do not see it."""
    ticks = _log_ticks(chart.top) if chart.log else _ticks(chart.top)
    scale = _scale(chart, ticks)
    body = [
        *(_y_tick(scale, value, chart.unit) for value in ticks),
        *(_x_tick(scale, at, label) for at, label in _times(chart.start, chart.end)),
        _FRAME,
        *(_band(scale, line) for line in chart.lines if len(line.points) > 1),
        *(_line(scale, line) for line in reversed(chart.lines) if line.points),
        "</svg>",
        *(_mark(scale, mark) for mark in chart.marks),
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{safe(f"{chart.question} {chart.answer}")}">'
        f"<title>{safe(chart.question)}</title><desc>{safe(chart.answer)}</desc>"
        f"{''.join(body)}</svg>"
    )


def _scale(chart: Chart, ticks: Sequence[float]) -> _Scale:
    long = max((chart.end - chart.start).total_seconds(), 60.0)
    low, high = (math.log(ticks[0]), math.log(ticks[-1])) if chart.log else (ticks[0], ticks[-1])

    def x(at: datetime) -> float:
        part = (at - chart.start).total_seconds() / long
        return _LEFT + (_RIGHT - _LEFT) * min(max(part, 0.0), 1.0)

    def y(value: float) -> float:
        if chart.log:  # beyond the ends there is nothing to be seen but that it is beyond
            value = math.log(min(max(value, ticks[0]), ticks[-1]))
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    return _Scale(x, y)


def _ticks(top: float) -> list[float]:
    """From 0 to `top` or a little more, in at most five round steps."""
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power >= rough * 0.999)
    return [i * step for i in range(math.ceil(top / step * 0.999) + 1)]


def _log_ticks(top: float) -> list[float]:
    """Powers of ten around 1, six at most."""
    highest = max(math.ceil(math.log10(top) - 1e-9), 1)
    every = math.ceil((highest + 1) / 5)
    return [10.0**power for power in range(-every, highest + every, every)]


def _times(start: datetime, end: datetime) -> Iterator[tuple[datetime, str]]:
    """Four or five round times, and how each is written."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    minutes = (end - start) / timedelta(minutes=1)
    step = next((each for each in _MINUTES if minutes / each <= 4.5), _MINUTES[-1])
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    first = math.ceil((start - midnight) / timedelta(minutes=step))
    at = midnight + first * timedelta(minutes=step)
    while at <= end:
        yield at, f"{at:%H:%M}" if step < 1440 else f"{at:%m-%d}"
        at += timedelta(minutes=step)


def _y_tick(scale: _Scale, value: float, unit: str) -> str:
    y = scale.y(value)
    power = str(round(math.log10(value))) if value >= 1e4 else ""
    label = f"10{power.translate(_POWERS)}" if power else f"{value:,.6g}"
    return (
        f'<path class="grid" d="M{_LEFT} {y:.1f} H{_RIGHT}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
        f"{label}{' %' if unit == '%' else ''}</text>"
    )


def _x_tick(scale: _Scale, at: datetime, label: str) -> str:
    x = scale.x(at)
    return (
        f'<path class="grid" d="M{x:.1f} {_BOTTOM} v4"/>'
        f'<text class="tick" x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{label}</text>'
    )


def _band(scale: _Scale, line: Line) -> str:
    banded = [point for point in line.points if point.low is not None and point.high is not None]
    if not banded:
        return ""
    upper = [f"{scale.x(p.at):.1f} {scale.y(p.high or 0.0):.1f}" for p in banded]
    lower = [f"{scale.x(p.at):.1f} {scale.y(p.low or 0.0):.1f}" for p in reversed(banded)]
    return f'<path class="band {line.style}" d="M{" L".join([*upper, *lower])} Z"/>'


def _line(scale: _Scale, line: Line) -> str:
    points = list(_corners(line.points)) if line.steps else line.points
    path = " L".join(f"{scale.x(p.at):.1f} {scale.y(p.value):.1f}" for p in points)
    last = points[-1]
    end = (
        ""
        if line.style == "needed" or line.steps
        else f'<circle class="end {line.style}" cx="{scale.x(last.at):.1f}" '
        f'cy="{scale.y(last.value):.1f}" r="3"/>'
    )
    return f'<path class="line {line.style}" d="M{path}"/>{end}'


def _corners(points: Sequence[Point]) -> Iterator[Point]:
    """The points of a stair: each value lasts until the next one begins."""
    for i, point in enumerate(points):
        if i:
            yield point._replace(value=points[i - 1].value)
        yield point


def _mark(scale: _Scale, mark: Mark) -> str:
    return (
        f'<path class="mark {mark.shape}" d="{SHAPES[mark.shape]}" '
        f'transform="translate({scale.x(mark.at):.1f} {scale.y(mark.value):.1f})">'
        f"<title>{safe(mark.name)}, {mark.at.astimezone(UTC):%H:%M} UTC</title></path>"
    )


_ICONS: dict[Tone, tuple[str, str]] = {
    "good": ("Went well", "M-5 0 L-1.5 4 L5 -4"),
    "bad": ("Went badly", "M-4 -4 L4 4 M4 -4 L-4 4"),
    "open": ("Not over", "M-3 -4 V4 M3 -4 V4"),
}


@cache
def _style() -> str:
    return resources.files("apigw_canary.report").joinpath("page.css").read_text(encoding="utf-8")


@cache
def _policy() -> str:
    """Nothing may be loaded, run, framed or sent; the one style is known by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def page(document: Document) -> str:
    """The whole page."""
    title = safe(f"{document.about}: {document.title}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n"
        f'<body class="canary-page">\n{_main("main", document)}</body>\n</html>\n'
    )


def fragment(document: Document) -> str:
    """The page as a part of another one, such as a notebook, whose style it leaves alone."""
    return f"<style>{_style()}</style>\n{_main('article', document)}"


def _main(tag: str, document: Document) -> str:
    meaning, path = _ICONS[document.tone]
    return (
        f'<{tag} class="canary-report" lang="en">\n<header class="{document.tone}">\n'
        f'<p class="about">{safe(document.about)}</p>\n'
        f'<h1><svg class="icon" viewBox="-10 -10 20 20" role="img" aria-label="{meaning}">'
        f'<circle r="10"/><path d="{path}"/></svg> {safe(document.title)}</h1>\n'
        f'<p class="lead">{safe(document.lead)}</p>\n</header>\n'
        f"{_block(document.facts)}"
        f"{''.join(_section(section) for section in document.sections)}"
        f"<footer><p>Times are in UTC. Made by apigw-canary.</p></footer>\n</{tag}>\n"
    )


def _section(section: Section) -> str:
    title = safe(section.title)
    blocks = "".join(_block(block) for block in section.blocks)
    if all(isinstance(block, Chart) for block in section.blocks):
        blocks = f'<div class="charts">\n{blocks}</div>\n'
    return f'<section aria-label="{title}">\n<h2>{title}</h2>\n{blocks}</section>\n'


def _block(block: Block) -> str:
    match block:
        case Paragraph(text=content):
            return f"<p>{safe(content)}</p>\n"
        case Facts(pairs=pairs):
            shown = (f"<div><dt>{safe(n)}</dt><dd>{safe(v)}</dd></div>" for n, v in pairs)
            return f'<dl class="facts">{"".join(shown)}</dl>\n'
        case Table():
            return _table(block)
        case Chart():
            return _chart(block)
        case _:
            assert_never(block)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{safe(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr><th scope="row">{safe(row[0])}</th>{_cells(row[1:])}</tr>\n' for row in table.rows
    )
    # It scrolls by itself where it is too wide, so it must be reachable by keyboard.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{safe(table.caption)}">'
        f"<table><caption>{safe(table.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _cells(cells: Iterable[str]) -> str:
    return "".join(f"<td>{safe(cell)}</td>" for cell in cells)


def _chart(chart: Chart) -> str:
    note = f'<p class="note">{safe(chart.note)}</p>\n' if chart.note else ""
    return (
        f"<figure>\n<figcaption><h3>{safe(chart.question)}</h3>\n"
        f'<p class="answer">{safe(chart.answer)}</p></figcaption>\n'
        f"{svg(chart)}\n<div>{_legend(chart)}{note}"
        f"<details><summary>In numbers</summary>\n{_table(chart.table)}</details></div>\n"
        f"</figure>\n"
    )


def _legend(chart: Chart) -> str:
    marks: dict[Shape, str] = {mark.shape: mark.name.partition(" to ")[0] for mark in chart.marks}
    items = [
        *(f"<li>{_line_sample(line.style)}{safe(line.name)}</li>" for line in chart.lines),
        *(f"<li>{_mark_sample(shape)}{safe(name)}</li>" for shape, name in marks.items()),
    ]
    return f'<ul class="legend" aria-label="Legend">{"".join(items)}</ul>\n'


def _line_sample(style: LineStyle) -> str:
    return (
        '<svg class="sample" viewBox="0 0 28 10" aria-hidden="true">'
        f'<path class="line {style}" d="M1 5 H27"/></svg>'
    )


def _mark_sample(shape: Shape) -> str:
    return (
        '<svg class="sample" viewBox="-14 -7 28 14" aria-hidden="true">'
        f'<path class="mark {shape}" d="{SHAPES[shape]}"/></svg>'
    )
