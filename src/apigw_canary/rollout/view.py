"""An observation as the rules see it: what its metrics lack, and decisions about it."""

import re
from bisect import bisect, bisect_left
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from apigw_canary.judge import (
    LONGEST_ROLLOUT,
    MINUTE,
    MOST_PAST,
    ROUTE,
    Alarm,
    Analysis,
    Finding,
    Kept,
    Minute,
    Observation,
    Plan,
    Signal,
    SignalEvidence,
    Unhealthy,
    UnknownOutcomes,
    ceil_minute,
    floor_minute,
    gather_evidence,
    overlap,
    remarks_on_alarms,
    summarize,
    unhealthy,
    unknown_outcomes,
)
from apigw_canary.rollout.decisions import Hold, Promote, Rollback, Shift, WaitingFor
from apigw_canary.values import moment, span


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
        evidence = gather_evidence(policy, observation, kept)
        self.analysis: Analysis = summarize(policy, evidence)
        self.gathered: list[SignalEvidence] = [
            g for g in evidence.signals if not g.signal.report_only
        ]
        """The evidence of the signals that may decide."""
        self.observed: list[SignalEvidence] = [
            g for g in self.gathered if g.signal.critical or not g.signal.is_latency
        ]
        """Those that must be observed: latency need not, unless it is critical."""
        self.critical_evidence: list[SignalEvidence] = [
            g for g in self.gathered if g.signal.critical
        ]
        """The evidence of the signals that a promotion needs."""
        self.critical: list[Signal] = [g.signal for g in self.critical_evidence]
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
    def unknown(self) -> list[tuple[Signal, UnknownOutcomes]]:
        """The requests of unknown outcome, of the signals that must be observed."""
        return [(g.signal, unknown_outcomes(g, self.seen)) for g in self.observed]

    @cached_property
    def silence(self) -> "Silence | None":
        """The silence of a critical signal, an implausible one first; None where there is none."""
        found = [quiet for signal in self.critical if (quiet := _silence(self, signal)) is not None]
        return min(found, key=lambda quiet: (not quiet.implausible, quiet.since), default=None)

    @cached_property
    def unobserved(self) -> tuple[timedelta, str] | None:
        """For how long the canary has been unobserved, and why; None where it is observed."""
        return _unobserved(self)

    @cached_property
    def unhealthy(self) -> tuple[Signal, Unhealthy] | None:
        """In which critical signal production is unhealthy, the first; None where it is not."""
        for g in self.critical_evidence:
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
            for remark in remarks_on_alarms(named, self.alarms, self.seen.started_at):
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
        return floor_minute(complete) + MINUTE - complete

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
        return floor_minute(self.seen.at - age)

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

        Of the critical signal that has the fewest: one source may have data where another has none.
        """
        first = max(ceil_minute(since), self.seen.judged_from())
        return min(
            sum(row.canary_requests for row in minutes_since(g.confirmed, first))
            for g in self.critical_evidence
        )

    def deadline(self) -> str:
        """The deadline, as written in a sentence."""
        said = f"the deadline of {span(self.policy.effective_deadline)} has passed"
        if self.seen.held_for:
            said += f" ({span(self.seen.held_for)} on hold not counted)"
        return said


SILENT = timedelta(minutes=10)
"""How long both variants may be without requests before it is reported."""

BUSY_MINUTES = 30
"""Minutes before a silence that decide whether the silence is implausible."""

BUSY = 10
"""Requests in each of these minutes from which on ten minutes without any are implausible: with
ten a minute the chance of one empty minute is e^-10 already."""

ENDING = 5
"""Minutes directly before a silence. Where they have less than half of the requests of the 30, the
traffic was ending, and its end is no sign of lost metrics."""

LEFT_OUT = 0.1
"""Part of a step's complete minutes, and more than one minute, that may be without requests between
busy ones: single late or lost minutes are no reason to hold."""

NAMED = 5
"""Missing minutes that a reason names."""


class Silence(NamedTuple):
    """Both variants are without requests in a critical signal."""

    signal: str
    since: datetime
    implausible: bool
    """Whether the minutes before rule out that there was no traffic."""


def _unobserved(view: View) -> tuple[timedelta, str] | None:
    if view.seen.failure is not None:
        return _failing(view, view.seen.failure)
    quiet = view.silence
    if quiet is not None and quiet.implausible:
        since = max(quiet.since, view.seen.started_at)
        return view.complete_until(view.policy.metric_delay) - since, (
            f"no requests of either variant in {quiet.signal} since {moment(quiet.since)}, after "
            f"{BUSY_MINUTES} minutes with at least {BUSY} requests each: check that the metrics "
            "arrive"
        )
    lasting = _without_data(view)
    if lasting is None:
        return _unreadable(view)
    return lasting, (
        f"no data from the canary for {span(lasting)} while the baseline has requests: check that "
        "the metric source reads the right API, stage and canary"
    )


def _failing(view: View, failure: str) -> tuple[timedelta, str]:
    """How long reads have failed: as recorded, or since this process's last successful read."""
    since, seen = view.seen.failing_since, view.seen.last_complete_at
    if since is None and seen != view.seen.at:
        since = seen
    if since is None:
        return timedelta(0), (
            f"the metrics or alarms cannot be read; it is not known since when ({failure})"
        )
    since = max(since, view.seen.step_started_at)
    reason = f"the metrics or alarms could not be read since {moment(since)} ({failure})"
    return view.seen.at - since, reason


def _without_data(view: View) -> timedelta | None:
    """For how long a canary that should have had requests has shown none; None where it has."""
    lengths: list[timedelta] = []
    for g in view.observed:
        served = next((row.at for row in reversed(g.minutes) if row.canary_requests > 0), None)
        since = view.seen.step_judged_from()
        since = max(since, served + MINUTE) if served is not None else since
        busy = [row for row in minutes_since(g.minutes, since) if row.baseline_requests > 0]
        if overlap.lacks_data(sum(row.baseline_requests for row in busy), view.seen.percent / 100):
            lengths.append(busy[-1].at + MINUTE - busy[0].at)
    return max(lengths, default=None)


def _unreadable(view: View) -> tuple[timedelta, str] | None:
    """For how long more of the canary's outcomes than of the baseline's could not be read."""
    for signal, found in view.unknown:
        if found.unobserved_since is not None:
            since = found.unobserved_since
            return view.seen.at - since, f"in {signal.name}, since {moment(since)}, {found}"
    return None


def _silence(view: View, signal: Signal) -> Silence | None:
    delay = view.policy.metric_delay
    last = view.last_served(signal, delay)
    if last is None:
        return None
    since = last + MINUTE
    if view.complete_until(delay) - since < SILENT:
        return None
    requests = view.totals(signal, delay, since=since - BUSY_MINUTES * MINUTE)
    before = [requests.get(since - i * MINUTE, 0.0) for i in range(BUSY_MINUTES, 0, -1)]
    ending = sum(before[-ENDING:]) / ENDING < sum(before) / BUSY_MINUTES / 2
    return Silence(signal.name, since, implausible=min(before) >= BUSY and not ending)


def _suspect(view: View) -> str | None:
    if view.seen.suspect is None:
        return None
    return f"the metrics are suspect: {view.seen.suspect}"


def _wrong_part(view: View) -> str | None:
    observed = {g.signal.name for g in view.observed}
    wrong = [f for f in view.deciding() if f.signal in observed and not f.sample_ratio_ok]
    if not wrong:
        return None
    return (
        f"the metrics are suspect: the counts do not fit {view.seen.percent:g} % of the traffic "
        f"({wrong[0]}); check that the metric source reads the right API, stage and canary"
    )


def _unknown(view: View) -> str | None:
    for signal, found in view.unknown:
        if found.suspect:
            return f"the metrics are suspect: in {signal.name}, {found}; correct what is logged"
    return None


def _never_given(view: View) -> str | None:
    missing = [signal.name for signal in view.critical if not view.seen.minutes.get(signal.name)]
    if not missing:
        return None
    names = ", ".join(missing)
    if any(view.seen.minutes.values()):
        return (
            f"the metric source has given no minute of {names}, which a promotion needs: correct "
            "the source, or take the signal out of the policy"
        )
    if view.complete_until(view.policy.metric_delay) - view.seen.started_at < SILENT:
        return None
    return (
        f"no metrics have arrived: the metric source has given no minute of {names}; check that "
        "the stage has traffic and that the source reads the right API and stage"
    )


def routes_without_data(policy: Plan, not_observed: Mapping[str, str]) -> list[str]:
    """The routes of a source's list that it has no data of."""
    signals = {signal.name for signal in policy.signals}
    return [name for name in not_observed if name not in signals and re.fullmatch(ROUTE, name)]


def _route_without_data(view: View) -> str | None:
    routes = routes_without_data(view.policy, view.seen.not_observed)
    if not routes or not any(view.seen.minutes.values()):
        return None
    return f"the metric source has a list of routes, but no data of {', '.join(routes)}"


def _silent(view: View) -> str | None:
    quiet = view.silence
    if quiet is None:
        return None
    return f"neither variant has had requests in {quiet.signal} since {moment(quiet.since)}"


PROBLEMS: tuple[Callable[[View], str | None], ...] = (
    _suspect,
    _wrong_part,
    _unknown,
    _never_given,
    _route_without_data,
    _silent,
)
"""What can be wrong with metrics that can be read, each in its own words."""


def problem_of_metrics(view: View) -> str | None:
    """The first of the problems of the metrics; None for none."""
    return next((said for each in PROBLEMS if (said := each(view)) is not None), None)


def missing_from_step(view: View) -> str | None:
    """What the complete minutes of a step lack for the step to be left; None where it may be left.

    At least half of them have had requests of either variant, or all of them together at least
    half of what the hour before the step had in the same time; the canary has had some lately; and
    the source has not left out minutes that busy traffic cannot have been without.
    """
    delay = view.policy.promotion_metric_delay
    recently = max(view.seen.step_started_at, view.seen.at - delay - view.policy.max_unobserved)
    if view.confirmed_canary_requests(recently) == 0:
        return (
            "the bake is over, but a critical signal had no canary requests from "
            f"{moment(recently)} to {moment(view.seen.at - delay)}"
        )
    first, end = view.seen.step_judged_from(), view.complete_until(delay)
    minutes = int((end - first) / MINUTE)
    # An earlier step of this rollout may have had the same gaps.
    before = (first, ceil_minute(view.seen.started_at))
    for signal in view.critical:
        requests = view.totals(signal, delay, since=first - 61 * MINUTE)
        step = [count for at, count in requests.items() if first <= at]
        served = sum(count > 0 for count in step)
        hour = sum(n for at, n in requests.items() if first - 61 * MINUTE <= at < first - MINUTE)
        if not (2 * served >= minutes or (hour and 2 * sum(step) >= hour * minutes / 60)):
            return (
                f"the bake is over, but only {served} of this step's {minutes} "
                f"complete minutes had requests in {signal.name}, {sum(step):,.0f} in all; "
                "the step ends once half "
                "of its minutes have requests, or once it has had half as many requests as the "
                "hour before in the same time"
            )
        missing = []
        if served < minutes:
            requests = view.totals(signal, delay)
            if any(_busy_hour(requests, at) for at in before):
                missing = _left_out(requests, first, end)
        if len(missing) > max(1, LEFT_OUT * minutes):
            named = ", ".join(map(moment, missing[:NAMED]))
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            return (
                f"the bake is over, but {len(missing)} of this step's {minutes} "
                f"complete minutes are missing in {signal.name} "
                f"({named}{more}), though minutes before and next to "
                f"them had at least {BUSY} requests each: check that the metrics arrive; the step "
                "ends once at most one in ten of its minutes is missing"
            )
    return None


def _busy_hour(requests: Mapping[datetime, float], end: datetime) -> bool:
    """Whether nine in ten minutes of the hour before had so many requests that none is empty."""
    hour = [requests.get(end - i * MINUTE, 0.0) for i in range(61, 1, -1)]
    return sum(count >= BUSY for count in hour) >= (1 - LEFT_OUT) * len(hour)


def _left_out(requests: Mapping[datetime, float], first: datetime, end: datetime) -> list[datetime]:
    """Minutes without requests whose nearest ones with requests are busy, oldest first.

    To be asked after a busy hour only: CloudWatch has no data for a minute without requests either.
    """
    served = sorted(at for at, count in requests.items() if count > 0)
    missing: list[datetime] = []
    for i in range(int((end - first) / MINUTE)):
        at = first + i * MINUTE
        if requests.get(at, 0.0) <= 0:
            after = bisect(served, at)
            if all(requests[near] >= BUSY for near in served[after - 1 : after + 1]):
                missing.append(at)
    return missing
