"""Latency from CloudWatch: the limit, what is asked, and fractions from the answers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from apigw_canary.aws import Calls
from apigw_canary.errors import MetricsError
from apigw_canary.judge import Signal
from apigw_canary.metrics.source import NAMESPACE, SETTLED, Arms, Dimensions, Query, Series, fetched
from apigw_canary.values import moment

LADDER: Mapping[str, float] = MappingProxyType(
    {
        "Minimum": 0.0,
        "p50": 0.5,
        "p75": 0.75,
        "p90": 0.9,
        "p95": 0.95,
        "p99": 0.99,
        "p99.9": 0.999,
        "Maximum": 1.0,
    }
)
"""Statistics of a minute's latencies, and the fraction of them that does not exceed each: closest
where limits usually lie."""

_ROUNDING = 1e-9
"""0.99 times 300 is a little above 297."""


def weighted_median(values: Iterable[tuple[float, float]]) -> float | None:
    """Of (value, weight): the smallest value with half the weight at or below it; None of none.

    An incident moves it only if it has half of all the requests.
    """
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    below = 0.0
    for value, weight in ordered:
        below += weight
        if weight and below >= half:
            return value
    return None


def share_above(limit: float, rungs: Mapping[str, float], requests: float) -> float | None:
    """The fraction of so many latencies above a limit, 0 to 1, from the statistics of `LADDER`.

    A percentile is taken for the latency of its rank, and those between two of them for evenly
    spread: exact for a handful, where fractions alone would count too few. None where a statistic
    is missing, or they do not rise.
    """
    if rungs.keys() != LADDER.keys() or requests < 1:
        return None
    steps = [
        (rungs[name], max(math.ceil(below * requests - _ROUNDING), 1))
        for name, below in LADDER.items()
    ]
    if steps != sorted(steps):
        return None
    if limit < steps[0][0]:
        return 1.0
    for (low, reached), (high, next_reached) in pairwise(steps):
        if low <= limit < high:
            between = max(next_reached - 1 - reached, 0) * (limit - low) / (high - low)
            return 1 - (reached + between) / requests
    return 0.0


LIMIT_FROM = timedelta(minutes=50)
"""How much of the hour before the start sets a limit. Its last ten minutes do not: values converge
for so long, and a limit found afresh later must be the same."""

_ENOUGH = 5
"""Complete minutes with requests, none of which has a rank, from which ranks count as not given."""

_MOST_RANK = 100 + 1e-6
"""A percentile rank is 100 at most; the rest is rounding."""


class Metric(NamedTuple):
    """Under which names a service publishes latencies, and how many of them there are."""

    name: str = "Latency"
    requests: str = "Count"
    counted_by: str = "SampleCount"
    namespace: str = NAMESPACE


API_GATEWAY = Metric()


class Shares(NamedTuple):
    """The fraction of requests above each limit, and how it was read."""

    of: dict[str, Arms]
    """By signal name."""
    notes: list[str]
    not_observed: dict[str, str]
    """Signal name to why there are no fractions."""


class Latencies:
    """How the requests above a limit are counted.

    Of each minute CloudWatch is asked which fraction of the latencies is up to the limit: `PR(:x)`.
    `TC(:x)`, how many they are, would have two disadvantages: a minute of which only some latencies
    are published would seem slow, and the number of requests would not come from the count alone.
    Where CloudWatch has no ranks, the fraction is taken from percentiles.
    """

    def __init__(
        self,
        calls: Calls,
        arms: Mapping[str, Dimensions],
        metric: Metric = API_GATEWAY,
        *,
        before: Dimensions | None = None,
    ) -> None:
        """`before`: the baseline's dimensions before the start, where they differ."""
        self._calls = calls
        self._arms = arms
        self._before = before or arms["baseline"]
        self._metric = metric
        self._fixed: dict[tuple[float, datetime], float] = {}
        self._ranked = True

    @property
    def is_ranked(self) -> bool:
        """Whether CloudWatch is asked for ranks, as long as it has not left all of them out."""
        return self._ranked

    def limits(
        self, signals: Sequence[Signal], start: datetime, kept_from: datetime
    ) -> tuple[dict[str, float], list[str], dict[str, str]]:
        """Milliseconds by signal name, a note for each that the baseline sets, and the signals
        without a limit, each with why.

        One GetMetricData for a start that is new.
        """
        until = start + LIMIT_FROM
        when = f"from {moment(start)} to {moment(until)}"
        quantiles = {s.quantile for s in signals if s.quantile is not None}
        new = sorted(q for q in quantiles if (q, start) not in self._fixed)
        if new and start >= kept_from:
            self._fix(new, start, until)
        limits: dict[str, float] = {}
        notes: list[str] = []
        missing: dict[str, str] = {}
        for signal in signals:
            if signal.over is not None:
                limits[signal.name] = signal.over
            else:
                quantile = signal.quantile or 0.0  # one of both is given
                limit = self._fixed.get((quantile, start))
                if limit is not None:
                    limits[signal.name] = limit
                    notes.append(
                        f"{signal.name}: over {limit:g} ms, the median of the baseline's "
                        f"{_percentile(quantile)} in the minutes {when}, weighted by "
                        "requests"
                    )
                else:
                    why = f"CloudWatch has no latencies of the baseline {when}"
                    if start < kept_from:
                        why = f"minutes from before {moment(kept_from)} are no longer kept"
                    missing[signal.name] = f"{why}, which would set its limit"
        return limits, notes, missing

    def _fix(self, quantiles: Sequence[float], start: datetime, until: datetime) -> None:
        baseline, metric = self._before, self._metric
        queries = [
            Query("requests", metric.requests, metric.counted_by, baseline, metric.namespace),
            *(
                Query(f"p_{i}", metric.name, _percentile(quantile), baseline, metric.namespace)
                for i, quantile in enumerate(quantiles)
            ),
        ]
        series = fetched(self._calls, queries, start, until)
        for i, quantile in enumerate(quantiles):
            limit = weighted_median(
                (value, series["requests"].get(at, 0.0)) for at, value in series[f"p_{i}"].items()
            )
            if limit is not None:
                self._fixed[quantile, start] = round(limit, 1)

    def queries(self, limits: Mapping[str, float]) -> list[Query]:
        """The queries for fractions above the limits."""
        if not limits:
            return []
        statistics = _ranks(limits) if self._ranked else tuple(LADDER)
        return [
            Query(f"{arm}_latency_{i}", self._metric.name, statistic, of, self._metric.namespace)
            for arm, of in self._arms.items()
            for i, statistic in enumerate(statistics)
        ]

    def answered(
        self,
        queries: Sequence[Query],
        limits: Mapping[str, float],
        start: datetime,
        end: datetime,
    ) -> dict[str, Series]:
        """The series of `queries` and of latencies in [start, end).

        Where ranks should have come and did not, percentiles are asked for instead; if they are
        there, as long as this object lives.
        """
        series = fetched(self._calls, [*queries, *self.queries(limits)], start, end)
        if self._ranked and limits:
            ranks = [series[f"baseline_latency_{i}"] for i in range(len(limits))]
            busy = _complete(series["baseline_requests"], end)
            self._ranked = len(busy) < _ENOUGH or any(ranks)
            if not self._ranked:
                series |= fetched(self._calls, self.queries(limits), start, end)
        return series

    def shares(
        self, limits: Mapping[str, float], series: Mapping[str, Series], end: datetime
    ) -> Shares:
        """The fraction of each variant's requests above each limit, from answers to `queries`."""
        if self._ranked:
            of = {
                name: self._both([_above_rank(series[f"{arm}_latency_{i}"]) for arm in self._arms])
                for i, name in enumerate(limits)
            }
        else:
            rungs = {arm: _rungs(arm, series) for arm in self._arms}
            of = {
                name: self._both(
                    [_above(limit, rungs[arm], series[f"{arm}_requests"]) for arm in self._arms]
                )
                for name, limit in limits.items()
            }
        without = [
            arm
            for i, arm in enumerate(self._arms)
            if len(_complete(series[f"{arm}_requests"], end)) >= _ENOUGH
            and not any(arms[i] for arms in of.values())
        ]
        if without:
            # Without any latencies nothing is known of ranks either.
            self._ranked = self._ranked or "baseline" in without
            why = f"CloudWatch has no latencies of the {' and the '.join(without)}"
            return Shares(of, [], dict.fromkeys(limits, why))
        if self._ranked or not limits:
            return Shares(of, [], {})
        roughly = (
            f"CloudWatch gives no {'; '.join(_ranks(limits))}: slow requests are estimated from "
            f"{', '.join(LADDER)} by linear interpolation"
        )
        return Shares(of, [roughly], {})

    def _both(self, shares: Sequence[Series]) -> Arms:
        """The fractions of both variants; where there is no canary its are empty."""
        return Arms(*shares) if len(shares) > 1 else Arms(shares[0], {})


def _percentile(quantile: float) -> str:
    return f"p{100 * quantile:.10g}"


def _ranks(limits: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"PR(:{limit:.10g})" for limit in limits.values())


def _complete(requests: Series, end: datetime) -> list[datetime]:
    return [at for at in requests if at < end - SETTLED]


def _above_rank(ranks: Series) -> Series:
    """The fraction above from the percentage up to the limit."""
    if ranks and (highest := max(ranks.values())) > _MOST_RANK:
        raise MetricsError(
            f"CloudWatch returned a percentile rank of {highest:g}, above 100.",
            remedy="Check for a proxy or an endpoint that answers instead of AWS.",
        )
    return {at: 1 - rank / 100 for at, rank in ranks.items()}


def _rungs(arm: str, series: Mapping[str, Series]) -> dict[datetime, dict[str, float]]:
    minutes: dict[datetime, dict[str, float]] = {}
    for i, statistic in enumerate(LADDER):
        for at, value in series[f"{arm}_latency_{i}"].items():
            minutes.setdefault(at, {})[statistic] = value
    return minutes


def _above(
    limit: float, rungs: Mapping[datetime, Mapping[str, float]], requests: Series
) -> dict[datetime, float]:
    shares = {at: share_above(limit, each, requests.get(at, 0.0)) for at, each in rungs.items()}
    return {at: share for at, share in shares.items() if share is not None}
