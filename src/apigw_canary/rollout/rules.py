"""The order of the decisions: each rule a function, and the first that holds is taken."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from apigw_canary.rollout import alarms, shares
from apigw_canary.rollout.analysis import analyze
from apigw_canary.rollout.decision import Decision, Hold, Promote, Rollback, Shift
from apigw_canary.rollout.findings import Finding, Verdict
from apigw_canary.rollout.observation import MINUTE, Observation, ceil_minute
from apigw_canary.rollout.overlap import reading
from apigw_canary.rollout.signals import Signal
from apigw_canary.rollout.words import moment, odds, span

if TYPE_CHECKING:
    from apigw_canary.rollout.policy import RolloutPolicy

RECENT = 10
"""Minutes, the latest confirmed ones, in which a canary must be within the margin as counted."""


def decide(policy: "RolloutPolicy", observation: Observation) -> Decision:
    """What to do about the canary: the first rule of `RULES` that holds."""
    view = _View(policy, observation)
    for rule in RULES:
        decision = rule(view)
        if decision is not None:
            return decision
    return view.hold(view.missing)


class _View:
    """An observation as the rules see it, and the making of decisions about it."""

    def __init__(self, policy: "RolloutPolicy", observation: Observation) -> None:
        self.policy = policy
        self.seen = observation
        self.analysis = analyze(policy, observation)
        self.alarms = [alarm for alarm in observation.alarms if alarm.name in policy.alarms]
        self.missing = "there is nothing to do"

    @property
    def elapsed(self) -> timedelta:
        """How long the canary has had its share."""
        return self.seen.at - self.seen.step_started_at

    def hold(self, reason: str, *, final: bool = False) -> Hold:
        return Hold(**self._common(reason, final=final))

    def shift(self, percent: float, reason: str) -> Shift:
        return Shift(**{**self._common(reason), "percent": percent})

    def promote(self, reason: str) -> Promote:
        return Promote(**self._common(reason, final=True))

    def roll_back(self, reason: str) -> Rollback:
        return Rollback(**self._common(reason, final=True))

    def _common(self, reason: str, *, final: bool = False) -> dict[str, Any]:
        if self.seen.changed:
            changes = "; ".join(f"{name}: {how}" for name, how in self.seen.changed.items())
            reason = f"{reason} (somebody else changed the stage: {changes})"
        if self.seen.phase == "running":  # only then are alarms looked at
            named = self.policy.alarms
            for remark in alarms.remarks(named, self.alarms, self.seen.started_at):
                reason = f"{reason} ({remark})"
        return {
            "at": self.seen.at,
            "reason": reason,
            "percent": self.seen.percent,
            "wait": timedelta(0) if final else self._until_the_next_settled_minute(),
            "final": final,
            "analysis": self.analysis,
            "basis": self.seen.basis,
        }

    def _until_the_next_settled_minute(self) -> timedelta:
        settling = self.seen.at - self.policy.metric_delay
        return ceil_minute(settling + timedelta(microseconds=1)) - settling

    def deciding(self) -> list[Finding]:
        """The findings of the signals that may decide."""
        report_only = {signal.name for signal in self.policy.signals if signal.report_only}
        return [f for f in self.analysis.findings if f.signal not in report_only]

    def critical(self) -> list[Finding]:
        """The findings of the critical signals."""
        critical = {signal.name for signal in self.policy.signals if signal.critical}
        return [f for f in self.analysis.findings if f.signal in critical]

    def unconfirmed(self) -> list[Finding]:
        """The findings of the critical signals that are not confirmed as not worse."""
        return [f for f in self.critical() if f.not_worse_evidence < f.not_worse_threshold]

    def canary_requests(self, since: datetime, age: timedelta) -> float:
        """The canary's requests in minutes from `since` that have settled for `age`.

        Of the critical signal that has the fewest: one source may be blind where others see.
        """
        first = max(ceil_minute(since), self.seen.judged_from())
        return min(
            sum(
                row.canary_requests
                for row in self.seen.settled(signal.name, age)
                if row.at >= first
            )
            for signal in self.policy.signals
            if signal.critical
        )


def _finish_promotion(view: _View) -> Decision | None:
    """A promotion was begun: finish it."""
    if view.seen.phase != "promoting":
        return None
    return view.promote("a promotion was begun and not finished; finishing it")


def _worse(view: _View) -> Decision | None:
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
        f"the canary is worse: {findings[0]}; the evidence is {odds(found.worse_evidence)}, "
        f"needed {found.worse_threshold:g}"
    )


def _alarmed(view: _View) -> Decision | None:
    """An alarm began firing during the rollout, be it only between two looks.

    Outside the promise of the evidence: an alarm is believed as it is.
    """
    fired = alarms.fired(view.alarms, view.seen.started_at)
    return view.roll_back(f"during the rollout {fired}") if fired else None


_ENDED = {
    "promoted": "the canary was promoted",
    "rolled_back": "the canary was rolled back",
    "removed": "the canary was ended by others (the console, stage.rollback(), another tool)",
    "replaced": "another canary has taken its place",
    "promoted_elsewhere": "others made the canary's deployment the stage's own",
}


def _ended(view: _View) -> Decision | None:
    """The canary was ended or replaced."""
    ended = _ENDED.get(view.seen.phase)
    if ended is None:
        return None
    return view.hold(f"{ended}, and this rollout is over", final=True)


def _paused(view: _View) -> Decision | None:
    """The canary has no share."""
    if view.seen.percent > 0:
        return None
    return view.hold("paused; canary.shift(percent) resumes")


def _unwatched(view: _View) -> Decision | None:
    """The canary has traffic, and for too long nobody could see how it fares."""
    unseen = _unseen_for(view)
    if unseen is None or unseen[0] <= view.policy.max_unobserved:
        return None
    return view.roll_back(
        f"unwatched for longer than {span(view.policy.max_unobserved)}: {unseen[1]}"
    )


def _unseen(view: _View) -> Decision | None:
    """The canary has traffic, and nobody can see how it fares."""
    unseen = _unseen_for(view)
    return view.hold(unseen[1]) if unseen is not None else None


def _unseen_for(view: _View) -> tuple[timedelta, str] | None:
    """For how long nobody has seen how the canary fares, and why; None where somebody does."""
    if view.seen.failure is not None:
        return _failing_for(view, view.seen.failure)
    dark = _dark_for(view)
    if dark is None:
        return None
    return dark, (
        f"no data from the canary for {span(dark)} while the baseline is busy: if it does have "
        "requests, ask the source whether it looks in the right place"
    )


def _failing_for(view: _View, failure: str) -> tuple[timedelta, str]:
    """How long the source has failed is what only a process that saw it work can tell."""
    seen = view.seen.last_complete_at
    if seen is None or seen == view.seen.at:
        return timedelta(0), (
            f"the metrics or alarms cannot be read, for how long is not known ({failure})"
        )
    since = max(seen, view.seen.step_started_at)
    reason = f"the metrics or alarms could not be read since {moment(since)} ({failure})"
    return view.seen.at - since, reason


def _dark_for(view: _View) -> timedelta | None:
    """For how long a canary that should have had requests has shown none; None where it has."""
    dark: list[timedelta] = []
    for signal in view.policy.signals:
        if signal.report_only:
            continue
        rows = view.seen.settled(signal.name, view.policy.metric_delay)
        lit = max((row.at for row in rows if row.canary_requests > 0), default=None)
        since = view.seen.step_judged_from()
        since = max(since, lit + MINUTE) if lit is not None else since
        busy = [row for row in rows if row.at >= since and row.baseline_requests > 0]
        if shares.is_dark(sum(row.baseline_requests for row in busy), view.seen.percent / 100):
            dark.append(busy[-1].at + MINUTE - busy[0].at)
    return max(dark, default=None)


def _overdue(view: _View) -> Decision | None:
    """The deadline has passed."""
    allowed = view.policy.effective_deadline
    age = view.seen.at - view.seen.started_at
    if age <= allowed:
        return None
    reason = f"the deadline of {span(allowed)} has passed without a verdict"
    if view.seen.failure is not None:
        reason = f"{reason}; the metrics or alarms cannot be read ({view.seen.failure})"
    if view.policy.on_inconclusive == "rollback":
        return view.roll_back(f"inconclusive: {reason}")
    return view.hold(
        f"inconclusive: {reason}; the canary keeps {view.seen.percent:g} % until somebody calls "
        "promote() or rollback(), or goes on with a longer deadline",
        final=True,
    )


def _misread(view: _View) -> Decision | None:
    """The counts are of something else, for what the source knows, or cannot fit the share."""
    if view.seen.suspect is not None:
        return view.hold(f"the counts are not believed: {view.seen.suspect}")
    wrong = [finding for finding in view.deciding() if not finding.sample_ratio_ok]
    if not wrong:
        return None
    return view.hold(
        f"the counts do not fit a share of {view.seen.percent:g} % and are not believed: "
        f"{wrong[0]}; ask the source whether it counts the right API, stage and canary"
    )


def _both_sick(view: _View) -> Decision | None:
    """The baseline is sick itself."""
    sick = [finding for finding in view.critical() if finding.baseline_unhealthy]
    if not sick:
        return None
    return view.hold(
        f"the baseline is too sick itself for a comparison, in {sick[0].signal}, as its latest "
        f"minutes show ({view.analysis}); mend production first"
    )


def _baking(view: _View) -> Decision | None:
    """The step's bake is not over, or its minutes are not all in."""
    bake = view.policy.step_at(view.seen.percent).bake
    left = bake - view.elapsed
    if left > timedelta(0):
        return view.hold(f"baking for another {span(left)}; {view.analysis}")
    settling = view.policy.promotion_metric_delay
    recently = max(view.seen.step_started_at, view.seen.at - settling - view.policy.max_unobserved)
    if view.canary_requests(recently, settling) == 0:
        return view.hold(
            "the bake is over, but no canary request was seen, in each critical signal, from "
            f"{moment(recently)} to {moment(view.seen.at - settling)}"
        )
    return None


def _shift_up(view: _View) -> Decision | None:
    """The next step is below 100 %: no evidence against the canary is enough."""
    step = view.policy.next_step(view.seen.percent)
    if step is None or step.percent == 100:
        return None
    return view.shift(
        step.percent, f"baked for {span(view.elapsed)}, not shown to be worse; {view.analysis}"
    )


def _complete(view: _View) -> Decision | None:
    """The next step is 100 %, or there is none: the canary must be confirmed as not worse.

    And each alarm must say something: one without data is no OK.
    """
    unconfirmed = view.unconfirmed()
    if unconfirmed:
        view.missing = "; ".join(_still_needed(finding) for finding in unconfirmed)
        return None
    for signal in view.policy.signals:
        excess = _recent_excess(view, signal) if signal.critical else None
        if excess is not None:
            view.missing = excess
            return None
    silent = alarms.silent(view.policy.alarms, view.alarms)
    if silent:
        view.missing = f"an alarm that says nothing is not taken for OK: {silent}"
        return None
    step = view.policy.next_step(view.seen.percent)
    confirmed = f"not worse by more than the margin ({_margins(view)}); {view.analysis}"
    if view.seen.percent == 100:
        confirmed += "; at 100 % there was no baseline to compare with, only its past"
    if step is not None:
        return view.shift(step.percent, confirmed)
    return view.promote(confirmed)


def _recent_excess(view: _View, signal: Signal) -> str | None:
    """What speaks against a canary that was fine for long and is not now; None if it still is.

    No test, but a plain look at the latest minutes: what is gathered over hours is slow to turn,
    and at 100 % nothing is gathered at all. It can only delay.
    """
    rows = view.seen.settled(signal.name, view.policy.promotion_metric_delay)
    if reading(rows, view.seen)[0] == "included":
        rows = [apart for row in rows if (apart := row.with_canary_subtracted()) is not None]
    lit = [row for row in rows if row.canary_requests > 0][-RECENT:]
    compared = [row for row in lit if row.baseline_requests > 0] or [
        row for row in rows if row.baseline_requests > 0
    ]
    canary = sum(row.canary_bad for row in lit) / sum(row.canary_requests for row in lit)
    baseline = sum(row.baseline_bad for row in compared) / max(
        sum(row.baseline_requests for row in compared), 1.0
    )
    if canary <= signal.ratio * baseline + signal.margin:
        return None
    return (
        f"it was confirmed as not worse, but in its latest {len(lit)} minutes {signal.name} are "
        f"{100 * canary:.2f} % on the canary against {100 * baseline:.2f} %"
    )


RULES: tuple[Callable[[_View], Decision | None], ...] = (
    _finish_promotion,
    _worse,
    _alarmed,
    _ended,
    _paused,
    _unwatched,
    _overdue,
    _unseen,
    _misread,
    _both_sick,
    _baking,
    _shift_up,
    _complete,
)
"""The order of the decisions: the first that holds is taken, and without one it is Hold."""


def _still_needed(finding: Finding) -> str:
    more = "how many more requests it takes cannot be told yet"
    if finding.requests_needed is not None:
        more = f"about {finding.requests_needed:,} more canary requests"
    if finding.minutes_needed is not None:
        more += f", {span(timedelta(minutes=finding.minutes_needed))} at the present pace"
    return (
        f"cannot tell yet; {finding}; the evidence for not worse is "
        f"{odds(finding.not_worse_evidence)}, needed {finding.not_worse_threshold:g}, for worse "
        f"{odds(finding.worse_evidence)}, needed {finding.worse_threshold:.3g}; {more}"
    )


def _margins(view: _View) -> str:
    return ", ".join(
        f"{signal.name} {100 * signal.margin:g} %"
        for signal in view.policy.signals
        if signal.critical
    )
