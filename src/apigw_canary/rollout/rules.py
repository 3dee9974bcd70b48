"""The order of the decisions: each rule a function, and the first that holds is taken."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from apigw_canary.judge import (
    DRIFT,
    AgainstPast,
    Finding,
    Observation,
    Plan,
    Row,
    Signal,
    SignalEvidence,
    Unhealthy,
    Verdict,
    alarms_fired,
    alarms_without_data,
    canary_only_excess,
    confirmed_by_past,
    e_value,
    exceeds_past,
    excess,
    gross_failure,
    has_comparable_minute,
    kept_of,
    latest,
)
from apigw_canary.rollout.decisions import Decision
from apigw_canary.rollout.view import (
    View,
    guards_at_100,
    missing_from_step,
    problem_of_metrics,
)
from apigw_canary.values import evidence, share, span

RECENT = 10
"""Minutes, the latest complete ones, in which a canary must be within the margin as counted."""

MANY_BAD = 20
"""Bad requests of the canary in these minutes from which on an excess is no accident."""

SURPRISE = math.log(1000)
"""With fewer: the excess must have a chance of 1 in 1,000 or less at the margin (the bound of
Chernoff, n times the divergence of the two rates)."""


def decide(policy: Plan, observation: Observation) -> Decision:
    """Decide by the first rule of `RULES` that holds; the last one always does."""
    with kept_of(observation) as kept:
        view = View(policy, observation, kept)
        decisions: Iterator[Decision] = (
            decision for rule in RULES if (decision := rule(view)) is not None
        )
        return next(decisions)


# I. Over

_ENDED = {
    "promoted": "the canary was promoted",
    "rolled_back": "the canary was rolled back",
    "disabled": "the canary was disabled",
    "reverted": "the canary was promoted, and the promotion was undone",
    "removed_outside": "the canary was removed outside this rollout (in the console, or by "
    "another tool)",
    "replaced": "another canary has replaced it",
    "promoted_outside": "the canary was promoted outside this rollout",
}


def _ended(view: View) -> Decision | None:
    """The canary was ended or replaced."""
    ended = _ENDED.get(view.seen.phase)
    if ended is None:
        return None
    return view.hold(f"{ended}; the rollout is over", final=True)


def _finish_promotion(view: View) -> Decision | None:
    """A promotion was begun: finish it, since production serves a part of it already."""
    if view.seen.phase != "promoting":
        return None
    return view.promote("finishing the promotion that was begun")


# II. Roll back


def _worse(view: View) -> Decision | None:
    """The canary is worse than tolerated."""
    if view.analysis.verdict is not Verdict.WORSE:
        return None
    findings = sorted(
        [*view.deciding(), *view.analysis.routes],
        key=lambda f: f.worse_evidence / f.worse_threshold,
        reverse=True,
    )
    found = view.analysis
    return view.roll_back(
        f"the canary is worse: {findings[0]}; the evidence is {evidence(found.worse_evidence)}, "
        f"the threshold {found.worse_threshold:g}"
    )


def _alarmed(view: View) -> Decision | None:
    """An alarm began firing during the rollout, be it only between two observations.

    Outside the promise of the evidence: an alarm knows nothing of the two variants.
    """
    fired = alarms_fired(view.alarms, view.seen.started_at)
    return view.roll_back(f"during the rollout {fired}") if fired else None


def _gross_failure(view: View) -> Decision | None:
    """At 100 %, where there is no baseline, the canary fails far more than production did before.

    Outside the promise of the evidence: the past is another time of day.
    """
    for g in view.gathered:
        failure = gross_failure(g, view.seen) if g.signal.rare else None
        if failure is not None:
            return view.roll_back(f"{g.signal.name} are {failure}")
    return None


def _unobserved_too_long(view: View) -> Decision | None:
    """The canary has traffic and has been unobserved for longer than `max_unobserved`."""
    found = view.unobserved if view.seen.percent > 0 else None
    if found is None or found[0] <= view.policy.max_unobserved:
        return None
    return view.roll_back(
        f"unobserved for longer than {span(view.policy.max_unobserved)}: {found[1]}"
    )


def _production_unhealthy_too_long(view: View) -> Decision | None:
    """Production became unhealthy with the canary, with a shift or at 100 %, and stayed so.

    Outside the promise of the evidence: what hits both variants may have another cause.
    """
    if view.policy.on_production_unhealthy != "rollback" or view.unhealthy is None:
        return None
    signal, found = view.unhealthy
    if not view.seen.percent or not found.throughout:
        return None
    if found.follows is None and not _at_100_for(view, view.policy.max_unobserved):
        return None
    return view.roll_back(
        f"{_unhealthy(view, signal, found)}, and has been above {100 * found.threshold:.2f} % for "
        f"{span(view.policy.max_unobserved)}; {_cause(found, view.seen.percent)}"
    )


def _too_many_failed(view: View) -> Decision | None:
    """The canary has cost more failed requests than `max_failed_requests`."""
    most = view.policy.max_failed_requests
    if most is None:
        return None
    for g in view.critical_evidence:
        found = excess(g, view.seen)
        if g.signal.rare and found.surely >= most:
            at_100 = (
                f", {found.at_100:,.0f} of them at 100 %, counted beyond {DRIFT:g} times its rate "
                "before this step"
                if view.seen.percent == 100
                else ""
            )
            return view.roll_back(
                f"the canary has had about {found.estimate:,.0f} more failed requests "
                f"({g.signal.name}) than it would have had at the baseline's rate{at_100}; "
                f"max_failed_requests is {most:,.0f}"
            )
    return None


def _overdue(view: View) -> Decision | None:
    """The deadline has passed, and `on_inconclusive` is "rollback"."""
    if not view.is_overdue or view.policy.on_inconclusive != "rollback":
        return None
    return view.roll_back(f"inconclusive: {_deadline_passed(view)}")


# III. Hold


def _no_traffic(view: View) -> Decision | None:
    """The canary's percent is 0."""
    if view.seen.percent > 0:
        return None
    return view.hold(
        "the canary has no traffic; canary.shift(percent) gives it some", waiting_for="operator"
    )


def _on_hold(view: View) -> Decision | None:
    """An operator holds the rollout."""
    if view.seen.on_hold is None:
        return None
    return view.hold(
        f"on hold by an operator: {view.seen.on_hold}; canary.resume() ends it",
        waiting_for="operator",
    )


def _metrics_insufficient(view: View) -> Decision | None:
    """The metrics cannot be read, are suspect, or do not show how the canary fares."""
    found = view.unobserved
    said = found[1] if found is not None else problem_of_metrics(view)
    return view.hold(said, waiting_for="metrics") if said is not None else None


def _production_unhealthy(view: View) -> Decision | None:
    """Production is unhealthy: nothing can be compared, or the canary may be the cause."""
    if view.unhealthy is not None:
        signal, found = view.unhealthy
        said = f"{_unhealthy(view, signal, found)}; {_cause(found, view.seen.percent)}"
        return view.hold(said, waiting_for="evidence")
    incomparable = [finding for finding in view.critical_findings() if finding.baseline_unhealthy]
    if not incomparable:
        return None
    what = "its latest minutes", "fix production first"
    if view.seen.percent == 100:
        what = "its last minutes", "at 100 % all requests are the canary's"
    return view.hold(
        f"the baseline is too unhealthy for a comparison in {what[0]} ({incomparable[0]}); "
        f"{what[1]}",
        waiting_for="evidence",
    )


def _production_changed(view: View) -> Decision | None:
    """Production's deployment, or a variable that the canary overrides, was changed outside."""
    if not view.seen.production_changed:
        return None
    changes = "; ".join(f"{name}: {how}" for name, how in view.seen.production_changed.items())
    return view.hold(
        f"production was changed outside this rollout ({changes}), which a promotion would "
        "overwrite; to go on call canary.accept_production_changes(), else canary.rollback()",
        waiting_for="operator",
    )


def _baking(view: View) -> Decision | None:
    """The step's bake is not over, its metrics are not complete, or they do not cover the bake."""
    left = view.policy.step_at(view.seen.percent).bake - view.elapsed
    if left > timedelta(0):
        said = f"baking for another {span(left)}; {view.analysis}"
        if view.seen.percent == 100:
            said += f"; without a baseline {guards_at_100(view.policy)} can roll back"
        return view.hold(said, waiting_for="bake")
    left = view.until_first_complete_minute()
    if left > timedelta(0):
        return view.hold(
            f"waiting for complete metrics of this step, about {span(left)} more; {view.analysis}",
            waiting_for="metrics",
        )
    missing = missing_from_step(view)
    return view.hold(missing, waiting_for="metrics") if missing is not None else None


def _left_to_operator(view: View) -> Decision | None:
    """The deadline has passed, and `on_inconclusive` is "hold"."""
    if not view.is_overdue:
        return None
    return view.hold(
        f"inconclusive: {_deadline_passed(view)}; the canary keeps {view.seen.percent:g} % until "
        "an operator calls promote() or rollback(), or goes on with a later deadline",
        waiting_for="operator",
    )


# IV. Go up


def _shift_up(view: View) -> Decision | None:
    """The next step is below 100 %: nothing in the latest minutes is against the canary."""
    step = view.policy.next_step(view.seen.percent)
    if step is None or step.percent == 100:
        return None
    view.missing = (
        _incomparable(view)
        or _without_baseline(view)
        or _recent_excess(view, significant=True)
        or ""
    )
    if view.missing:
        return None
    return view.shift(
        step.percent, f"baked for {span(view.elapsed)}, not shown to be worse; {view.analysis}"
    )


def _complete(view: View) -> Decision | None:
    """The next step is 100 %, or there is none: the canary is confirmed as not worse.

    The latest minutes must agree, and each alarm must be OK or have fired before the rollout: one
    without data does not count as OK.
    """
    step = view.policy.next_step(view.seen.percent)
    if step is not None and step.percent < 100:
        return None
    view.missing = (
        _unconfirmed(view)
        or (_incomparable(view) if view.seen.percent < 100 else None)
        or _without_baseline(view)
        or _unconfirmed_at_100(view)
        or _recent_excess(view, significant=False)
        or alarms_without_data(view.policy.alarms, view.alarms)
        or ""
    )
    if view.missing:
        return None
    confirmed = f"not worse by more than the margin: {'; '.join(_confirmed(view))}"
    return view.promote(confirmed) if step is None else view.shift(step.percent, confirmed)


def _inconclusive(view: View) -> Decision | None:
    """None of these: inconclusive so far."""
    return view.hold(view.missing or "inconclusive so far", waiting_for="evidence")


Rule = Callable[[View], Decision | None]

BLOCKS: dict[str, tuple[Rule, ...]] = {
    "Over": (_ended, _finish_promotion),
    "Roll back": (
        _worse,
        _alarmed,
        _gross_failure,
        _unobserved_too_long,
        _production_unhealthy_too_long,
        _too_many_failed,
        _overdue,
    ),
    "Hold": (
        _no_traffic,
        _on_hold,
        _metrics_insufficient,
        _production_unhealthy,
        _production_changed,
        _baking,
        _left_to_operator,
    ),
    "Shift up": (_shift_up, _complete, _inconclusive),
}
"""In four blocks, so that no reason to hold is ever in the way of a Rollback."""

RULES: tuple[Rule, ...] = tuple(rule for block in BLOCKS.values() for rule in block)
"""The order of the decisions: the first that holds is taken."""


# What the rules say


def _deadline_passed(view: View) -> str:
    said = f"{view.deadline()} without a verdict"
    if view.seen.failure is not None:
        said = f"{said}; the metrics or alarms cannot be read ({view.seen.failure})"
    return said


def _unhealthy(view: View, signal: Signal, found: Unhealthy) -> str:
    """That production is unhealthy, and after what it became so."""
    after = ""
    if found.follows == view.seen.started_at:
        after = ", when the canary started"
    elif found.follows is not None:
        after = f", after the shift to {view.seen.percent:g} %"
    return f"production's {signal.name} {found}{after}"


def _at_100_for(view: View, period: timedelta) -> bool:
    """Whether all requests have been the canary's for so long, in complete minutes."""
    complete = view.complete_until(view.policy.metric_delay)
    return view.seen.percent == 100 and view.seen.step_judged_from() <= complete - period


def _cause(found: Unhealthy, percent: float) -> str:
    """Whose failures they are, or what may have caused them."""
    if percent == 100:
        return "at 100 % all requests are the canary's, and so are their failures"
    if found.baseline_rate is None:
        return "since then all requests were the canary's, which may be the cause"
    if found.only_canary:
        return (
            f"since then the baseline alone is at {100 * found.baseline_rate:.2f} %, "
            "so the failures are the canary's"
        )
    if found.healthy_baseline_rate is not None:
        return (
            "the canary may be the cause: if the baseline's counts include the canary's, which is "
            f"not known yet, the baseline alone is at {100 * found.healthy_baseline_rate:.2f} %"
        )
    return "the canary may be the cause" if found.follows is not None else "fix it first"


def _incomparable(view: View) -> str | None:
    """That a signal has no minute in which both variants had requests of known outcome."""
    for g in view.critical_evidence:
        if not has_comparable_minute(g, view.seen):
            return (
                f"inconclusive so far: in no complete minute of {g.signal.name} both variants had "
                "requests of known outcome, so there is nothing to compare"
            )
    return None


def _without_baseline(view: View) -> str | None:
    """What is against the canary in minutes without a request of the baseline."""
    if view.seen.percent == 100:
        return None
    for g in view.critical_evidence:
        found = canary_only_excess(g, view.seen)
        if found is not None:
            return f"in {g.signal.name}, {found}"
    return None


def _unconfirmed_at_100(view: View) -> str | None:
    """What the canary lacks at 100 %, compared with the baseline's past; None below 100 %."""
    if view.seen.percent < 100:
        return None
    for g in view.critical_evidence:
        past = _past(view, g)
        if past is not None and not past.confirmed:
            return (
                f"inconclusive so far at 100 %: {g.signal.name}: {past}; the evidence for not "
                f"worse is {evidence(e_value(past.log_evidence))} (threshold "
                f"{e_value(past.log_threshold):g})"
            )
        excess = exceeds_past(g, view.seen) if past is None else None
        if excess is not None:
            rate = share(excess.bad / excess.requests, excess.requests)
            return (
                f"in its latest minutes at 100 % the canary exceeds what the baseline's past "
                f"tolerates: {g.signal.name} are {rate}, tolerated {100 * excess.tolerated:.2f} %"
            )
    return None


def _past(view: View, g: SignalEvidence) -> AgainstPast | None:
    """The canary at 100 % against the baseline's past, where that is a measure for the signal."""
    past = confirmed_by_past(g, view.seen, view.policy.false_promotion) if g.signal.rare else None
    return past if past is not None and past.applies else None


class Recent(NamedTuple):
    """The latest minutes in which the canary had requests, as counted."""

    signal: Signal
    minutes: int
    canary: float
    """The canary's rate."""
    canary_requests: float
    baseline: float
    """The baseline's rate in the same minutes; in all of its past where it has no requests."""
    baseline_requests: float

    @property
    def tolerated(self) -> float:
        """The highest rate within the margin."""
        return self.signal.ratio * self.baseline + self.signal.margin

    @property
    def is_excess(self) -> bool:
        """Whether the canary's rate is above it."""
        return self.canary > self.tolerated

    @property
    def is_significant(self) -> bool:
        """Whether an excess is more than an accident of few requests."""
        if self.canary * self.canary_requests >= MANY_BAD:
            return True
        return self.canary_requests * _divergence(self.canary, self.tolerated) >= SURPRISE

    def __str__(self) -> str:
        return (
            f"{self.signal.name}: canary {share(self.canary, self.canary_requests)}, "
            f"baseline {share(self.baseline, self.baseline_requests)}"
        )


def _divergence(rate: float, tolerated: float) -> float:
    """The divergence of Kullback and Leibler of a rate from one below it."""
    found = rate * math.log(rate / tolerated)
    return found + (1 - rate) * math.log((1 - rate) / (1 - tolerated)) if rate < 1 else found


def _recent(signal: Signal, rows: Sequence[Row]) -> Recent:
    served = latest(rows, 2, RECENT)
    compared = [row for row in served if row.baseline_requests > 0] or [
        row for row in rows if row.baseline_requests > 0
    ]
    canary = sum(row.canary_requests for row in served)
    baseline = sum(row.baseline_requests for row in compared)
    return Recent(
        signal=signal,
        minutes=len(served),
        canary=sum(row.canary_bad for row in served) / max(canary, 1e-9),
        canary_requests=canary,
        baseline=sum(row.baseline_bad for row in compared) / max(baseline, 1.0),
        baseline_requests=baseline,
    )


def _recent_excess(view: View, *, significant: bool) -> str | None:
    """What is against a canary that was fine for long and is not now; None if it still is.

    It is no test, but the counts of the latest minutes: evidence of hours is slow to turn. It can
    only delay. Minutes that may still get more errors count too, if they exceed the margin already.
    """
    for g in view.critical_evidence:
        for interpretations, only_significant in (
            (g.confirmed_interpretations, significant),
            (g.interpretations, True),
        ):
            for recent in (_recent(g.signal, rows) for rows in interpretations):
                if recent.is_excess and (recent.is_significant or not only_significant):
                    return (
                        f"in its latest {recent.minutes} complete minutes the canary "
                        f"exceeds the margin ({recent})"
                    )
    return None


def _unconfirmed(view: View) -> str | None:
    """What the critical signals lack that are not confirmed as not worse."""
    lacking = [f for f in view.critical_findings() if f.not_worse_evidence < f.not_worse_threshold]
    if not lacking:
        return None
    return f"inconclusive so far: {'; '.join(map(_still_needed, lacking))}"


def _still_needed(finding: Finding) -> str:
    return (
        f"{finding}; the evidence for not worse is {evidence(finding.not_worse_evidence)} "
        f"(threshold {finding.not_worse_threshold:g}), for worse "
        f"{evidence(finding.worse_evidence)} (threshold {finding.worse_threshold:.3g})"
    )


def _confirmed(view: View) -> Iterable[str]:
    """What a promotion rests on, for each signal that it needs.

    With the counts that were held against the margin: totals of a rollout whose percent has changed
    may differ by more although the canary is as good in each minute.
    """
    for g, finding in zip(view.critical_evidence, view.critical_findings(), strict=True):
        past = _past(view, g)
        if past is not None:
            yield f"{g.signal.name}: {past}, evidence {evidence(e_value(past.log_evidence))}"
            continue
        recent = _recent(g.signal, g.confirmed_interpretations[0])
        where = "" if recent.minutes < RECENT else f" in its latest {RECENT} minutes"
        yield (
            f"{recent}{where} (margin {100 * g.signal.margin:g} %, evidence "
            f"{evidence(finding.not_worse_evidence)}, threshold {finding.not_worse_threshold:g})"
        )
