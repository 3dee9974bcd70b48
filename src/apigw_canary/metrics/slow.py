"""Slow requests from CloudWatch's `Latency`: the limit, what is asked, shares of the answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import MetricsError
from apigw_canary.judge.latency import LADDER, share_above, weighted_median
from apigw_canary.judge.signals import Signal
from apigw_canary.metrics.metricdata import Query, Series, fetched
from apigw_canary.metrics.series import Arms
from apigw_canary.values.formatting import moment

LIMIT_FROM = timedelta(minutes=50)
"""How much of the hour before the start sets a limit. Its last ten minutes do not: values converge
for so long, and a limit found afresh later must be the same."""

_ENOUGH = 5
"""Settled minutes with requests, none of which has a rank, from which ranks count as not given."""

_MOST_RANK = 100 + 1e-6
"""A percentile rank is 100 at most; the rest is rounding."""

_LATENCY = "Latency"
_Dimensions = tuple[tuple[str, str], ...]


class SlowRequests:
    """How the slow requests of one stage are counted.

    Of each minute CloudWatch is asked which share of the latencies is up to the limit: `PR(:x)`.
    Beside `TC(:x)`, how many they are, it has two advantages: a minute of which some latencies are
    published already is not a slow one, and the number of requests comes from `Count` alone. Where
    it answers with nothing, the share is taken from percentiles.
    """

    def __init__(self, calls: Calls, baseline: _Dimensions, canary: _Dimensions) -> None:
        self._calls = calls
        self._arms = {"baseline": baseline, "canary": canary}
        self._fixed: dict[tuple[float, datetime], float] = {}
        self._ranked = True

    @property
    def is_ranked(self) -> bool:
        """Whether CloudWatch is asked for ranks, as long as nothing speaks against it."""
        return self._ranked

    def limits(
        self, signals: Sequence[Signal], start: datetime, kept_from: datetime
    ) -> tuple[dict[str, float], list[str]]:
        """Milliseconds by signal name, and a note for each that the baseline sets.

        One GetMetricData for a start that is new. Raises `MetricsError` where the baseline had no
        requests then.
        """
        until = start + LIMIT_FROM
        quantiles = {s.quantile for s in signals if s.quantile is not None}
        if new := sorted(q for q in quantiles if (q, start) not in self._fixed):
            if start < kept_from:
                raise _no_limit(f"minutes from before {moment(kept_from)} are no longer kept")
            self._fix(new, start, until)
        limits = {s.name: s.over for s in signals if s.over is not None}
        notes = []
        for signal in signals:
            if signal.quantile is not None:
                limits[signal.name] = limit = self._fixed[signal.quantile, start]
                notes.append(
                    f"{signal.name}: over {limit:g} ms, the median of the baseline's "
                    f"{_percentile(signal.quantile)} in the minutes from {moment(start)} to "
                    f"{moment(until)}, weighted by requests"
                )
        return limits, notes

    def _fix(self, quantiles: Sequence[float], start: datetime, until: datetime) -> None:
        baseline = self._arms["baseline"]
        queries = [
            Query("requests", "Count", "SampleCount", baseline),
            *(
                Query(f"latency_{i}", _LATENCY, _percentile(quantile), baseline)
                for i, quantile in enumerate(quantiles)
            ),
        ]
        series = fetched(self._calls, queries, start, until)
        for i, quantile in enumerate(quantiles):
            limit = weighted_median(
                (value, series["requests"].get(at, 0.0))
                for at, value in series[f"latency_{i}"].items()
            )
            if limit is None:
                raise _no_limit(
                    f"no latencies of it are known from {moment(start)} to {moment(until)}"
                )
            self._fixed[quantile, start] = round(limit, 1)

    def queries(self, limits: Mapping[str, float]) -> list[Query]:
        """What is to be asked for shares above the limits."""
        if not limits:
            return []
        statistics = _ranks(limits) if self._ranked else tuple(LADDER)
        return [
            Query(f"{arm}_latency_{i}", _LATENCY, statistic, dimensions)
            for arm, dimensions in self._arms.items()
            for i, statistic in enumerate(statistics)
        ]

    def shares(
        self, limits: Mapping[str, float], series: Mapping[str, Series]
    ) -> tuple[dict[str, Arms], list[str]]:
        """The share of slow requests of both arms, by signal name, with notes of how it was read.

        `series` has the answers to `queries`.
        """
        if self._ranked:
            ranks = (
                series[f"{arm}_latency_{i}"] for arm in self._arms for i, _ in enumerate(limits)
            )
            if highest := [
                value for each in ranks for value in each.values() if value > _MOST_RANK
            ]:
                raise MetricsError(
                    f"CloudWatch's answer for {'; '.join(_ranks(limits))} cannot be: a percentile "
                    f"rank of {max(highest):g}.",
                    remedy="Check for a proxy or an endpoint that answers in AWS's place.",
                )
            return {
                name: Arms(
                    *(
                        {at: 1 - rank / 100 for at, rank in series[f"{arm}_latency_{i}"].items()}
                        for arm in self._arms
                    )
                )
                for i, name in enumerate(limits)
            }, []
        rungs = {arm: _rungs(arm, series) for arm in self._arms}
        shares = {
            name: Arms(*(_above(limit, rungs[arm], series[f"{arm}_requests"]) for arm in rungs))
            for name, limit in limits.items()
        }
        if not any(arms.baseline for arms in shares.values()):
            self._ranked = True  # without any latencies nothing is known of ranks either
            return shares, ["CloudWatch gives no latencies: slow requests cannot be counted"]
        roughly = (
            f"CloudWatch gives no {'; '.join(_ranks(limits))}: slow requests are counted from "
            f"{', '.join(LADDER)}, linear in between, and so roughly"
        )
        return shares, [roughly]

    def falls_back(
        self, limits: Mapping[str, float], series: Mapping[str, Series], settled: datetime
    ) -> bool:
        """Whether percentiles are to be asked instead, as ranks were and did not come.

        If they are there, they are asked for as long as this object lives.
        """
        if not self._ranked or not limits:
            return False
        busy = [at for at in series["baseline_requests"] if at < settled]
        ranks = [series[f"baseline_latency_{i}"] for i in range(len(limits))]
        self._ranked = len(busy) < _ENOUGH or any(ranks)
        return not self._ranked


def _percentile(quantile: float) -> str:
    return f"p{100 * quantile:.10g}"


def _ranks(limits: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(f"PR(:{limit:.10g})" for limit in limits.values())


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


def _no_limit(why: str) -> MetricsError:
    return MetricsError(
        f"The baseline's latency before the start sets no limit: {why}.",
        remedy="Give the limit yourself: Signal.slow(over=…), in milliseconds.",
    )
