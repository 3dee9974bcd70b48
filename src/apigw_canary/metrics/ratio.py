"""Any two CloudWatch metrics as a signal: what is bad of what."""

import re
from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from apigw_canary.errors import InvalidInputError
from apigw_canary.judge import Minute
from apigw_canary.metrics.source import Arms, Dimensions, Query, Series, joined
from apigw_canary.model import StageState
from apigw_canary.values import validation

_MOST_DIMENSIONS = 30
"""Of one metric ("PutMetricData", CloudWatch API reference)."""

_VARIABLE = r"\$\{stageVariables\.(\w+)\}"


def _as_dimensions(given: Any) -> Dimensions:
    try:
        pairs = dict(given)
    except (TypeError, ValueError):
        pairs = {}
    if not 1 <= len(pairs) <= _MOST_DIMENSIONS:
        validation.refuse("dimensions", f"1 to {_MOST_DIMENSIONS} names with their values", given)
    for each in (*pairs, *pairs.values()):
        validation.text(each, "dimensions")
    return tuple(sorted(pairs.items()))


@attrs.frozen
class CloudWatchRatio:
    """Two CloudWatch metrics of your own: the number of requests, and of bad ones among them.

    ```python
    from datetime import timedelta

    from apigw_canary import CloudWatchMetrics, CloudWatchRatio, RolloutPolicy, Signal, Stage

    orders = CloudWatchRatio(
        "Shop",
        bad="OrdersFailed",
        requests="OrdersPlaced",
        baseline={"Version": "${stageVariables.alias}"},
        canary={"Version": "${stageVariables.alias}"},
    )
    metrics = CloudWatchMetrics(ratios={"orders_failed": orders})
    stage = Stage("a1b2c3d4e5", "prod", metrics=metrics)
    policy = RolloutPolicy.canary(
        5,
        timedelta(minutes=10),
        signals=[Signal.errors_5xx(), Signal.custom("orders_failed", margin=0.02)],
    )
    print([signal.name for signal in policy.signals])
    ```

    Publish both metrics by the minute, and each request once. At least one dimension must differ
    between the two variants, such as the version or alias of a Lambda function.
    """

    namespace: str = attrs.field(validator=validation.checked(validation.text))
    """The namespace of both metrics, such as "Shop"."""
    bad: str = attrs.field(validator=validation.checked(validation.text), kw_only=True)
    """The metric whose sum is the number of bad requests, such as "OrdersFailed"."""
    requests: str | None = attrs.field(
        default=None, validator=validation.checked(validation.text, or_none=True), kw_only=True
    )
    """The metric whose sum is the number of requests. With None each request must publish one value
    of `bad`, 0 or 1, and the number of values is the number of requests."""
    baseline: Dimensions = attrs.field(converter=_as_dimensions, kw_only=True)
    """The baseline's dimensions, names to values. Give all dimensions of the metric, because
    CloudWatch does not find a metric by some of them. `${stageVariables.name}` in a value is
    replaced by this variable's value for the variant."""
    canary: Dimensions = attrs.field(converter=_as_dimensions, kw_only=True)
    """The canary's dimensions, in the same form."""
    sparse: bool = attrs.field(
        default=False, validator=validation.checked(validation.flag), kw_only=True
    )
    """Whether a minute that has requests but no value of `bad` counts as a minute without bad
    requests. With False, the default, its outcome is unknown, because a value may have been lost.
    If you can, publish a 0 for each good request."""

    def __attrs_post_init__(self) -> None:
        if self.requests is None and self.sparse:
            validation.refuse("sparse", "False if requests is None", self.sparse)

    def queries(self, key: str, stage: StageState) -> list[Query]:
        """Return the queries for the variants that the stage has, with ids that begin with
        `key`.
        """
        arms = {"baseline": _resolved(self.baseline, stage.variables)}
        if stage.canary is not None:
            variables = {**stage.variables, **stage.canary.variables}
            arms["canary"] = _resolved(self.canary, variables)
            if arms["baseline"] == arms["canary"]:
                raise InvalidInputError(
                    f"the canary's dimensions of {self.bad} in {self.namespace}",
                    "different from the baseline's: both variants would be counted as one",
                    "the same",
                )
        counted = (self.bad, "SampleCount") if self.requests is None else (self.requests, "Sum")
        return [
            Query(f"{key}_{arm}_{name}", metric, statistic, dimensions, self.namespace)
            for arm, dimensions in arms.items()
            for name, (metric, statistic) in (
                ("requests", counted),
                ("bad", (self.bad, "Sum")),
            )
        ]

    def minutes(self, key: str, series: Mapping[str, Series], end: datetime) -> Iterator[Minute]:
        """Return the minutes of both variants from the answers to `queries`, as of `end`."""
        requests, bad = (
            Arms(*(series.get(f"{key}_{arm}_{name}", {}) for arm in ("baseline", "canary")))
            for name in ("requests", "bad")
        )
        if self.sparse:
            bad = Arms(
                *({**dict.fromkeys(n, 0.0), **x} for n, x in zip(requests, bad, strict=True))
            )
        return joined(requests, bad, end)


def _resolved(dimensions: Dimensions, variables: Mapping[str, str]) -> Dimensions:
    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            validation.refuse("dimensions", "with variables that the stage has", found[0])
        return variables[found[1]]

    return tuple((name, re.sub(_VARIABLE, value, text)) for name, text in dimensions)


def ratios_of(
    given: Mapping[str, object] | None, *, reserved: Container[str]
) -> dict[str, CloudWatchRatio]:
    """Ratios by the name of their signal, checked."""
    ratios = {}
    for name, ratio in (given or {}).items():
        if not isinstance(ratio, CloudWatchRatio) or validation.text(name, "ratios") in reserved:
            validation.refuse("ratios", "a CloudWatchRatio under a name of its own", {name: ratio})
        ratios[name] = ratio
    return ratios
