"""Values of an independent implementation of the evidence, for series that anyone can make."""

from __future__ import annotations

from typing import Any

import pytest

from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Row

DEFAULTS = {"ratio": 1.1, "slack": 2e-4, "noise": 0.05, "alpha": 0.05}
PLAIN = {"ratio": 1.0, "slack": 0.0, "noise": 0.0, "alpha": 0.01}


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


@pytest.mark.parametrize(
    "rows, tolerance, values",
    [
        pytest.param(
            series(1, 30, 500, 0.1, (0.001, 0.001)),
            DEFAULTS,
            (-1.0338306822875745, -2.4206104407355706, -3.216762745195173),
            id="a healthy canary",
        ),
        pytest.param(
            series(2, 30, 500, 0.25, (0.001, 0.005)),
            DEFAULTS,
            (0.5697646258502541, 2.6116609502810304, 2.995732274553991),
            id="five times as many errors",
        ),
        pytest.param(
            series(3, 30, 500, 0.5, (0.01, 0.02)),
            PLAIN,
            (1.2753689444741179, 3.6502984746038223, 4.605170186988091),
            id="twice as many, nothing tolerated",
        ),
        pytest.param(
            series(4, 75, 500, 0.25, (0.001, 0.02), onset=60),
            DEFAULTS,
            (-0.4643333761677779, -0.24225957086498218, 2.995732274553991),
            id="worse after an hour",
        ),
        pytest.param(
            series(5, 30, 200, 0.25, (0.001, 0.03)),
            {**DEFAULTS, "limit": 0.02},
            (3.076823150758174, 3.8803789427982824, 7.058059416998926),
            id="above its limit",
        ),
        pytest.param(
            series(6, 30, 200, 0.25, (0.08, 0.08)),
            {**DEFAULTS, "limit": 0.02},
            (-1.0361816108057194, -1.6074985429126247, -2.9840267569515406),
            id="both variants above the limit",
        ),
        pytest.param(
            series(7, 30, 500, 0.25, (0.001, 0.005), unknown=0.01),
            DEFAULTS,
            (-4.322976185430252, -5.983769773188643, -7.5184396687431825),
            id="one percent unknown in both variants",
        ),
        pytest.param(
            series(8, 5, 10**6, 0.2, (0.001, 1.0)),
            DEFAULTS,
            (2.995732274553991, 2.995732274553991, 2.995732274553991),
            id="nothing but errors at a million a minute",
        ),
    ],
)
def test_worse(
    rows: list[Row], tolerance: dict[str, Any], values: tuple[float, float, float]
) -> None:
    """After 5 and 15 rows (or the last), and at the end."""
    path = evidence.worse(rows, **tolerance)
    last = len(path) - 1
    assert [path[min(5, last)], path[min(15, last)], path[-1]] == pytest.approx(values, rel=1e-11)


def test_a_limit_at_100_percent() -> None:
    """From row 16 on there is no baseline by design."""
    rows = series(8, 30, 500, 0.9, (0.001, 0.03))
    path = evidence.worse(rows, **DEFAULTS, limit=0.02, no_baseline_from=16)
    assert path[-1] == pytest.approx(22.23421148553123, rel=1e-11)


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
