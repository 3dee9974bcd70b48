"""Foresight: what a policy will do, told before any traffic moves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import fmean, pvariance
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apigw_canary import (
    Measurements,
    Minute,
    Observation,
    RolloutPolicy,
    Shift,
    Signal,
    Step,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.judge.evidence import Row
from apigw_canary.planning.simulation import Ended, Traffic, binomial, divide, rolled_out, whole

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

lengths = st.sampled_from([0, 60, 90, 150, 240, 480]).map(lambda s: timedelta(seconds=s))
rates = st.sampled_from([0.0, 0.001, 0.01, 0.05, 0.3, 0.8])


@st.composite
def small_plans(draw: st.DrawFn) -> RolloutPolicy:
    shares = st.sampled_from([1.0, 5.0, 10.0, 25.0, 50.0, 70.0, 90.0, 99.0])
    percents = draw(st.lists(shares, min_size=1, max_size=4, unique=True).map(sorted))
    percents += draw(st.sampled_from([[], [100.0]]))
    metric_delay = draw(lengths)
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
        max_unobserved=draw(st.sampled_from([1, 2, 10, 30])) * MINUTE,
        metric_delay=metric_delay,
        promotion_metric_delay=metric_delay + draw(lengths),
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
        if decision.final or decision.waiting_for == "operator":
            return decision.kind, at - START
        if isinstance(decision, Shift):
            percent, since = decision.percent, at
    raise AssertionError("no end")


@pytest.mark.long
@pytest.mark.no_cover
@settings(max_examples=settings().max_examples // 4)  # a decision costs milliseconds
@given(small_plans(), traffics(), st.booleans(), rates)
def test_a_simulated_rollout_asks_the_policy_every_minute(
    policy: RolloutPolicy, traffic: Traffic, known: bool, rate: float
) -> None:
    """The same outcome, in the same minute, of decisions that are made from scratch."""
    recorded = Recorded(traffic)
    history = {"errors_5xx": Row(6000, 6000 * rate, 0, 0)} if known else {}
    expected = every_minute(policy, recorded, history)
    ended = simulated(policy, recorded, history, between=1)
    assert (ended.decision.kind, ended.after) == expected


def simulated(
    policy: RolloutPolicy, traffic: Traffic, history: Mapping[str, Row], **how: int
) -> Ended:
    before = {name: [Minute(START - MINUTE, *row)] for name, row in history.items()}
    return rolled_out(policy, traffic, started_at=START, history=before, **how)


def edges(seed: int) -> tuple[RolloutPolicy, Traffic, dict[str, Row]]:
    """A rollout with an incident, a failing canary, a silence, or no baseline requests."""
    rng = Random(seed)
    pace = rng.choice([2, 40, 400])
    base = rng.choice([0.001, 0.01])
    begin, length = rng.randint(1, 60), rng.choice([5, 20, 80])
    kind = rng.choice(["incident", "failure", "silence", "canary only", "gross"])
    policy = RolloutPolicy(
        [Step(percent, rng.choice([3, 10, 20]) * MINUTE) for percent in (10, 60, 90)]
        + ([Step(100, 30 * MINUTE)] if rng.random() < 0.5 else []),
        signals=[Signal.errors_5xx(noise=rng.choice([0, 0.3])), Signal.errors_4xx()],
        on_production_unhealthy=rng.choice(["hold", "rollback"]),
        max_failed_requests=rng.choice([None, 15]),
        deadline=150 * MINUTE,
        on_inconclusive="hold",
    )

    def traffic(number: int, share: float) -> Mapping[str, Row]:
        now = Random(f"{seed}/{number}/{share}")
        on = begin <= number < begin + length
        requests = 0 if on and kind == "silence" else binomial(now, 2 * pace, 0.5)
        canary = binomial(now, requests, share)
        rest = requests - canary
        if on and kind == "canary only":
            rest = 0
        rates = [0.3 if on and kind == "incident" else base] * 2
        if (on and kind == "failure") or (share == 1 and kind == "gross"):
            rates[1] = 0.2 if kind == "failure" else 0.6
        row = Row(rest, binomial(now, rest, rates[0]), canary, binomial(now, canary, rates[1]))
        return {"errors_5xx": row, "errors_4xx": row}

    history = Row(60 * pace, 60 * pace * base, 0, 0)
    return policy, traffic, {"errors_5xx": history, "errors_4xx": history}


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(8))
def test_a_simulated_rollout_ends_alike_at_the_edges(seed: int) -> None:
    """Whatever else than evidence decides, in the minute in which it does."""
    policy, traffic, history = edges(seed)
    kind, after = every_minute(policy, traffic, history)
    ended = simulated(policy, traffic, history, between=1)
    assert (ended.decision.kind, ended.after) == (kind, after)
    ended = simulated(policy, traffic, history)
    assert ended.decision.kind == kind
    assert after <= ended.after <= 1.1 * after


SHORT = RolloutPolicy([Step(10, 10 * MINUTE), Step(50, 10 * MINUTE)])


@pytest.mark.long
def test_a_simulated_rollout_ends_alike_where_the_canary_breaks_late() -> None:
    """After 40 healthy minutes, beside a usual rate of 30 %."""
    plan = RolloutPolicy([Step(50, 600 * MINUTE)], signals=[Signal.errors_5xx()])

    def late(number: int, share: float) -> Mapping[str, Row]:
        n_b, n_c = 14_000 * (1 - share), 14_000 * share
        return {"errors_5xx": Row(n_b, 0.3 * n_b, n_c, n_c if number >= 40 else 0.3 * n_c)}

    history = {"errors_5xx": Row(840_000, 252_000, 0, 0)}
    ended = simulated(plan, late, history)
    assert (ended.decision.kind, ended.after) == every_minute(plan, late, history)
    assert ended.after <= (40 + 5 + 2) * MINUTE


@pytest.mark.long
@pytest.mark.parametrize("most", [None, 100])
def test_a_simulated_rollout_ends_alike_where_the_canary_breaks_late_at_100_percent(
    most: float | None,
) -> None:
    """Below a gross failure, and above the past that guards: by the rules that are left there."""
    steps = [Step(50, 10 * MINUTE), Step(100, 120 * MINUTE)]
    plan = RolloutPolicy(steps, signals=[Signal.errors_5xx()], max_failed_requests=most)

    def late(number: int, share: float) -> Mapping[str, Row]:
        n_b, n_c = 4000 * (1 - share), 4000 * share
        return {"errors_5xx": Row(n_b, 0.021 * n_b, n_c, (0.12 if number >= 60 else 0.021) * n_c)}

    history = {"errors_5xx": Row(240_000, 5040, 0, 0)}
    ended = simulated(plan, late, history)
    assert (ended.decision.kind, ended.after) == every_minute(plan, late, history)
    assert ended.decision.kind == "rollback"
    assert ended.after == (60 + (1 if most else 30) + 2) * MINUTE


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "busy, part",
    [
        (lambda n: n < 75 or n % 4 == 0, None),
        (lambda n: True, 0.4),
        (lambda n: n < 82 or n > 125, None),
    ],
    ids=["a later step with gaps", "another percent", "silence"],
)
def test_a_simulated_rollout_ends_alike_where_the_traffic_is_odd(
    busy: Callable[[int], bool], part: float | None
) -> None:
    """In the second step: minutes without requests, counts of another percent, and silence."""
    steps = [Step(10, 70 * MINUTE), Step(25, 25 * MINUTE), Step(50, 10 * MINUTE)]
    plan = RolloutPolicy(steps, signals=[Signal.errors_5xx()], deadline=240 * MINUTE)

    def odd(number: int, share: float) -> Mapping[str, Row]:
        if not busy(number):
            return {}
        canary = 500 * (part if part is not None and number > 70 else share)
        return {"errors_5xx": Row(500 - canary, 0, canary, 0)}

    history = {"errors_5xx": Row(60 * 500, 30, 0, 0)}
    ended = simulated(plan, odd, history)
    assert (ended.decision.kind, ended.after) == every_minute(plan, odd, history)


def test_a_simulated_rollout_without_canary_requests_ends_as_unwatched() -> None:
    """In the minute in which it would have, and no signal is blamed."""

    def nothing(number: int, share: float) -> Mapping[str, Row]:
        return {"errors_5xx": Row(500, 1, 0, 0)}

    ended = simulated(SHORT, nothing, {})
    assert (ended.decision.kind, ended.after) == every_minute(SHORT, nothing, {})
    assert ended.decision.kind == "rollback"
    assert ended.signal is None


class TestForecast:
    @pytest.mark.long
    @pytest.mark.no_cover
    def test_clean_canaries_are_rolled_back_no_more_often_than_promised(self) -> None:
        """Also where errors are frequent, and the promise is what holds."""
        plain = Signal.errors_5xx(ratio=1, slack=0, noise=0, margin=0.04)
        policy = attrs.evolve(SHORT, signals=[plain], false_rollback=0.1, deadline=40 * MINUTE)
        clean = policy.forecast(300, 0.05, times=(), rollouts=150).clean
        assert clean.rolled_back <= 0.1 + 3 * (0.1 * 0.9 / 150) ** 0.5
        assert clean.rolled_back + clean.promoted <= 1

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_worse_canaries_are_found_sooner_and_more_often(self) -> None:
        """The larger the rise, and the fewer requests fail until then."""
        found = SHORT.forecast(500, 0.005, times=[20, 3], rollouts=30)
        little, much = found.worse
        assert (little.times, much.times) == (3, 20)
        assert much.rolled_back == 1 >= little.rolled_back > 0.5
        assert much.rolled_back_after is not None is not little.rolled_back_after
        assert much.rolled_back_after < little.rolled_back_after
        assert found.smallest_seen is not None
        assert found.smallest_seen <= 20

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_more_traffic_does_not_take_longer(self) -> None:
        """Ten times the requests: promoted and found as early, or earlier."""
        few, many = (SHORT.forecast(n, 0.002, times=[10], rollouts=10) for n in (200, 2000))
        for one, other in (
            (few.clean.promoted_after_90, many.clean.promoted_after_90),
            (few.worse[0].rolled_back_after, many.worse[0].rolled_back_after),
        ):
            assert one is not None is not other
            assert other <= one

    @pytest.mark.long
    def test_a_plan_that_suits_the_traffic_has_no_problem(self) -> None:
        policy = attrs.evolve(SHORT, signals=[Signal.errors_5xx(margin=0.003)])
        forecast = policy.forecast(2000, 0.001, times=(), rollouts=40)
        assert forecast.problems == ()
        assert forecast.clean.promoted_after == policy.total_bake
        assert forecast.length == policy.total_bake + policy.promotion_metric_delay

    @pytest.mark.long
    def test_a_plan_too_short_for_the_traffic_says_what_would_do(self) -> None:
        """Each of the changes it names brings nine in ten clean canaries to the end in time."""
        policy = RolloutPolicy.canary(10, 10 * MINUTE)
        forecast = policy.forecast(300, 0.001, times=(), rollouts=10)
        (too_short, _) = forecast.problems
        assert too_short.startswith("Within the 15 min that the plan takes, ")
        bake = re.search(r"bake the step of 10 % for (?:(\d+) h)? ?(?:(\d+) min)?", too_short)
        share = re.search(r"raise the step of 10 % to (\d+) %", too_short)
        assert bake is not None is not share
        longer = timedelta(hours=int(bake[1] or 0), minutes=int(bake[2] or 0))
        for mended in (
            RolloutPolicy.canary(10, longer),
            RolloutPolicy.canary(int(share[1]), 10 * MINUTE),
        ):
            found = mended.forecast(300, 0.001, times=(), rollouts=10)
            assert len(found.problems) == 1, found
            assert "margin" in found.problems[0]

    @pytest.mark.traced
    @pytest.mark.long
    def test_no_bake_beyond_the_deadline_is_proposed(self) -> None:
        policy = RolloutPolicy.canary(10, 10 * MINUTE, deadline=60 * MINUTE)
        said = policy.forecast(300, 0.001, times=(), rollouts=20).problems[0]
        assert "bake" not in said
        assert "raise the step of 10 % to " in said

    @pytest.mark.traced
    @pytest.mark.long
    def test_a_hopeless_plan_says_so(self) -> None:
        policy = RolloutPolicy.canary(10, 10 * MINUTE, deadline=30 * MINUTE)
        forecast = policy.forecast(2, 0.001, times=[5], rollouts=20)
        assert "more requests are needed" in forecast.problems[0]
        assert forecast.clean.promoted_after is None
        assert forecast.smallest_seen is None
        assert "No such canary is rolled back in 9 of 10 rollouts" in str(forecast)

    @pytest.mark.long
    def test_a_rise_inside_the_margin_is_a_problem(self) -> None:
        """With the margin that would not allow it, where one can."""
        (said,) = SHORT.forecast(2000, 0.001, times=(), rollouts=20).problems
        assert "a margin below 0.0039" in said
        (said,) = SHORT.forecast(2000, 1e-5, times=(), rollouts=20).problems
        assert "its ratio and slack tolerate that" in said

    @pytest.mark.long
    def test_the_same_seed_gives_the_same_forecast(self) -> None:
        one, same, other = (
            SHORT.forecast(1000, 0.001, times=[10], rollouts=15, seed=seed) for seed in (1, 1, 2)
        )
        assert one == same != other

    @pytest.mark.traced
    @pytest.mark.long
    def test_it_can_be_watched_and_stopped(self) -> None:
        """The number of rollouts so far, of the clean canary and all others."""
        done: list[int] = []
        forecast = SHORT.forecast(1000, 0.001, times=[10], rollouts=10, progress=done.append)
        assert done == list(range(1, len(done) + 1))
        assert len(done) >= 20
        assert forecast == SHORT.forecast(1000, 0.001, times=[10], rollouts=10)
        with pytest.raises(KeyboardInterrupt):
            SHORT.forecast(1000, 0.001, progress=stop)

    @pytest.mark.long
    def test_any_signal_may_get_worse(self) -> None:
        """By its name; where it is not critical no margin allows anything."""
        rates = {"errors_5xx": 0.001, "errors_4xx": 0.01}
        forecast = SHORT.forecast(2000, rates, signal="errors_4xx", times=[10], rollouts=20)
        assert forecast.signal == "errors_4xx"
        assert forecast.worse[0].rolled_back == 1
        assert forecast.problems == ()

    @pytest.mark.long
    def test_alarms_are_taken_to_be_ok(self) -> None:
        """Nobody knows what they will say; a plan with alarms is not a plan that never ends."""
        plan = attrs.evolve(SHORT, deadline=40 * MINUTE)
        one, other = (
            attrs.evolve(plan, alarms=alarms).forecast(500, 0.001, times=(), rollouts=10)
            for alarms in ([], ["checkout-p99"])
        )
        assert one == other
        assert other.clean.promoted > 0

    @pytest.mark.traced
    @pytest.mark.long
    def test_it_reads_as_sentences(self) -> None:
        text = str(SHORT.forecast(2000, 0.001, times=[30], rollouts=20))
        assert text.startswith(
            "With 2000 requests a minute and 0.1 % errors_5xx: A clean canary is promoted in 100% "
            "of the rollouts (half of all within 20 min, 9 of 10 within 20 min); 0% are rolled "
            "back. A canary that fails 30 times as often is rolled back in "
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            {"requests_per_minute": 0},
            {"bad_rate": -0.1},
            {"bad_rate": 0},
            {"bad_rate": 0.95},
            {"bad_rate": {}},
            {"bad_rate": {"errors_5xx": 0.1, "unheard_of": 0.1}},
            {"bad_rate": {"errors_5xx": "many"}},
            {"times": [1]},
            {"times": 5},
            {"times": "25"},
            {"signal": "errors_4xx"},
            {"signal": "unheard_of"},
            {"rollouts": 0},
            {"rollouts": 20.5},
            {"rollouts": True},
            {"seed": "x"},
        ],
        ids=str,
    )
    def test_bad_input_is_refused(self, wrong: Mapping[str, Any]) -> None:
        with pytest.raises(InvalidInputError):
            SHORT.forecast(**{"requests_per_minute": 100, "bad_rate": 0.001, **wrong})

    def test_a_rate_beyond_the_limit_is_refused(self) -> None:
        """Both arms would be sick, and nothing ever decided."""
        policy = attrs.evolve(SHORT, signals=[Signal.errors_5xx(limit=0.01)])
        with pytest.raises(InvalidInputError, match="too unhealthy"):
            policy.forecast(100, 0.02)


def stop(_: int) -> None:
    raise KeyboardInterrupt


def days(
    hours: float, *, requests: float = 400, rate: float = 0.002, sick: float = 0.0, every: int = 200
) -> dict[str, list[Minute]]:
    """Past minutes of a stage without a canary; each `every` minutes, ten in which `sick` fail."""
    rng = Random(5)

    def minute(i: int) -> Minute:
        bad = binomial(rng, int(requests), sick if i % every < 10 and sick else rate)
        return Minute(START + i * MINUTE, requests, bad, 0, 0)

    return {"errors_5xx": [minute(i) for i in range(int(60 * hours))]}


class TestBacktest:
    @pytest.mark.traced
    @pytest.mark.long
    def test_healthy_releases_are_promoted(self) -> None:
        """One rollout after the other, from an hour after the first minute."""
        tested = SHORT.backtest(days(11))
        assert tested.since == START + timedelta(hours=1)
        assert tested.until == START + timedelta(hours=11)
        assert tested.rollouts == 24
        assert tested.promoted + len(tested.rolled_back) + tested.undecided == 24
        assert tested.promoted >= 20
        assert tested.promoted_after is not None
        assert tested.promoted_after >= SHORT.total_bake
        assert "Of 24 healthy rollouts from 2026-11-23 13:00 UTC" in str(tested)

    @pytest.mark.long
    def test_incidents_that_hit_both_arms_roll_hardly_anything_back(self) -> None:
        """30 % fail for ten minutes, in every other rollout."""
        tested = SHORT.backtest(days(26, sick=0.3, every=40))
        assert len(tested.rolled_back) <= 0.05 * tested.rollouts + 3

    @pytest.mark.long
    def test_noise_of_single_arms_rolls_more_back(self) -> None:
        """Far more than is tolerated: and what is rolled back is named."""
        calm, noisy = (SHORT.backtest(days(11, rate=0.05), noise=noise) for noise in (0, 1.0))
        assert len(noisy.rolled_back) > len(calm.rolled_back) + 3
        assert {each.signal for each in noisy.rolled_back} == {"errors_5xx"}
        assert all(each.started_at >= noisy.since for each in noisy.rolled_back)

    @pytest.mark.long
    def test_alarms_are_taken_to_be_ok(self) -> None:
        past = days(4)
        alarmed = attrs.evolve(SHORT, alarms=["checkout-p99"])
        assert alarmed.backtest(past) == SHORT.backtest(past)

    def test_the_same_seed_gives_the_same_result(self) -> None:
        one, same, other = (
            SHORT.backtest(days(3, rate=0.05), noise=1.5, seed=seed) for seed in (1, 1, 2)
        )
        assert one == same != other

    def test_fewer_rollouts_are_spread_over_the_time(self) -> None:
        tested = SHORT.backtest(days(11), rollouts=7)
        assert 5 <= tested.rollouts <= 7

    @pytest.mark.traced
    @pytest.mark.long
    def test_past_canaries_are_counted_once(self) -> None:
        """However the source counts them; where that is unknown their minutes are left out."""
        healthy = days(5)["errors_5xx"]
        split = [attrs.evolve(m, canary_requests=200, canary_bad=m.baseline_bad) for m in healthy]
        apart = [attrs.evolve(m, baseline_requests=200, baseline_bad=0) for m in split]
        expected = SHORT.backtest({"errors_5xx": healthy})
        assert SHORT.backtest(Measurements({"errors_5xx": split}, overlap="included")) == expected
        assert SHORT.backtest({"errors_5xx": apart}) == expected
        observation = Observation(
            at=START,
            started_at=START,
            step_started_at=START,
            percent=0,
            minutes={"errors_5xx": split[:180] + healthy[180:]},
            overlap="unknown",
        )
        later = {"errors_5xx": healthy[180:]}
        assert SHORT.backtest(observation) == SHORT.backtest(later)

    @pytest.mark.traced
    @pytest.mark.long
    def test_gaps_are_no_rollouts(self) -> None:
        """Three hours without a minute: nothing ran then. Single minutes may be missing."""
        full = days(11)["errors_5xx"]
        night = START + timedelta(hours=4), START + timedelta(hours=7)
        kept = [m for m in full if not night[0] <= m.at < night[1] and m.at.minute % 7]
        tested = SHORT.backtest({"errors_5xx": kept})
        assert 16 <= tested.rollouts <= 18
        assert tested.promoted >= tested.rollouts - 3

    @pytest.mark.traced
    @pytest.mark.long
    def test_data_that_end_before_a_verdict_leave_it_open(self) -> None:
        tested = SHORT.backtest(days(3, requests=5))
        assert tested.undecided == tested.rollouts > 0
        assert tested.promoted_after is None

    def test_counts_may_be_fractional(self) -> None:
        """Interpolated ones, as of requests slower than a limit."""
        tested = SHORT.backtest(
            {
                "errors_5xx": [
                    attrs.evolve(m, baseline_requests=400.5) for m in days(4)["errors_5xx"]
                ]
            }
        )
        assert tested.promoted > 0

    @pytest.mark.long
    def test_requests_of_unknown_outcome_stay_so(self) -> None:
        """Of one in ten the outcome is not known: nothing is promoted, as in a real one."""
        past = [attrs.evolve(m, baseline_unknown=40) for m in days(4)["errors_5xx"]]
        for minutes in (
            past,
            [attrs.evolve(m, canary_requests=40, canary_unknown=4) for m in past],
        ):
            tested = SHORT.backtest({"errors_5xx": minutes})
            assert tested.rollouts > 0
            assert tested.promoted == 0

    @pytest.mark.traced
    @pytest.mark.long
    def test_it_can_be_watched_and_stopped(self) -> None:
        done: list[int] = []
        tested = SHORT.backtest(days(5), progress=done.append)
        assert done == list(range(1, tested.rollouts + 1))
        with pytest.raises(KeyboardInterrupt):
            SHORT.backtest(days(5), progress=stop)

    @pytest.mark.traced
    @pytest.mark.long
    def test_signals_of_the_same_requests_share_the_split(self) -> None:
        """Both have no request in a minute, or neither has: no share is contradicted."""
        healthy = days(5)["errors_5xx"]
        tested = SHORT.backtest({"errors_5xx": healthy, "errors_4xx": healthy})
        assert tested.promoted >= tested.rollouts - 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"minutes": {}},
            {"minutes": []},
            {"minutes": {"errors_4xx": days(3)["errors_5xx"]}},
            {"minutes": {"errors_5xx": [1, 2]}},
            {"minutes": days(1)},
            {"minutes": Measurements(days(3), suspect="two APIs of one name")},
            {"noise": -1},
            {"rollouts": 0},
            {"seed": 0.5},
        ],
        ids=lambda wrong: str(wrong)[:30],
    )
    def test_bad_input_is_refused(self, wrong: Mapping[str, Any]) -> None:
        with pytest.raises(InvalidInputError):
            SHORT.backtest(**{"minutes": days(3), **wrong})


@pytest.mark.parametrize("weights, mean", [((1.0, 1.0), 0.2), ((1.0, 4.0), 0.5)])
def test_divided_bad_requests_have_the_right_mean(
    weights: tuple[float, float], mean: float
) -> None:
    """Of few bad among many requests an arm gets its part, by size and weight."""
    rng = Random(3)
    drawn = [divide(rng, 10, (80_000, 20_000), weights) for _ in range(4000)]
    assert sum(drawn) / 4000 == pytest.approx(10 * mean, abs=0.1)


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("probability", [0.0001, 0.02, 0.5, 0.9999])
def test_draws_of_many_trials_are_binomial(probability: float) -> None:
    """A million requests take a few halvings, and have the mean and the variance of the law."""
    rng = Random(3)
    drawn = [binomial(rng, 10**6, probability) for _ in range(2000)]
    variance = 10**6 * probability * (1 - probability)
    assert fmean(drawn) == pytest.approx(10**6 * probability, abs=4 * math.sqrt(variance / 2000))
    assert pvariance(drawn) == pytest.approx(variance, rel=0.13)
    assert binomial(rng, 10**6, 0.0) == 0
    assert binomial(rng, 10**6, 1.0) == 10**6


def test_all_bad_requests_fill_both_arms() -> None:
    """No arm gets more than it has requests."""
    rng = Random(4)
    assert {divide(rng, 30, (20, 10), (1.0, weight)) for weight in (0.1, 1.0, 9.0)} == {10}
