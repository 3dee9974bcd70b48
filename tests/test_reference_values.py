"""Values of an independent implementation of the evidence, for series that anyone can make."""

from __future__ import annotations

import math
from typing import Any

import pytest

from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Limit, Row, Worse

DEFAULTS: dict[str, Any] = {"ratio": 1.1, "slack": 2e-4, "noise": 0.05, "alpha": 0.05}
PLAIN: dict[str, Any] = {"ratio": 1.0, "slack": 0.0, "noise": 0.0, "alpha": 0.01}


def series(
    seed: int,
    minutes: int,
    per_minute: int,
    share: float,
    rates: tuple[float, float],
    *,
    onset: int = 0,
    unknown: float = 0.0,
) -> list[Row]:
    """Counts of a linear congruential generator, with an hour of baseline before them.

    `onset`: the minute in which the canary begins to differ from the baseline.
    """
    state = seed

    def count(mean: float, most: int) -> int:
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        scale = 1 if mean >= 1 else 0.5 + mean / 2
        return min(int(mean + (state >> 11) / 2**53 * 2 * scale), most)

    p_b, p_c = rates
    rows = [Row(60 * per_minute, round(60 * per_minute * p_b), 0, 0)]
    for minute in range(minutes):
        n_c = count(per_minute * share, per_minute)
        n_b = per_minute - n_c
        x_b = count(n_b * p_b, n_b)
        x_c = count(n_c * (p_c if minute >= onset else p_b), n_c)
        u_b = count(n_b * unknown, n_b - x_b) if unknown else 0
        u_c = count(n_c * unknown, n_c - x_c) if unknown else 0
        rows.append(Row(n_b, x_b, n_c, x_c, u_b, u_c))
    return rows


def burst_of_three_minutes() -> list[Row]:
    """Three times as many errors, as of a hot container."""
    rows = series(9, 100, 5000, 0.25, (0.01, 0.01))
    rows[80:83] = [row._replace(canary_bad=3 * row.canary_bad) for row in rows[80:83]]
    return rows


@pytest.mark.parametrize(
    "rows, tolerance, values",
    [
        pytest.param(
            series(1, 30, 500, 0.1, (0.001, 0.001)),
            DEFAULTS,
            (-0.8809689064664111, -1.8531429599178502, -2.3451316326964804),
            id="a healthy canary",
        ),
        pytest.param(
            series(2, 30, 500, 0.25, (0.001, 0.005)),
            DEFAULTS,
            (0.5281711188885833, 2.5263550452470542, 4.929032598168714),
            id="five times as many errors",
        ),
        pytest.param(
            series(3, 30, 500, 0.5, (0.01, 0.02)),
            PLAIN,
            (1.205256058445, 3.5374996822675815, 8.974158567366295),
            id="twice as many, nothing tolerated",
        ),
        pytest.param(
            series(4, 75, 500, 0.25, (0.001, 0.02), onset=60),
            DEFAULTS,
            (-0.41158368977366155, -0.20487197629192344, 27.451150064070852),
            id="worse after an hour",
        ),
        pytest.param(
            series(7, 30, 500, 0.25, (0.001, 0.005), unknown=0.01),
            DEFAULTS,
            (-2.3198078311483297, -2.66724326543571, -2.977140087380457),
            id="one percent unknown in both variants",
        ),
        pytest.param(
            series(8, 5, 10**6, 0.2, (0.001, 1.0)),
            DEFAULTS,
            (3657.405761636498, 3657.405761636498, 3657.405761636498),
            id="nothing but errors at a million a minute",
        ),
        pytest.param(
            burst_of_three_minutes(),
            DEFAULTS,
            (-1.0805044548386842, -2.349218304958605, -8.325053294608713),
            id="a burst of three minutes after 80",
        ),
    ],
)
def test_the_capital_against_worse(
    rows: list[Row], tolerance: dict[str, Any], values: tuple[float, float, float]
) -> None:
    """After 5 and 15 rows (or the last), and at the end, going on beyond 1/alpha."""
    game = Worse(**tolerance)
    path = [game.add(row) for row in rows]
    last = len(path) - 1
    assert [path[min(5, last)], path[min(15, last)], path[-1]] == pytest.approx(values, rel=1e-11)


@pytest.mark.parametrize(
    "rows, values",
    [
        pytest.param(
            series(5, 30, 200, 0.25, (0.001, 0.03)),
            (1.1470397969771644, 3.944862282765677, 7.636348315365241),
            id="above its limit",
        ),
        pytest.param(
            series(6, 30, 200, 0.25, (0.08, 0.08)),
            (-0.8856412366759449, -1.3463148811739274, -2.276266509315817),
            id="both variants above the limit",
        ),
    ],
)
def test_the_capital_against_a_limit(rows: list[Row], values: tuple[float, float, float]) -> None:
    game, limited = Worse(**{**DEFAULTS, "alpha": 0.025}), Limit(0.02)
    path = []
    for row in rows:
        game.add(row)
        path.append(limited.add(row, game.multiplier, alone=False))
    assert [path[5], path[15], path[-1]] == pytest.approx(values, rel=1e-11)


def test_the_capital_against_a_limit_at_100_percent() -> None:
    """From row 16 on there is no baseline by design."""
    game, limited = Worse(**{**DEFAULTS, "alpha": 0.025}), Limit(0.02)
    path = []
    for i, row in enumerate(series(8, 30, 500, 0.9, (0.001, 0.03))):
        game.add(row)
        path.append(limited.add(row, game.multiplier, alone=i >= 16))
    assert path[-1] == pytest.approx(22.826905524885735, rel=1e-11)


def test_when_the_evidence_counts() -> None:
    """A burst of three minutes does not; what lasts does with the fourth minute."""
    enough = math.log(20)
    path = evidence.worse(burst_of_three_minutes(), **DEFAULTS)
    assert max(path) < enough
    lasting = series(10, 100, 500, 0.25, (0.001, 0.02), onset=79)
    path = evidence.worse(lasting, **DEFAULTS)
    assert [i for i, log in enumerate(path) if log >= enough] == list(range(83, 101))


@pytest.mark.parametrize("minutes, factor", [(11, 1.615), (60, 2.268), (600, 3.594)])
def test_what_must_remain_without_the_burst(minutes: int, factor: float) -> None:
    """The fifth root of the number of judged minutes; of the first ten, nothing."""
    row = Row(1000, 10, 1000, 10)
    for before, counts in ((0.999 * factor, False), (1.001 * factor, True)):
        lasts = evidence.Sustained()
        logs = [*[0.0] * (minutes - 4), math.log(before)]
        logs += [logs[-1] + 5 * (i + 1) for i in range(3)]
        for log in logs:
            lasts = lasts.with_minute(log, row)
        assert (lasts.counted(logs[-1]) > 0) == counts
        early = lasts._replace(minutes=10)
        assert early.counted(logs[-1]) == logs[-1]


@pytest.mark.parametrize(
    "rows, tolerance, values",
    [
        pytest.param(
            series(1, 30, 500, 0.1, (0.001, 0.001)),
            DEFAULTS,
            (1.170810313655364, 5.929788527133546),
            id="a healthy canary",
        ),
        pytest.param(
            series(3, 30, 500, 0.5, (0.01, 0.02)),
            PLAIN,
            (-2.137396016402331, -4.745049744784964),
            id="twice as many errors",
        ),
        pytest.param(
            series(7, 30, 500, 0.25, (0.001, 0.005), unknown=0.01),
            DEFAULTS,
            (-2.954763768200839, -5.805837302210761),
            id="one percent unknown in both variants",
        ),
        pytest.param(
            series(9, 30, 5000, 0.25, (0.3, 0.3)),
            DEFAULTS,
            (4.8447211382489455, 31.183660403603614),
            id="a healthy canary beside a rate of 30 %",
        ),
    ],
)
def test_not_worse(rows: list[Row], tolerance: dict[str, Any], values: tuple[float, float]) -> None:
    """After 5 rows, and at the end."""
    path = evidence.not_worse(
        rows, ratio=tolerance["ratio"], margin=0.005, noise=tolerance["noise"]
    )
    assert [path[5], path[-1]] == pytest.approx(values, rel=1e-11)
