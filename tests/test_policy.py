"""Policies and signals: how plans are made, what is refused, and which step comes when."""

from __future__ import annotations

import inspect
import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from apigw_canary import Observation, RolloutPolicy, Signal, Step, decision_from_dict
from apigw_canary.errors import InvalidInputError
from strategies import (
    bakes,
    observations,
    percents,
    policies,
    rising,
    shares,
    short_bakes,
    signals,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
STEPS = (Step(5, 10 * MINUTE), Step(50, 20 * MINUTE))

# "Working with deployment configurations", AWS CodeDeploy User Guide; AWS SAM uses the same names
# without the prefix.
CODEDEPLOY: dict[str, tuple[list[float], int]] = {
    "Canary10Percent5Minutes": ([10], 5),
    "Canary10Percent10Minutes": ([10], 10),
    "Canary10Percent15Minutes": ([10], 15),
    "Canary10Percent30Minutes": ([10], 30),
    "Linear10PercentEvery1Minute": ([10, 20, 30, 40, 50, 60, 70, 80, 90], 1),
    "Linear10PercentEvery1Minutes": ([10, 20, 30, 40, 50, 60, 70, 80, 90], 1),
    "Linear10PercentEvery2Minutes": ([10, 20, 30, 40, 50, 60, 70, 80, 90], 2),
    "Linear10PercentEvery3Minutes": ([10, 20, 30, 40, 50, 60, 70, 80, 90], 3),
    "Linear10PercentEvery10Minutes": ([10, 20, 30, 40, 50, 60, 70, 80, 90], 10),
}
PREFIXES = ["", "Lambda", "ECS", "CodeDeployDefault.Lambda", "CodeDeployDefault.ECS"]


def refused(make: Any, *arguments: Any, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as raised:
        make(*arguments, **options)
    return raised.value


def percents_of(policy: RolloutPolicy) -> list[float]:
    return [step.percent for step in policy.steps]


class TestLinear:
    @given(shares, shares, bakes)
    def test_rises_evenly_to_the_last_below_100(
        self, start: float, by: float, every: timedelta
    ) -> None:
        """From `start` by `by`, each for `every`, as long as it stays below 100 %."""
        assume(start < 100)
        policy = RolloutPolicy.linear(start, by, every)
        steps = percents_of(policy)

        assert steps[0] == start
        assert all(math.isclose(b - a, by, abs_tol=0.001) for a, b in pairwise(steps))
        assert steps[-1] < 100 <= steps[-1] + by + 0.001
        assert {step.bake for step in policy.steps} == {every}

    @pytest.mark.long
    @given(shares, shares, bakes, bakes)
    def test_final_bake_adds_a_step_at_100(
        self, start: float, by: float, every: timedelta, final: timedelta
    ) -> None:
        """With `final_bake` the same plan ends with that long at 100 %."""
        assume(start < 100)
        policy = RolloutPolicy.linear(start, by, every, final_bake=final)
        assert policy.steps[:-1] == RolloutPolicy.linear(start, by, every).steps
        assert policy.steps[-1] == Step(100, final)

    def test_example(self) -> None:
        """5 %, then 20 % more every ten minutes."""
        policy = RolloutPolicy.linear(5, 20, 10 * MINUTE)
        assert percents_of(policy) == [5, 25, 45, 65, 85]

    @pytest.mark.parametrize(
        "start, by, steps",
        [
            (33.33, 33.33, [33.33, 66.66, 99.99]),
            (10, 90, [10]),
            (10, 89.99, [10, 99.99]),
            (0.1, 33.3, [0.1, 33.4, 66.7]),
            (99.99, 0.01, [99.99]),
        ],
    )
    def test_hundredths(self, start: float, by: float, steps: list[float]) -> None:
        """Fractions add up to hundredths, without a step of rounding errors at the end."""
        assert percents_of(RolloutPolicy.linear(start, by, MINUTE)) == steps

    @pytest.mark.parametrize(
        "start, by, field",
        [
            (0, 10, "start"),
            (-1, 10, "start"),
            (101, 10, "start"),
            ("5", 10, "start"),
            (math.nan, 10, "start"),
            (5, 0, "by"),
            (5, -5, "by"),
            (5, True, "by"),
            (5, 0.001, "by"),
        ],
    )
    def test_refuses_by_its_own_names(self, start: Any, by: Any, field: str) -> None:
        """What is refused is named as the caller wrote it."""
        assert refused(RolloutPolicy.linear, start, by, MINUTE).field == field


class TestCanary:
    @given(shares, bakes)
    def test_is_one_step(self, share: float, bake: timedelta) -> None:
        """One share below 100 % for one time, then the promotion."""
        assume(share < 100)
        assert RolloutPolicy.canary(share, bake).steps == (Step(share, bake),)
        assert RolloutPolicy.canary(share, bake, final_bake=HOUR).steps == (
            Step(share, bake),
            Step(100, HOUR),
        )

    def test_needs_a_baseline(self) -> None:
        """A canary that takes all requests at once leaves nothing to compare it with."""
        assert "below 100" in str(refused(RolloutPolicy.canary, 100, HOUR))

    @pytest.mark.parametrize("percent", [0, -1, 100.5, "5", None, True])
    def test_refuses_by_its_own_names(self, percent: Any) -> None:
        """What is refused is named as the caller wrote it."""
        assert refused(RolloutPolicy.canary, percent, HOUR).field == "percent"


class TestExponential:
    @given(st.integers(100, 9_999).map(lambda n: n / 100), st.floats(1.01, 100), bakes)
    def test_multiplies_as_long_as_below_100(
        self, start: float, factor: float, every: timedelta
    ) -> None:
        """From `start`, `factor` times as much each time, as long as it stays below 100 %."""
        policy = RolloutPolicy.exponential(start, factor, every)
        steps = percents_of(policy)

        assert steps[0] == start
        assert all(
            math.isclose(share, start * factor**i, abs_tol=0.0051) for i, share in enumerate(steps)
        )
        assert steps[-1] < 100 <= steps[-1] * factor + 0.0051 * factor
        assert {step.bake for step in policy.steps} == {every}

    @pytest.mark.parametrize(
        "start, factor, steps",
        [
            (1, 2, [1, 2, 4, 8, 16, 32, 64]),
            (1, 10, [1, 10]),
            (6.4, 2.5, [6.4, 16, 40]),
            (0.01, 100, [0.01, 1]),
            (50, 2, [50]),
        ],
    )
    def test_examples(self, start: float, factor: float, steps: list[float]) -> None:
        """A step that would be 100 % is left out: there the canary is promoted."""
        assert percents_of(RolloutPolicy.exponential(start, factor, MINUTE)) == steps

    @pytest.mark.parametrize("start, factor", [(50, 1.99999), (33.33, 3.0002), (1, 99.999)])
    def test_never_rounds_up_to_100(self, start: float, factor: float) -> None:
        """A share just below 100 % that would be kept as 100 % is no step either."""
        policy = RolloutPolicy.exponential(start, factor, MINUTE)
        assert percents_of(policy)[-1] < 100
        final = RolloutPolicy.exponential(start, factor, MINUTE, final_bake=HOUR)
        assert final.steps == (*policy.steps, Step(100, HOUR))

    @pytest.mark.parametrize("start, factor", [(0.01, 1.01), (0.1, 1.05), (0.3, 1.01)])
    def test_small_growth_from_a_small_start(self, start: float, factor: float) -> None:
        """Shares that are equal once rounded are one step, or the refusal names `factor`."""
        try:
            steps = percents_of(RolloutPolicy.exponential(start, factor, MINUTE))
        except InvalidInputError as error:
            assert error.field in {"start", "factor"}  # noqa: PT017
        else:
            assert steps[0] == start
            assert steps == sorted(set(steps))

    @given(st.integers(1, 99), st.integers(2, 10), bakes, bakes)
    def test_final_bake_adds_a_step_at_100(
        self, start: int, factor: int, every: timedelta, final: timedelta
    ) -> None:
        """With `final_bake` the same plan ends with that long at 100 %."""
        policy = RolloutPolicy.exponential(start, factor, every, final_bake=final)
        assert policy.steps[:-1] == RolloutPolicy.exponential(start, factor, every).steps
        assert policy.steps[-1] == Step(100, final)

    @pytest.mark.parametrize(
        "start, factor, field",
        [
            (0, 2, "start"),
            (-1, 2, "start"),
            (101, 2, "start"),
            (1, 1, "factor"),
            (1, 0.5, "factor"),
            (1, 101, "factor"),
            (1, math.inf, "factor"),
            (1, math.nan, "factor"),
            (1, "2", "factor"),
            (1, True, "factor"),
        ],
    )
    def test_refuses_by_its_own_names(self, start: Any, factor: Any, field: str) -> None:
        """What is refused is named as the caller wrote it."""
        assert refused(RolloutPolicy.exponential, start, factor, MINUTE).field == field


class TestNamed:
    @pytest.mark.parametrize("prefix", PREFIXES)
    @pytest.mark.parametrize("name", CODEDEPLOY)
    def test_knows_codedeploy_s_plans(self, prefix: str, name: str) -> None:
        """CodeDeploy's names mean CodeDeploy's plans, with and without its prefixes."""
        steps, minutes = CODEDEPLOY[name]
        policy = RolloutPolicy.named(prefix + name)
        assert policy.steps == tuple(Step(share, minutes * MINUTE) for share in steps)

    @pytest.mark.parametrize("name", ["AllAtOnce", "LambdaAllAtOnce"])
    @pytest.mark.parametrize("prefix", ["", "CodeDeployDefault."])
    def test_all_at_once_is_no_canary(self, prefix: str, name: str) -> None:
        """`AllAtOnce` leaves nothing to judge, so it is refused, with the plans that are known."""
        error = refused(RolloutPolicy.named, prefix + name)
        assert error.field == "name"
        assert error.expected.startswith("one of Canary10Percent5Minutes, Canary10Percent10Minutes")
        assert repr(prefix + name) in str(error)

    def test_refusal_lists_names_to_paste(self) -> None:
        """The refusal has the names of all plans, each of them as it can be given."""
        error = refused(RolloutPolicy.named, "HalfAtATime")
        listed = error.expected.removeprefix("one of ").split(", ")
        assert listed == list(CODEDEPLOY)
        for name in listed:
            assert percents_of(RolloutPolicy.named(name)) == CODEDEPLOY[name][0]

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "canary10percent5minutes",
            "Canary10Percent7Minutes",
            "Canary20Percent5Minutes",
            "Canary10Percent5Minute",
            "Canary10Percent30Minute",
            "Canary010Percent5Minutes",
            "Canary10Percent05Minutes",
            "Canary10Percent\u0665Minutes",
            "Canary10Percent1Minute",
            "Linear10PercentEvery2Minute",
            "Linear10PercentEvery3Minute",
            "Linear10PercentEvery10Minute",
            "Linear10PercentEvery01Minute",
            "LambdaCanary10Percent5Minute",
            "CodeDeployDefault.LambdaLinear10PercentEvery2Minute",
            "CodeDeployDefault.ECSCanary10Percent5Minute",
            "LambdaECSCanary10Percent5Minutes",
            "CodeDeployDefaultCanary10Percent5Minutes",
            "Linear10PercentEvery5Minutes",
            "Linear5PercentEvery1Minute",
            "Canary10Percent5Minutes ",
            " Canary10Percent5Minutes",
            "Canary10Percent5Minutes\n",
            "CodeDeployDefault.ServerCanary10Percent5Minutes",
            "HalfAtATime",
            "Canary10PercentEvery5Minutes",
        ],
    )
    def test_others_are_refused(self, name: str) -> None:
        """A name that CodeDeploy does not have is refused, not guessed."""
        assert repr(name) in str(refused(RolloutPolicy.named, name))

    @pytest.mark.parametrize("name", [None, 5, b"Canary10Percent5Minutes"])
    def test_takes_texts_only(self, name: Any) -> None:
        """A name is a string."""
        assert refused(RolloutPolicy.named, name).field == "name"

    def test_takes_the_rest_of_a_policy(self) -> None:
        """Final bake and risks are given as to the other constructors."""
        policy = RolloutPolicy.named(
            "Canary10Percent5Minutes", final_bake=HOUR, false_rollback=0.01, metric_delay=MINUTE
        )
        assert policy.steps[-1] == Step(100, HOUR)
        assert (policy.false_rollback, policy.metric_delay) == (0.01, MINUTE)


CONSTRUCTORS: list[Any] = [
    pytest.param(lambda **risks: RolloutPolicy(STEPS, **risks), id="RolloutPolicy"),
    pytest.param(lambda **risks: RolloutPolicy.linear(5, 20, MINUTE, **risks), id="linear"),
    pytest.param(lambda **risks: RolloutPolicy.canary(5, MINUTE, **risks), id="canary"),
    pytest.param(lambda **risks: RolloutPolicy.exponential(1, 2, MINUTE, **risks), id="exp"),
    pytest.param(
        lambda **risks: RolloutPolicy.named("Linear10PercentEvery1Minute", **risks), id="named"
    ),
]
RISKS: dict[str, Any] = {
    "signals": (Signal.custom("refunds", critical=True),),
    "alarms": ("checkout-errors", "checkout (all)"),
    "false_rollback": 0.01,
    "false_promotion": 0.02,
    "deadline": 3 * HOUR,
    "on_inconclusive": "hold",
    "on_production_unhealthy": "hold",
    "max_failed_requests": 100.0,
    "decision_lifetime": HOUR,
    "max_unobserved": 5 * MINUTE,
    "metric_delay": 3 * MINUTE,
    "promotion_metric_delay": 4 * MINUTE,
    "route_weight": 0.5,
}


class TestPolicy:
    @pytest.mark.parametrize("make", CONSTRUCTORS)
    @pytest.mark.parametrize("name", RISKS)
    def test_every_constructor_takes_every_field(self, make: Any, name: str) -> None:
        """Whatever can be set on a policy can be set by each way to make one."""
        assert getattr(make(**{name: RISKS[name]}), name) == RISKS[name]

    def test_every_field_is_tested(self) -> None:
        """The table above has all fields beside the steps."""
        assert {field.name for field in attrs.fields(RolloutPolicy)} == {"steps", *RISKS}

    def test_defaults(self) -> None:
        """By default errors and latency are judged, with a risk of 5 % each way."""
        policy = RolloutPolicy(STEPS)
        assert policy.signals == (Signal.errors_5xx(), Signal.errors_4xx(), Signal.latency())
        assert (policy.false_rollback, policy.false_promotion) == (0.05, 0.05)
        assert (policy.deadline, policy.on_inconclusive) == (None, "rollback")
        assert (policy.on_production_unhealthy, policy.max_failed_requests) == ("rollback", None)
        assert (policy.metric_delay, policy.promotion_metric_delay) == (2 * MINUTE, 5 * MINUTE)
        assert policy.max_unobserved == 30 * MINUTE

    def test_lists_become_tuples(self) -> None:
        """Lists and other iterables are taken, tuples kept; equal policies are equal and hash."""
        signals = (Signal.errors_5xx(),)
        kept = RolloutPolicy(STEPS, signals=signals)
        for make in (list, tuple, iter):
            given_so = RolloutPolicy(make(STEPS), signals=make(signals))
            assert isinstance(given_so.steps, tuple)
            assert isinstance(given_so.signals, tuple)
            assert given_so == kept
            assert hash(given_so) == hash(kept)

    def test_is_frozen(self) -> None:
        """A policy that a rollout runs under does not change beneath it."""
        policy: Any = RolloutPolicy(STEPS)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            policy.false_rollback = 0.5

    @given(st.lists(percents, min_size=1, max_size=6))
    def test_steps_rise(self, found: list[float]) -> None:
        """A plan is taken exactly where its shares rise, begin above 0, and are not just 100."""
        fine = all(a < b for a, b in pairwise(found)) and found[0] > 0 and found != [100]
        if fine:
            assert percents_of(RolloutPolicy([Step(p, MINUTE) for p in found])) == found
        else:
            refused(lambda: RolloutPolicy([Step(p, MINUTE) for p in found]))

    def test_steps_rise_after_rounding(self) -> None:
        """Shares that differ by less than 0.01 are the same share."""
        error = refused(lambda: RolloutPolicy([Step(5.001, MINUTE), Step(5.002, MINUTE)]))
        assert str(error) == "steps must be strictly rising in percent, not [5.0, 5.0]."

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"steps": ()}, "steps must be at least one step, not ()."),
            (
                {"steps": [Step(50, MINUTE), Step(5, MINUTE)]},
                "steps must be strictly rising in percent, not [50.0, 5.0].",
            ),
            (
                {"steps": [Step(100, MINUTE)]},
                (
                    "steps must be steps of which one is below 100 %, because there is no baseline "
                    "at 100 %, not [100.0]."
                ),
            ),
            (
                {"signals": [Signal.errors_5xx(), Signal.errors_5xx(ratio=2)]},
                "signals must be signals with different names, not ['errors_5xx', 'errors_5xx'].",
            ),
            (
                {"signals": [Signal.errors_4xx()]},
                "signals must be a list with at least one that is critical, not ['errors_4xx'].",
            ),
            (
                {"signals": []},
                (
                    "signals must be a list with at least one that is critical, not []. "
                    "Leave signals out for the defaults, or give Signal.errors_5xx()."
                ),
            ),
            ({"false_rollback": 0}, "false_rollback must be a number from 1e-06 to 0.5, not 0."),
            ({"false_rollback": 0.6}, "false_rollback must be a number from 1e-06 to 0.5, not"),
            ({"false_promotion": "5%"}, "false_promotion must be a number from 1e-06 to 0.5, not"),
            ({"false_promotion": True}, "false_promotion must be a number from 1e-06 to 0.5, not"),
            (
                {"deadline": timedelta(minutes=29, seconds=59)},
                "deadline must be a timedelta from 0:30:00 to 14 days",
            ),
            (
                {"steps": [Step(5, timedelta(0))], "deadline": timedelta(seconds=59)},
                "deadline must be a timedelta from 0:01:00 to 14 days",
            ),
            ({"deadline": 15 * DAY}, "deadline must be a timedelta from 0:30:00 to 14 days"),
            ({"deadline": 3600}, "deadline must be a timedelta from 0:30:00 to 14 days"),
            (
                {"on_inconclusive": "promote"},
                "on_inconclusive must be one of hold, rollback, not 'promote'.",
            ),
            (
                {"max_unobserved": timedelta(0)},
                "max_unobserved must be a timedelta from 0:01:00 to 14 days",
            ),
            ({"metric_delay": -MINUTE}, "metric_delay must be a timedelta from 0:00:00 to 1:00:00"),
            (
                {"metric_delay": 2 * HOUR},
                "metric_delay must be a timedelta from 0:00:00 to 1:00:00",
            ),
            (
                {"promotion_metric_delay": MINUTE},
                "promotion_metric_delay must be a timedelta from 0:02:00 to 1:00:00",
            ),
            (
                {"promotion_metric_delay": 2 * HOUR},
                "promotion_metric_delay must be a timedelta from 0:02:00 to 1:00:00",
            ),
        ],
    )
    def test_refusals_name_field_range_and_value(
        self, changes: dict[str, Any], message: str
    ) -> None:
        """Each refusal is one sentence with the field, what is allowed, and what was given."""
        error = refused(RolloutPolicy, **{"steps": STEPS, **changes})
        assert str(error).startswith(message)
        assert error.field in changes

    @pytest.mark.parametrize("steps", [[5, 50], [(5, MINUTE)], ["5%"], 5, None], ids=repr)
    def test_steps_are_steps(self, steps: Any) -> None:
        """Bare numbers in the steps' place are refused by name, not by a crash."""
        assert refused(RolloutPolicy, steps).field == "steps"

    @pytest.mark.parametrize("found", [["errors_5xx"], "errors_5xx", [None], 5], ids=repr)
    def test_signals_are_signals(self, found: Any) -> None:
        """Bare names in the signals' place are refused by name, not by a crash."""
        assert refused(RolloutPolicy, STEPS, signals=found).field == "signals"


class TestStep:
    @pytest.mark.parametrize("percent", [0, -0.0, -1, 100.01, 0.001, "5", None, math.nan, True])
    def test_percent(self, percent: Any) -> None:
        """A step takes some requests, and 100 % at most."""
        assert refused(Step, percent, MINUTE).field == "percent"

    @pytest.mark.parametrize("bake", [-MINUTE, 15 * DAY, 600, "10m", None])
    def test_bake(self, bake: Any) -> None:
        """A step lasts from no time to fourteen days; bare seconds are no time."""
        assert refused(Step, 5, bake).field == "bake"

    @given(shares, bakes)
    def test_keeps_hundredths(self, share: float, bake: timedelta) -> None:
        """A step has the share and time it was given, the share to 0.01."""
        step = Step(share + 0.001, bake) if share < 100 else Step(share, bake)
        assert (step.percent, step.bake) == (share, bake)


class TestDeadline:
    @given(rising, st.data())
    def test_default_is_twice_the_plan(self, found: list[float], data: st.DataObject) -> None:
        """Without a deadline: twice the plan, at least 24 hours, at most 14 days."""
        steps = [Step(percent, data.draw(bakes)) for percent in found]
        policy = RolloutPolicy(steps)
        allowed, plan = policy.effective_deadline, sum((step.bake for step in steps), timedelta(0))

        assert policy.total_bake == plan
        assert DAY <= allowed <= 14 * DAY
        assert allowed in {2 * plan, DAY, 14 * DAY}
        if DAY < 2 * plan < 14 * DAY:
            assert allowed == 2 * plan
        assert (allowed == DAY) == (2 * plan <= DAY)
        assert (allowed == 14 * DAY) == (2 * plan >= 14 * DAY)

    @given(st.timedeltas(DAY, 14 * DAY))
    @example(DAY)
    @example(14 * DAY)
    def test_given_deadline_is_the_one(self, deadline: timedelta) -> None:
        """A deadline that was given is the one, shorter than twice the plan or not."""
        assert RolloutPolicy.canary(5, DAY, deadline=deadline).effective_deadline == deadline

    @given(rising, st.data(), st.timedeltas(-DAY, 15 * DAY))
    def test_leaves_time_for_the_plan(
        self, found: list[float], data: st.DataObject, beyond: timedelta
    ) -> None:
        """A deadline is taken exactly from the plan's length, or a minute, up to 14 days."""
        steps = [Step(percent, data.draw(short_bakes)) for percent in found]
        plan = sum((step.bake for step in steps), timedelta(0))
        deadline = plan + beyond
        if max(plan, MINUTE) <= deadline <= 14 * DAY:
            assert RolloutPolicy(steps, deadline=deadline).effective_deadline == deadline
        else:
            assert refused(RolloutPolicy, steps, deadline=deadline).field == "deadline"

    def test_final_bake_is_of_the_plan(self) -> None:
        """What the plan bakes at 100 % has to fit before the deadline as well."""

        def plan_of(deadline: timedelta) -> timedelta:
            return RolloutPolicy.canary(5, HOUR, final_bake=2 * HOUR, deadline=deadline).total_bake

        assert plan_of(3 * HOUR) == 3 * HOUR
        error = refused(plan_of, 3 * HOUR - timedelta.resolution)
        assert error.expected.startswith("a timedelta from 3:00:00 to 14 days, 0:00:00")


class TestSteps:
    @pytest.mark.long
    @given(policies(), percents)
    def test_step_at_is_the_last_reached(self, policy: RolloutPolicy, percent: float) -> None:
        """The step of a share is the last one not above it; below the first it is the first."""
        at = policy.step_at(percent)
        assert at in policy.steps
        above = [step for step in policy.steps if at.percent < step.percent <= percent]
        assert above == []
        assert at.percent <= percent or at == policy.steps[0]

    @pytest.mark.long
    @given(policies(), percents)
    def test_next_step_is_the_first_above(self, policy: RolloutPolicy, percent: float) -> None:
        """The next step is the first one above the share; after the last there is none."""
        following = policy.next_step(percent)
        if following is None:
            assert policy.steps[-1].percent <= percent
        else:
            assert following.percent > percent
            between = [s for s in policy.steps if percent < s.percent < following.percent]
            assert between == []

    @pytest.mark.long
    @given(policies())
    def test_walk(self, policy: RolloutPolicy) -> None:
        """From 0 %, step after step, each step of the plan is reached once and in order."""
        walked: list[Step] = []
        step = policy.next_step(0)
        while step is not None:
            assert policy.step_at(step.percent) == step
            walked.append(step)
            step = policy.next_step(step.percent)
        assert walked == list(policy.steps)


def test_in_words() -> None:
    """What is printed is the plan: its steps, its end, and for how long at most."""
    policy = RolloutPolicy([Step(5, timedelta(minutes=10)), Step(50, timedelta(hours=1))])
    assert str(policy) == (
        "5 % for 10 min, 50 % for 1 h, then promoted if not worse; rolled back if undecided "
        "after 1 d"
    )
    assert str(RolloutPolicy.canary(5, MINUTE, final_bake=HOUR)) == (
        "5 % for 1 min, 100 % for 1 h, then promoted if not worse; rolled back if undecided "
        "after 1 d; each step takes at least 6 min, until its metrics are complete; at "
        "100 % a gross failure of errors_5xx (where at most 2 % failed before) and errors_5xx far "
        "above the past for 30 min can roll back"
    )
    budget = RolloutPolicy.canary(
        5, 10 * MINUTE, final_bake=HOUR, max_failed_requests=100, on_production_unhealthy="hold"
    )
    assert str(budget).endswith(
        "a gross failure of errors_5xx (where at most 2 % failed before) and 100 more failed "
        "requests of errors_5xx can roll back"
    )


class TestDecide:
    @pytest.mark.parametrize("verb", ["decide", "analyze"])
    def test_of_an_observation_only(self, verb: str) -> None:
        """A canary in its place is told what is missing."""
        with pytest.raises(
            InvalidInputError, match=r"an Observation, as canary\.observe\(policy\)"
        ):
            getattr(RolloutPolicy.canary(5, timedelta(minutes=1)), verb)(object())

    @pytest.mark.long
    @given(policies(), observations)
    def test_any_observation_gets_a_decision(
        self, policy: RolloutPolicy, observation: Observation
    ) -> None:
        """Whatever was seen, there is a decision, the same each time, fit to be stored."""
        decision = policy.decide(observation)
        assert decision == policy.decide(Observation.from_dict(observation.to_dict()))
        assert decision_from_dict(decision.to_dict()) == decision
        assert decision.at == observation.at
        assert decision.basis == observation.basis
        assert decision.reason

    @pytest.mark.long
    @given(policies(), observations)
    def test_analysis_is_the_one_behind_it(
        self, policy: RolloutPolicy, observation: Observation
    ) -> None:
        """`analyze` gives one finding for each signal, and what the decision rests on."""
        analysis = policy.analyze(observation)
        assert [f.signal for f in analysis.findings] == [s.name for s in policy.signals]
        assert policy.decide(observation).analysis in {None, analysis}


class TestSignal:
    @given(signals())
    def test_any_tolerance_in_range(self, signal: Signal) -> None:
        """Whatever is within the ranges can be made, and made again."""
        assert attrs.evolve(signal) == signal
        assert hash(attrs.evolve(signal)) == hash(signal)

    def test_errors_5xx(self) -> None:
        """5xx errors are critical, with the defaults of the class."""
        assert Signal.errors_5xx() == Signal(name="errors_5xx", rare=True)
        assert Signal.errors_5xx().critical
        assert Signal.errors_5xx(ratio=2, limit=0.1).limit == 0.1

    def test_errors_4xx(self) -> None:
        """4xx errors are the clients' doing: wider, lighter, not critical, all of it settable."""
        wide, narrow = Signal.errors_4xx(), Signal.errors_5xx()
        assert wide.name == "errors_4xx"
        assert not wide.critical
        for name in ("ratio", "slack", "noise", "margin"):
            assert getattr(wide, name) > getattr(narrow, name)
        assert wide.weight < narrow.weight
        chosen = Signal.errors_4xx(ratio=3, critical=True)
        assert (chosen.ratio, chosen.critical, chosen.slack) == (3, True, wide.slack)

    def test_constructors_share_nothing(self) -> None:
        """What one signal is given is not in the next one."""
        Signal.errors_4xx(weight=5)
        Signal.custom("refunds", weight=5)
        assert Signal.errors_4xx().weight == 0.1
        assert Signal.custom("refunds").weight == 0.5

    def test_custom(self) -> None:
        """A signal of the caller's own is not critical unless said so."""
        assert Signal.custom("refunds") == Signal(name="refunds", critical=False)
        assert Signal.custom("refunds", critical=True).critical
        assert Signal.custom("refunds", report_only=True).report_only

    @pytest.mark.parametrize(
        "changes, message",
        [
            ({"name": ""}, "name must be 1 to 200 printable characters on one line, not ''."),
            ({"name": "a\nb"}, "name must be"),
            ({"name": 5}, "name must be"),
            ({"ratio": 0.99}, "ratio must be a number from 1 to 100, not 0.99."),
            ({"ratio": 101}, "ratio must be a number from 1 to 100, not 101."),
            ({"ratio": math.nan}, "ratio must be a number from 1 to 100, not nan."),
            ({"ratio": "1.1"}, "ratio must be a number from 1 to 100, not '1.1'."),
            ({"slack": -0.1}, "slack must be a number from 0 to 0.99, not -0.1."),
            ({"slack": 1}, "slack must be a number from 0 to 0.99, not 1."),
            ({"noise": 2.5}, "noise must be a number from 0 to 2, not 2.5."),
            ({"noise": True}, "noise must be a number from 0 to 2, not True."),
            ({"margin": 1.5}, "margin must be a number from 0 to 1, not 1.5."),
            (
                {"margin": 0.1, "slack": 0.1},
                "margin must be above slack (0.1), not 0.1.",
            ),
            ({"limit": 0}, "limit must be a number from 1e-06 to 0.999, not 0."),
            ({"limit": 1}, "limit must be a number from 1e-06 to 0.999, not 1."),
            ({"limit": "5%"}, "limit must be a number from 1e-06 to 0.999, not '5%'."),
            ({"weight": 0}, "weight must be a number from 0.001 to 1000, not 0."),
            ({"weight": 1001}, "weight must be a number from 0.001 to 1000, not 1001."),
            (
                {"critical": True, "report_only": True},
                "report_only must be False for a critical signal, not True.",
            ),
        ],
    )
    def test_refusals_name_field_range_and_value(
        self, changes: dict[str, Any], message: str
    ) -> None:
        """Each refusal is one sentence with the field, what is allowed, and what was given."""
        error = refused(Signal, **{"name": "errors_5xx", **changes})
        assert str(error).startswith(message)
        assert error.field in changes

    @pytest.mark.parametrize("field", ["critical", "report_only"])
    @pytest.mark.parametrize("value", ["no", 0, 1, None], ids=repr)
    def test_switches_are_true_or_false(self, field: str, value: Any) -> None:
        """What could not be read again, such as "no", which Python takes for true, is refused."""
        others = {"critical": False, "report_only": False, field: value}
        assert refused(Signal, name="refunds", **others).field == field

    @pytest.mark.parametrize("make", [Signal.errors_5xx, Signal.errors_4xx, Signal.custom])
    def test_constructors_check_too(self, make: Any) -> None:
        """The constructors let through what the class lets through."""
        options = {"name": "refunds"} if "name" in inspect.signature(make).parameters else {}
        assert refused(make, ratio=0.5, **options).field == "ratio"
