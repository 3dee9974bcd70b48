"""What the charts of a rollout show: one question each."""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import TypeVar

from apigw_canary.judge import ERRORS_4XX, ERRORS_5XX, Observation, Paths, Row, SignalPath
from apigw_canary.policy import RolloutPolicy
from apigw_canary.report.document import Chart, Line, LineStyle, Mark, Point, Table
from apigw_canary.values import clock, evidence, share_of

MOST_POINTS = 120
"""Points of a line: more cannot be distinguished, and each is a row of a table."""

_HIGHEST_SHOWN = 1e6
"""Evidence beyond which a picture shows nothing more."""

_Z = 1.96
"""Of the normal distribution: 95 % lie within."""

_LINE_STYLES: Sequence[LineStyle] = ("canary", "baseline", "third", "fourth")

_QUESTIONS = {
    ERRORS_5XX: "Does the canary fail more often? (5xx)",
    ERRORS_4XX: "Does the canary refuse more often? (4xx)",
}


def charts(
    observations: Sequence[Observation], policy: RolloutPolicy, paths: Paths, marks: Sequence[Mark]
) -> list[Chart]:
    """The traffic percentage, the evidence for either side, and each signal's rates."""
    start, end = observations[0].started_at, observations[-1].at
    drawn = [_traffic(observations, marks)]
    drawn += [_rates(path, start, end) for path in paths.signals if path.counts]
    if paths.worse:
        drawn.append(_worse(policy, paths, start, end))
    critical = [path for path in paths.signals if path.signal.critical and path.not_worse]
    if critical:
        drawn.append(_not_worse(policy, critical, start, end))
    return drawn


def _traffic(observations: Sequence[Observation], marks: Sequence[Mark]) -> Chart:
    points: list[Point] = []
    for each in observations:
        percent = _served(each)
        if percent is not None and (not points or points[-1].value != percent):
            points.append(Point(each.step_started_at, percent))
    shown = f"{points[-1].value:g} %" if points else "Not known"
    last = points[-1].value if points else 0.0
    points.append(
        Point(observations[-1].at, marks[-1].value if _then(observations[-1], marks) else last)
    )
    return Chart(
        question="How much traffic does the canary get?",
        answer=f"{shown} at the last observation{_then(observations[-1], marks)}.",
        lines=[Line("the canary's traffic percentage", "canary", points, steps=True)],
        marks=marks,
        start=observations[0].started_at,
        end=observations[-1].at,
        unit="%",
        top=100.0,
        table=Table(
            "The canary's traffic percentage from each time on",
            ("From (UTC)", "Percent"),
            [(clock(point.at), f"{point.value:g} %") for point in points],
        ),
    )


def _served(observation: Observation) -> float | None:
    """The percent its deployment serves, also after the canary has ended; None where not known."""
    if observation.phase in ("promoted", "promoted_outside"):
        return 100.0
    return None if observation.phase == "promoting" else observation.percent


def _then(last: Observation, marks: Sequence[Mark]) -> str:
    return f"; then: {marks[-1].name}" if marks and marks[-1].at == last.at else ""


def _worse(policy: RolloutPolicy, paths: Paths, start: datetime, end: datetime) -> Chart:
    needed = 1 / policy.false_rollback
    strongest = max(value for _, value in paths.worse)
    answer = "Yes" if strongest >= needed else "No"
    return _evidence(
        question="Is there enough evidence to roll back?",
        answer=f"{answer}: evidence {evidence(strongest)} that the canary is worse; "
        f"the threshold is {needed:,.0f}.",
        lines=[("all signals", paths.worse)],
        needed=needed,
        start=start,
        end=end,
    )


def _not_worse(
    policy: RolloutPolicy, critical: Sequence[SignalPath], start: datetime, end: datetime
) -> Chart:
    needed = 1 / policy.false_promotion
    least = min(path.not_worse[-1][1] for path in critical)
    answer = "Yes" if least >= needed else "Not yet"
    return _evidence(
        question="Is there enough evidence to promote?",
        answer=f"{answer}: evidence {evidence(least)} that the canary is not worse by the margin; "
        f"the threshold is {needed:,.0f}"
        f"{' for each critical signal' if len(critical) > 1 else ''}.",
        lines=[(path.signal.name, path.not_worse) for path in critical],
        needed=needed,
        start=start,
        end=end,
    )


def _evidence(
    *,
    question: str,
    answer: str,
    lines: Sequence[tuple[str, Sequence[tuple[datetime, float]]]],
    needed: float,
    start: datetime,
    end: datetime,
) -> Chart:
    shown = [(name, thinned(path)) for name, path in lines]
    highest = max(value for _, path in shown for _, value in path)
    return Chart(
        question=question,
        answer=answer,
        lines=[
            *(
                Line(
                    name,
                    _LINE_STYLES[i % len(_LINE_STYLES)],
                    [Point(at, value) for at, value in path],
                )
                for i, (name, path) in enumerate(shown)
            ),
            Line("needed", "needed", [Point(start, needed), Point(end, needed)]),
        ],
        start=start,
        end=end,
        unit="",
        log=True,
        top=min(max(highest, 10 * needed), max(_HIGHEST_SHOWN, 10 * needed)),
        table=Table(
            f"Evidence after each minute; the threshold is {needed:,.0f}",
            ("Signal", "Minute (UTC)", "Evidence"),
            [(name, clock(at), evidence(value)) for name, path in shown for at, value in path],
        ),
    )


def _rates(path: SignalPath, start: datetime, end: datetime) -> Chart:
    name = path.signal.name
    question = _QUESTIONS.get(name) or (
        f"Is the canary slow more often? ({name})"
        if name.startswith("latency_")
        else f"Is it more frequent on the canary? ({name})"
    )
    so_far = thinned(list(_so_far(path.counts)))
    total = so_far[-1][1]
    variants = {
        "canary": [_rate(at, row.canary_bad, row.canary_known) for at, row in so_far],
        "baseline": [_rate(at, row.baseline_bad, row.baseline_known) for at, row in so_far],
    }
    drawn = {variant: [point for point in points if point] for variant, points in variants.items()}
    return Chart(
        question=question,
        answer=f"Canary {share_of(total.canary_bad, total.canary_known)}, "
        f"baseline {share_of(total.baseline_bad, total.baseline_known)}.",
        note="Percent of bad requests since the start, with pointwise 95 % intervals. They show "
        "how much is known; the decision rests on the evidence.",
        lines=[
            Line("canary", "canary", drawn["canary"]),
            Line("baseline", "baseline", drawn["baseline"]),
        ],
        start=start,
        end=end,
        unit="%",
        top=_top(drawn.values()),
        table=Table(
            "Bad requests since the start, out of how many",
            ("Minute (UTC)", "Canary", "Baseline"),
            [
                (
                    clock(at),
                    share_of(row.canary_bad, row.canary_known),
                    share_of(row.baseline_bad, row.baseline_known),
                )
                for at, row in so_far
            ],
        ),
    )


def _so_far(counts: Sequence[tuple[datetime, Row]]) -> Iterator[tuple[datetime, Row]]:
    def add(one: Row, other: Row) -> Row:
        return Row(*(a + b for a, b in zip(one, other, strict=True)))

    sums = accumulate((row for _, row in counts), add)
    yield from zip((at for at, _ in counts), sums, strict=True)


def _rate(at: datetime, bad: float, requests: float) -> Point | None:
    """In percent, with its Wilson interval; None without requests."""
    if not requests:
        return None
    rate = bad / requests
    spread = _Z * _Z / requests
    middle = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(max(rate * (1 - rate), 0.0) * spread + spread * spread / 4) / (1 + spread)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Point(at, 100 * rate, 100 * min(low, rate), 100 * max(high, rate))


def _top(variants: Iterable[Sequence[Point]]) -> float:
    """For the last interval, and all rates but the first, which are of next to no requests."""
    highest = [0.1]
    for points in filter(None, variants):
        highest.append(points[-1].high or 0.0)
        highest += [point.value for point in points[len(points) // 3 :]]
    return min(1.15 * max(highest), 100.0)


_Item = TypeVar("_Item")


def thinned(path: Sequence[_Item]) -> list[_Item]:
    """At most `MOST_POINTS` of them, evenly, the last one always."""
    every = math.ceil(len(path) / MOST_POINTS) or 1
    return list(path[::-every][::-1])
