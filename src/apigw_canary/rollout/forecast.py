"""What a plan can tell: by simulation, and over the past.

Both walk through rollouts with the real `decide`, on minutes that are drawn at random from a seed
that the caller gives; the same arguments give the same answer.

`decide` reads all minutes at each look, so two things keep that affordable. A rollout is not looked
at every minute but when something can change: at the end of each bake, and after the last one when
the evidence may suffice. "Worse" once reached stays reached, so when it was is found by halving; a
promotion is seen late by a minute, or by 2 % of the rollout's age. And when a rollout has come to
more than a few hours, its minutes are merged two by two, with the tolerated noise of so long rows.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from random import Random
from typing import TYPE_CHECKING, Literal, get_args

import attrs

from apigw_canary.rollout import inputs, words
from apigw_canary.rollout.analysis import Analysis, Finding, Verdict
from apigw_canary.rollout.decision import Promote, Shift
from apigw_canary.rollout.observation import MINUTE, Minute, Observation, Overlap
from apigw_canary.rollout.plain import Plain
from apigw_canary.rollout.signals import Signal

if TYPE_CHECKING:
    from apigw_canary.rollout.policy import RolloutPolicy, Step

HISTORY = 60
"""Minutes of the baseline's past that a rollout starts with."""

LONGEST = timedelta(days=14)
"""The longest deadline."""

_ROWS = 8_000
"""About how many rows the judge may read for one case of a forecast, before it makes do with fewer
rollouts: a quarter to half a second."""

_FEWEST = 20
"""Rollouts of a case that are simulated in any case: shares are then right to 10 points."""

_MOST_ROWS = 60
"""Rows of one signal in a rollout, before they are merged."""

_BUSY = 8.0
"""Requests a minute with which an arm is never without any: one minute in 3,000."""

_SOMETIME = datetime(2000, 1, 1, tzinfo=UTC)
"""A simulated rollout has to start at some time; which one does not matter."""

_Outcome = Literal["promoted", "worse", "undecided"]

_Draw = Callable[[datetime, int, float], Iterable[tuple[str, Minute]]]
"""From the first minute, the number of minutes and the canary's percent: a row for each signal."""


@attrs.frozen(kw_only=True)
class Outlook(Plain):
    """How the rollouts of one kind of canary would go."""

    factor: float
    """The canary's rate of bad requests over the baseline's; 1 for a clean canary."""
    bad_rate: float
    """The canary's rate of bad requests, 0 to 1."""
    promoted: float
    """The share of the rollouts that end with a promotion, 0 to 1."""
    rolled_back: float
    """The share in which the canary is found to be worse, 0 to 1; for a clean canary falsely."""
    undecided: float
    """The share without either by the deadline, 0 to 1."""
    median: timedelta | None
    """When half of all the rollouts have ended rightly: a clean canary is promoted, a worse one
    found; from the rollout's start. None where fewer than half ever do."""
    nine_in_ten: timedelta | None
    """When nine in ten of them have; None where fewer ever do."""
    failed_requests: float
    """How many more requests fail than without the canary, until the end; on average."""
    within_margin: bool
    """Whether the policy's margin allows such a canary to be promoted."""
    rollouts: int
    """How many rollouts were simulated."""

    def __str__(self) -> str:
        if self.factor == 1:
            return (
                f"A clean canary: {_share(self.promoted)} promoted{_times(self)}, "
                f"{_share(self.rolled_back)} rolled back, {_share(self.undecided)} undecided"
            )
        inside = ", within the margin" if self.within_margin else ""
        return (
            f"×{self.factor:g} ({_rate(self.bad_rate)}{inside}): {_share(self.rolled_back)} found"
            f"{_times(self)}, {_share(self.promoted)} promoted, {_share(self.undecided)} undecided"
            f"; {self.failed_requests:,.0f} more failed requests until then"
        )


@attrs.frozen(kw_only=True)
class Forecast(Plain):
    """What a plan can tell at a given traffic, and what it will miss.

    For steady traffic and one signal, as if all other signals were healthy and quiet.
    """

    signal: str
    """The signal's name."""
    requests_per_minute: float
    """Requests per minute of both arms together."""
    bad_rate: float
    """The baseline's rate of bad requests, 0 to 1."""
    plan: timedelta
    """How long the plan takes at least: all its bakes."""
    deadline: timedelta
    """When a rollout without a verdict ends."""
    promoted_in_plan: float
    """The share of the clean canaries that are promoted when the last bake ends, 0 to 1."""
    clean: Outlook
    """A canary that fares like the baseline."""
    worse: tuple[Outlook, ...]
    """Canaries that fare worse, in the order asked for."""
    missed_rate: float
    """The rate up to which a canary may well be promoted: ratio x the baseline's + margin, 0 to 1.
    Beyond it at most `false_promotion` are."""
    changes: tuple[str, ...]
    """Where fewer than half of the clean canaries are promoted within the plan: the smallest change
    of each kind that would make it about half, in words."""
    other_signals: tuple[str, ...]
    """Further signals that a promotion waits for; each has a forecast of its own."""

    @property
    def missed_excess(self) -> float:
        """How far `missed_rate` lies above the baseline's rate, 0 to 1."""
        return self.missed_rate - self.bad_rate

    @property
    def missed_factor(self) -> float:
        """How many times the baseline's rate `missed_rate` is."""
        return self.missed_rate / self.bad_rate

    @property
    def can_tell(self) -> bool:
        """Whether at least half of the clean canaries are promoted by the deadline."""
        return self.clean.promoted >= 0.5

    def __str__(self) -> str:
        """The answer, then the numbers: a line for each kind of canary."""
        inside = [f"×{outlook.factor:g}" for outlook in self.worse if outlook.within_margin]
        traffic = f"{self.signal} at {self.requests_per_minute:,.10g} requests a minute"
        lines = [
            f"{traffic}, {_rate(self.bad_rate)} of them bad: {self._answer()}",
            str(self.clean),
            *map(str, self.worse),
            f"The margin lets a canary pass with up to {_rate(self.missed_rate)} bad requests "
            f"(×{self.missed_factor:.3g}, an excess of {_rate(self.missed_excess)})"
            + (f", so {' and '.join(inside)} too unless found before" if inside else ""),
        ]
        if self.changes:
            lines.append(f"To tell within the plan: {', or '.join(self.changes)}")
        elif self.promoted_in_plan < 0.5:
            lines.append("To tell within the plan: no one change of step, bake or margin is enough")
        if self.other_signals:
            lines.append(f"A promotion waits for {', '.join(self.other_signals)} as well")
        return "\n".join(lines)

    def _answer(self) -> str:
        plan = words.span(self.plan)
        if self.promoted_in_plan >= 0.5:
            return f"the plan can tell in its {plan}"
        if not self.can_tell:
            return f"the plan cannot tell, not even by its deadline of {words.span(self.deadline)}"
        assert self.clean.median is not None  # half of them are promoted
        return f"the plan cannot tell in its {plan}; half the time it takes up to " + words.span(
            self.clean.median
        )


@attrs.frozen(kw_only=True)
class Replay(Plain):
    """One rollout over the past."""

    started_at: datetime = attrs.field(validator=inputs.aware_field)
    """When it would have been started."""
    ended_at: datetime = attrs.field(validator=inputs.aware_field)
    """When it would have ended, or the data do."""
    outcome: Literal["promoted", "worse", "undecided"]
    """How: "worse" is a rollback, and a false one."""
    evidence: float
    """The evidence for "worse" at its strongest, over what a rollback needs; 1 is a rollback."""
    finding: Finding
    """The signal that most spoke for "worse"."""

    def __str__(self) -> str:
        return (
            f"started at {self.started_at:%Y-%m-%d %H:%M}, {_IN_WORDS[self.outcome]} at "
            f"{self.ended_at:%H:%M}; {self.finding}; evidence "
            f"{words.odds(self.finding.worse_odds)}"
        )


_IN_WORDS = {"promoted": "promoted", "worse": "rolled back", "undecided": "left undecided"}


@attrs.frozen(kw_only=True)
class Backtest(Plain):
    """How rollouts of a healthy canary would have gone in the past."""

    rollouts: int
    """How many were tried."""
    promoted: int
    """How many were promoted."""
    rolled_back: int
    """How many were rolled back: falsely, for both arms are alike."""
    undecided: int
    """How many reached the deadline, or the end of the data, without a verdict."""
    median: timedelta | None
    """When half of all the rollouts were promoted, from their start; None where fewer were."""
    nine_in_ten: timedelta | None
    """When nine in ten were; None where fewer were."""
    blamed: Mapping[str, int]
    """Signal name to the number of rollbacks in which it spoke the loudest."""
    worst: Replay
    """The rollout in which the most spoke for "worse"."""
    false_rollback: float
    """What the policy allows, 0 to 1."""

    @property
    def too_many(self) -> bool:
        """Whether more were rolled back than `false_rollback` and chance explain."""
        allowed = self.false_rollback * self.rollouts
        return self.rolled_back > allowed + 2 * math.sqrt(allowed)

    def __str__(self) -> str:
        """The numbers, the worst of the rollouts, and what to do."""
        waited = "".join(
            f", {name} within {words.span(time)}"
            for name, time in (("half", self.median), ("90 %", self.nine_in_ten))
            if time is not None
        )
        blamed = ", ".join(f"{name} {count}" for name, count in self.blamed.items())
        rolled_back = f"{self.rolled_back} rolled back, falsely{blamed and f' ({blamed})'}"
        promoted = f"{self.rollouts} rollouts of a healthy canary: {self.promoted} promoted{waited}"
        lines = [
            f"{promoted}; {rolled_back}; {self.undecided} undecided",
            f"The worst {self.worst}",
        ]
        if self.too_many:
            lines.append(
                f"More than the {_share(self.false_rollback)} that the policy allows: raise the "
                f"noise of {' and '.join(self.blamed)}"
            )
        return "\n".join(lines)


def forecast(
    policy: "RolloutPolicy",
    requests_per_minute: float,
    bad_rate: float,
    *,
    signal: str | None = None,
    worse: Sequence[float] = (2.0, 5.0, 10.0),
    rollouts: int = 200,
    seed: int = 0,
    overlap: Overlap = "unknown",
) -> Forecast:
    """What the plan can tell. See `RolloutPolicy.forecast`."""
    rate = inputs.number(
        requests_per_minute, "requests_per_minute", low=0.01, high=1e7, unit=" a minute"
    )
    bad = inputs.number(bad_rate, "bad_rate", low=1e-6, high=0.9)
    factors = _factors(worse)
    _whole(rollouts, "rollouts", low=1, high=100_000)
    _whole(seed, "seed")
    inputs.choice(overlap, "overlap", get_args(Overlap))
    chosen = _critical(policy, signal)
    judged = attrs.evolve(
        policy,
        signals=[attrs.evolve(s, critical=s.name == chosen.name) for s in policy.signals],
    )
    missed = min(chosen.ratio * bad + chosen.margin, 1.0)
    traffic = _Traffic(judged, chosen, rate, bad, overlap)
    plan = _planned(policy)

    def outlook(factor: float) -> tuple[Outlook, float]:
        ends = list(traffic.rollouts(factor, rollouts, seed))
        right = "promoted" if factor == 1 else "worse"
        times = [end.minutes for end in ends if end.outcome == right]
        counts = Counter(end.outcome for end in ends)
        canary_rate = traffic.canary_rate(factor)
        excess = rate * (canary_rate - bad)
        found = Outlook(
            factor=factor,
            bad_rate=canary_rate,
            promoted=counts["promoted"] / len(ends),
            rolled_back=counts["worse"] / len(ends),
            undecided=counts["undecided"] / len(ends),
            median=_when(times, 0.5, len(ends)),
            nine_in_ten=_when(times, 0.9, len(ends)),
            failed_requests=excess * sum(end.exposed for end in ends) / len(ends),
            within_margin=canary_rate < missed,
            rollouts=len(ends),
        )
        in_plan = sum(end.outcome == "promoted" and end.minutes <= plan for end in ends)
        return found, in_plan / len(ends)

    clean, in_plan = outlook(1.0)
    return Forecast(
        signal=chosen.name,
        requests_per_minute=rate,
        bad_rate=bad,
        plan=plan * MINUTE,
        deadline=policy.allowed,
        promoted_in_plan=in_plan,
        clean=clean,
        worse=tuple(outlook(factor)[0] for factor in factors),
        missed_rate=missed,
        changes=() if in_plan >= 0.5 else tuple(_changes(traffic)),
        other_signals=tuple(s.name for s in policy.signals if s.critical and s.name != chosen.name),
    )


def backtest(
    policy: "RolloutPolicy",
    minutes: Mapping[str, Sequence[Minute]],
    *,
    seed: int,
    rollouts: int = 50,
    start_every: timedelta | None = None,
    burst: int = 1,
    overlap: Overlap = "unknown",
) -> Backtest:
    """How rollouts would have gone. See `RolloutPolicy.backtest`."""
    _whole(seed, "seed")
    _whole(rollouts, "rollouts", low=1, high=100_000)
    _whole(burst, "burst", low=1, high=1_000_000)
    inputs.choice(overlap, "overlap", get_args(Overlap))
    if start_every is not None:
        inputs.duration(start_every, "start_every", low=MINUTE)
    past = _Past(policy, minutes)
    replays: list[Replay] = []
    for i, begin in enumerate(past.starts(rollouts, start_every)):
        draw = past.thinned(Random(f"{seed}/{i}"), burst, overlap)
        end = _walk(
            policy,
            draw,
            begin=begin,
            history=past.before(begin),
            pace=past.pace,
            overlap=overlap,
            until=(past.end - begin) // MINUTE,
        )
        replays.append(_replayed(policy, begin, end))
    counts = Counter(replay.outcome for replay in replays)
    times = [
        (replay.ended_at - replay.started_at) // MINUTE
        for replay in replays
        if replay.outcome == "promoted"
    ]
    return Backtest(
        rollouts=len(replays),
        promoted=counts["promoted"],
        rolled_back=counts["worse"],
        undecided=counts["undecided"],
        median=_when(times, 0.5, len(replays)),
        nine_in_ten=_when(times, 0.9, len(replays)),
        blamed=dict(
            Counter(r.finding.signal for r in replays if r.outcome == "worse").most_common()
        ),
        worst=max(replays, key=lambda replay: replay.evidence),
        false_rollback=policy.false_rollback,
    )


# How a rollout goes


@attrs.frozen(kw_only=True)
class _End:
    """How a rollout ended."""

    outcome: _Outcome
    minutes: int
    """From its start."""
    exposed: float
    """Minutes x share of the requests that the canary had."""
    analysis: Analysis
    """The evidence at its end."""
    read: int
    """How many rows the judge has read."""


def _walk(
    policy: "RolloutPolicy",
    draw: _Draw,
    *,
    begin: datetime,
    history: Mapping[str, Sequence[Minute]],
    pace: float,
    overlap: Overlap,
    until: float = math.inf,
) -> _End:
    """Go through a rollout, look by look.

    `pace`: requests per minute of both arms, to guess when the next look is worth it. `until`:
    minutes from the beginning after which there is nothing to be seen.
    """
    rows = {signal.name: list(history.get(signal.name, ())) for signal in policy.signals}
    last_look = math.ceil(min(policy.allowed / MINUTE + 1, until))
    percent = policy.steps[0].percent
    looked = step_started = read = 0
    width, judge = 1, policy
    exposed = 0.0
    now = _bake(policy.steps[0])
    while True:
        now = min(now, last_look)
        while max(map(len, rows.values())) + (now - looked) / width > _MOST_ROWS:
            rows = {name: _merged(kept, begin, overlap) for name, kept in rows.items()}
            width *= 2
            judge = _widened(policy, width)
        for first, count in _windows(looked, now, width):
            for name, row in draw(begin + first * MINUTE, count, percent):
                rows[name].append(row)
        seen = Observation(
            at=begin + now * MINUTE,
            started_at=begin,
            step_started_at=begin + step_started * MINUTE,
            percent=percent,
            minutes=rows,
            overlap=overlap,
        )
        size = sum(map(len, rows.values()))
        read += size
        decision = judge.decide(seen)
        analysis = decision.analysis
        assert analysis is not None  # only where no canary was seen
        outcome: _Outcome = "undecided"
        if analysis.verdict is Verdict.WORSE:
            outcome = "worse"
            now, analysis, looks = _first_worse(judge, seen, analysis, looked, now)
            read += looks * size  # about
        elif isinstance(decision, Promote):
            outcome = "promoted"
        exposed += (now - looked) * percent / 100
        if outcome != "undecided" or decision.final or now == last_look:
            return _End(outcome=outcome, minutes=now, exposed=exposed, analysis=analysis, read=read)
        looked = now
        if isinstance(decision, Shift):
            percent, step_started = decision.percent, now
            now += _bake(policy.step_at(percent))
        else:
            now += _gap(policy, analysis, now, pace * percent / 100)


def _bake(step: "Step") -> int:
    """In minutes; it takes one to see anything."""
    return max(math.ceil(step.bake / MINUTE), 1)


def _windows(first: int, end: int, width: int) -> Iterator[tuple[int, int]]:
    """The minutes from `first` to `end` in parts of at most `width`, and ever smaller ones at last.

    What is recent counts by itself: whether it has settled, and whether the canary is seen at all.
    The rollout's first minute is apart: it is not judged, as the canary is not everywhere yet.
    """
    while first < end:
        count = min(width, max((end - first) // 2, 1)) if first else 1
        yield first, count
        first += count


def _merged(rows: Sequence[Minute], begin: datetime, overlap: Overlap) -> list[Minute]:
    """Rows two by two; those that are not judged stay as they are."""
    apart = [row for row in rows if row.at <= begin]
    judged = rows[len(apart) :]
    return apart + [
        one if other is None else _sum((one, other), overlap)
        for one, other in zip_longest(judged[::2], judged[1::2])
    ]


def _sum(rows: Sequence[Minute], overlap: Overlap) -> Minute:
    """Some rows as one. Stamped with the last minute: it has settled when all of it has.

    A minute with one arm only is no evidence, and must not become any.
    """
    told = [
        row
        for row in rows
        if row.canary_requests > 0
        and row.baseline_requests > (0 if overlap == "excluded" else row.canary_requests)
    ]
    counted = told or rows
    return Minute(
        rows[-1].at,
        sum(row.baseline_requests for row in counted),
        sum(row.baseline_bad for row in counted),
        sum(row.canary_requests for row in counted),
        sum(row.canary_bad for row in counted),
    )


def _widened(policy: "RolloutPolicy", width: int) -> "RolloutPolicy":
    """For rows of `width` minutes: what varies from minute to minute averages out in them."""
    return attrs.evolve(
        policy,
        signals=[attrs.evolve(s, noise=s.noise / math.sqrt(width)) for s in policy.signals],
    )


def _first_worse(
    policy: "RolloutPolicy", seen: Observation, analysis: Analysis, low: int, high: int
) -> tuple[int, Analysis, int]:
    """The first minute at which the canary is found to be worse, after `low` and up to `high`."""
    looks = 0
    while high - low > 1:
        looks += 1
        middle = (low + high) // 2
        earlier = policy.analyze(attrs.evolve(seen, at=seen.started_at + middle * MINUTE))
        if earlier.verdict is Verdict.WORSE:
            high, analysis = middle, earlier
        else:
            low = middle
    return high, analysis, looks


def _gap(policy: "RolloutPolicy", analysis: Analysis, now: int, pace: float) -> int:
    """Minutes until the next look after a bake: half of what it seems to need, within limits.

    Of the time that has passed: a step that is larger than those before soon needs less.
    """
    critical = {signal.name for signal in policy.signals if signal.critical}
    needed = max(
        (f.requests_needed or 0 for f in analysis.findings if f.signal in critical), default=0
    )
    wanted = needed / pace / 2 if needed else math.inf
    return math.ceil(min(max(wanted, 0.02 * now, 1), max(0.25 * now, 1)))


def _when(times: Iterable[int], share: float, total: int) -> timedelta | None:
    """When that share of `total` rollouts had reached what the others in `times` have."""
    ordered = sorted(times)
    index = math.ceil(share * total) - 1
    return ordered[index] * MINUTE if index < len(ordered) else None


def _planned(policy: "RolloutPolicy") -> int:
    """The plan's length in minutes, as a walk goes through it."""
    return sum(map(_bake, policy.steps))


# Simulated traffic


@attrs.frozen
class _Traffic:
    """Steady traffic under a policy, for one signal."""

    policy: "RolloutPolicy"
    signal: Signal
    rate: float
    bad: float
    overlap: Overlap

    def canary_rate(self, factor: float) -> float:
        return min(self.bad * factor, 1.0)

    def rollouts(self, factor: float, most: int, seed: int) -> Iterator[_End]:
        """Rollouts of a canary that is `factor` times as bad, as many as the effort allows."""
        # A seed for each factor: what is said of one does not depend on the others asked for.
        rng = Random(f"{seed}/{factor!r}")
        read = 0
        for i in range(most):
            if i >= _FEWEST and read >= _ROWS:
                return
            end = self._rollout(self.policy, factor, rng)
            # With an overlap that is unknown each row is read twice.
            read += end.read * (2 if self.overlap == "unknown" else 1)
            yield end

    def expected(self, policy: "RolloutPolicy", *, until: float = math.inf) -> _End:
        """The rollout of a clean canary in which each minute has exactly the expected counts.

        The log of the evidence is nearly linear in the counts, so it takes about the median time.
        """
        return self._rollout(policy, 1.0, None, until=until)

    def _rollout(
        self,
        policy: "RolloutPolicy",
        factor: float,
        rng: Random | None,
        *,
        until: float = math.inf,
    ) -> _End:
        draw = self._draw(rng, self.canary_rate(factor))
        # One row for all of the history: of it only the totals count.
        history = [row for _, row in draw(_SOMETIME - HISTORY * MINUTE, HISTORY, 0)]
        return _walk(
            policy,
            draw,
            begin=_SOMETIME,
            history={self.signal.name: history},
            pace=self.rate,
            overlap=self.overlap,
            until=until,
        )

    def _draw(self, rng: Random | None, canary_rate: float) -> _Draw:
        def count(mean: float) -> float:
            return mean if rng is None else float(_poisson(rng, mean))

        def arm(requests: float, rate: float) -> tuple[float, float]:
            bad = count(requests * rate)
            return bad + count(requests * (1 - rate)), bad

        def minutes(first: datetime, width: int, percent: float) -> Minute:
            canary = arm(self.rate * width * percent / 100, canary_rate)
            baseline = arm(self.rate * width * (1 - percent / 100), self.bad)
            return _published(first + (width - 1) * MINUTE, baseline, canary, self.overlap)

        def draw(first: datetime, width: int, percent: float) -> Iterator[tuple[str, Minute]]:
            fewer = self.rate * min(percent, 100 - percent) / 100
            if width == 1 or percent in {0, 100} or fewer > _BUSY or rng is None:
                yield self.signal.name, minutes(first, width, percent)
            else:
                drawn = [minutes(first + i * MINUTE, 1, percent) for i in range(width)]
                yield self.signal.name, _sum(drawn, self.overlap)

        return draw


def _published(
    at: datetime, baseline: tuple[float, float], canary: tuple[float, float], overlap: Overlap
) -> Minute:
    """A row as a source with that overlap gives it; where it is unknown, the series overlap.

    That is the slower of the two truths: the other shows as soon as a canary has the larger share.
    """
    if overlap != "excluded":
        baseline = baseline[0] + canary[0], baseline[1] + canary[1]
    return Minute(at, *baseline, *canary)


def _changes(traffic: _Traffic) -> Iterator[str]:
    """The smallest change of each kind with which the expected rollout ends within its plan."""
    policy, signal = traffic.policy, traffic.signal
    steps = [step for step in policy.steps if step.percent < 100]
    last, rest = steps[-1], policy.steps[len(steps) :]

    def tells(changed: "RolloutPolicy") -> bool:
        plan = _planned(changed)
        return traffic.expected(_patient(changed), until=plan).outcome == "promoted"

    def ending_at(percent: float) -> "RolloutPolicy":
        before = [step for step in steps if step.percent < percent]
        changed = attrs.evolve(last, percent=percent)
        return attrs.evolve(policy, steps=(*before, changed, *rest))

    # Above one half a smaller step can tell sooner: it leaves the baseline more requests.
    nearest = sorted(range(5, 100, 5), key=lambda percent: abs(percent - last.percent))
    for percent in nearest:
        if percent != last.percent and tells(ending_at(percent)):
            yield f"a last step of {percent} % instead of {last.percent:g} %"
            break
    end = traffic.expected(_patient(policy))
    if end.outcome == "promoted":
        bake = 5 * math.ceil((_bake(last) + max(end.minutes - _planned(policy), 1)) / 5)
        longer = words.span(bake * MINUTE)
        yield f"{longer} at {last.percent:g} % instead of {words.span(last.bake)}"
    for times in (1.5, 2, 3, 5, 10):
        margin = signal.margin * times
        if margin < 0.5 and tells(_with_margin(policy, signal, margin)):
            yield f"a margin of {_rate(margin)} instead of {_rate(signal.margin)}"
            break


def _patient(policy: "RolloutPolicy") -> "RolloutPolicy":
    """With the longest of deadlines."""
    return policy if policy.plan > LONGEST else attrs.evolve(policy, deadline=LONGEST)


def _with_margin(policy: "RolloutPolicy", signal: Signal, margin: float) -> "RolloutPolicy":
    changed = attrs.evolve(signal, margin=margin, critical=True)
    return attrs.evolve(
        policy, signals=[changed if s.name == signal.name else s for s in policy.signals]
    )


# The past


class _Past:
    """Past minutes, to be thinned into two arms."""

    def __init__(self, policy: "RolloutPolicy", minutes: Mapping[str, Sequence[Minute]]) -> None:
        self._plan = _planned(policy)
        self._rows = {s.name: _whole_rows(minutes, s) for s in policy.signals}
        times = [at for rows in self._rows.values() for at in rows]
        self._first = min(times)
        self.end = max(times) + MINUTE
        """When the data end."""
        needed, there = self._plan + 1, (self.end - self._first) // MINUTE
        if there < needed:
            inputs.refuse("minutes", f"at least {needed} minutes, the plan's length", there)
        rows = max(self._rows.values(), key=len)
        self.pace = sum(n for n, _ in rows.values()) / there
        """Requests per minute."""

    def starts(self, most: int, every: timedelta | None) -> list[datetime]:
        """When rollouts begin: with an hour of history, as far as the data have room for it."""
        room = (self.end - self._first) // MINUTE - self._plan
        earliest = min(HISTORY, room)
        if every is not None:
            gap = math.ceil(every / MINUTE)
            offsets = list(range(earliest, room + 1, gap))[:most]
        else:
            step = (room - earliest) / max(most - 1, 1)
            offsets = [earliest + math.floor(i * step) for i in range(most)]
        return [self._first + offset * MINUTE for offset in offsets]

    def before(self, begin: datetime) -> dict[str, list[Minute]]:
        """The baseline's history."""
        hour = [begin - i * MINUTE for i in range(HISTORY, 0, -1)]
        return {
            name: [Minute(at, *rows[at], 0, 0) for at in hour if at in rows]
            for name, rows in self._rows.items()
        }

    def thinned(self, rng: Random, burst: int, overlap: Overlap) -> _Draw:
        """The past as two arms, each bad request (or burst of them) and each good one at random."""

        def thin(
            rows: Mapping[datetime, tuple[float, float]], at: datetime, share: float
        ) -> Minute:
            requests, bad = rows[at]
            canary_bad, baseline_bad = _divide(rng, bad, share, burst)
            canary_good, baseline_good = _divide(rng, requests - bad, share, 1)
            baseline = baseline_good + baseline_bad, baseline_bad
            return _published(at, baseline, (canary_good + canary_bad, canary_bad), overlap)

        def draw(first: datetime, count: int, percent: float) -> Iterator[tuple[str, Minute]]:
            for name, rows in self._rows.items():
                times = (first + i * MINUTE for i in range(count))
                thinned = [thin(rows, at, percent / 100) for at in times if at in rows]
                if thinned:
                    yield name, _sum(thinned, overlap)

        return draw


def _whole_rows(
    minutes: Mapping[str, Sequence[Minute]], signal: Signal
) -> dict[datetime, tuple[float, float]]:
    """Time to requests and bad ones, of both arms together."""
    field = f"minutes[{signal.name!r}]"
    if not isinstance(minutes, Mapping):
        inputs.refuse("minutes", "a mapping of signal names to minutes", minutes)
    rows = minutes.get(signal.name, ())
    if signal.critical and not rows:
        inputs.refuse(field, "minutes of each critical signal", "none")
    found: dict[datetime, tuple[float, float]] = {}
    for row in rows:
        if not isinstance(row, Minute):
            inputs.refuse(field, "a list of Minute", row)
        if row.at in found:
            inputs.refuse(field, "each minute once", row.at.isoformat())
        found[row.at] = (
            row.baseline_requests + row.canary_requests,
            row.baseline_bad + row.canary_bad,
        )
    return found


def _replayed(policy: "RolloutPolicy", begin: datetime, end: _End) -> Replay:
    silent = {signal.name for signal in policy.signals if signal.report_only}
    return Replay(
        started_at=begin,
        ended_at=begin + end.minutes * MINUTE,
        outcome=end.outcome,
        evidence=end.analysis.worse_odds / end.analysis.worse_needed,
        finding=max(
            (f for f in end.analysis.findings if f.signal not in silent),
            key=lambda f: f.worse_odds / f.worse_needed,
        ),
    )


# Chance


def _divide(rng: Random, amount: float, share: float, burst: int) -> tuple[float, float]:
    """An amount in bursts, each of which goes to the first arm by chance; so does the rest."""
    bursts, rest = divmod(amount, burst)
    first = _binomial(rng, int(bursts), share)
    with_rest = rng.random() < share
    return (
        first * burst + (rest if with_rest else 0.0),
        (bursts - first) * burst + (0.0 if with_rest else rest),
    )


def _poisson(rng: Random, mean: float) -> int:
    """How many events come within `mean` if one comes per unit of time on average. Exact.

    Leaps over several events at once; where a leap goes too far, the events before its end were
    uniform up to there (Ahrens and Dieter 1974).
    """
    count = 0
    while mean > 0:
        leap = max(1, int(mean * 7 / 8))
        arrival = rng.gammavariate(leap, 1.0)
        if arrival > mean:
            return count + _binomial(rng, leap - 1, mean / arrival)
        count += leap
        mean -= arrival
    return count


def _binomial(rng: Random, trials: int, probability: float) -> int:
    """How many of that many trials succeed. Exact, but for the rounding of floats.

    A trial succeeds if a uniform number lies below the probability. Of many of them the middle one
    is drawn, which decides half of them (Relles 1972); of few, each is compared bit by bit.
    """
    successes = 0
    while trials > 1000:
        middle = trials // 2 + 1
        at = rng.betavariate(middle, trials + 1 - middle)
        if at < probability:
            successes += middle
            trials -= middle
            probability = (probability - at) / (1 - at)
        else:
            trials = middle - 1
            probability /= at
    while trials and probability:
        ones = rng.getrandbits(trials).bit_count()
        probability *= 2
        if probability >= 1:
            successes += trials - ones
            trials = ones
            probability -= 1
        else:
            trials -= ones
    return successes


# Input and output


def _whole(value: object, field: str, *, low: int | None = None, high: int | None = None) -> None:
    within = low is None or high is None or (isinstance(value, int) and low <= value <= high)
    if isinstance(value, bool) or not isinstance(value, int) or not within:
        ends = "" if low is None else f" from {low} to {high:,}"
        inputs.refuse(field, f"a whole number{ends}", value)


def _factors(worse: object) -> tuple[float, ...]:
    if isinstance(worse, str) or not isinstance(worse, Sequence):
        inputs.refuse("worse", "a list of factors", worse)
    return tuple(
        inputs.number(factor, f"worse[{i}]", low=1.01, high=1e6) for i, factor in enumerate(worse)
    )


def _critical(policy: "RolloutPolicy", name: str | None) -> Signal:
    critical = [signal for signal in policy.signals if signal.critical]
    chosen = [signal for signal in critical if name in (None, signal.name)]
    if not chosen:
        # A promotion does not wait for the others: by itself such a signal has nothing to forecast.
        known = ", ".join(signal.name for signal in critical)
        inputs.refuse("signal", f"a critical signal of the policy ({known})", name)
    return chosen[0]


def _rate(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _times(outlook: Outlook) -> str:
    times = [
        f"{name} within {words.span(time)}"
        for name, time in (("half", outlook.median), ("90 %", outlook.nine_in_ten))
        if time is not None
    ]
    return f" ({', '.join(times)})" if times else ""
