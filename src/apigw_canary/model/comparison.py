"""Both variants side by side: what they served in a window of time, and in each minute of it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import attrs

from apigw_canary.values import Renderable, Serializable, moment, validation


@attrs.frozen(kw_only=True)
class LatencyStatistics(Serializable):
    """The latency of answers, in milliseconds; None where it is not known."""

    mean: float | None = None
    """The arithmetic mean."""
    p50: float | None = None
    """The median."""
    p90: float | None = None
    """The 90th percentile."""
    p99: float | None = None
    """The 99th percentile."""


@attrs.frozen(kw_only=True)
class VariantMetrics(Serializable):
    """The requests that one variant served in a window or a minute. A value is None if it is not
    known.
    """

    requests: float | None = None
    """The number of requests; for a Lambda alias, of invocations."""
    requests_per_minute: float | None = None
    """The mean number of requests, or invocations, a minute."""
    errors_4xx: float | None = None
    """The number of requests that were answered with a 4xx status."""
    errors_4xx_rate: float | None = None
    """The fraction of the requests of known status that were answered with a 4xx status, 0 to 1."""
    errors_5xx: float | None = None
    """The number of requests that were answered with a 5xx status; for a Lambda alias, of
    invocations that ended in an error."""
    errors_5xx_rate: float | None = None
    """The fraction of the requests of known outcome that are in `errors_5xx`, 0 to 1."""
    latency: LatencyStatistics = LatencyStatistics()
    """The time from when API Gateway received a request until it returned the answer; for a Lambda
    alias, the duration of an invocation."""
    integration_latency: LatencyStatistics = LatencyStatistics()
    """The part of the latency that the integration took."""
    cache_hits: float | None = None
    """The number of requests that the stage's cache answered; None if the stage has no cache."""
    cache_misses: float | None = None
    """The number of requests that the stage's cache could not answer; None if the stage has no
    cache."""


@attrs.frozen(kw_only=True)
class ComparedMinute(Serializable):
    """One minute of both variants."""

    at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The beginning of the minute."""
    baseline: VariantMetrics
    """What the baseline served in the minute."""
    canary: VariantMetrics
    """What the canary served in the minute."""


@attrs.frozen
class ComparedValue(Serializable):
    """One value of both variants."""

    name: str
    """The name of the value, such as "latency p99"."""
    unit: Literal["", "%", "ms"]
    """The unit; "" for a number of requests."""
    baseline: float | None
    """The baseline's value; None if it is not known."""
    canary: float | None
    """The canary's value; None if it is not known."""

    @property
    def difference(self) -> float | None:
        """The canary's value minus the baseline's; None if one of them is not known."""
        if self.baseline is None or self.canary is None:
            return None
        return self.canary - self.baseline


@attrs.frozen(kw_only=True)
class Comparison(Renderable):
    """The metrics of both variants side by side in one window of time, without a verdict."""

    region: str
    """The region of the stage."""
    rest_api_id: str
    """The REST API's id, or the function's name."""
    stage: str
    """The stage's name, or the alias's."""
    start: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The beginning of the first minute that is compared."""
    end: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The end of the last minute that is compared; equal to `start` if no minute is complete
    yet."""
    baseline: VariantMetrics
    """What the baseline served."""
    canary: VariantMetrics
    """What the canary served."""
    minutes: tuple[ComparedMinute, ...] = ()
    """The metrics of each minute with requests."""
    percentiles: Literal["window", "median of minutes"] = "window"
    """"window": percentiles of all requests of the window. "median of minutes": the median of the
    minutes' percentiles, weighted by requests, which does not show a rise in only a few minutes."""
    baseline_includes_canary: bool | None = False
    """Whether the series of the baseline also counts the canary's requests. If True, they were
    subtracted, and the baseline has no percentiles, because those of both variants together cannot
    be separated. None if it is not known; then nothing was subtracted."""
    suspect: str | None = None
    """Why the counts may not be those of the two variants, and what to do about it; None if they
    are trusted."""
    notes: tuple[str, ...] = ()
    """How the values were measured, and which of them are not known: one sentence each."""

    def __str__(self) -> str:
        """One line: the requests, and how both variants fared."""
        shown = {value.name: value for value in self.values()}
        named = ("requests", "5xx rate", "latency p50", "latency p99")
        parts = (
            f"{name} {formatted(shown[name].canary, shown[name].unit)} on the canary, "
            f"{formatted(shown[name].baseline, shown[name].unit)} on the baseline"
            for name in named
        )
        return f"{'; '.join(parts)}; from {moment(self.start)} to {moment(self.end)}"

    @property
    def about(self) -> str:
        """The subject, for a report."""
        return f"Comparison of both variants of {self.stage}"

    @property
    def title(self) -> str:
        """The window, for a report."""
        minutes = (self.end - self.start) // timedelta(minutes=1)
        return f"{minutes:,} minutes from {moment(self.start)}"

    def values(self) -> tuple[ComparedValue, ...]:
        """Return each value of both variants. Values that are not known for either are left out,
        except requests, 5xx rate, and latency p50 and p99.
        """
        return tuple(
            value
            for value in self._values()
            if value.name in _ALWAYS or (value.baseline, value.canary) != (None, None)
        )

    def _values(self) -> Iterator[ComparedValue]:
        one, other = self.baseline, self.canary
        yield ComparedValue("requests", "", one.requests, other.requests)
        yield ComparedValue(
            "requests a minute", "", one.requests_per_minute, other.requests_per_minute
        )
        yield ComparedValue("4xx", "", one.errors_4xx, other.errors_4xx)
        yield ComparedValue(
            "4xx rate", "%", _percent(one.errors_4xx_rate), _percent(other.errors_4xx_rate)
        )
        yield ComparedValue("5xx", "", one.errors_5xx, other.errors_5xx)
        yield ComparedValue(
            "5xx rate", "%", _percent(one.errors_5xx_rate), _percent(other.errors_5xx_rate)
        )
        for name in ("latency", "integration_latency"):
            for field in attrs.fields(LatencyStatistics):
                yield ComparedValue(
                    f"{name.replace('_', ' ')} {field.name}",
                    "ms",
                    getattr(getattr(one, name), field.name),
                    getattr(getattr(other, name), field.name),
                )
        yield ComparedValue("cache hits", "", one.cache_hits, other.cache_hits)
        yield ComparedValue("cache misses", "", one.cache_misses, other.cache_misses)


_ALWAYS = {"requests", "5xx rate", "latency p50", "latency p99"}
"""Values that are shown where they are not known."""


def _percent(rate: float | None) -> float | None:
    return None if rate is None else 100 * rate


def formatted(value: float | None, unit: str, *, signed: bool = False) -> str:
    """A value as it is shown."""
    if value is None:
        return "not known"
    sign = "+" if signed else ""
    if unit == "%":
        return f"{value:{sign}.2f} %"
    digits = 0 if float(value).is_integer() or abs(value) >= 1000 else 1
    return f"{value:{sign},.{digits}f}{' ms' if unit else ''}"
