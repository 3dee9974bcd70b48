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
    """A kind of bad request that is counted for both variants, and the rate that is tolerated.

    The canary is *worse* if its rate of bad requests exceeds `ratio` x the baseline's + `slack`,
    and *not worse* if its rate stays below `ratio` x the baseline's + `margin`. For a rate between
    the two, either verdict or none is possible.
    """

    name: str = attrs.field(validator=lambda self, _, name: _check_name(self, name))
    """The signal's name, the key of its minutes in `Observation.minutes`."""
    ratio: float = attrs.field(
        default=1.1, validator=validation.checked(validation.number, low=1, high=100)
    )
    """The multiple of the baseline's rate that is tolerated, 1 to 100. Default 1.1, because caches
    and connection pools of two variants of different size warm differently.
    """
    slack: float = attrs.field(
        default=0.0002, validator=validation.checked(validation.number, low=0, high=0.99)
    )
    """The excess that is tolerated in addition, as a fraction of the requests, 0 to 0.99. Default
    0.0002 (0.02 %), because a multiple of a baseline with almost no errors tolerates almost
    none."""
    noise: float = attrs.field(
        default=0.05, validator=validation.checked(validation.number, low=0, high=2)
    )
    """How much a variant's rate varies by itself from minute to minute, for example with cold
    containers: a coefficient of variation, 0 to 2. Default 0.05. Bursts in the canary alone count
    as evidence that it is worse. Raise the noise if they are ordinary for your API."""
    margin: float = attrs.field(
        default=0.005, validator=validation.checked(validation.number, low=0, high=1)
    )
    """The excess that a promotion may miss, as a fraction of the requests, above `slack` and up to
    1. Default 0.005 (0.5 %): a promotion then needs about 700 canary requests without errors. A
    smaller margin needs more."""
    limit: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=1e-6, high=0.999),
    )
    """A rate of bad requests that the canary must not exceed, above 0 and below 1; None for no
    limit. A canary that exceeds it, and has a higher rate than the baseline in the same minutes, is
    rolled back. Minutes without baseline requests are left out, except at 100 %, where there is no
    baseline and the limit alone counts. If the baseline exceeds the limit too, the decision is Hold
    until the baseline recovers or the deadline passes."""
    weight: float = attrs.field(
        default=0.5, validator=validation.checked(validation.number, low=1e-3, high=1e3)
    )
    """The signal's part of the evidence for rolling back, relative to the other signals' weights:
    0.001 to 1,000."""
    critical: bool = attrs.field(default=True, validator=validation.checked(validation.flag))
    """Whether a promotion needs this signal to be confirmed as not worse."""
    report_only: bool = attrs.field(default=False, validator=validation.checked(validation.flag))
    """Whether the signal is only reported and has no effect on decisions."""
    route: str | None = None
    """The route whose requests are counted, such as "POST /checkout"; None for the whole stage.
    With a route the name is such as "errors_5xx of POST /checkout". The source must measure the
    route: `CloudWatchMetrics` needs detailed metrics for it, `AccessLogs` needs the method and the
    resource path in each line. Latency signals cannot have a route."""
    rare: bool = attrs.field(
        default=attrs.Factory(
            lambda self: bool(self.name == of_route(ERRORS_5XX, self.route)), takes_self=True
        ),
        validator=validation.checked(validation.flag),
    )
    """Whether bad requests are rare in a healthy API, as 5xx errors are. Rare signals are also
    judged without a comparison: a gross failure at 100 %, where there is no baseline, and
    production that becomes unhealthy. Default True for `errors_5xx`, also of a route, and False for
    all other signals."""
    over: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=1, high=900_000),
    )
    """The limit of a latency signal in milliseconds, 1 to 900,000: slower requests are bad. None
    for other signals, and if `quantile` is given."""
    quantile: float | None = attrs.field(
        default=None,
        validator=validation.checked(validation.number, or_none=True, low=0.5, high=0.9999),
    )
    """The quantile of the baseline's latency, in the hour before the start, that is the limit of a
    latency signal, 0.5 to 0.9999. None for other signals, and if `over` is given."""

    def __attrs_post_init__(self) -> None:
        if self.margin <= self.slack:
            validation.refuse("margin", f"above slack ({self.slack:g})", self.margin)
        if self.critical and self.report_only:
            validation.refuse("report_only", "False for a critical signal", value=True)
        if self.over is not None and self.quantile is not None:
            validation.refuse("quantile", "None if over is given", self.quantile)

    @property
    def counted(self) -> str:
        """The name without the route, such as "errors_5xx"."""
        return self.name.removesuffix(of_route("", self.route))

    @property
    def is_latency(self) -> bool:
        """Whether the signal counts requests that take longer than a limit."""
        return self.over is not None or self.quantile is not None

    @classmethod
    def errors_5xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Count requests answered with a 5xx status: failures of the server.

        With a `route` you give that route tolerances of its own, in addition to the signal of the
        whole stage:

        ```python
        from apigw_canary import Signal

        checkout = Signal.errors_5xx(route="POST /checkout", margin=0.001)
        print(checkout.name)
        ```

        Like any signal, it has a part of `false_rollback`: its `weight` divided by the sum of all
        weights. If the source measures routes, the signals have only 1 - `route_weight` of it in
        total. With its default weight of 0.5 and the three default signals, the part is 0.5 of 1.2,
        or 42 %: alone it rolls back at most 2.1 % of healthy canaries, with the default
        `false_rollback` of 5 %. The default signals then have 58 %. `str(policy)` and the preflight
        report the part. With a smaller weight the other signals have more, and a rollback needs
        more requests of the route. A policy's tolerance for all routes no longer applies to this
        route's 5xx errors; its requests still count for the whole stage. The signal is critical: a
        promotion needs enough requests of the route to confirm it.
        """
        return cls(name=of_route(ERRORS_5XX, tolerance.get("route")), **tolerance)

    @classmethod
    def errors_4xx(cls, **tolerance: Unpack[Tolerance]) -> Self:
        """Count requests answered with a 4xx status.

        Most are caused by clients, often in bursts by a single client. So the tolerances are wider
        (ratio 1.2, slack 0.2 %, noise 0.2, margin 2 %), the weight is lower (0.1), and the signal
        is not critical. It still detects a release that breaks its contract with clients. With a
        `route` it counts that route alone, as described for `errors_5xx`.
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
        """Count requests that take longer than a limit: `over` milliseconds, or the `quantile` of
        the baseline's latency in the hour before the start. Default: `quantile=0.99`.

        The limit stays the same during a rollout, even if the baseline becomes slower. The signal
        is named after it (`latency_over_800ms`, `latency_p99`), so a policy can have several
        latency signals; two, such as p90 and p99, show most changes of a distribution.

        If no limit can be set, or the source has no latencies, the signal is not observed. It then
        gives no evidence, and decisions and preflights report that.

        Minutes in which the canary's containers may be new are no evidence that it is worse: those
        within five minutes of the start, of a shift or of a minute without canary requests, and
        those with more than 1.25 times the canary requests of each minute from five to fifteen
        before.

        Defaults: ratio 1.2, slack 0.5 % and margin 1.5 %, because about 1 % of the requests are
        above a p99 and 10 % above a p90, and counts are interpolated between published values. The
        slack also allows for cold starts, which are more frequent with few requests. Noise 0.1,
        because latency varies by container and cache more than errors do. Weight 0.1, as for
        `errors_4xx`. Not critical, because a slow answer is better than none.
        """
        if over is not None and quantile is not None:
            validation.refuse("over", "None if quantile is given", over)
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
        """Count any other kind of bad request that a `MetricSource` measures, such as refunds. Not
        critical by default.

        With a `route` it counts that route alone, as described for `errors_5xx`.
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
