"""The results of the evidence, as values: a finding for each signal, and the verdict of all."""

from datetime import datetime
from enum import StrEnum

import attrs

from apigw_canary.values import Renderable, Serializable, share, validation


class Verdict(StrEnum):
    """What the evidence shows about the canary."""

    WORSE = "worse"
    """The canary is worse than tolerated. A healthy canary gets this verdict with a probability of
    at most `false_rollback`."""
    NOT_WORSE = "not_worse"
    """The canary is not worse by the margin. A canary that is worse by the margin gets this verdict
    with a probability of at most `false_promotion`."""
    UNDECIDED = "undecided"
    """The evidence is inconclusive so far."""


@attrs.frozen(kw_only=True)
class Interval(Serializable):
    """A confidence interval that is valid for any number of observations."""

    low: float
    """The lower end."""
    high: float | None
    """The upper end; None if the evidence excludes no value above `low`."""
    confidence: float
    """The probability, at least, that the interval contains the true value, 0 to 1. It assumes that
    the true value does not change during the rollout."""

    def __str__(self) -> str:
        high = "any" if self.high is None else f"{self.high:.3g}"
        return f"{self.low:.3g} to {high} ({100 * self.confidence:g} %)"


@attrs.frozen(kw_only=True)
class Finding(Serializable):
    """The evidence of one signal."""

    signal: str
    """The signal's name."""
    route: str | None = None
    """The route that was judged, such as "GET /orders/{id}"; None for the whole stage. A route is
    only judged as "worse" or not, never as "not worse"."""
    verdict: Verdict
    """The verdict of this signal alone."""
    baseline_requests: float
    """The baseline's requests in the minutes that were judged."""
    baseline_bad: float
    """The bad ones among the baseline's requests."""
    canary_requests: float
    """The canary's requests in the minutes that were judged."""
    canary_bad: float
    """The bad ones among the canary's requests."""
    baseline_unknown: float = 0.0
    """The baseline's requests whose outcome could not be read. `baseline_requests` includes them,
    `baseline_bad` does not. Evidence that the canary is worse counts them as bad, evidence that it
    is not worse counts them as good."""
    canary_unknown: float = 0.0
    """The canary's requests whose outcome could not be read. `canary_requests` includes them,
    `canary_bad` does not. Evidence that the canary is worse counts them as good, evidence that it
    is not worse counts them as bad."""
    worse_evidence: float
    """The evidence (an e-value) that the canary is worse: its maximum so far. 1 is no evidence."""
    worse_threshold: float
    """The `worse_evidence` at which this signal alone causes a rollback."""
    not_worse_evidence: float
    """The evidence (an e-value) that the canary is not worse, at present. 1 is no evidence; for a
    route it is always 1."""
    not_worse_threshold: float
    """The `not_worse_evidence` at which this signal is confirmed as not worse."""
    baseline_unhealthy: bool = False
    """Whether the baseline itself is too unhealthy for a comparison."""
    sample_ratio_ok: bool = True
    """Whether the canary's fraction of the requests fits its traffic percentage. If not, the counts
    are not trusted."""
    ratio: Interval | None = None
    """The canary's rate divided by the baseline's; None if `intervals` was not given, or if no
    value fits all minutes. The interval is for this signal alone, not for all signals together."""
    difference: Interval | None = None
    """The canary's rate minus the baseline's, as a fraction of the requests; None as for
    `ratio`."""

    @property
    def baseline_rate(self) -> float | None:
        """The baseline's bad requests divided by its requests of known outcome, 0 to 1; None if it
        has no such requests.
        """
        known = self.baseline_requests - self.baseline_unknown
        return self.baseline_bad / known if known else None

    @property
    def canary_rate(self) -> float | None:
        """The canary's bad requests divided by its requests of known outcome, 0 to 1; None if it
        has no such requests.
        """
        known = self.canary_requests - self.canary_unknown
        return self.canary_bad / known if known else None

    def __str__(self) -> str:
        where = "" if self.route is None else f" of {self.route}"
        if not self.baseline_requests and not self.canary_requests:
            return f"{self.signal}{where}: no data"
        said = (
            f"{self.signal}{where}: "
            f"canary {_rate(self.canary_rate, self.canary_requests, self.canary_unknown)}, "
            f"baseline {_rate(self.baseline_rate, self.baseline_requests, self.baseline_unknown)}"
        )
        if not self.baseline_unknown and not self.canary_unknown:
            return said
        return (
            f"{said} (the outcome of {self.canary_unknown:,.0f} canary and "
            f"{self.baseline_unknown:,.0f} baseline requests is unknown)"
        )


def _rate(rate: float | None, requests: float, unknown: float) -> str:
    if rate is None and requests:
        return "no known outcome"
    return share(rate, requests - unknown)


@attrs.frozen(kw_only=True)
class Analysis(Renderable):
    """The evidence of all signals, and the verdict."""

    verdict: Verdict
    """WORSE if `worse_evidence` has reached `worse_threshold`; else NOT_WORSE if each critical
    signal is NOT_WORSE; else UNDECIDED.
    """
    findings: tuple[Finding, ...]
    """One finding for each signal, in the policy's order."""
    routes: tuple[Finding, ...] = ()
    """The routes in which the canary has a higher rate than the baseline, the worst first: one
    finding for each signal of a route. Empty if the source does not measure routes."""
    worse_evidence: float
    """The weighted mean of the signals' evidence for "worse" (an e-value): its maximum so far."""
    worse_threshold: float
    """The `worse_evidence` at which the canary is rolled back: 1/`false_rollback`."""
    worse_at: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """The beginning of the minute with which `worse_evidence` reached the threshold; None if it has
    not."""

    def __str__(self) -> str:
        """The numbers as a sentence."""
        if not any(f.baseline_requests or f.canary_requests for f in self.findings):
            return "no complete minute of it yet"
        return "; ".join(str(finding) for finding in self.findings)
