"""Both variants side by side, from CloudWatch: what is asked, and the values of the answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge import MINUTE, Minute, Overlap, ceil_minute
from apigw_canary.metrics.latency import weighted_median
from apigw_canary.metrics.source import (
    KEPT,
    NAMESPACE,
    PERIOD,
    SETTLED,
    Arms,
    Dimensions,
    Query,
    Series,
    joined,
)
from apigw_canary.model import (
    ComparedMinute,
    Comparison,
    LatencyStatistics,
    StageState,
    VariantMetrics,
)
from apigw_canary.values import validation

_LONGEST_PERIOD = timedelta(days=1)
"""The longest period of a statistic ("Amazon CloudWatch concepts", Periods)."""

_PERCENTILES = ("p50", "p90", "p99")
_INCLUDES: Mapping[Overlap, bool | None] = {"excluded": False, "included": True, "unknown": None}


class Names(NamedTuple):
    """The metrics of a service."""

    namespace: str
    requests: tuple[str, str]
    """The metric of the requests, and the statistic that counts them."""
    errors: Mapping[str, str]
    """Signal to metric."""
    latencies: Mapping[str, str]
    """`latency` and `integration_latency`, and the metric of each."""
    counts: Mapping[str, str]
    """Further counts to metrics."""


API_GATEWAY = Names(
    NAMESPACE,
    ("Count", "SampleCount"),
    {"errors_4xx": "4XXError", "errors_5xx": "5XXError"},
    {"latency": "Latency", "integration_latency": "IntegrationLatency"},
    {"cache_hits": "CacheHitCount", "cache_misses": "CacheMissCount"},
)


class Window(NamedTuple):
    """Complete minutes that CloudWatch still has."""

    start: datetime
    end: datetime
    notes: tuple[str, ...] = ()


def window(start: datetime, end: datetime, now: datetime) -> Window:
    """The complete minutes of [start, end), as of `now`."""
    first = ceil_minute(validation.aware(start, "start"))
    last = validation.aware(end, "end").replace(second=0, microsecond=0)
    notes = []
    complete = (now - SETTLED).replace(second=0, microsecond=0)
    if last > complete:
        last = complete
        notes.append(
            f"Minutes younger than {SETTLED // MINUTE} min are left out: their metrics may not be "
            "complete."
        )
    if first < (kept := ceil_minute(now - KEPT)):
        first = kept
        notes.append(f"Minutes older than {KEPT.days} days are left out: CloudWatch has no data.")
    return Window(first, max(first, last), tuple(notes))


def queries(arms: Mapping[str, Dimensions], names: Names, asked: Window) -> list[Query]:
    """What is asked of each variant, by the minute, and percentiles of the whole window."""
    metric, statistic = names.requests
    counts = {**names.errors, **names.counts}
    found = []
    for arm, dimensions in arms.items():
        wanted = [(f"{arm}_requests", metric, statistic)]
        wanted += [(f"{arm}_{name}", each, "Sum") for name, each in counts.items()]
        of_window = []
        for name, each in names.latencies.items():
            whole = [(f"{arm}_{name}_count", each, "SampleCount")]
            whole += [(f"{arm}_{name}_{p}", each, p) for p in _PERCENTILES]
            wanted += [(f"{arm}_{name}_sum", each, "Sum"), *whole]
            of_window += [(f"{id_}_window", each, stat) for id_, each, stat in whole]
        periods = [(each, PERIOD) for each in wanted]
        if (length := asked.end - asked.start) <= _LONGEST_PERIOD:
            periods += [(each, length) for each in of_window]
        found += [
            Query(id_, each, statistic, dimensions, names.namespace, period)
            for (id_, each, statistic), period in periods
        ]
    return found


def nothing(state: StageState, asked: Window) -> Comparison:
    """The comparison of a window that has no complete minute yet."""
    return _comparison(state, asked, VariantMetrics(), VariantMetrics())


def errors_of(series: Mapping[str, Series], names: Names, end: datetime) -> dict[str, list[Minute]]:
    """The minutes of each kind of error, of a window whose minutes are complete."""
    requests = Arms(series["baseline_requests"], series["canary_requests"])
    return {
        name: list(
            joined(
                requests, Arms(series[f"baseline_{name}"], series[f"canary_{name}"]), end + SETTLED
            )
        )
        for name in names.errors
    }


def compared(
    state: StageState,
    series: Mapping[str, Series],
    names: Names,
    asked: Window,
    *,
    overlap: Overlap = "excluded",
    without_data: bool = False,
    suspect: str | None = None,
) -> Comparison:
    """The values of the window, and of each minute, from the answers to `queries`.

    `without_data`: the canary has a percent of the requests, and CloudWatch has none of them.
    """
    includes = _INCLUDES[overlap]
    if not series["canary_requests"] and not without_data:
        includes = False  # there is nothing that could be included
    errors = errors_of(series, names, asked.end)
    left_out: list[str] = []
    if includes:
        errors, left_out = _subtracted(errors)
    whole = _is_whole(series, names)
    times = sorted({*series["baseline_requests"], *series["canary_requests"]})
    length = (asked.end - asked.start) / MINUTE
    totals = _totals(series, names, whole=whole)
    lacks = {"canary"} if without_data else set[str]()

    def variants(
        values: Mapping[str, float | None], rows: Mapping[str, Sequence[Minute]], minutes: float
    ) -> Iterator[VariantMetrics]:
        for arm in ("baseline", "canary"):
            own = _Own(arm, values, includes if arm == "baseline" else False)
            yield _metrics(own, rows, minutes, known=bool(times) and arm not in lacks)

    baseline, canary = variants(totals, errors, length)
    rows_at = {name: {row.at: [row] for row in rows} for name, rows in errors.items()}
    minutes = []
    for at in times:
        values = {id_: points.get(at) for id_, points in series.items()}
        rows = {name: by_time.get(at, []) for name, by_time in rows_at.items()}
        one, other = variants(values, rows, 1)
        minutes.append(ComparedMinute(at=at, baseline=one, canary=other))
    return _comparison(
        state,
        asked,
        baseline,
        canary,
        minutes=tuple(minutes),
        whole=whole,
        includes=includes,
        suspect=suspect,
        notes=[
            *_on_reading(includes=includes, whole=whole),
            *left_out,
            *_on_missing(series, names, errors),
        ],
    )


def _subtracted(
    errors: Mapping[str, Sequence[Minute]],
) -> tuple[dict[str, list[Minute]], list[str]]:
    """The minutes without the canary's requests in the baseline's, and a note on those left out."""
    found = {
        name: [row for each in rows if (row := each.with_canary_subtracted())]
        for name, rows in errors.items()
    }
    notes = [
        f"{name}: {lost:,} minutes are left out, in which the canary has more than the stage."
        for name, rows in errors.items()
        if (lost := len(rows) - len(found[name]))
    ]
    return found, notes


def _comparison(
    state: StageState,
    asked: Window,
    baseline: VariantMetrics,
    canary: VariantMetrics,
    *,
    minutes: tuple[ComparedMinute, ...] = (),
    whole: bool = True,
    includes: bool | None = False,
    suspect: str | None = None,
    notes: Iterable[str] = (),
) -> Comparison:
    return Comparison(
        region=state.region,
        rest_api_id=state.rest_api_id,
        stage=state.name,
        start=asked.start,
        end=asked.end,
        baseline=baseline,
        canary=canary,
        minutes=minutes,
        percentiles="window" if whole else "median of minutes",
        baseline_includes_canary=includes,
        suspect=suspect,
        notes=(*asked.notes, *notes),
    )


class _Own(NamedTuple):
    """The values of one variant."""

    arm: str
    values: Mapping[str, float | None]
    includes: bool | None
    """Whether they count the canary's too; None: that is not known."""

    @property
    def is_contradicted(self) -> bool:
        """Whether they should count the canary's requests, and have fewer."""
        own, canary = (self.values.get(f"{arm}_requests") for arm in (self.arm, "canary"))
        return bool(self.includes) and (canary or 0.0) > (own or 0.0)

    def number(self, name: str) -> float | None:
        """A number that adds up, without the canary's."""
        own = self.values.get(f"{self.arm}_{name}")
        if own is None or not self.includes:
            return own
        rest = own - (self.values.get(f"canary_{name}") or 0.0)
        return rest if rest >= 0 else None

    def latency(self, name: str) -> LatencyStatistics:
        """The percentiles of a mixture of both variants are those of neither."""
        number, total = self.number(f"{name}_count"), self.number(f"{name}_sum")
        percentiles = {
            p: self.values.get(f"{self.arm}_{name}_{p}") if self.includes is False else None
            for p in _PERCENTILES
        }
        mean = total / number if number and total is not None else None
        return LatencyStatistics(mean=mean, **percentiles)


def _metrics(
    own: _Own, errors: Mapping[str, Sequence[Minute]], minutes: float, *, known: bool
) -> VariantMetrics:
    """What one variant served; without a datapoint it had no requests if that is `known`."""
    requests = own.number("requests")
    if requests is None and known and not own.is_contradicted:
        requests = 0.0
    bad: dict[str, float | None] = {}
    for name, rows in errors.items():
        number = sum(getattr(row, f"{own.arm}_bad") for row in rows)
        served = sum(
            getattr(row, f"{own.arm}_requests") - getattr(row, f"{own.arm}_unknown") for row in rows
        )
        bad[name] = number if served else None
        bad[f"{name}_rate"] = number / served if served else None
    return VariantMetrics(
        requests=requests,
        requests_per_minute=None if requests is None else requests / minutes,
        **bad,
        latency=own.latency("latency"),
        integration_latency=own.latency("integration_latency"),
        cache_hits=own.number("cache_hits"),
        cache_misses=own.number("cache_misses"),
    )


def _is_whole(series: Mapping[str, Series], names: Names) -> bool:
    """Whether the percentiles of the window are of exactly the requests of its minutes.

    Where CloudWatch lets a period begin is not documented: its buckets may be several, or hold
    minutes from before the window. So the number of latencies in them is compared.
    """
    for arm in ("baseline", "canary"):
        for name in names.latencies:
            of_window = series.get(f"{arm}_{name}_count_window", {})
            by_minute = series.get(f"{arm}_{name}_count", {})
            if by_minute and list(of_window.values()) != [sum(by_minute.values())]:
                return False
    return True


def _totals(series: Mapping[str, Series], names: Names, *, whole: bool) -> dict[str, float | None]:
    """The values of the window: sums, and percentiles."""
    totals: dict[str, float | None] = {
        id_: sum(points.values()) if points else None for id_, points in series.items()
    }
    for arm in ("baseline", "canary"):
        for name in names.latencies:
            for p in _PERCENTILES:
                id_ = f"{arm}_{name}_{p}"
                numbers = series.get(f"{arm}_{name}_count", {})
                points = series.get(id_, {})
                totals[id_] = (
                    next(iter(series.get(f"{id_}_window", {}).values()), None)
                    if whole
                    else weighted_median((v, numbers.get(at, 0.0)) for at, v in points.items())
                )
    return totals


def _on_reading(*, includes: bool | None, whole: bool) -> Iterator[str]:
    """How the values were found."""
    if includes:
        yield (
            "The stage's series count the canary's requests too. These were subtracted from the "
            "baseline's counts and sums. The baseline has no percentiles, because those of a "
            "mixture cannot be taken apart."
        )
    elif includes is None:
        yield (
            "It is not known whether the stage's series count the canary's requests too. The "
            "baseline's counts and means are those of the series, and nothing was subtracted. It "
            "has no percentiles, because they may be those of a mixture."
        )
    if not whole:
        yield (
            "The percentiles are the median of the minutes' percentiles, weighted by their "
            "requests: CloudWatch returned no percentiles of exactly this window."
        )


def _on_missing(
    series: Mapping[str, Series], names: Names, errors: Mapping[str, Sequence[Minute]]
) -> Iterator[str]:
    """Of how many requests something is not known."""
    for arm in ("baseline", "canary"):
        for name, rows in errors.items():
            if unknown := sum(getattr(row, f"{arm}_unknown") for row in rows):
                yield (
                    f"CloudWatch has no {names.errors[name]} of {unknown:,.0f} requests of the "
                    f"{arm}: they are left out of its rate."
                )
        requests = sum(series[f"{arm}_requests"].values())
        for name, metric in names.latencies.items():
            known = sum(series[f"{arm}_{name}_count"].values())
            if known < requests:
                yield (
                    f"CloudWatch has {metric} of {known:,.0f} of the {requests:,.0f} requests of "
                    f"the {arm}'s series."
                )
