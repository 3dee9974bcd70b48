"""Anytime-valid intervals: every ratio and every difference that the evidence has not ruled out.

A bound is found by asking the processes of `evidence`: the canary's rate is more than `r` times the
baseline's where "at most r times" is rejected, and less than that where, with the arms exchanged,
"at most 1/r times" is. Each end may be wrong with half of the risk, however often it is observed.
So the interval holds the true value with all of the rest, as long as there is one: the same in
each minute. Where none fits all minutes, the interval is empty.
"""

import math
from collections.abc import Callable, Sequence

from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.findings import Interval

_RATIOS = (1e-3, 1e3)
_DIFFERENCES = (1e-6, 0.99)
"""The values that are tried. Beyond them an end is open, or is given as the last one."""
_PRECISION = 1.01
"""How many times an end may be too far out: 1 % is less than a report shows."""

_Rejects = Callable[[float], bool]


def ratio(
    interpretations: Sequence[Sequence[Row]], *, noise: float, alpha: float
) -> Interval | None:
    """The canary's rate of bad requests over the baseline's; None where no ratio fits.

    `interpretations`: the minutes as rows, once for each way in which they may have to be read.
    """

    def at_least(rows: Sequence[Row]) -> float:
        return _largest(
            lambda times: _is_worse(rows, times, 0.0, noise, alpha / 2), _RATIOS, otherwise=0.0
        )

    low = min(at_least(rows) for rows in interpretations)
    inverse = min(at_least(_exchanged(rows)) for rows in interpretations)
    return _interval(low, 1 / inverse if inverse else None, alpha)


def difference(
    interpretations: Sequence[Sequence[Row]], *, noise: float, alpha: float
) -> Interval | None:
    """The canary's rate of bad requests less the baseline's; None where no difference fits."""

    def at_least(rows: Sequence[Row]) -> float:
        if _is_worse(rows, 1.0, 0.0, noise, alpha / 2):
            return _largest(
                lambda more: _is_worse(rows, 1.0, more, noise, alpha / 2),
                _DIFFERENCES,
                otherwise=0.0,
            )
        exchanged = _exchanged(rows)

        def too_much(less: float) -> bool:
            path = evidence.not_worse(exchanged, ratio=1.0, margin=less, noise=noise)
            return max(path, default=0.0) >= math.log(2 / alpha)

        smallest, most = _DIFFERENCES
        # What is rejected from some value on is what, inverted, is rejected up to one.
        inverse = _largest(
            lambda value: too_much(1 / value), (1 / most, 1 / smallest), otherwise=1.0
        )
        return -1 / inverse

    low = min(at_least(rows) for rows in interpretations)
    high = -min(at_least(_exchanged(rows)) for rows in interpretations)
    return _interval(low, high, alpha)


def _interval(low: float, high: float | None, alpha: float) -> Interval | None:
    if high is not None and low > high:
        return None
    return Interval(low=low, high=high, confidence=1 - alpha)


def _exchanged(rows: Sequence[Row]) -> list[Row]:
    return [Row(n_c, x_c, n_b, x_b, u_c, u_b) for n_b, x_b, n_c, x_c, u_b, u_c in rows]


def _is_worse(rows: Sequence[Row], times: float, more: float, noise: float, alpha: float) -> bool:
    process = evidence.Worse(ratio=times, slack=more, noise=noise, alpha=alpha)
    return any(process.add(row) >= -math.log(alpha) for row in rows)


def _largest(rejects: _Rejects, between: tuple[float, float], *, otherwise: float) -> float:
    """The largest value that is rejected, or a little less; `otherwise` where none is."""
    low, high = between
    if not rejects(low):
        return otherwise
    if rejects(high):
        return high
    while high / low > _PRECISION:
        middle = math.sqrt(low * high)
        if rejects(middle):
            low = middle
        else:
            high = middle
    return low
