"""Foresight: what a policy will do, told before any traffic moves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    Minute,
    Observation,
    RolloutPolicy,
    Shift,
    Signal,
    Step,
)
from apigw_canary.rollout.chance import binomial, whole
from apigw_canary.rollout.evidence import Row
from apigw_canary.rollout.trial import Traffic, Trial

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

lengths = st.sampled_from([0, 60, 90, 150, 240, 480]).map(lambda s: timedelta(seconds=s))
rates = st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.3, 0.8])


@st.composite
def small_plans(draw: st.DrawFn) -> RolloutPolicy:
    shares = st.sampled_from([1.0, 5.0, 10.0, 25.0, 50.0, 70.0, 90.0, 99.0])
    percents = draw(st.lists(shares, min_size=1, max_size=4, unique=True).map(sorted))
    percents += draw(st.sampled_from([[], [100.0]]))
    settle = draw(lengths)
    limit = st.sampled_from([None, None, None, 0.02, 0.4])
    margin = st.sampled_from([0.005, 0.05, 0.3])
    return RolloutPolicy(
        [Step(percent, draw(lengths)) for percent in percents],
        signals=[
            Signal.errors_5xx(limit=draw(limit), margin=draw(margin)),
            Signal.errors_4xx(critical=draw(st.booleans()), limit=draw(limit)),
            Signal.custom("empty", report_only=True),
        ],
        false_rollback=draw(st.sampled_from([0.01, 0.05, 0.5])),
        false_promotion=draw(st.sampled_from([0.01, 0.05, 0.5])),
        deadline=draw(st.sampled_from([40, 50, 90])) * MINUTE,
        on_inconclusive=draw(st.sampled_from(["hold", "rollback"])),
        blind=draw(st.sampled_from([1, 2, 10, 30])) * MINUTE,
        settle=settle,
        confirm_settle=settle + draw(lengths),
    )


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    """Requests with a rate for each arm and signal; now and then a minute is missing or quiet.

    Sometimes the counts are of another share than the canary's.
    """
    requests = draw(st.sampled_from([0.3, 2.0, 10.0, 60.0, 500.0]))
    bad = {
        name: (rate := draw(rates), draw(st.sampled_from([rate, rate, min(3 * rate, 1), 0.3])))
        for name in ("errors_5xx", "errors_4xx", "empty")[: draw(st.integers(1, 3))]
    }
    gaps = draw(st.sampled_from([0.0, 0.0, 0.05, 0.6]))
    quiet = draw(st.sampled_from([0.0, 0.0, 0.1]))
    crooked = draw(st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.6]))
    incident = draw(st.sampled_from([range(0), range(5, 15)]))
    rng = Random(draw(st.integers(0, 2**32)))

    def traffic(number: int, share: float) -> Mapping[str, Row]:
        total = whole(rng, requests)
        canary = 0 if rng.random() < quiet else binomial(rng, total, share * crooked)
        sick = 0.9 if number in incident else 0.0
        return {
            name: Row(
                total - canary,
                binomial(rng, total - canary, max(sick, of_baseline)),
                canary,
                binomial(rng, canary, max(sick, of_canary)),
            )
            for name, (of_baseline, of_canary) in bad.items()
            if rng.random() >= gaps
        }

    return traffic


class Recorded:
    """The same traffic again: the minutes depend on the share, and are asked for in order."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._served: list[tuple[float, Mapping[str, Row]]] = []

    def __call__(self, number: int, share: float) -> Mapping[str, Row]:
        if number == len(self._served):
            self._served.append((share, self._traffic(number, share)))
        recorded, rows = self._served[number]
        assert recorded == share, f"minute {number} had another share"
        return rows


def every_minute(
    policy: RolloutPolicy, traffic: Traffic, history: Mapping[str, Row]
) -> tuple[str, timedelta]:
    """A rollout that is looked at each minute, as a user's loop does it."""
    minutes = {name: [Minute(START - MINUTE, *row)] for name, row in history.items()}
    percent, since = policy.steps[0].percent, START
    for number in range(10_000):
        for name, row in traffic(number, percent / 100).items():
            minutes.setdefault(name, []).append(Minute(START + number * MINUTE, *row))
        at = START + (number + 1) * MINUTE
        decision = policy.decide(
            Observation(
                at=at, started_at=START, step_started_at=since, percent=percent, minutes=minutes
            )
        )
        if decision.final:
            return decision.kind, at - START
        if isinstance(decision, Shift):
            percent, since = decision.percent, at
    raise AssertionError("no end")


@given(small_plans(), traffics(), st.booleans(), rates)
def test_a_trial_ends_as_if_the_policy_had_been_asked_every_minute(
    policy: RolloutPolicy, traffic: Traffic, known: bool, rate: float
) -> None:
    """The same outcome, in the same minute: only then may forecasts take the shortcut."""
    recorded = Recorded(traffic)
    history = {"errors_5xx": Row(6000, 6000 * rate, 0, 0)} if known else {}
    expected = every_minute(policy, recorded, history)
    ended = Trial(policy, recorded, started_at=START, history=history).run()
    assert (ended.decision.kind, ended.after) == expected
