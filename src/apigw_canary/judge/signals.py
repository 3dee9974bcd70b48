"""What counts as bad, and how much worse is tolerated."""

from typing import Self, TypedDict, Unpack

import attrs

from apigw_canary.values import validation
from apigw_canary.values.serialization import Serializable

ERRORS_5XX = "errors_5xx"
ERRORS_4XX = "errors_4xx"


class Tolerance(TypedDict, total=False):
    """The fields of a `Signal` that its constructors take; what is left out has its default."""

    ratio: float
    slack: float
    noise: float
    margin: float
    limit: float | None
    weight: float
    critical: bool
    report_only: bool
    rare: bool


@attrs.frozen(kw_only=True)
class Signal(Serializable):
    """Bad requests out of requests, per minute and variant, and what is tolerated of the canary.

    The canary is *worse* where its rate of bad requests exceeds `ratio` x the baseline's +
    `slack`, and *not worse* where it stays below `ratio` x the baseline's + `margin`. Between the
    two no verdict is promised.
    """

    name: str
    """The key of its minutes in `Observation.minutes`."""
    ratio: float = 1.1
    """How many times the baseline's rate is tolerated, 1 or more. Default 1.1: two variants of
    different size never have quite the same rate, as caches and connection pools warm differently.
    """
    slack: float = 0.0002
    """What is tolerated on top, as a fraction of the requests, 0 to 1. Default 0.02 %: where the
    baseline has next to no errors, a single one is no multiple of anything."""
    noise: float = 0.05
    """The coefficient of variation, minute by minute, of what affects one variant only (such as a
    cold container), 0 to 2. Default 0.05. Bursts that affect only one variant look like bad code:
    raise it if they are ordinary."""
    margin: float = 0.005
    """The excess that a promotion may overlook, as a fraction of the requests, above `slack`.
    Default 0.5 %: it sets how many canary requests a promotion needs, about 700 without errors."""
    limit: float | None = None
    """A rate that the canary must not exceed, 0 to 1; None for no limit. It rolls back a canary
    that exceeds it and fares worse than the baseline in the same minutes. Minutes in which the
    baseline happens to have no request are left out; at 100 %, where it has none by design, the
    limit is judged by itself. Where the baseline exceeds it too, both are unhealthy, and the
    rollout holds until the baseline recovers or the deadline passes."""
    weight: float = 0.5
    """Its part in the evidence for rolling back, relative to the other signals'."""
    critical: bool = True
    """Whether it must be confirmed as not worse before a promotion."""
    report_only: bool = False
    """Whether it is only reported and decides nothing."""
    rare: bool = attrs.field(
        default=attrs.Factory(lambda self: bool(self.name == ERRORS_5XX), takes_self=True)
    )
    """Whether bad requests should be rare, as 5xx errors are. Then also counts without a comparison
    matter: a gross failure at 100 %, where there is no baseline, and production that becomes
    unhealthy. By default True for `errors_5xx`, however it is made, and False for all other
    changes."""
    over: float | None = None
    """For slow requests: from how many milliseconds on one is slow, 1 to 900,000; else None."""
    quantile: float | None = None
    """For slow requests: which quantile of the baseline's latency, in the hour before the start,
    is the limit instead, 0.5 to 0.9999; else None."""

    def __attrs_post_init__(self) -> None:
        validation.text(self.name, "name")
        validation.number(self.ratio, "ratio", low=1, high=100)
        validation.number(self.slack, "slack", low=0, high=0.99)
        validation.number(self.noise, "noise", low=0, high=2)
        validation.number(self.margin, "margin", low=0, high=1)
        if self.margin <= self.slack:
            validation.refuse("margin", f"above slack ({self.slack:g})", self.margin)
        if self.limit is not None:
            validation.number(self.limit, "limit", low=1e-6, high=0.999)
        validation.number(self.weight, "weight", low=1e-3, high=1e3)
        validation.flag(self.critical, "critical")
        validation.flag(self.report_only, "report_only")
        validation.flag(self.rare, "rare")
        if self.critical and self.report_only:
            validation.refuse("report_only", "False for a critical signal", value=True)
        if self.over is not None:
            validation.number(self.over, "over", low=1, high=900_000)
        if self.quantile is not None:
            validation.number(self.quantile, "quantile", low=0.5, high=0.9999)
            if self.over is not None:
                validation.refuse("quantile", "None where over is given", self.quantile)

    @classmethod
    def errors_5xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Requests answered with a 5xx status: the server's fault, so the first thing to watch."""
        return cls(name=ERRORS_5XX, **tolerance)

    @classmethod
    def errors_4xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Requests answered with a 4xx status.

        Mostly the clients' doing, in bursts of single clients: hence wider tolerances (ratio 1.2,
        slack 0.2 %, noise 0.2, margin 2 %), less weight (0.2), and not critical. A release that
        breaks a contract shows here all the same.
        """
        wider: Tolerance = {
            "ratio": 1.2,
            "slack": 0.002,
            "noise": 0.2,
            "margin": 0.02,
            "weight": 0.2,
            "critical": False,
        }
        wider.update(tolerance)
        return cls(name=ERRORS_4XX, **wider)

    @classmethod
    def slow(
        cls,
        *,
        over: float | None = None,
        quantile: float | None = None,
        **tolerance: Unpack[Tolerance],
    ) -> Self:
        """Requests answered later than a limit: either `over` milliseconds, your objective, or the
        `quantile` (such as 0.99) of the baseline's latency in the hour before the start.

        The limit stays the same during a rollout, so that a baseline that gets slow as well does
        not move it. Named by its limit (`slow_over_800ms`, `slow_p99`), so that several can stand
        side by side; two, such as p90 and p99, see most of what can happen to a distribution.

        The rates are about 1 % above a p99 and 10 % above a p90, and counts are interpolated
        between published values: hence ratio 1.2, slack 0.2 %, and margin 1 %, which a p99 confirms
        with about 600 canary requests and a p90 with about 1,600. Latency varies by container and
        cache more than errors do: noise 0.1. Weight 0.3: a slow answer is better than none.
        """
        if (over is None) == (quantile is None):
            validation.refuse("over", "given, or else quantile, but not both", over)
        wider: Tolerance = {
            "ratio": 1.2,
            "slack": 0.002,
            "noise": 0.1,
            "margin": 0.01,
            "weight": 0.3,
        }
        wider.update(tolerance)
        return cls(name=_slow_name(over, quantile), over=over, quantile=quantile, **wider)

    @classmethod
    def custom(cls, name: str, **tolerance: Unpack[Tolerance]) -> Self:
        """Anything else a `MetricSource` counts: refunds issued, empty answers. Not critical."""
        tolerance.setdefault("critical", False)
        return cls(name=name, **tolerance)


def _slow_name(over: float | None, quantile: float | None) -> str:
    if over is not None:
        return f"slow_over_{_digits(validation.number(over, 'over'))}ms"
    return f"slow_p{_digits(100 * validation.number(quantile, 'quantile'))}"


def _digits(value: float) -> str:
    return f"{value:.10g}".replace(".", "_")
