"""A chart as inline SVG: colors and dashes are the page's, by class; times and values are here."""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from apigw_canary.report.document import Chart, Line, Mark, Point, Shape
from apigw_canary.report.escape import html as safe

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
