"""The documented loop over a scenario, and what must never happen in it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import attrs

from apigw_canary import (
    Alarm,
    Basis,
    Hold,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
)
from apigw_canary import Step as PolicyStep
from search.names import has, keeping, made, phase
from search.scenario import MARGIN, Scenario
from search.world import MINUTE, CloudWatchSource, Known, OwnSource, World

MOST_LOOKS = 60

RULES = {
    "raises": "(a) decide or observe raised an exception",
    "promoted_plainly_bad": "(f) a canary that was plainly bad for most of its life was promoted",
    "upward_on_bad": "(c) shifted up or promoted against what the source knows",
    "upward_blind": "(c) shifted up or promoted without one comparable minute",
    "upward_in_outage": "(c) shifted up or promoted while production is far above its history",
    "bad_is_kept": "(e) a canary that is plainly bad, as the source knows, is kept for 15 minutes",
    "silence_not_rolled_back": "(e) the source fell silent, and the canary is kept",
    "no_end": "(e) the deadline has passed, and the rollout neither ends nor names an operator",
    "waits_for_nothing": "(e) the last decision is Hold and does not say what it waits for",
    "ended_not_final": "(e) the canary is gone, and the decision is not final",
    "hold_prevents_rollback": "an operator's hold turns a Rollback into another decision",
    "differs": "the search observes something else than canary.observe does",
    "time_zone_matters": "the same times in another zone give another decision",
}


class Violation(NamedTuple):
    """What must never happen, and where it did."""

    rule: str
    minute: float
    """Since the start."""
    percent: float
    what: str


@attrs.frozen(kw_only=True)
class Run:
    """How a rollout of the search ended."""

    scenario: Scenario
    ended: str
    """"promoted", "rolled back by evidence", "rolled back by rule", "ended", "waiting", or,
    of a rehearsal, "refused"."""
    reason: str
    looks: int
    minutes: float
    violations: tuple[Violation, ...]


def policy_of(scenario: Scenario) -> RolloutPolicy:
    """The policy of a scenario."""
    signals = [Signal.errors_5xx(ratio=scenario.ratio, limit=scenario.limit)]
    if scenario.with_4xx:
        signals.append(Signal.errors_4xx())
    steps = [PolicyStep(percent, bake * MINUTE) for percent, bake in scenario.steps]
    policy: RolloutPolicy = made(
        RolloutPolicy,
        steps=steps,
        signals=signals,
        alarms=["errors"] if scenario.alarm else [],
        false_rollback=scenario.false_rollback,
        false_promotion=scenario.false_promotion,
        deadline=max(scenario.deadline, sum(bake for _, bake in scenario.steps)) * MINUTE,
        on_inconclusive=scenario.on_inconclusive,
        max_unobserved=scenario.max_unobserved * MINUTE,
    )
    return policy


class Loop:
    """observe, decide, apply, until the rollout ends or `most_looks` are used up."""

    def __init__(
        self,
        scenario: Scenario,
        told: Callable[[str], object] | None = None,
        most_looks: int = MOST_LOOKS,
    ) -> None:
        self._most_looks = most_looks
        self.scenario = scenario
        self.policy = policy_of(scenario)
        self.world = World(scenario)
        self.now = self.start = scenario.started_at
        self.step_started_at = self.start
        self.percent = scenario.steps[0][0]
        self.phase = "running"
        self.violations: list[Violation] = []
        self._told = told or (lambda _: None)
        self._source: Any = None
        self._last_complete_at: datetime | None = None
        self._failing_since: datetime | None = None
        self._silent_since: datetime | None = None
        self._below_100_seen = False
        self._kept = keeping()

    def run(self) -> Run:
        """Until it ends."""
        decision: Any = None
        looks = 0
        while looks < self._most_looks:
            looks += 1
            try:
                observation = self.observe()
                decision = self.policy.decide(observation)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                self._violated(
                    "raises", f"{type(error).__name__}: {error} ({where.name}, {where.filename})"
                )
                break
            self._told(f"{self.minute:6.1f} min  {decision}")
            self._check(observation, decision)
            if decision.final and not self._apply(decision):
                break
            if isinstance(decision, Shift):
                self._apply(decision)
            self._pass(max(decision.wait, self.scenario.every * MINUTE))
        return self._ended(decision, looks)

    @property
    def minute(self) -> float:
        """Since the start."""
        return (self.now - self.start) / MINUTE

    def _pass(self, time: timedelta) -> None:
        self.now += time
        self.world.serve(self.now, self.percent if self.phase == "running" else 0.0)
        ended = self.scenario.ended
        if ended is not None and self.minute >= ended[0] and self.phase == "running":
            self.phase, self.percent = phase(ended[1]), 0.0

    def _apply(self, decision: Any) -> bool:
        """Carry it out; whether a promotion was left half done."""
        match decision:
            case Shift(percent=percent):
                self.percent, self.step_started_at = percent, self.now
            case Promote() if self.scenario.crash and self.phase == "running":
                self.phase = "promoting"
                return True
        return False

    # Observing.

    def observe(self) -> Observation:
        """As `canary.observe` makes it."""
        scenario, names = self.scenario, [signal.name for signal in self.policy.signals]
        if self._source is None or not scenario.one_process:
            own = scenario.source == "own"
            self._source = OwnSource(self.world) if own else CloudWatchSource(self.world)
            if self._last_complete_at is None or not scenario.one_process:
                self._last_complete_at = self.now
        failure, found = None, None
        if self.phase in {"running", "promoting"}:
            if scenario.fails and self._within(scenario.fails):
                failure = "MetricsError: CloudWatch answered InternalError."
                self._failing_since = self._failing_since or self.now
            else:
                found = self._measured(names)
                self._last_complete_at, self._failing_since = self.now, None
        percent = self.percent if self.phase == "running" else 0.0
        observation: Observation = made(
            Observation,
            at=self.now.astimezone(self.world._zone),
            started_at=self.start,
            step_started_at=self.step_started_at,
            percent=percent,
            minutes=found.minutes if found is not None else {},
            overlap=found.overlap if found is not None else "excluded",
            notes=found.notes if found is not None else (),
            suspect=_suspect(found),
            basis=self._basis(percent),
            phase=self.phase,
            alarms=self._alarms(),
            failure=failure,
            failing_since=self._failing_since,
            last_complete_at=self._last_complete_at,
            on_hold="an incident elsewhere"
            if scenario.on_hold and self._within(scenario.on_hold)
            else None,
            held_for=self._held_for(),
        )
        seen: Observation = self._kept(observation)
        return seen

    def _measured(self, names: list[str]) -> Any:
        if self.scenario.source == "own":
            return self._source.minutes(self.now, names)
        return self._source.minutes(
            self.now, self.policy.signals, self.percent, self.step_started_at
        )

    def _within(self, period: tuple[int, int]) -> bool:
        return period[0] <= self.minute < period[0] + period[1]

    def _held_for(self) -> timedelta:
        if self.scenario.on_hold is None:
            return timedelta(0)
        first, length = self.scenario.on_hold
        return min(max(self.minute - first, 0), length) * MINUTE

    def _alarms(self) -> list[Alarm]:
        if self.scenario.alarm is None or self.phase != "running":
            return []
        first, state = self.scenario.alarm
        since = self.start + first * MINUTE
        if self.now < since:
            return [Alarm("errors", "OK", since=self.start - timedelta(days=1))]
        return [Alarm("errors", state, since=since)]  # type: ignore[arg-type]

    def _basis(self, percent: float) -> Basis:
        basis: Basis = made(
            Basis,
            region="eu-central-1",
            rest_api_id="a1b2c3d4e5",
            stage="prod",
            rollout_id="r1",
            deployment_id="d2",
            overrides="00000000",
            percent=percent,
            release="2026-11-28.1",
        )
        return basis

    # Checking.

    def _violated(self, rule: str, what: str) -> None:
        if rule not in {violation.rule for violation in self.violations}:
            self.violations.append(Violation(rule, self.minute, self.percent, what))

    def _check(self, observation: Observation, decision: Any) -> None:
        if self.phase not in {"running", "promoting"}:
            if not (isinstance(decision, Hold) and decision.final):
                self._violated("ended_not_final", str(decision))
            return
        if self.phase == "promoting":
            return
        known = self.world.known(self.now)
        if isinstance(decision, Shift | Promote):
            self._check_upward(observation, known, decision)
        if isinstance(decision, Rollback):
            if has(Observation, "on_hold"):
                self._same_kind(
                    "hold_prevents_rollback", attrs.evolve(observation, on_hold="x"), decision
                )
        else:
            self._check_kept(observation, known, decision)
        if self.scenario.zone != "UTC" and (decision.final or self.minute % 7 < 1):
            self._same_kind("time_zone_matters", _in_utc(observation), decision)

    def _same_kind(self, rule: str, observation: Observation, decision: Any) -> None:
        other = self.policy.decide(observation)
        if type(other) is not type(decision) or other.percent != decision.percent:
            self._violated(rule, f"{decision} | {other}")

    def _is_complete(self, at: datetime) -> bool:
        """Whether that minute of the canary is."""
        delay = getattr(self.policy, "metric_delay", None) or self.policy.settle  # type: ignore[attr-defined]
        return bool(self.start + MINUTE <= at <= self.now - delay - MINUTE)

    def _complete(self, known: list[Known]) -> list[Known]:
        """The minutes of the canary that are complete."""
        return [row for row in known if self._is_complete(self.world.at(row.number))]

    def _check_upward(self, observation: Observation, known: list[Known], decision: Any) -> None:
        scenario = self.scenario
        rows = self._complete(known)
        if not any(row.baseline_requests and row.canary_requests for row in rows) and not any(
            _is_comparable(minute)
            for minute in observation.minutes["errors_5xx"]
            if self._is_complete(minute.at)
        ):
            self._violated("upward_blind", str(decision))
        recent = [row for row in rows if row.canary_requests][-10:]
        requests, bad = (sum(row[i] for row in recent) for i in (3, 4))
        if requests >= 200 and bad >= 20:
            usual = _rate(recent)
            if usual is None:  # at 100 %, or lost: the worst that is known otherwise
                usual = max(filter(None, (_rate(rows), _rate(known))), default=None)
            if usual is not None and bad / requests > scenario.ratio * usual + 10 * MARGIN:
                what = f"{bad:,} of {requests:,} in its last {len(recent)} complete minutes"
                self._violated("upward_on_bad", f"{what}; {decision}")
        self._check_outage(known, rows, decision)
        if isinstance(decision, Promote):
            self._check_promoted(decision)

    def _check_outage(self, known: list[Known], rows: list[Known], decision: Any) -> None:
        before = [row for row in known if row.number < 0]
        usual = _rate(before)
        recent = [row for row in rows if row.number >= 0][-10:]
        if usual is None or len(before) < 30 or len(recent) < 10:
            return
        each = [
            (row.baseline_requests + row.canary_requests, row.baseline_bad + row.canary_bad)
            for row in recent
        ]
        most = min(10 * usual + 10 * MARGIN, 0.9)
        if all(requests >= 50 and bad > most * requests for requests, bad in each):
            rate = sum(bad for _, bad in each) / sum(requests for requests, _ in each)
            self._violated(
                "upward_in_outage",
                f"{rate:.2%} of all requests fail, {usual:.2%} before; {decision}",
            )

    def _check_promoted(self, decision: Any) -> None:
        """Against the truth, whatever the source tells of it."""
        now = self.world._number(self.now)
        lived = [n for n in range(1, now) if self.world.minutes[n][1].requests]
        recent = [self.world.minutes[n][1] for n in lived[-10:]]
        requests, bad = (
            sum(each.requests for each in recent),
            sum(each.errors_5xx for each in recent),
        )
        plainly = [n for n in lived if self._is_plainly_bad(n)]
        if requests >= 200 and bad >= 20 and len(plainly) >= 0.8 * len(lived):
            self._violated(
                "promoted_plainly_bad", f"truly {bad:,} of {requests:,} lately; {decision}"
            )

    def _is_plainly_bad(self, number: int) -> bool:
        scenario = self.scenario
        worst = scenario.ratio * self.world.rate(number) + 10 * MARGIN
        return self.world.canary_rate(number) > worst

    def _check_kept(self, observation: Observation, known: list[Known], decision: Any) -> None:
        recent = self._complete(known)[-15:]
        lasting = len(recent) == 15 and recent[-1].number - recent[0].number == 14
        unread = {"hide_requests", "no_errors"} & {self.scenario.gaps, *self.scenario.hides}
        if observation.failure is None and lasting and not unread:
            usual = _rate(known) if self.percent == 100 else _rate(recent)
            if usual is not None and self._must_be_found(recent, usual):
                rate = sum(row.canary_bad for row in recent) / sum(
                    r.canary_requests for r in recent
                )
                what = f"{rate:.2%} on the canary for 15 minutes, {usual:.2%} on the baseline"
                self._violated("bad_is_kept", f"{what}; {decision}")
        self._check_silence(known, decision)
        self._check_deadline(observation, decision)

    def _must_be_found(self, recent: list[Known], usual: float) -> bool:
        """Whether no judge could take 15 minutes of that for chance."""
        if any(row.canary_requests < 50 for row in recent):
            return False
        if self.percent == 100:  # without a baseline only a gross failure of a rare error counts
            each = all(row.canary_bad >= row.canary_requests / 2 for row in recent)
            return each and usual <= 0.02
        if any(row.baseline_requests < 50 for row in recent):
            return False
        if any(not self._exceeds_plainly(row) for row in recent):
            return False
        most = self.scenario.ratio * usual + 10 * MARGIN
        requests, bad = (sum(row[i] for row in recent) for i in (3, 4))
        beside = sum(row.baseline_requests for row in recent)
        # Ten standard deviations of the difference, as if the rate were the most that is tolerated.
        deviation = math.sqrt(most * (1 - most) * (1 / requests + self.scenario.ratio**2 / beside))
        return bad / requests - most > 10 * deviation

    def _exceeds_plainly(self, row: Known) -> bool:
        """Against the baseline of the same minute: an incident of both is not the canary's."""
        most = self.scenario.ratio * row.baseline_bad / row.baseline_requests + 10 * MARGIN
        return row.canary_bad > most * row.canary_requests

    def _check_silence(self, known: list[Known], decision: Any) -> None:
        if (
            self.scenario.gaps != "silence"
            or self.scenario.fails
            or self.scenario.stops is not None
        ):
            return
        if not known:
            return
        last = known[-1].number
        busy = [row for row in known if last - 30 < row.number <= last]
        silent = self.minute - last - 1
        if (
            len(busy) == 30
            and all(row.baseline_requests + row.canary_requests >= 20 for row in busy)
            and silent > self.scenario.max_unobserved + 20
            and self.minute > self.scenario.max_unobserved + 20
        ):
            self._violated("silence_not_rolled_back", f"no data for {silent:.0f} min; {decision}")

    def _check_deadline(self, observation: Observation, decision: Any) -> None:
        allowed = getattr(self.policy, "effective_deadline", None) or self.policy.allowed  # type: ignore[attr-defined]
        if observation.at - self.start - self._held_for() <= allowed:
            return
        if isinstance(decision, Shift | Promote):
            self._violated("no_end", str(decision))
        ends = decision.final or getattr(decision, "waiting_for", None) == "operator"
        if self.scenario.on_inconclusive == "rollback" or not ends:
            self._violated("no_end", str(decision))

    def _ended(self, decision: Any, looks: int) -> Run:
        ended, reason = "waiting", str(decision)
        if isinstance(decision, Promote):
            ended = "promoted"
        elif isinstance(decision, Rollback):
            analysis = decision.analysis
            worse = analysis is not None and analysis.verdict.name == "WORSE"
            ended = "rolled back by evidence" if worse else "rolled back by rule"
        elif decision is not None and decision.final:
            ended = "ended"
        elif decision is not None and isinstance(decision, Hold):
            named = getattr(decision, "waiting_for", "")
            if named is None or "nothing to do" in decision.reason:
                self._violated("waits_for_nothing", str(decision))
        return Run(
            scenario=self.scenario,
            ended=ended,
            reason=reason,
            looks=looks,
            minutes=self.minute,
            violations=tuple(self.violations),
        )


def run(
    scenario: Scenario,
    told: Callable[[str], object] | None = None,
    most_looks: int = MOST_LOOKS,
) -> Run:
    """One rollout of the search."""
    return Loop(scenario, told, most_looks).run()


def _rate(rows: list[Known]) -> float | None:
    requests = sum(row.baseline_requests for row in rows)
    return sum(row.baseline_bad for row in rows) / requests if requests else None


def _suspect(found: Any) -> str | None:
    return (
        None if found is None else getattr(found, "suspect", None) or getattr(found, "doubt", None)
    )


def _is_comparable(minute: Minute) -> bool:
    """Whether both variants have outcomes in what the source gave.

    It is known where an error count is missing beside others: CloudWatch gives that as zero.
    """
    return minute.baseline_requests > getattr(
        minute, "baseline_unknown", 0
    ) and minute.canary_requests > getattr(minute, "canary_unknown", 0)


def _in_utc(observation: Observation) -> Observation:
    return attrs.evolve(
        observation,
        at=observation.at.astimezone(UTC),
        minutes={
            name: tuple(attrs.evolve(row, at=row.at.astimezone(UTC)) for row in rows)
            for name, rows in observation.minutes.items()
        },
    )
