"""Whether there is traffic enough for a policy to promote within its plan."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import attrs

from apigw_canary.judge import HISTORY, MINUTE, Measurements, Minute, Row
from apigw_canary.planning.simulation import length, rolled_out
from apigw_canary.policy import RolloutPolicy
from apigw_canary.rollout.decisions import Promote
from apigw_canary.rollout.view import routes_without_data
from apigw_canary.values import listed, span

_START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
_MINUTES = HISTORY // MINUTE


class Outlook(NamedTuple):
    """How a rollout ends whose minutes are all like the mean of the past hour."""

    in_time: bool
    """Whether the canary is promoted before the deadline."""
    takes_longer: bool
    """Whether that takes more than the plan."""
    said: str
    """What it comes to: a sentence without its full stop."""


def requests_per_minute(traffic: Measurements) -> float:
    """Of both variants, over the past hour; the most that any signal counts."""
    return max((_totals(traffic, name)[0] for name in traffic), default=0.0) / _MINUTES


def never_given(policy: RolloutPolicy, traffic: Measurements) -> list[str]:
    """The critical signals that had no minute while other signals had minutes."""
    if not any(traffic.values()):
        return []
    return [s.name for s in policy.signals if s.critical and not traffic.get(s.name)]


def data_lacking(policy: RolloutPolicy, traffic: Measurements) -> Iterator[tuple[str, str]]:
    """What the past hour lacks that a promotion needs, each with its remedy."""
    missing = never_given(policy, traffic)
    if missing:
        of_routes = all(signal.route for signal in policy.signals if signal.name in missing)
        what = (
            f"The metric source has given no minute of {listed(missing)} in the past hour, which a "
            f"promotion needs{_whys(missing, traffic)}."
        )
        correct = "route" if of_routes else "source"
        yield what, f"Correct the {correct}, or take the signal out of the policy."
    routes = routes_without_data(policy, traffic.not_observed)
    if routes and any(traffic.values()):
        what = (
            f"The metric source has a list of routes, but no data of {listed(routes)} in the past "
            f"hour{_whys(routes, traffic)}."
        )
        yield what, "Correct the route, or take it out of the list."


def _whys(names: Sequence[str], traffic: Measurements) -> str:
    known = traffic.not_observed
    return "".join(f"; {name}: {known[name]}" for name in names if name in known)


def past_rate(traffic: Measurements, name: str) -> float:
    """The rate of bad requests of both variants over the past hour, 0 to 1; 0 without requests."""
    requests, bad, _ = _totals(traffic, name)
    return bad / requests if requests else 0.0


def outlook(policy: RolloutPolicy, traffic: Measurements) -> Outlook | None:
    """How a canary as good as its baseline fares, decided by the policy's own rules.

    By the critical signals that have minutes; None without any.
    """
    given = [s for s in policy.signals if s.critical and traffic.get(s.name)]
    if not given:
        return None
    hour = {signal.name: _totals(traffic, signal.name) for signal in given}

    def served(_: int, share: float) -> dict[str, Row]:
        rows = {}
        for name, totals in hour.items():
            (n_b, x_b, u_b), (n_c, x_c, u_c) = (
                [part * each / _MINUTES for each in totals] for part in (1 - share, share)
            )
            rows[name] = Row(n_b, x_b, n_c, x_c, min(u_b, n_b - x_b), min(u_c, n_c - x_c))
        return rows

    ended = rolled_out(
        attrs.evolve(policy, signals=given, on_inconclusive="hold"),
        served,
        started_at=_START,
        history={
            name: [Minute(_START - MINUTE, requests, bad, 0, 0, unknown)]
            for name, (requests, bad, unknown) in hour.items()
        },
    )
    analysis = ended.decision.analysis
    assert analysis is not None  # an ended rollout has none, and a simulated one is not ended so
    planned = length(policy)
    if isinstance(ended.decision, Promote):
        requests = min(finding.canary_requests for finding in analysis.findings)
        said = (
            f"the rollout takes about {span(ended.after)} instead of {span(planned)}: a promotion "
            f"needs about {requests:,.0f} canary requests"
        )
        return Outlook(in_time=True, takes_longer=ended.after > planned, said=said)
    lacking = [f for f in analysis.findings if f.not_worse_evidence < f.not_worse_threshold]
    names = ", ".join(f.signal for f in lacking) or "the canary"
    requests = min(finding.canary_requests for finding in lacking or analysis.findings)
    said = (
        f"{names} will not be confirmed before the deadline of {span(policy.effective_deadline)}: "
        f"about {requests:,.0f} canary requests until then are too few"
    )
    return Outlook(in_time=False, takes_longer=True, said=said)


def _totals(traffic: Measurements, name: str) -> tuple[float, float, float]:
    """Requests of both variants, bad ones, and those of unknown outcome."""
    apart = traffic.overlap != "included"
    requests = bad = unknown = 0.0
    for row in traffic.get(name, ()):
        requests += row.baseline_requests + (row.canary_requests if apart else 0)
        bad += row.baseline_bad + (row.canary_bad if apart else 0)
        unknown += row.baseline_unknown + (row.canary_unknown if apart else 0)
    return requests, bad, unknown
