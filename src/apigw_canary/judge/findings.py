"""The results of the evidence, as values: a finding for each signal, and the verdict of all."""

from datetime import datetime
from enum import StrEnum

import attrs

from apigw_canary.values import Renderable, Serializable, share, validation


class Verdict(StrEnum):
    """The verdict that the evidence gives."""

    WORSE = "worse"
    """Worse than tolerated, with at most `false_rollback` risk of saying so wrongly."""
    NOT_WORSE = "not_worse"
    """Not worse by the margin, with at most `false_promotion` risk of saying so wrongly."""
    UNDECIDED = "undecided"
    """Inconclusive so far."""


@attrs.frozen(kw_only=True)
class Interval(Serializable):
    """The values that the evidence has not excluded, for any number of observations."""

    low: float
    """The lowest of them."""
    high: float | None
    """The highest of them; None where nothing is too high."""
    confidence: float
    """The chance, at least, that it holds the true value, as long as there is one."""

    def __str__(self) -> str:
        high = "any" if self.high is None else f"{self.high:.3g}"
        return f"{self.low:.3g} to {high} ({100 * self.confidence:g} %)"


@attrs.frozen(kw_only=True)
class Finding(Serializable):
    """The evidence of one signal."""

    signal: str
    """The signal's name."""
    route: str | None = None
    """The route it is of, such as "GET /orders/{id}"; None for the whole stage. A route is judged
    for "worse" only."""
    verdict: Verdict
    """The verdict of this signal alone."""
    baseline_requests: float
    """The baseline's requests in the minutes judged, and below the bad ones among them."""
    baseline_bad: float
    canary_requests: float
    """The canary's requests in the minutes judged, and below the bad ones among them."""
    canary_bad: float
    baseline_unknown: float = 0.0
    """The baseline's requests whose outcome could not be read: among its requests, and not among
    the bad ones. Evidence against the canary counts them as bad, evidence for it as good."""
    canary_unknown: float = 0.0
    """The canary's requests whose outcome could not be read. Evidence against the canary counts
    them as good, evidence for it as bad."""
    worse_evidence: float
    """The evidence (an e-value) that the canary is worse, at its strongest so far; 1 is none."""
    worse_threshold: float
    """What `worse_evidence` must reach for this signal alone to roll back."""
    not_worse_evidence: float
    """The evidence (an e-value) that the canary is not worse, now; 1 is none, as for any route."""
    not_worse_threshold: float
    """What `not_worse_evidence` must reach."""
    baseline_unhealthy: bool = False
    """Whether the baseline itself is too unhealthy for a comparison."""
    sample_ratio_ok: bool = True
    """Whether the canary's part of the requests fits its percent; else the counts are of something
    else, and not trusted."""
    ratio: Interval | None = None
    """The canary's rate over the baseline's; None where not asked for, or where none fits all
    minutes. The intervals are of this signal by itself."""
    difference: Interval | None = None
    """The canary's rate less the baseline's, as a fraction of the requests; None as above."""

    @property
    def baseline_rate(self) -> float | None:
        """The baseline's fraction of bad requests among those of known outcome, 0 to 1; None
        without such requests.
        """
        known = self.baseline_requests - self.baseline_unknown
        return self.baseline_bad / known if known else None

    @property
    def canary_rate(self) -> float | None:
        """The canary's fraction of bad requests among those of known outcome, 0 to 1; None without
        such requests.
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
    """WORSE from the weighted mean of all signals; NOT_WORSE if each critical signal is NOT_WORSE.
    """
    findings: tuple[Finding, ...]
    """One for each signal, in the policy's order."""
    routes: tuple[Finding, ...] = ()
    """The worst routes, the worst first, where the source measures them: one finding for a signal
    of a route in which the canary fares worse than its baseline."""
    worse_evidence: float
    """The weighted mean of the signals' evidence for "worse", at its strongest so far."""
    worse_threshold: float
    """What it must reach for a rollback: 1/`false_rollback`."""
    worse_at: datetime | None = attrs.field(
        default=None, converter=validation.utc_or_none, validator=validation.aware_field
    )
    """The minute with which it reached that; None where it has not."""

    def __str__(self) -> str:
        """The numbers as a sentence."""
        if not any(f.baseline_requests or f.canary_requests for f in self.findings):
            return "no complete minute of it yet"
        return "; ".join(str(finding) for finding in self.findings)
