"""What counts as bad, and how much worse is tolerated."""

import re
from typing import Self, TypedDict, Unpack

import attrs

from apigw_canary.values import Serializable, validation

ERRORS_5XX = "errors_5xx"
ERRORS_4XX = "errors_4xx"

ROUTE = r"[A-Z]+ /.*"
"""How a route is written: a method, and the path of a resource."""

_LONGEST_ROUTE = 1024
"""Characters: no dimension of a CloudWatch metric has a longer value ("Dimension", Amazon
CloudWatch API Reference)."""

_DEFAULT_QUANTILE = 0.99


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
    route: str | None


@attrs.frozen(kw_only=True)
class Signal(Serializable):
    """Bad requests out of requests, per minute and variant, and what is tolerated of the canary.

    The canary is *worse* where its rate of bad requests exceeds `ratio` x the baseline's +
    `slack`, and *not worse* where it stays below `ratio` x the baseline's + `margin`. Between the
    two no verdict is promised.
    """

    name: str = attrs.field(validator=lambda self, _, name: _check_name(self, name))
    """The key of its minutes in `Observation.minutes`."""
    ratio: float = attrs.field(
        default=1.1, validator=validation.checked(validation.number, low=1, high=100)
    )
    """How many times the baseline's rate is tolerated, 1 or more. Default 1.1: two variants of
    different size never have quite the same rate, as caches and connection pools warm differently.
    """
    slack: float = attrs.field(
        default=0.0002, validator=validation.checked(validation.number, low=0, high=0.99)
    )
    """What is tolerated on top, as a fraction of the requests, 0 to 1. Default 0.02 %: where the
    baseline has next to no errors, a single one is no multiple of anything."""
    noise: float = attrs.field(
        default=0.05, validator=validation.checked(validation.number, low=0, high=2)
    )
    """The coefficient of variation, minute by minute, of what affects one variant only (such as a
    cold container), 0 to 2. Default 0.05. Bursts that affect only one variant are taken for
    bad code: raise it if they are ordinary."""
    margin: float = attrs.field(
        default=0.005, validator=validation.checked(validation.number, low=0, high=1)
    )
    """The excess that a promotion may overlook, as a fraction of the requests, above `slack`.
    Default 0.5 %: it sets how many canary requests a promotion needs, about 700 without errors."""
    limit: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=1e-6, high=0.999),
    )
    """A rate that the canary must not exceed, 0 to 1; None for no limit. It rolls back a canary
    that exceeds it and fares worse than the baseline in the same minutes. Minutes in which the
    baseline happens to have no request are left out; at 100 %, where it has none by design, the
    limit is judged by itself. Where the baseline exceeds it too, both are unhealthy, and the
    rollout holds until the baseline recovers or the deadline passes."""
    weight: float = attrs.field(
        default=0.5, validator=validation.checked(validation.number, low=1e-3, high=1e3)
    )
    """Its part in the evidence for rolling back, relative to the other signals'."""
    critical: bool = attrs.field(default=True, validator=validation.checked(validation.flag))
    """Whether it must be confirmed as not worse before a promotion."""
    report_only: bool = attrs.field(default=False, validator=validation.checked(validation.flag))
    """Whether it is only reported and decides nothing."""
    route: str | None = None
    """The one route that it is about, as in "POST /checkout": it is judged by the requests of that
    route alone. None for the whole stage. Its name is then that of the signal and " of " the route.
    The source must measure the route: `CloudWatchMetrics` needs detailed metrics for it,
    `AccessLogs` the method and the resource path in each line. Not for latency."""
    rare: bool = attrs.field(
        default=attrs.Factory(
            lambda self: bool(self.name == of_route(ERRORS_5XX, self.route)), takes_self=True
        ),
        validator=validation.checked(validation.flag),
    )
    """Whether bad requests should be rare, as 5xx errors are. Then also counts without a comparison
    matter: a gross failure at 100 %, where there is no baseline, and production that becomes
    unhealthy. By default True for `errors_5xx`, however it is made, and False for all other
    signals."""
    over: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=1, high=900_000),
    )
    """For latency: above how many milliseconds a request is bad, 1 to 900,000; else None."""
    quantile: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=0.5, high=0.9999),
    )
    """For latency: which quantile of the baseline's latency, in the hour before the start, is the
    limit instead, 0.5 to 0.9999; else None."""

    def __attrs_post_init__(self) -> None:
        if self.margin <= self.slack:
            validation.refuse("margin", f"above slack ({self.slack:g})", self.margin)
        if self.critical and self.report_only:
            validation.refuse("report_only", "False for a critical signal", value=True)
        if self.over is not None and self.quantile is not None:
            validation.refuse("quantile", "None where over is given", self.quantile)

    @property
    def counted(self) -> str:
        """What it counts: its name, without the route."""
        return self.name.removesuffix(of_route("", self.route))

    @property
    def is_latency(self) -> bool:
        """Whether bad requests are those that take longer than a limit."""
        return self.over is not None or self.quantile is not None

    @classmethod
    def errors_5xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Requests answered with a 5xx status: failures of the server, the most important signal.

        With a `route`, a tolerance of its own for that route, beside the stage's signal:

        ```python
        from apigw_canary import Signal

        checkout = Signal.errors_5xx(route="POST /checkout", margin=0.001)
        print(checkout.name)
        ```

        Such a signal has a part of `false_rollback`, as any other: its `weight` of the sum of all
        weights, and where the source measures routes, of the 1 - `route_weight` that is left. The
        default weight of 0.5 is that of the stage's 5xx errors, so beside the three default signals
        it has 0.5 of 1.2, or 42 %: alone it rolls back at most 2.1 % of healthy canaries at the
        default of 5 %, and the others have 58 % instead of all. `str(policy)` and the preflight
        state the part. Less weight leaves more to the others, and takes the route more requests
        until a rollback. The route is no longer judged by the policy's tolerance for all routes in
        what the signal counts; its requests still count for the whole stage. It is critical: a
        promotion needs the route to be confirmed, by its own requests.
        """
        return cls(name=of_route(ERRORS_5XX, tolerance.get("route")), **tolerance)

    @classmethod
    def errors_4xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Requests answered with a 4xx status.

        Mostly the clients' doing, in bursts of single clients: hence wider tolerances (ratio 1.2,
        slack 0.2 %, noise 0.2, margin 2 %), less weight (0.1), and not critical. A release that
        breaks a contract shows here all the same. With a `route`, of that route alone, as
        `errors_5xx` has it.
        """
        wider: Tolerance = {
            "ratio": 1.2,
            "slack": 0.002,
            "noise": 0.2,
            "margin": 0.02,
            "weight": 0.1,
            "critical": False,
        }
        wider.update(tolerance)
        return cls(name=of_route(ERRORS_4XX, wider.get("route")), **wider)

    @classmethod
    def latency(
        cls,
        *,
        quantile: float | None = None,
        over: float | None = None,
        **tolerance: Unpack[Tolerance],
    ) -> Self:
        """Requests that take longer than a limit: `over` milliseconds, or the `quantile` of the
        baseline's latency in the hour before the start. By default the quantile 0.99.

        The limit stays the same during a rollout, so that a baseline that becomes slower as well
        does not move it. The name has the limit (`latency_over_800ms`, `latency_p99`), so that a
        policy may have several; two, such as p90 and p99, show most changes of a distribution.

        Where no limit can be set, or the source has no latencies, the signal is not observed: it
        is evidence for neither side, and decisions and preflights state it.

        Minutes in which the canary's containers may be new are no evidence against it
        (`judge.eligibility.Warmth`): those within five minutes of the start or of a shift, and
        those before which it had no request for a minute.

        About 1 % of the requests are above a p99 and 10 % above a p90, and counts are interpolated
        between published values: hence ratio 1.2, slack 0.5 %, and margin 1.5 %. The slack also
        allows for cold starts, which a canary with few requests has more often. Latency varies by
        container and cache more than errors do: noise 0.1. Weight 0.1, as `errors_4xx`: by default
        the three weigh 0.5, 0.1 and 0.1. Not critical: a slow answer is better than none.
        """
        if over is not None and quantile is not None:
            validation.refuse("over", "None where quantile is given", over)
        if over is None and quantile is None:
            quantile = _DEFAULT_QUANTILE
        wider: Tolerance = {
            "ratio": 1.2,
            "slack": 0.005,
            "noise": 0.1,
            "margin": 0.015,
            "weight": 0.1,
            "critical": False,
        }
        wider.update(tolerance)
        return cls(name=_latency_name(over, quantile), over=over, quantile=quantile, **wider)

    @classmethod
    def custom(cls, name: str, **tolerance: Unpack[Tolerance]) -> Self:
        """Anything else that a `MetricSource` counts, such as refunds. Not critical.

        With a `route`, of that route alone, as `errors_5xx` has it.
        """
        tolerance.setdefault("critical", False)
        return cls(name=of_route(name, tolerance.get("route")), **tolerance)


def of_route(name: str, route: str | None) -> str:
    """The name of a signal of that route; of the whole stage for None."""
    return name if route is None else f"{name} of {route}"


def _latency_name(over: float | None, quantile: float | None) -> str:
    if over is not None:
        return f"latency_over_{_digits(validation.number(over, 'over'))}ms"
    return f"latency_p{_digits(100 * validation.number(quantile, 'quantile'))}"


def _digits(value: float) -> str:
    return f"{value:.10g}".replace(".", "_")


def _check_name(signal: Signal, name: object) -> None:
    route = signal.route
    if route is None:
        validation.text(name, "name")
        return
    if not re.fullmatch(ROUTE, validation.text(route, "route", limit=_LONGEST_ROUTE)):
        validation.refuse("route", 'a method and a path, as in "GET /orders"', route)
    if signal.is_latency:
        validation.refuse("route", "None for latency", route)
    ending = of_route("", route)
    if not validation.text(name, "name", limit=2 * _LONGEST_ROUTE).endswith(ending):
        validation.refuse("name", f"one that ends in {ending!r}", name)
