"""CloudWatch: minutes of both variants from the metrics that Lambda publishes."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from apigw_canary.aws import Session
from apigw_canary.errors import InvalidInputError
from apigw_canary.judge import ERRORS_5XX, Measurements, Signal, ceil_minute
from apigw_canary.metrics import comparison
from apigw_canary.metrics.latency import Latencies, Metric
from apigw_canary.metrics.source import (
    KEPT,
    Arms,
    AwsSource,
    Dimensions,
    Query,
    Series,
    fetched,
    joined,
    joined_shares,
)
from apigw_canary.model import AliasState, Comparison, StageState
from apigw_canary.values import validation

NAMESPACE = "AWS/Lambda"

_ERRORS = {ERRORS_5XX: "Errors"}
_COUNT = "Invocations"
_THROTTLES = "Throttles"

_COMPARED = comparison.Names(
    NAMESPACE, (_COUNT, "Sum"), _ERRORS, {"latency": "Duration"}, counts={}
)

_DURATION = Metric("Duration", _COUNT, "Sum", NAMESPACE)


class LambdaMetrics(AwsSource):
    """Read invocations, errors and latency of both variants from `AWS/Lambda`.

    Without arguments it is the source of a `LambdaAlias`: the variants are the alias's own version
    and the canary's version (dimension `ExecutedVersion`).

    With arguments it is the source of a `Stage` whose canary calls another alias. `function` is the
    function's name. `variable` is the stage variable that contains the alias's name, or `baseline`
    and `canary` are the names of the two aliases. The variants are the two aliases (dimension
    `Resource`).

    `errors_5xx` counts invocations that end in an exception or a timeout, but not answers with
    status 500 that the function returns. Lambda does not count throttled invocations as
    invocations. Behind a stage they count as failed requests; for a weighted alias they do not
    count, because it is not known which version they would have invoked. The notes report their
    number. Latency is `Duration`, the time in the function's code without its initialization. A
    signal that Lambda does not publish, such as `errors_4xx`, is not observed; if it is critical,
    `minutes` raises `InvalidInputError`.

    Lambda publishes an invocation when it has ended, in the minute in which it began. If your
    function can run longer than the policy's `metric_delay`, raise `metric_delay`.

    Without a canary, only the baseline's requests are read.

    `session` is a boto3 session; None uses that of the stage or alias.
    """

    def __init__(
        self,
        function: str | None = None,
        *,
        variable: str | None = None,
        baseline: str | None = None,
        canary: str | None = None,
        session: Session | None = None,
    ) -> None:
        super().__init__(session)
        for name, value in (
            ("function", function),
            ("variable", variable),
            ("baseline", baseline),
            ("canary", canary),
        ):
            if value is not None:
                validation.identifier(value, name)
        if function is not None and variable is None and None in (baseline, canary):
            validation.refuse(
                "variable",
                "the name of a stage variable, unless baseline and canary are given",
                variable,
            )
        self._function = function
        self._variable = variable
        self._aliases = {"baseline": baseline, "canary": canary}

    def _forget(self) -> None:
        self._latencies: dict[tuple[Dimensions, ...], Latencies] = {}
        # What one look finds out of ranks decides how its answers are read.
        self._lock = threading.Lock()

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """Read the minutes of each signal in [start, end), with one GetMetricData.

        It makes one more for each new `start` if a latency limit is a quantile of the baseline.

        Raises `MetricsError` if CloudWatch returns partial results. Raises `InvalidInputError` for
        a critical signal that Lambda does not publish, for a signal of a route, and if both
        variants call the same alias.
        """
        start, end = validation.aware(start, "start"), validation.aware(end, "end")
        for signal in signals:
            if signal.route is not None:
                validation.refuse(
                    "signals",
                    "signals without a route, because Lambda's metrics have no routes",
                    signal.name,
                )
            if signal.critical and signal.name not in _ERRORS and not signal.is_latency:
                validation.refuse(
                    "signals",
                    f"{', '.join(_ERRORS)}, a latency signal or a signal that is not critical, "
                    "because Lambda publishes no other metrics",
                    signal.name,
                )
        seen = [signal.name for signal in signals if signal.name in _ERRORS]
        arms = self._arms(stage)
        queries = [
            Query(f"{arm}_{name}", metric, "Sum", dimensions, NAMESPACE)
            for arm, dimensions in arms.items()
            for name, metric in (
                ("requests", _COUNT),
                ("throttles", _THROTTLES),
                *((name, _ERRORS[name]) for name in seen),
            )
        ]
        alias = isinstance(stage, AliasState)
        latencies = self._latencies_of(arms, stage)
        limits, notes, not_observed = latencies.limits(
            [s for s in signals if s.is_latency], start, ceil_minute(end - KEPT)
        )
        with self._lock:
            series = latencies.answered(queries, limits, start, end)
            shares = latencies.shares(limits, series, end)
        invoked = _both(series, "requests")  # a throttled invocation has no duration
        if not alias:
            series |= dict(_with_throttled(series, arms, seen))
        minutes = {
            name: tuple(joined(_both(series, "requests"), _both(series, name), end))
            for name in seen
        }
        minutes |= {name: tuple(joined_shares(invoked, of, end)) for name, of in shares.of.items()}
        not_observed |= {
            signal.name: "Lambda publishes no metric of it"
            for signal in signals
            if signal.name not in _ERRORS and not signal.is_latency
        }
        notes += shares.notes
        notes += [
            f"{throttled:,.0f} invocations of the {arm} were throttled; they count "
            + ("neither as requests nor as errors." if alias else "as failed requests.")
            for arm in arms
            if (throttled := sum(series[f"{arm}_throttles"].values()))
        ]
        return Measurements(
            minutes, notes=notes, not_observed={**not_observed, **shares.not_observed}
        )

    def compare(
        self, stage: StageState, start: datetime, end: datetime, *, at: datetime
    ) -> Comparison:
        """Compare both variants in the minutes of [start, end) that are complete at the time `at`.

        Latency is Lambda's `Duration`. It makes one GetMetricData, and raises the errors of
        `minutes`.
        """
        asked = comparison.window(start, end, at)
        if asked.start == asked.end:
            return comparison.nothing(stage, asked)
        arms = self._arms(stage)
        queries = comparison.queries(arms, _COMPARED, asked)
        series = fetched(self._own_calls(), queries, asked.start, asked.end)
        if "canary" not in arms:
            none: dict[str, Series] = {
                each.id.replace("baseline", "canary"): {} for each in queries
            }
            series = none | series
        return comparison.compared(stage, series, _COMPARED, asked)

    def _latencies_of(self, arms: Mapping[str, Dimensions], stage: StageState) -> Latencies:
        key = tuple(arms.values())
        if key not in self._latencies:
            # Lambda documents the metrics of a version for aliases with two of them; before the
            # start all invocations of the alias are the baseline's.
            before = arms["baseline"]
            if isinstance(stage, AliasState):
                before = tuple(each for each in before if each[0] != "ExecutedVersion")
            self._latencies[key] = Latencies(self._own_calls(), arms, _DURATION, before=before)
        return self._latencies[key]

    def _arms(self, stage: StageState) -> Mapping[str, Dimensions]:
        if isinstance(stage, AliasState):
            if self._function is not None:
                validation.refuse("metrics", "LambdaMetrics() for a weighted alias", self._function)
            return _versions(stage)
        if self._function is None:
            validation.refuse("metrics", "LambdaMetrics(function, variable=...) for a stage", None)
        baseline = self._alias("baseline", stage.variables)
        canary = self._aliases["canary"]
        if stage.canary is not None:
            canary = self._alias("canary", {**stage.variables, **stage.canary.variables})
        if baseline == canary:
            raise InvalidInputError(
                f"the alias of {self._function} that the canary calls",
                "another one than production's: otherwise each change for the canary also changes "
                "production, and the variants cannot be distinguished",
                "the same",
            )
        return {
            arm: (("FunctionName", self._function), ("Resource", f"{self._function}:{alias}"))
            for arm, alias in (("baseline", baseline), ("canary", canary))
            if alias is not None
        }

    def _alias(self, arm: str, variables: Mapping[str, str]) -> str:
        """The alias that a variant calls: as given, or the value of the stage variable."""
        given = self._aliases[arm]
        if given is not None:
            return given
        assert self._variable is not None
        if self._variable not in variables:
            validation.refuse("variable", f"one that the {arm} has", self._variable)
        return variables[self._variable]


def _versions(alias: StageState) -> Mapping[str, Dimensions]:
    """The versions of a weighted alias; AWS keeps a series for each that it routes to."""
    canary = alias.canary.deployment_id if alias.canary else None
    return {
        arm: (
            ("FunctionName", alias.rest_api_id),
            ("Resource", f"{alias.rest_api_id}:{alias.name}"),
            ("ExecutedVersion", version),
        )
        for arm, version in (("baseline", alias.deployment_id), ("canary", canary))
        if version is not None
    }


def _both(series: Mapping[str, Series], name: str) -> Arms:
    """The series of both variants; without a canary its is empty."""
    return Arms(series[f"baseline_{name}"], series.get(f"canary_{name}", {}))


def _with_throttled(
    series: Mapping[str, Series], arms: Iterable[str], errors: Iterable[str]
) -> Iterator[tuple[str, Series]]:
    """Requests and errors with the throttled invocations, which Lambda has in neither.

    Where there were other invocations too, their errors must have been published as well.
    """
    for arm in arms:
        requests = series[f"{arm}_requests"]
        throttled = {at: count for at, count in series[f"{arm}_throttles"].items() if count}
        yield f"{arm}_requests", _sum(requests, throttled)
        for name in errors:
            bad = series[f"{arm}_{name}"]
            if 0 in series[f"{arm}_throttles"].values():
                # Lambda publishes none of them too: where it did not, some may be missing.
                bad = {at: n for at, n in bad.items() if at in series[f"{arm}_throttles"]}
            whole = {at: n for at, n in throttled.items() if at in bad or at not in requests}
            yield f"{arm}_{name}", _sum(bad, whole)


def _sum(one: Series, other: Series) -> Series:
    return {at: one.get(at, 0.0) + other.get(at, 0.0) for at in {*one, *other}}
