"""Both variants side by side: what they served in a window of time, and in each minute of it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import attrs

from apigw_canary.values import Renderable, Serializable, moment, validation


@attrs.frozen(kw_only=True)
class LatencyStatistics(Serializable):
    """How long answers took, in milliseconds; None where it is not known."""

    mean: float | None = None
    """The arithmetic mean."""
    p50: float | None = None
    """The median: half of the requests took as long or less."""
    p90: float | None = None
    """The 90th percentile."""
    p99: float | None = None
    """The 99th percentile."""


@attrs.frozen(kw_only=True)
class VariantMetrics(Serializable):
    """What one variant served in a window or a minute; None where it is not known."""

    requests: float | None = None
    """The number of requests, or of invocations of a Lambda alias."""
    requests_per_minute: float | None = None
    """The same for each minute of the window."""
    errors_4xx: float | None = None
    """How many were answered with a 4xx status."""
    errors_4xx_rate: float | None = None
    """How many of those whose status is known were answered with a 4xx status, 0 to 1."""
    errors_5xx: float | None = None
    """How many were answered with a 5xx status; of a Lambda alias, how many ended in an error."""
    errors_5xx_rate: float | None = None
    """How many of those whose outcome is known, 0 to 1."""
    latency: LatencyStatistics = LatencyStatistics()
    """From API Gateway's receipt of a request to its answer; of a Lambda alias the duration."""
    integration_latency: LatencyStatistics = LatencyStatistics()
    """The part of it that the integration took."""
    cache_hits: float | None = None
    """Requests that the stage's cache answered; None where the stage has no cache."""
    cache_misses: float | None = None
    """Requests that the stage's cache could not answer."""


@attrs.frozen(kw_only=True)
class ComparedMinute(Serializable):
    """One minute of both variants."""

    at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The minute's beginning."""
    baseline: VariantMetrics
    """What the baseline served in it."""
    canary: VariantMetrics
    """What the canary served in it."""


@attrs.frozen
class ComparedValue(Serializable):
    """One value of both variants."""

    name: str
    """What it is, such as "latency p99"."""
    unit: Literal["", "%", "ms"]
    """Its unit; "" for a number of requests."""
    baseline: float | None
    """The baseline's."""
    canary: float | None
    """The canary's."""

    @property
    def difference(self) -> float | None:
        """The canary's less the baseline's; None where one of them is not known."""
        if self.baseline is None or self.canary is None:
            return None
        return self.canary - self.baseline


@attrs.frozen(kw_only=True)
class Comparison(Renderable):
    """Both variants side by side, in one window of time; no verdict."""

    region: str
    """The region of the stage."""
    rest_api_id: str
    """The REST API's id, or the function's name."""
    stage: str
    """The stage's name, or the alias's."""
    start: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The beginning of the first minute that is compared."""
    end: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The end of the last one; equal to `start` where no minute is complete yet."""
    baseline: VariantMetrics
    """What the baseline served."""
    canary: VariantMetrics
    """What the canary served."""
    minutes: tuple[ComparedMinute, ...] = ()
    """The same by the minute, of minutes with requests."""
    percentiles: Literal["window", "median of minutes"] = "window"
    """Whether the percentiles are those of all requests of the window, or the median of the
    minutes' percentiles, weighted by their requests. A median of minutes hides what only a few
    minutes had."""
    baseline_includes_canary: bool | None = False
    """Whether the series that the baseline is read from counts the canary's requests too. Where it
    does they were subtracted, and the baseline has no percentiles: those of a mixture cannot be
    taken apart. None: it is not known; then nothing was subtracted."""
    suspect: str | None = None
    """Why the counts may be of something else, and what to do about it; None where they are not."""
    notes: tuple[str, ...] = ()
    """How the values were read, and which of them are not known."""

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
        """The stage."""
        return f"Comparison of both variants of {self.stage}"

    @property
    def title(self) -> str:
        """How long the window is."""
        minutes = (self.end - self.start) // timedelta(minutes=1)
        return f"{minutes:,} minutes from {moment(self.start)}"

    def values(self) -> tuple[ComparedValue, ...]:
        """Each value of both variants; what is known of neither is left out, but for a few."""
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
