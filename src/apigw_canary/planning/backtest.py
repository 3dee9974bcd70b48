"""How often a policy would have rolled back healthy releases: past traffic, divided at random."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

import attrs

from apigw_canary.judge import HISTORY, MINUTE, Measurements, Minute, Observation, Plan, Row
from apigw_canary.planning.forecast import Progress
from apigw_canary.planning.simulation import (
    Ended,
    binomial,
    divide,
    ended_by,
    length,
    rolled_out,
    whole,
    whole_minutes,
)
from apigw_canary.rollout.decisions import Promote, Rollback
from apigw_canary.values import Renderable, Serializable, moment, span, validation


@attrs.frozen(kw_only=True)
class FalseRollback(Serializable):
    """A healthy canary that a policy would have rolled back."""

    started_at: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the rollout would have begun."""
    after: timedelta
    """How long after its start the rollout would have been rolled back."""
    signal: str | None
    """The name of the signal with the most evidence; None if the canary was rolled back because it
    had no data for too long."""


@attrs.frozen(kw_only=True)
class Backtest(Renderable):
    """How a policy would have treated healthy releases in past traffic."""

    since: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """When the first rollout would have begun."""
    until: datetime = attrs.field(converter=validation.utc, validator=validation.aware_field)
    """The end of the last minute of the past traffic."""
    noise: float
    """The noise that was assumed of each variant: a coefficient of variation per minute."""
    rollouts: int
    """The number of rollouts that were simulated."""
    rolled_back: tuple[FalseRollback, ...]
    """The rollouts that were rolled back."""
    promoted: int
    """The number of rollouts that were promoted."""
    promoted_after: timedelta | None
    """The time after the start by which half of all rollouts were promoted; None if fewer were."""
    false_rollback: float
    """The policy's `false_rollback`: the largest fraction of healthy canaries that may be rolled
    back."""

    @property
    def undecided(self) -> int:
        """The number of rollouts without a verdict at the deadline, or when the data ended."""
        return self.rollouts - self.promoted - len(self.rolled_back)

    def __str__(self) -> str:
        half = f" (half of all within {span(self.promoted_after)})" if self.promoted_after else ""
        return (
            f"Of {self.rollouts} healthy rollouts from {moment(self.since)} to "
            f"{moment(self.until)}, {len(self.rolled_back)} "
            f"({len(self.rolled_back) / self.rollouts:.1%}) would have been rolled back (allowed: "
            f"at most {self.false_rollback:.1%}), {self.promoted} promoted{half}; "
            f"{self.undecided} had no verdict. Assumed noise of each variant: {self.noise:g}."
        )


class _Total(NamedTuple):
    """What both variants served in a minute."""

    requests: float
    bad: float
    unknown: float


_Past = Mapping[str, Mapping[datetime, _Total]]


def backtest(
    policy: Plan,
    minutes: Mapping[str, Sequence[Minute]] | Observation,
    *,
    noise: float,
    rollouts: int | None,
    seed: int,
    progress: Progress | None,
) -> Backtest:
    """See `RolloutPolicy.backtest`."""
    validation.number(noise, "noise", low=0, high=2)
    validation.count(seed, "seed", low=-(2**63), high=2**63)
    if isinstance(minutes, Observation | Measurements) and minutes.suspect is not None:
        validation.refuse(
            "minutes", f"counts that are not suspect ({minutes.suspect})", "suspect ones"
        )
    past = _past(policy, minutes)
    until = max(max(rows) for rows in past.values()) + MINUTE
    starts = list(_starts(policy, past, until))
    if not starts:
        least = span(HISTORY + length(policy))
        validation.refuse(
            "minutes",
            f"minutes of at least {least} without a gap (an hour of history and the plan)",
            f"minutes until {until}",
        )
    if rollouts is not None:
        validation.count(rollouts, "rollouts", low=1, high=1_000_000)
        starts = starts[:: -(-len(starts) // rollouts)]
    ends = []
    for start in starts:
        rng = Random(f"{seed}/{start.timestamp()}")
        ends.append(_rolled_out(policy, past, start, until=until, noise=noise, rng=rng))
        if progress is not None:
            progress(len(ends))
    return Backtest(
        since=starts[0],
        until=until,
        noise=noise,
        rollouts=len(ends),
        rolled_back=tuple(
            FalseRollback(started_at=start, after=ended.after, signal=ended.signal)
            for start, ended in zip(starts, ends, strict=True)
            if isinstance(ended.decision, Rollback)
        ),
        promoted=sum(isinstance(ended.decision, Promote) for ended in ends),
        promoted_after=ended_by(0.5, ends, Promote),
        false_rollback=policy.false_rollback,
    )


def _past(policy: Plan, minutes: Mapping[str, Sequence[Minute]] | Observation) -> _Past:
    """What the policy's signals counted, of both variants together."""
    overlap = minutes.overlap if isinstance(minutes, Observation | Measurements) else "excluded"
    series = minutes.minutes if isinstance(minutes, Observation) else minutes
    if not isinstance(series, Mapping):
        validation.refuse("minutes", "an Observation, or a mapping of signals to minutes", minutes)
    past: dict[str, dict[datetime, _Total]] = {}
    for signal in policy.signals:
        totals: dict[datetime, _Total] = {}
        for row in series.get(signal.name, ()):
            if not isinstance(row, Minute):
                validation.refuse(f"minutes[{signal.name!r}]", "a list of Minute", row)
            if overlap == "included":
                totals[row.at] = _Total(
                    row.baseline_requests, row.baseline_bad, row.baseline_unknown
                )
            elif overlap == "excluded" or not row.canary_requests:
                totals[row.at] = _Total(
                    row.baseline_requests + row.canary_requests,
                    row.baseline_bad + row.canary_bad,
                    row.baseline_unknown + row.canary_unknown,
                )
        if totals:
            past[signal.name] = totals
        elif signal.critical:
            validation.refuse(
                "minutes", f"some of {signal.name}, which is critical", sorted(series)
            )
    return past


def _starts(policy: Plan, past: _Past, until: datetime) -> Iterator[datetime]:
    """One rollout after the other, each with an hour before it and a whole plan of time.

    Without those in which a critical signal has no minute at all: nothing ran, or nothing was
    measured.
    """
    critical = [past[signal.name] for signal in policy.signals if signal.critical]
    takes = length(policy)
    start = max(min(rows) for rows in critical) + HISTORY
    while start + takes <= until:
        plan = [start + i * MINUTE for i in range(takes // MINUTE)]
        if all(any(at in rows for at in plan) for rows in critical):
            yield start
        start += whole_minutes(takes) * MINUTE


def _rolled_out(
    policy: Plan,
    past: _Past,
    start: datetime,
    *,
    until: datetime,
    noise: float,
    rng: Random,
) -> Ended:
    def served(number: int, share: float) -> dict[str, Row]:
        at = start + number * MINUTE
        split: dict[float, tuple[int, int]] = {}  # signals of one total count the same requests
        rows = {}
        for name, totals in past.items():
            if at in totals:
                requests, bad, unknown = totals[at]
                if requests not in split:
                    total = whole(rng, requests)
                    canary = binomial(rng, total, share)
                    split[requests] = (total - canary, canary)
                arms = split[requests]
                factors = (_factor(rng, noise), _factor(rng, noise))
                of_both = min(whole(rng, bad), sum(arms))
                x_c = divide(rng, of_both, arms, factors)
                known = (arms[0] - of_both + x_c, arms[1] - x_c)
                unread = min(whole(rng, unknown), sum(known))
                u_c = divide(rng, unread, known, (1.0, 1.0))
                rows[name] = Row(arms[0], of_both - x_c, arms[1], x_c, unread - u_c, u_c)
        return rows

    hour = [start - HISTORY + i * MINUTE for i in range(HISTORY // MINUTE)]
    history = {
        name: [
            Minute(at, requests, bad, 0, 0, unknown)
            for at in hour
            if at in totals
            for requests, bad, unknown in (totals[at],)
        ]
        for name, totals in past.items()
    }
    deadline = max(policy.total_bake, min(policy.effective_deadline, until - start))
    policy = attrs.evolve(policy, on_inconclusive="hold", deadline=deadline)
    return rolled_out(policy, served, started_at=start, history=history)


def _factor(rng: Random, noise: float) -> float:
    """Random factor of one variant's rate in a minute: mean 1, that coefficient of variation."""
    return rng.gammavariate(noise**-2, noise**2) if noise else 1.0
