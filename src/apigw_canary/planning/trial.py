"""A rollout that is only simulated, and judged by its policy's own decisions.

It ends as if the policy had been asked every minute, at a fraction of the cost: it is asked only
where another answer than Hold, or a step further up, is possible.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import attrs

from apigw_canary.judge import lasting, production, sample_ratio
from apigw_canary.judge.detector import Detector
from apigw_canary.judge.evidence import NotWorse, Row
from apigw_canary.judge.observation import MINUTE, Minute, Observation
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.signals import Signal
from apigw_canary.rollout.decisions import Decision, Shift
from apigw_canary.rollout.quality import SILENT
from apigw_canary.rollout.rules import RECENT, decide

Traffic = Callable[[int, float], Mapping[str, Row]]
"""What a minute brought, by its number since the start and the canary's share, 0 to 1: a row for
each signal, none where the minute is not known. Asked once for each minute, in order."""

GROSS = 0.1
"""The lowest rate that is a gross failure at 100 %, where nothing is compared."""

_ROUNDING = 1e-6
"""Bounds are taken that much wider than the decision's own, which adds up in another order."""


class Ended(NamedTuple):
    """How a simulated rollout ended."""

    decision: Decision
    """The last one; its numbers may be of a later look than it was due at."""
    after: timedelta
    """When it was due, since the start."""
    until: datetime
    """The same as a time."""
    minutes: Mapping[str, Sequence[Minute]]
    """What was served; it may have gone on after the last decision was due."""

    @property
    def signal(self) -> str | None:
        """The signal with the most evidence against the canary, where that ended it."""
        analysis = self.decision.analysis
        if analysis is None or analysis.worse_at is None:
            return None
        return max(analysis.findings, key=lambda f: f.worse_evidence / f.worse_threshold).signal

    def failed(self, signal: str) -> float:
        """The canary's bad requests until the end."""
        return sum(row.canary_bad for row in self.minutes[signal] if row.at < self.until)


def whole_minutes(length: timedelta) -> int:
    """The full minutes until so much time has passed."""
    return math.ceil(length / MINUTE)


def schedule(policy: Plan) -> list[int]:
    """How many minutes each step lasts if nothing is amiss: its bake, and one settled minute."""
    settled = whole_minutes(policy.promotion_metric_delay) + 1
    lasting = [max(whole_minutes(step.bake), settled) for step in policy.steps]
    lasting[0] = max(lasting[0], settled + 1)  # its first minute is not all the canary's
    return lasting


def length(policy: Plan) -> timedelta:
    """What the plan takes: its bakes, and the time in which minutes settle."""
    return sum(schedule(policy)) * MINUTE + policy.promotion_metric_delay


def ended_by(share: float, rollouts: Sequence[Ended], kind: type[Decision]) -> timedelta | None:
    """When that share of all the rollouts had ended with such a decision; None if it never had."""
    after = sorted(ended.after for ended in rollouts if isinstance(ended.decision, kind))
    last = math.ceil(round(share * len(rollouts), 6)) - 1
    return after[last] if last < len(after) else None


class Trial:
    """One simulated rollout that starts at a full minute.

    `history` is what the baseline served before, summed up for each signal. `first_look` is when it
    is first worth asking whether the canary is worse; it changes the cost, never the result.
    """

    def __init__(
        self,
        policy: Plan,
        traffic: Traffic,
        *,
        started_at: datetime,
        history: Mapping[str, Row],
        first_look: timedelta = MINUTE,
    ) -> None:
        # Alarms are of the real traffic; one that was not looked at is never taken for OK.
        self._policy = attrs.evolve(policy, alarms=())
        self._traffic = traffic
        self._started_at = started_at
        self._minutes = {name: [Minute(started_at - MINUTE, *row)] for name, row in history.items()}
        self._settle = whole_minutes(policy.metric_delay)
        self._confirm = whole_minutes(policy.promotion_metric_delay)
        self._unobserved = math.floor(policy.max_unobserved / MINUTE) + 1
        self._now = 0
        self._percent, self._since = policy.steps[0].percent, 0
        self._served: list[tuple[float, Mapping[str, Row]]] = []
        self._confirmed = {
            signal.name: NotWorse(ratio=signal.ratio, margin=signal.margin, noise=signal.noise)
            for signal in policy.signals
            if signal.critical
        }
        self._odds = dict.fromkeys(self._confirmed, 0.0)
        self._lit = dict.fromkeys(self._confirmed, 0)
        self._dark = {signal.name: 0.0 for signal in policy.signals if not signal.report_only}
        self._before = {name: row.baseline_requests for name, row in history.items()}
        self._requested = dict.fromkeys(self._confirmed, -1)
        self._failed = dict.fromkeys(self._confirmed, 0.0)
        self._exceeding = dict.fromkeys(self._confirmed, 0)
        self._failing = False
        self._alone = False
        self._unhealthy = False
        self._healthy_at = dict.fromkeys(self._confirmed, -1)
        self._limits = {
            signal.name: production.highest_healthy(signal, row.baseline_bad, row.baseline_requests)
            for signal in policy.signals
            if signal.critical and signal.rare and (row := history.get(signal.name))
        }
        self._detectors = {name: Detector() for name in self._limits}
        self._sick = any(signal.critical and signal.limit for signal in policy.signals)
        self._next_look = whole_minutes(first_look)
        for name, row in history.items():
            self._look_for_sickness(name, row)
            if name in self._confirmed:
                self._confirmed[name].add(row)

    def run(self) -> Ended:
        """Until the last decision."""
        while True:
            self._serve()
            if self._must_look():
                decision = self.decide()
                if decision.final or decision.waiting_for == "operator":  # after the deadline
                    return self._ended(decision)
                if isinstance(decision, Shift):
                    self._shift(decision.percent)
                self._next_look = max(self._next_look, 2 * self._now)
            elif self._upward() < 100 and self._baked():
                self._shift(self._upward())

    def decide(self) -> Decision:
        """The policy's decision on what there is to be seen now."""
        return decide(
            self._policy,
            Observation(
                at=self._started_at + self._now * MINUTE,
                started_at=self._started_at,
                step_started_at=self._started_at + self._since * MINUTE,
                percent=self._percent,
                minutes=self._minutes,
            ),
        )

    def _ended(self, decision: Decision) -> Ended:
        until = self._started_at + self._now * MINUTE
        if decision.analysis is not None and decision.analysis.worse_at is not None:
            until = decision.analysis.worse_at + (1 + self._settle) * MINUTE
        return Ended(decision, until - self._started_at, until, self._minutes)

    def _serve(self) -> None:
        at = self._started_at + self._now * MINUTE
        rows = self._traffic(self._now, self._percent / 100)
        for name, row in rows.items():
            self._minutes.setdefault(name, []).append(Minute(at, *row))
            self._look_for_sickness(name, row)
        self._served.append((self._percent / 100, rows))
        self._now += 1
        if (settled := self._now - 1 - self._settle) >= 0:
            self._look_for_darkness(*self._served[settled])
            self._look_for_failures(settled, self._served[settled][1])
        if (settled := self._now - 1 - self._confirm) >= 0:
            self._confirm_with(settled, self._served[settled][1])

    def _look_for_sickness(self, name: str, row: Row) -> None:
        for signal in self._policy.signals:
            if signal.name == name and signal.critical and row.baseline_requests:
                worst = signal.ratio * row.baseline_bad + signal.slack * row.baseline_requests
                self._sick |= worst >= row.baseline_requests * (1 - _ROUNDING)

    def _look_for_darkness(self, share: float, rows: Mapping[str, Row]) -> None:
        for name, row in rows.items():
            if name in self._dark:
                dark = self._dark[name] + sample_ratio.darkness(row.baseline_requests, share)
                self._dark[name] = 0.0 if row.canary_requests else dark

    def _look_for_failures(self, number: int, rows: Mapping[str, Row]) -> None:
        """What may roll back without evidence: silence, gross or lasting failures, too many."""
        self._failing = False
        for signal in self._policy.signals:
            if (name := signal.name) not in self._confirmed:
                continue
            row = rows.get(name, _NOTHING)
            if row.canary_requests:
                exceeds = lasting.exceeds(signal, row)
                self._exceeding[name] = self._exceeding[name] + 1 if exceeds else 0
            if row.baseline_requests + row.canary_requests > 0:
                self._requested[name] = number
            self._failed[name] += row.canary_bad
            self._failing |= row.canary_bad > GROSS * row.canary_requests
            self._alone |= row.canary_bad > 0 and not row.baseline_requests
            self._look_for_incidents(name, number, row)

    def _look_for_incidents(self, name: str, number: int, row: Row) -> None:
        """Whether production may ever have been unhealthy, and when it was last healthy."""
        if name in self._limits:
            limit, bad = self._limits[name], row.baseline_bad + row.canary_bad
            log = self._detectors[name].add(_total(row), bad, limit) if _total(row) else 0.0
            self._unhealthy |= log >= production.UNHEALTHY - _ROUNDING
            if bad <= limit * _total(row) and _total(row):
                self._healthy_at[name] = number

    def _confirm_with(self, number: int, rows: Mapping[str, Row]) -> None:
        for name, game in self._confirmed.items():
            row = rows.get(name)
            if row is not None and (number > 0 or not row.canary_requests):
                self._odds[name] = game.add(row)
                if row.canary_requests:
                    self._lit[name] = number

    def _shift(self, percent: float) -> None:
        self._percent, self._since = percent, self._now

    def _upward(self) -> float:
        """The next share; 100 where the canary must be confirmed first."""
        step = self._policy.next_step(self._percent)
        return 100 if step is None else step.percent

    def _must_look(self) -> bool:
        """Whether the decision may be another than Hold and is not known to be a step up.

        Besides, now and then: a canary that is worse has been so since a minute that is told.
        """
        if self._now >= self._next_look or self._now * MINUTE > self._policy.effective_deadline:
            return True
        if any(dark >= sample_ratio.NOT_BY_CHANCE - _ROUNDING for dark in self._dark.values()):
            return True
        if any(self._silent_for(n) == self._unobserved for n in self._confirmed):
            return True
        if self._percent == 100 and self._failing:
            return True
        if any(minutes >= lasting.MINUTES for minutes in self._exceeding.values()):
            return True
        if self._unhealthy and any(map(self._long_unhealthy, self._limits)):
            return True
        most = self._policy.max_failed_requests
        if most is not None and any(failed >= most for failed in self._failed.values()):
            return True
        if not self._baked():
            return False
        if self._upward() == 100:
            needed = -math.log(self._policy.false_promotion) - _ROUNDING
            return all(odds >= needed for odds in self._odds.values())
        doubtful = self._sick or self._alone or self._unhealthy
        return doubtful or any(map(self._may_hold, self._policy.signals))

    def _long_unhealthy(self, name: str) -> bool:
        """Whether each minute with requests has been above the limit for `max_unobserved`."""
        complete = self._now - self._settle
        return (complete - 1 - self._healthy_at[name]) * MINUTE >= self._policy.max_unobserved

    def _silent_for(self, name: str) -> int:
        """How many of the latest complete minutes had no request."""
        return self._now - self._settle - 1 - self._requested[name]

    def _baked(self) -> bool:
        """Whether the bake is over and shows canary requests, as the decision has it."""
        if (self._now - self._since) * MINUTE < self._policy.step_at(self._percent).bake:
            return False
        watched = (self._policy.promotion_metric_delay + self._policy.max_unobserved) / MINUTE
        recently = max(self._since, self._now - watched, 1)
        return all(lit >= recently for lit in self._lit.values()) and all(
            map(self._shows_the_bake, self._confirmed)
        )

    def _shows_the_bake(self, name: str) -> bool:
        """Whether the step's complete minutes had requests enough for it to be left."""
        first, last = self._since + 1, self._now - self._confirm
        step = [_total(by.get(name)) for _, by in self._served[first:last]]
        if 2 * sum(requests > 0 for requests in step) >= last - first:
            return True
        begin = self._since - 60
        hour = sum(_total(by.get(name)) for _, by in self._served[max(begin, 0) : self._since])
        if begin < 0:
            hour += self._before.get(name, 0.0)
        return hour > 0 and 2 * sum(step) >= hour * (last - first) / 60

    def _may_hold(self, signal: Signal) -> bool:
        """Whether the counts of the step may be a reason not to shift up."""
        first, last = self._since + 1, self._now - self._confirm
        rows = [row for _, by in self._served[first:last] if (row := by.get(signal.name))]
        canary = sum(row.canary_requests for row in rows)
        total = canary + sum(row.baseline_requests for row in rows)
        if sample_ratio.contradict(canary, total, self._percent / 100):
            return True
        if not signal.critical:
            return False
        if self._silent_for(signal.name) >= SILENT / MINUTE:
            return True
        if not any(row.baseline_requests and row.canary_requests for row in rows):
            return True
        bad = sum(row.canary_bad for row in rows[-RECENT:])
        return bad > signal.margin * sum(row.canary_requests for row in rows[-RECENT:])


_NOTHING = Row(0, 0, 0, 0)


def _total(row: Row | None) -> float:
    return row.baseline_requests + row.canary_requests if row else 0.0
