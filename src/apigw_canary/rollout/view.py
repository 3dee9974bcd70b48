"""An observation as the rules see it, and the making of decisions about it."""

from bisect import bisect_left
from datetime import datetime, timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any

from apigw_canary.judge import (
    LONGEST_ROLLOUT,
    MINUTE,
    MOST_PAST,
    Alarm,
    Analysis,
    Finding,
    Gathered,
    Kept,
    Minute,
    Observation,
    Plan,
    Signal,
    Unhealthy,
    UnknownOutcomes,
    alarms,
    ceil_minute,
    gather,
    summarize,
    unhealthy,
    unknown_outcomes,
)
from apigw_canary.rollout.decisions import Hold, Promote, Rollback, Shift, WaitingFor
from apigw_canary.values import span


def guards_at_100(policy: Plan) -> str:
    """What can roll a canary back at 100 %, where there is no baseline to compare with."""
    signals = [signal for signal in policy.signals if not signal.report_only]
    rare = [signal.name for signal in signals if signal.rare]
    lasting = ", ".join(signal.name for signal in signals if signal.rare and signal.critical)
    limited = [signal.name for signal in signals if signal.limit is not None]
    most = policy.max_failed_requests
    where = f"(where at most {100 * MOST_PAST:g} % failed before)"
    rolls_back = policy.on_production_unhealthy == "rollback"
    far_above = f"{lasting} far above the past for {span(policy.max_unobserved)}"
    guards = [
        *([f"a gross failure of {', '.join(rare)} {where}"] if rare else []),
        *([far_above] if lasting and rolls_back else []),
        *([f"{most:,.0f} more failed requests of {lasting}"] if lasting and most else []),
        *([f"the limit of {', '.join(limited)}"] if limited else []),
        *([f"the alarms {', '.join(policy.alarms)}"] if policy.alarms else []),
    ]
    said = " and ".join([", ".join(guards[:-1]), *guards[-1:]] if guards[1:] else guards)
    return said or "no signal and no alarm"


def minutes_since(minutes: list[Minute], first: datetime) -> list[Minute]:
    """Those from a time on."""
    return minutes[bisect_left(minutes, first, key=attrgetter("at")) :]


class View:
    """An observation as the rules see it, and the making of decisions about it."""

    def __init__(self, policy: Plan, observation: Observation, kept: Kept | None = None) -> None:
        self.policy = policy
        self.seen = observation
        evidence = gather(policy, observation, kept)
        self.analysis: Analysis = summarize(policy, evidence)
        self.gathered: list[Gathered] = [g for g in evidence.signals if not g.signal.report_only]
        """The evidence of the signals that may decide."""
        self.observed: list[Gathered] = [
            g for g in self.gathered if g.signal.critical or not g.signal.is_latency
        ]
        """Those that must be observed: latency need not, unless it is critical."""
        self.alarms: list[Alarm] = [
            alarm for alarm in observation.alarms if alarm.name in policy.alarms
        ]
        self.missing = ""
        """Why the canary is not shifted up, where a rule that could have done so did not."""

    @property
    def elapsed(self) -> timedelta:
        """How long the canary has had its percent."""
        return self.seen.at - self.seen.step_started_at

    @property
    def is_overdue(self) -> bool:
        """Whether the deadline has passed. Time on hold does not count, up to 14 days."""
        allowed = self.policy.effective_deadline
        since_start = self.seen.at - self.seen.started_at
        return self.seen.age > allowed or since_start > max(allowed, LONGEST_ROLLOUT)

    @cached_property
    def critical(self) -> list[Signal]:
        """The signals that a promotion needs."""
        return [signal for signal in self.policy.signals if signal.critical]

    @cached_property
    def critical_gathered(self) -> list[Gathered]:
        """Their evidence."""
        return [g for g in self.gathered if g.signal.critical]

    @cached_property
    def unknown(self) -> list[tuple[Signal, UnknownOutcomes]]:
        """The requests of unknown outcome, of the signals that must be observed."""
        return [(g.signal, unknown_outcomes(g, self.seen)) for g in self.observed]

    @cached_property
    def unhealthy(self) -> tuple[Signal, Unhealthy] | None:
        """In which critical signal production is unhealthy, the first; None where it is not."""
        for g in self.critical_gathered:
            if g.signal.rare:
                found = unhealthy(g, self.seen, period=self.policy.max_unobserved)
                if found is not None:
                    return g.signal, found
        return None

    def hold(
        self, reason: str, *, waiting_for: WaitingFor | None = None, final: bool = False
    ) -> Hold:
        """Hold. After the deadline it is always an operator who has to act."""
        if not final and self.is_overdue:
            waiting_for = "operator"
        return Hold(**self._common(reason, final=final), waiting_for=waiting_for)

    def shift(self, percent: float, reason: str) -> Shift:
        """Shift to a percent above the present one."""
        return Shift(**{**self._common(reason), "percent": percent})

    def promote(self, reason: str) -> Promote:
        """Promote, which ends the rollout."""
        return Promote(**self._common(reason, final=True))

    def roll_back(self, reason: str) -> Rollback:
        """Roll back, which ends the rollout."""
        return Rollback(**self._common(reason, final=True))

    def _common(self, reason: str, *, final: bool = False) -> dict[str, Any]:
        if self.seen.changed:
            changes = "; ".join(f"{name}: {how}" for name, how in self.seen.changed.items())
            reason = f"{reason} (the stage was changed outside this rollout: {changes})"
        if self.seen.phase == "running":  # only then are alarms read
            named = self.policy.alarms
            for remark in alarms.remarks(named, self.alarms, self.seen.started_at):
                reason = f"{reason} ({remark})"
        for name, why in self.seen.not_observed.items():
            reason = f"{reason} ({name} is not observed: {why})"
        return {
            "at": self.seen.at,
            "reason": reason,
            "percent": self.seen.percent,
            "wait": timedelta(0) if final else self._until_the_next_complete_minute(),
            "final": final,
            "analysis": self.analysis,
            "basis": self.seen.basis,
            "lifetime": self.policy.decision_lifetime,
        }

    def _until_the_next_complete_minute(self) -> timedelta:
        complete = self.seen.at - self.policy.metric_delay
        return ceil_minute(complete + timedelta(microseconds=1)) - complete

    def deciding(self) -> list[Finding]:
        """The findings of the signals that may decide."""
        report_only = {signal.name for signal in self.policy.signals if signal.report_only}
        return [f for f in self.analysis.findings if f.signal not in report_only]

    def critical_findings(self) -> list[Finding]:
        """The findings of the critical signals."""
        critical = {signal.name for signal in self.critical}
        return [f for f in self.analysis.findings if f.signal in critical]

    def complete_until(self, age: timedelta) -> datetime:
        """The end of the last minute that ended at least `age` ago."""
        return ceil_minute(self.seen.at - age + timedelta(microseconds=1)) - MINUTE

    def until_first_complete_minute(self) -> timedelta:
        """How long until a minute of this step is complete enough for a promotion."""
        first = max(self.seen.judged_from(), ceil_minute(self.seen.step_started_at))
        return first + MINUTE + self.policy.promotion_metric_delay - self.seen.at

    def totals(
        self, signal: Signal, age: timedelta, *, since: datetime | None = None
    ) -> dict[datetime, float]:
        """The requests of both variants in each minute that ended at least `age` ago, by its time.

        The history is among them, and minutes of which it is not known whose requests they are.
        Where the counts of the variants may overlap, no request is counted twice. `since`: the
        first minute wanted.
        """
        rows = self.seen.minutes.get(signal.name, ())
        end = bisect_left(rows, self.complete_until(age), key=attrgetter("at"))
        first = 0 if since is None else bisect_left(rows, since, key=attrgetter("at"))
        return {row.at: self._requests(row) for row in rows[first:end]}

    def last_served(self, signal: Signal, age: timedelta) -> datetime | None:
        """The latest minute, of those that ended at least `age` ago, with requests of a variant."""
        rows, end = self.seen.minutes.get(signal.name, ()), self.complete_until(age)
        served = (r.at for r in reversed(rows) if r.at < end and self._requests(r) > 0)
        return next(served, None)

    def _requests(self, row: Minute) -> float:
        if self.seen.overlap == "excluded":
            return row.baseline_requests + row.canary_requests
        return max(row.baseline_requests, row.canary_requests)

    def confirmed_canary_requests(self, since: datetime) -> float:
        """The canary's requests in minutes from `since` that are old enough for a promotion.

        Of the critical signal that has the fewest: one source may have data where others have none.
        """
        first = max(ceil_minute(since), self.seen.judged_from())
        return min(
            sum(row.canary_requests for row in minutes_since(g.confirmed, first))
            for g in self.critical_gathered
        )

    def deadline(self) -> str:
        """The deadline, as a sentence says it."""
        said = f"the deadline of {span(self.policy.effective_deadline)} has passed"
        if self.seen.held_for:
            said += f" ({span(self.seen.held_for)} on hold not counted)"
        return said
