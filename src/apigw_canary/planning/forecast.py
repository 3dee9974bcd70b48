"""What a policy will do with a given traffic, from simulated rollouts."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs

from apigw_canary.judge import HISTORY, MINUTE, Minute, Plan, Row
from apigw_canary.planning.simulation import (
    Ended,
    binomial,
    ended_by,
    length,
    rolled_out,
    schedule,
    whole,
    whole_minutes,
)
from apigw_canary.rollout.decisions import Promote, Rollback
from apigw_canary.values import FrozenMapping, Renderable, Serializable, span, validation

OFTEN = 0.9
"""The fraction of the rollouts from which on a rise counts as found, and a plan as long enough."""

MULTIPLES = (1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
"""The range in which the smallest rise that is found is searched."""

FAR_WORSE = 5
"""A rise that a margin should not overlook."""

SHARES: Sequence[int] = range(5, 100, 5)
"""Percents among which a larger last step is searched."""

STRETCHES = (1, 1.15, 1.3, 1.5, 1.75, 2, 2.5, 3)
"""Times the extra bake that canaries seem to need; the first that proves enough is taken."""

SEARCHED = 50
"""Rollouts, at most, for each multiple and each change that is only searched for: a fraction of 50
has a standard error of 4 percentage points at 90 %."""

Progress = Callable[[int], object]
"""Called after each simulated rollout, with how many there have been. What it raises ends all."""

_START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class SimulatedRollout(Serializable):
    """The outcomes of simulated rollouts whose canary fails `times` as often as the baseline.

    The times are measured from the start. They count *all* rollouts: `promoted_after` is the time
    by which half of them were promoted.
    """

    times: float
    """The canary's rate divided by the baseline's; 1 is a clean canary."""
    promoted: float
    """The fraction of the rollouts that are promoted by the deadline, 0 to 1."""
    promoted_after: timedelta | None
    """The time by which half of all rollouts are promoted; None if fewer are."""
    promoted_after_90: timedelta | None
    """The time by which nine in ten of all rollouts are promoted; None if fewer are."""
    rolled_back: float
    """The fraction of the rollouts that are rolled back, 0 to 1. The remaining rollouts have no
    verdict at the deadline."""
    rolled_back_after: timedelta | None
    """The time by which half of all rollouts are rolled back; None if fewer are."""
    rolled_back_after_90: timedelta | None
    """The time by which nine in ten of all rollouts are rolled back; None if fewer are."""
    failed_requests: float
    """The mean number of the canary's bad requests until the end of the rollout."""

    def __str__(self) -> str:
        if self.times == 1:
            when = _when(self.promoted_after, self.promoted_after_90)
            return (
                f"A clean canary is promoted in {self.promoted:.0%} of the rollouts{when}; "
                f"{self.rolled_back:.0%} are rolled back."
            )
        when = _when(self.rolled_back_after, self.rolled_back_after_90)
        return (
            f"A canary that fails {self.times:g} times as often is rolled back in "
            f"{self.rolled_back:.0%}{when}; {self.promoted:.0%} are promoted; a mean of "
            f"{self.failed_requests:,.0f} of its requests fail."
        )


def _when(half: timedelta | None, most: timedelta | None) -> str:
    if half is None:
        return ""
    then = f", 9 of 10 within {span(most)}" if most is not None else ""
    return f" (half of all within {span(half)}{then})"


def _frozen(rates: Mapping[str, float]) -> Mapping[str, float]:
    return FrozenMapping(rates)


@attrs.frozen(kw_only=True)
class Forecast(Renderable):
    """A simulation of what a policy will do with given traffic.

    A fraction of 200 simulated rollouts has a standard error of up to 3.5 percentage points.
    """

    requests_per_minute: float
    """Requests a minute of both variants together."""
    bad_rates: Mapping[str, float] = attrs.field(converter=_frozen)
    """The baseline's fraction of bad requests, 0 to 1, by signal name."""
    signal: str
    """The name of the signal that gets worse."""
    length: timedelta
    """How long the plan takes: its bakes, and the time until the minutes are complete."""
    clean: SimulatedRollout
    """The outcomes for a canary as good as the baseline."""
    worse: tuple[SimulatedRollout, ...]
    """The outcomes for canaries that fail more often, one for each multiple."""
    smallest_seen: float | None
    """The smallest of the multiples for which nine in ten rollouts are rolled back; None if there
    is none."""
    problems: tuple[str, ...]
    """Why too few clean canaries are promoted, or canaries five times as bad are, each with the
    smallest change that fixes it: one sentence each."""

    def __str__(self) -> str:
        rate = f"{100 * self.bad_rates[self.signal]:g} % {self.signal}"
        seen = "No such canary is rolled back in 9 of 10 rollouts."
        if self.smallest_seen is not None:
            seen = (
                "The smallest multiple at which 9 of 10 rollouts are rolled back is "
                f"{self.smallest_seen:g}."
            )
        said = [
            f"With {self.requests_per_minute:g} requests a minute and {rate}:",
            *map(str, (self.clean, *self.worse)),
            seen,
            *self.problems,
        ]
        return " ".join(said)


def forecast(
    policy: Plan,
    requests_per_minute: float,
    bad_rate: float | Mapping[str, float],
    *,
    times: Sequence[float],
    signal: str | None,
    rollouts: int,
    seed: int,
    progress: Progress | None,
) -> Forecast:
    """See `RolloutPolicy.forecast`."""
    policy = _of_the_stage(policy)
    rates = _rates(policy, bad_rate)
    worse = next(s.name for s in policy.signals if s.critical) if signal is None else signal
    deciding = [s.name for s in policy.signals if s.name in rates and not s.report_only]
    validation.choice(worse, "signal", tuple(deciding))
    if rates[worse] == 0:
        validation.refuse("bad_rate", f"above 0 for {worse}, so that it can be multiplied", 0)
    scene = _Scene(
        policy=attrs.evolve(policy, on_inconclusive="hold"),
        requests=validation.number(requests_per_minute, "requests_per_minute", low=0.01, high=1e6),
        rates=rates,
        signal=worse,
        rollouts=validation.count(rollouts, "rollouts", low=10, high=100_000),
        seed=validation.count(seed, "seed", low=-(2**63), high=2**63),
        progress=progress,
    )
    multiples = _multiples(times)
    clean = list(scene.run())
    outlooks = tuple(_outlook(scene, each, list(scene.run(each))) for each in multiples)
    problems = [] if scene.mostly(scene.in_time, clean) else [_too_short(scene, clean)]
    return Forecast(
        requests_per_minute=scene.requests,
        bad_rates=rates,
        signal=worse,
        length=scene.length,
        clean=_outlook(scene, 1, clean),
        worse=outlooks,
        smallest_seen=_smallest_seen(scene, outlooks),
        problems=(*problems, *_wide_margin(scene)),
    )


def _of_the_stage(policy: Plan) -> Plan:
    """The policy without its signals of one route, which have less traffic; unless it has no other
    critical one.
    """
    signals = [each for each in policy.signals if each.route is None]
    if not any(each.critical for each in signals):
        return policy
    return attrs.evolve(policy, signals=signals)


def _multiples(times: object) -> list[float]:
    if not isinstance(times, Sequence) or isinstance(times, str):
        validation.refuse("times", "a list of numbers", times)
    return sorted(validation.number(each, "times", low=1.01, high=1e6) for each in times)


def _rates(policy: Plan, bad_rate: float | Mapping[str, float]) -> dict[str, float]:
    critical = [signal.name for signal in policy.signals if signal.critical]
    given = bad_rate if isinstance(bad_rate, Mapping) else dict.fromkeys(critical, bad_rate)
    if not set(critical) <= set(given) <= {signal.name for signal in policy.signals}:
        validation.refuse(
            "bad_rate", f"a rate for each of {', '.join(critical)}", sorted(map(str, given))
        )
    rates = {
        n: validation.number(rate, f"bad_rate of {n}", low=0, high=1) for n, rate in given.items()
    }
    for each in policy.signals:
        most = min((1 - each.slack) / each.ratio, each.limit or 1)
        if each.critical and rates[each.name] >= most:
            validation.refuse(
                f"bad_rate of {each.name}",
                f"below {most:g}, from which on the baseline is too unhealthy for a comparison",
                rates[each.name],
            )
    return rates


@attrs.frozen(kw_only=True)
class _Scene:
    """A policy and its traffic."""

    policy: Plan
    requests: float
    rates: Mapping[str, float]
    signal: str
    rollouts: int
    seed: int
    progress: Progress | None
    done: list[int] = attrs.field(factory=list)
    """The number of each rollout that was simulated, of this traffic and all like it."""

    @property
    def length(self) -> timedelta:
        """What the plan takes."""
        return length(self.policy)

    def run(self, times: float = 1) -> Iterator[Ended]:
        """Rollouts of a canary that fails that many times as often."""
        for number in range(self.rollouts):
            yield self._rolled_out(number, times)
            self.done.append(number)
            if self.progress is not None:
                self.progress(len(self.done))

    def in_time(self, ended: Ended) -> bool:
        """Whether it was promoted without more than what the plan takes."""
        return isinstance(ended.decision, Promote) and ended.after <= self.length

    def mostly(self, holds: Callable[[Ended], bool], rollouts: Iterable[Ended]) -> bool:
        """Whether it holds for nine in ten; stops once it cannot."""
        failing = (not holds(ended) for ended in rollouts)
        allowed = self.rollouts - math.ceil(round(OFTEN * self.rollouts, 6))
        misses = 0
        return not any((misses := misses + fails) > allowed for fails in failing)

    def with_step(self, place: int, **changes: Any) -> "_Scene":
        """With that step changed."""
        steps = list(self.policy.steps)
        steps[place] = attrs.evolve(steps[place], **changes)
        return attrs.evolve(self, policy=attrs.evolve(self.policy, steps=steps))

    def searching(self) -> "_Scene":
        """With fewer rollouts, to find only whether nine in ten of them end so or not."""
        return attrs.evolve(self, rollouts=min(self.rollouts, SEARCHED))

    def _rolled_out(self, number: int, times: float) -> Ended:
        rng = Random(f"{self.seed}/{number}")
        of_canary = {**self.rates, self.signal: min(self.rates[self.signal] * times, 1.0)}

        def served(_: int, share: float) -> dict[str, Row]:
            total = whole(rng, self.requests)
            canary = binomial(rng, total, share)
            arms = (total - canary, canary)
            return {
                name: Row(
                    arms[0],
                    binomial(rng, arms[0], rate),
                    arms[1],
                    binomial(rng, arms[1], of_canary[name]),
                )
                for name, rate in self.rates.items()
            }

        hour = whole(rng, HISTORY // MINUTE * self.requests)
        history = {
            name: [Minute(_START - MINUTE, hour, binomial(rng, hour, rate), 0, 0)]
            for name, rate in self.rates.items()
        }
        return rolled_out(self.policy, served, started_at=_START, history=history)

    def fits(self) -> bool:
        """Whether nine in ten clean canaries are promoted within what the plan takes."""
        deadline = max(self.policy.total_bake, min(self.length, self.policy.effective_deadline))
        ends_then = attrs.evolve(self.policy, deadline=deadline)
        return self.mostly(self.in_time, attrs.evolve(self, policy=ends_then).run())


def _outlook(scene: _Scene, times: float, rollouts: Sequence[Ended]) -> SimulatedRollout:
    def share(kind: type[Promote | Rollback]) -> float:
        return sum(isinstance(ended.decision, kind) for ended in rollouts) / len(rollouts)

    return SimulatedRollout(
        times=times,
        promoted=share(Promote),
        promoted_after=ended_by(0.5, rollouts, Promote),
        promoted_after_90=ended_by(OFTEN, rollouts, Promote),
        rolled_back=share(Rollback),
        rolled_back_after=ended_by(0.5, rollouts, Rollback),
        rolled_back_after_90=ended_by(OFTEN, rollouts, Rollback),
        failed_requests=sum(ended.failed(scene.signal) for ended in rollouts) / len(rollouts),
    )


def _smallest_seen(scene: _Scene, known: Sequence[SimulatedRollout]) -> float | None:
    low = max((each.times for each in known if each.rolled_back < OFTEN), default=1.0)
    seen = min((e.times for e in known if e.times > low), default=None)
    between = [
        each
        for each in MULTIPLES
        if low < each < (seen or math.inf) and each * scene.rates[scene.signal] <= 1
    ]

    search = scene.searching()

    def found(times: float) -> bool:
        return search.mostly(lambda e: isinstance(e.decision, Rollback), search.run(times))

    place = bisect_left(between, 1, key=found)
    return between[place] if place < len(between) else seen


def _too_short(scene: _Scene, clean: Sequence[Ended]) -> str:
    """That the plan ends without a verdict, and the smallest changes of its last step that help."""
    promoted = sum(map(scene.in_time, clean)) / scene.rollouts
    said = (
        f"Within the {span(scene.length)} that the plan takes, {promoted:.0%} of clean canaries "
        "are promoted"
    )
    place = max(i for i, step in enumerate(scene.policy.steps) if step.percent < 100)
    step = scene.policy.steps[place]
    bakes = _longer_bakes(scene, schedule(scene.policy)[place], clean)
    search = scene.searching()
    longer = next((bake for bake in bakes if search.with_step(place, bake=bake).fits()), None)
    above = (share for share in SHARES if share > step.percent)
    larger = next((share for share in above if search.with_step(place, percent=share).fits()), None)
    changes = []
    if longer is not None:
        changes.append(f"bake the step of {step.percent:g} % for {span(longer)}")
    if larger is not None:
        changes.append(f"raise the step of {step.percent:g} % to {larger} %")
    if not changes:
        return (
            f"{said}, and no longer bake or larger percentage is sufficient: more requests are "
            "needed."
        )
    return f"{said}; to promote 9 of 10, {', or '.join(changes)}."


def _longer_bakes(scene: _Scene, bake: int, clean: Sequence[Ended]) -> Iterator[timedelta]:
    # One that waits at the last step serves the same minutes as one that bakes there, and would
    # be confirmed as soon; but it may be so for a while only.
    late = ended_by(OFTEN, clean, Promote)
    if late is None:
        return
    for stretch in STRETCHES:
        more = whole_minutes(stretch * (late - scene.length))
        if scene.length + more * MINUTE <= scene.policy.effective_deadline:
            yield (bake + more) * MINUTE


def _wide_margin(scene: _Scene) -> Iterator[str]:
    """That a large rise is within the margin, and the margin without it."""
    (signal,) = (each for each in scene.policy.signals if each.name == scene.signal)
    excess = (FAR_WORSE - signal.ratio) * scene.rates[scene.signal]
    if signal.critical and excess <= signal.margin:
        mended = (
            f"a margin below {excess:.2g} would not allow it, and takes more requests"
            if excess > signal.slack
            else "its ratio and slack tolerate that"
        )
        yield (
            f"A canary that fails {FAR_WORSE} times as often is within the margin of "
            f"{signal.name}, {100 * signal.margin:g} %, and may be promoted: {mended}."
        )
