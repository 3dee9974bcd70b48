"""The rules of `decide` at 1, 100 and a million requests a minute, and the four blocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    Decision,
    Hold,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    Step,
)
from apigw_canary.rollout import rules
from apigw_canary.rollout.view import View
from test_decide import BASIS, MINUTE, START, observations, policies

T = timedelta
PLAN = RolloutPolicy(
    [Step(10, 10 * MINUTE), Step(50, 10 * MINUTE), Step(100, 10 * MINUTE)],
    signals=[Signal.errors_5xx()],
)
BELOW = attrs.evolve(PLAN, steps=PLAN.steps[:2])
HOLDING = attrs.evolve(PLAN, on_inconclusive="hold", on_production_unhealthy="hold")

at_each_pace = pytest.mark.parametrize("pace", [1.0, 100.0, 1e6])
Rate = float | Callable[[int], float]


def served(
    pace: float,
    percent: float,
    minutes: int,
    *,
    baseline: Rate = 0.001,
    canary: Rate = 0.001,
    history: int = 60,
    past: float = 0.001,
) -> list[Minute]:
    """An hour of the baseline, then both variants: as many minutes from START on."""

    def rate(of: Rate, i: int) -> float:
        return of(i) if callable(of) else of

    share = percent / 100
    before = [Minute(START - i * MINUTE, pace, pace * past, 0, 0) for i in range(history, 0, -1)]
    after = []
    for i in range(minutes):
        n_b, n_c = pace * (1 - share), pace * share
        after.append(
            Minute(START + i * MINUTE, n_b, n_b * rate(baseline, i), n_c, n_c * rate(canary, i))
        )
    return [*before, *after]


def at(
    minute: float, rows: list[Minute], percent: float, policy: RolloutPolicy = PLAN, **fields: Any
) -> Decision:
    """The decision at a minute since START, at which the canary was given its percent."""
    given_ = {
        "at": START + minute * MINUTE,
        "started_at": START,
        "step_started_at": START,
        "percent": percent,
        "minutes": {"errors_5xx": rows},
        "basis": BASIS,
        **fields,
    }
    return policy.decide(Observation(**given_))


# I. Over


@at_each_pace
def test_1_ended_comes_before_worse(pace: float) -> None:
    """A rollout that is over is not rolled back, however bad its minutes were."""
    rows = served(pace, 50, 60, canary=1)
    decision = at(60, rows, 0, phase="replaced")
    assert isinstance(decision, Hold)
    assert decision.final
    assert decision.waiting_for is None
    assert "another canary has replaced it" in decision.reason


@at_each_pace
def test_2_a_promotion_is_finished(pace: float) -> None:
    """Whatever its minutes were: production serves a part of it already."""
    assert isinstance(at(60, served(pace, 50, 60, canary=1), 0, phase="promoting"), Promote)


# II. Roll back


@at_each_pace
def test_3_worse(pace: float) -> None:
    """A canary that fails in half of its requests is found at any pace, given time."""
    decision = at(130, served(pace, 50, 128, canary=0.5), 50)
    assert isinstance(decision, Rollback)
    assert "the canary is worse: errors_5xx: canary 50.00 % of" in decision.reason


@at_each_pace
def test_5_a_gross_failure_at_100_percent(pace: float) -> None:
    """Nothing but errors, without a baseline: found within minutes, and never promoted (A4)."""
    policy = attrs.evolve(PLAN, steps=[Step(50, 10 * MINUTE), Step(100, 30 * MINUTE)])
    before = served(pace, 50, 60)
    broken = served(pace, 100, 30, canary=1, history=0)
    rows = [*before, *(attrs.evolve(row, at=row.at + 60 * MINUTE) for row in broken)]
    found = next(
        minute
        for minute in range(62, 92)
        if isinstance(
            at(
                minute,
                [row for row in rows if row.at <= START + (minute - 3) * MINUTE],
                100,
                policy,
                step_started_at=START + 60 * MINUTE,
            ),
            Rollback,
        )
    )
    assert found <= {1.0: 76, 100.0: 66, 1e6: 66}[pace]
    decision = at(92, rows, 100, policy, step_started_at=START + 60 * MINUTE)
    assert isinstance(decision, Rollback)
    assert "errors_5xx are 100.00 % of" in decision.reason
    assert "before this step they were 0." in decision.reason


@at_each_pace
def test_5_thirty_percent_at_100_percent_is_never_promoted(pace: float) -> None:
    """Where the guard does not see enough, nothing is confirmed against the past either."""
    rows = [
        *served(pace, 50, 60),
        *(
            attrs.evolve(row, at=row.at + 60 * MINUTE)
            for row in served(pace, 100, 90, canary=0.3, history=0)
        ),
    ]
    for minute in range(70, 150, 10):
        known = [row for row in rows if row.at <= START + (minute - 3) * MINUTE]
        decision = at(minute, known, 100, step_started_at=START + 60 * MINUTE)
        assert not isinstance(decision, Promote)
        assert pace == 1 or isinstance(decision, Rollback)


@at_each_pace
@pytest.mark.parametrize("minutes", [20, 40])
def test_6_both_silent_after_a_busy_hour(pace: float, minutes: int) -> None:
    """A hundred a minute, then nothing: unobserved (A7). One a minute may well have ended."""
    decision = at(minutes + 3, served(pace, 10, 2), 10)
    if pace >= 10:
        assert isinstance(decision, Rollback if minutes == 40 else Hold)
        assert "no requests of either variant in errors_5xx since" in decision.reason
    else:
        assert isinstance(decision, Hold)
        assert "neither variant has had requests" in decision.reason
    assert decision.waiting_for == ("metrics" if isinstance(decision, Hold) else None)


@at_each_pace
@pytest.mark.parametrize("failing", ["failing_since", "last_complete_at"])
def test_6_a_source_that_fails(pace: float, failing: str) -> None:
    """As recorded, or as this process knows: a recorded time is taken first."""
    rows = served(pace, 10, 20)
    for minute, kind in ((50, Hold), (52, Rollback)):
        since: dict[str, Any] = {failing: START + 21 * MINUTE}
        decision = at(minute, rows, 10, failure="no access", **since)
        assert isinstance(decision, kind)
        assert "could not be read since 2026-11-23 12:21 UTC (no access)" in decision.reason


@at_each_pace
def test_6_unknown_outcomes_of_the_canary(pace: float) -> None:
    """What cannot be read of the canary alone is not observed (A2); the same of both is suspect."""
    rows = [
        attrs.evolve(row, canary_unknown=row.canary_requests * 0.9, canary_bad=0)
        for row in served(pace, 10, 100)
    ]
    decision = at(100, rows, 10)
    assert isinstance(decision, Rollback if pace > 1 else Hold)
    assert "90.00 % of" in decision.reason
    alike = [attrs.evolve(row, baseline_unknown=row.baseline_requests * 0.9) for row in rows]
    decision = at(100, alike, 10)
    assert isinstance(decision, Hold)
    assert "the metrics are suspect" in decision.reason
    assert decision.waiting_for == "metrics"


def burning(i: int) -> float:
    """Production's rate: from the canary's start on it is 30 %."""
    del i
    return 0.3


@at_each_pace
def test_7_and_13_production_becomes_unhealthy_with_the_canary(pace: float) -> None:
    """No evidence against it, and nothing is shifted up (A8); after half an hour it is rolled back.

    At one request a minute 30 % take that long to be seen at all.
    """
    rows = served(pace, 10, 78, baseline=burning, canary=burning)
    early = at(14, rows[:72], 10)
    late = at(80, rows, 10)
    kept = at(80, rows, 10, HOLDING)
    if pace > 1:
        assert isinstance(early, Hold)
        assert "production's errors_5xx rose from 0.10 % to 30.00 % at 12:0" in early.reason
        assert "when the canary started; the canary may be the cause" in early.reason
        assert early.waiting_for == "evidence"
        assert isinstance(late, Rollback)
        assert "for 30 min; the canary may be the cause" in late.reason
    assert not isinstance(late, Shift)
    assert isinstance(kept, Hold)
    assert "the canary may be the cause" in kept.reason


def test_7_production_becomes_unhealthy_with_a_shift() -> None:
    """The sentence names the shift. At 0 % the canary cannot be the cause any more."""
    rows = served(100, 10, 20)
    after = served(100, 50, 60, history=0, baseline=burning, canary=burning)
    rows += [attrs.evolve(row, at=row.at + 20 * MINUTE) for row in after]
    step = {"step_started_at": START + 19 * MINUTE}
    decision = at(82, rows, 50, **step)  # type: ignore[arg-type]
    assert isinstance(decision, Rollback)
    assert "after the shift to 50 %" in decision.reason
    assert not isinstance(at(82, rows, 0, **step), Rollback)  # type: ignore[arg-type]


@at_each_pace
def test_7_an_incident_that_begins_later_is_not_the_canary_s(pace: float) -> None:
    """It holds, however long it takes, and the rollout goes on after it (A6)."""

    def incident(i: int) -> float:
        return 0.3 if 20 <= i < 75 else 0.001

    rows = served(pace, 10, 130, baseline=incident, canary=incident)
    limited = attrs.evolve(PLAN, signals=[Signal.errors_5xx(limit=0.05)])
    for policy in (PLAN, limited):
        during = at(77, rows[:135], 10, policy)
        assert isinstance(during, Hold) or pace == 1
        assert not isinstance(during, Rollback)
        assert isinstance(at(132, rows, 10, policy), Shift)


@at_each_pace
@pytest.mark.parametrize("past, bad", [(0.021, 0.12), (0.001, 0.09)])
def test_7_failures_at_100_percent_need_not_follow_the_shift(
    pace: float, past: float, bad: float
) -> None:
    """They are the canary's, whenever they begin, also where the guard at 100 % says nothing."""
    rows = served(pace, 50, 30, baseline=past, canary=past, past=past)
    after = served(pace, 100, 260, history=0, canary=lambda i: past if i < 30 else bad)
    rows += [attrs.evolve(row, at=row.at + 30 * MINUTE) for row in after]
    step: dict[str, Any] = {"step_started_at": START + 30 * MINUTE}
    early, late = at(80, rows[:138], 100, **step), at(290, rows, 100, **step)
    assert not isinstance(early, Promote | Rollback)
    assert "fix" not in early.reason
    if pace > 1:
        assert isinstance(late, Rollback)
        assert "for 30 min; at 100 % all requests are the canary's, and so are" in late.reason
        held = at(290, rows, 100, HOLDING, **step)
        assert isinstance(held, Hold)
        assert "at 100 % all requests are the canary's" in held.reason


def test_7_failures_that_began_before_100_percent() -> None:
    """They count once they have lasted as long at 100 %, where all requests are the canary's."""
    burns = served(100, 50, 40, baseline=lambda i: 0.001 if i < 20 else 0.05, canary=0.05)
    after = served(100, 100, 60, history=0, canary=0.05)
    rows = [*burns, *(attrs.evolve(row, at=row.at + 40 * MINUTE) for row in after)]
    rows = [
        attrs.evolve(row, canary_bad=row.canary_requests * 0.001)
        if START <= row.at < START + 20 * MINUTE
        else row
        for row in rows
    ]
    step: dict[str, Any] = {"step_started_at": START + 40 * MINUTE}
    assert isinstance(at(65, rows[:123], 100, **step), Hold)
    assert isinstance(at(80, rows[:138], 100, **step), Rollback)


def test_13_a_baseline_that_was_unhealthy_is_not_to_be_fixed_at_100_percent() -> None:
    """There the failures are the canary's."""
    rows = served(100, 50, 20, baseline=1, canary=1, past=1)
    after = served(100, 100, 40, history=0)
    rows += [attrs.evolve(row, at=row.at + 20 * MINUTE) for row in after]
    decision = at(50, rows, 100, step_started_at=START + 20 * MINUTE)
    assert isinstance(decision, Hold)
    assert "in its last minutes" in decision.reason
    assert decision.reason.endswith("at 100 % all requests are the canary's")


@pytest.mark.long
@at_each_pace
def test_8_max_failed_requests(pace: float) -> None:
    """A canary that fails a little more often than tolerated, for long."""
    policy = attrs.evolve(
        PLAN, max_failed_requests=20, signals=[Signal.errors_5xx(slack=0.02, margin=0.03)]
    )
    rows = served(pace, 50, 600, canary=0.015)
    decision = at(602, rows, 50, policy)
    if pace > 1:
        assert isinstance(decision, Rollback)
        assert "more failed requests (errors_5xx)" in decision.reason
    else:
        assert not isinstance(decision, Rollback)
    assert not isinstance(at(602, served(pace, 50, 600), 50, policy), Rollback)
    other = attrs.evolve(policy, signals=[Signal.errors_5xx(rare=False, slack=0.02, margin=0.03)])
    assert not isinstance(at(602, rows, 50, other), Rollback)


@at_each_pace
@pytest.mark.parametrize("policy", [PLAN, HOLDING])
def test_9_and_16_the_deadline(pace: float, policy: RolloutPolicy) -> None:
    """After it nothing is shifted up; with "hold" an operator has to act, who is waited for."""
    day = T(days=1) / MINUTE
    rows = [
        Minute(START + (day - 60 + i) * MINUTE, 0.9 * pace, 0, 0.1 * pace, 0) for i in range(60)
    ]
    step: dict[str, Any] = {"step_started_at": START + (day - 60) * MINUTE}
    assert isinstance(at(day, rows, 10, policy, **step), Shift)
    decision = at(day + 1, rows, 10, policy, **step)
    assert isinstance(decision, Rollback if policy is PLAN else Hold)
    assert "the deadline of 1 d has passed without a verdict" in decision.reason
    assert decision.waiting_for == (None if policy is PLAN else "operator")
    unread = at(day + 1, rows, 10, policy, failure="gone", **step)
    assert "gone" in unread.reason
    assert unread.waiting_for == (None if policy is PLAN else "operator")
    held = at(day + 1, rows, 10, policy, held_for=2 * MINUTE, **step)
    assert isinstance(held, Shift)


# III. Hold


def test_15_at_100_percent_the_sentence_names_what_guards() -> None:
    """Also where nothing but alarms and limits do."""
    step: dict[str, Any] = {"step_started_at": START + 50 * MINUTE}
    rows = served(100, 50, 50)
    said = at(55, rows, 100, **step).reason
    assert (
        "without a baseline a gross failure of errors_5xx (where at most 2 % failed before) and "
        "errors_5xx far above the past for 30 min can roll back"
    ) in said
    own = attrs.evolve(
        PLAN,
        signals=[Signal.custom("errors_5xx", critical=True, rare=False, limit=0.2)],
        alarms=["checkout"],
    )
    said = at(55, rows, 100, own, **step).reason
    assert "without a baseline the limit of errors_5xx and the alarms checkout can" in said


@at_each_pace
def test_11_on_hold(pace: float) -> None:
    """The canary keeps its percent; what rolls back does so all the same."""
    good, bad = served(pace, 50, 200), served(pace, 50, 200, canary=0.9)
    decision = at(200, good, 50, on_hold="waiting for the data team")
    assert isinstance(decision, Hold)
    assert decision.waiting_for == "operator"
    assert "on hold by an operator: waiting for the data team" in decision.reason
    assert isinstance(at(200, bad, 50, on_hold="waiting for the data team"), Rollback)


@at_each_pace
def test_12_a_critical_signal_that_is_never_given(pace: float) -> None:
    """It is named (A13)."""
    policy = attrs.evolve(
        PLAN, signals=[Signal.errors_5xx(), Signal.custom("checkout_failed", critical=True)]
    )
    decision = at(60, served(pace, 10, 58), 10, policy)
    assert isinstance(decision, Hold)
    assert "has given no minute of checkout_failed, which a promotion needs" in decision.reason
    assert decision.waiting_for == "metrics"


@at_each_pace
def test_14_production_was_changed(pace: float) -> None:
    """The sentence says what was changed, and what to call; other changes are only reported."""
    rows = served(pace, 10, 200)
    change = {"variables.alias": "changed"}
    decision = at(200, rows, 10, BELOW, production_changed=change)
    assert isinstance(decision, Hold)
    assert "variables.alias: changed" in decision.reason
    assert "canary.accept_production_changes()" in decision.reason
    assert decision.waiting_for == "operator"
    reported = at(200, served(pace, 10, 200), 10, BELOW, changed=change)
    assert isinstance(reported, Shift)
    assert "variables.alias: changed" in reported.reason


@at_each_pace
def test_15_waiting_for_complete_metrics(pace: float) -> None:
    """A bake shorter than the delay of the metrics says so (B13)."""
    policy = RolloutPolicy.linear(10, 30, MINUTE, signals=[Signal.errors_5xx()])
    said = []
    for minute in range(8):
        decision = at(minute, served(pace, 10, max(minute - 1, 0)), 10, policy)
        said.append(decision.waiting_for)
        assert "no canary request" not in decision.reason
    assert said == ["bake", *["metrics"] * 6, None]


@at_each_pace
def test_15_a_step_is_left_on_what_its_bake_showed(pace: float) -> None:
    """Traffic that ends two minutes into a step of 30 is not enough (A15)."""
    policy = attrs.evolve(PLAN, steps=[Step(10, 30 * MINUTE), Step(50, 30 * MINUTE)])
    rows = served(pace, 10, 3)
    stops = [*rows, *(Minute(START + i * MINUTE, 0, 0, 0, 0) for i in range(3, 8))]
    trickle = [*stops, *(Minute(START + i * MINUTE, 0, 0, 0, 0) for i in range(8, 40))]
    trickle[-10] = attrs.evolve(trickle[-10], baseline_requests=1, canary_requests=0.1)
    for known in (stops, trickle):
        decision = at(40, known, 10, policy)
        assert not isinstance(decision, Shift)
    seldom = [row for row in served(pace, 10, 60) if row.at < START or row.at.minute % 5 == 0]
    decision = at(60, seldom, 10, policy)
    assert "but only 10 of this step's 54 complete minutes had requests" in decision.reason
    assert isinstance(at(40, served(pace, 10, 38), 10, policy), Shift)


def test_15_few_requests_are_as_before() -> None:
    """Where the hour before had as few, a step of a quiet stage is left."""
    policy = attrs.evolve(PLAN, steps=[Step(50, 30 * MINUTE), Step(90, 30 * MINUTE)])
    quiet = [
        Minute(START + i * MINUTE, 1, 0, *((1, 0) if i > 0 else (0, 0))) for i in range(-60, 60, 4)
    ]
    assert isinstance(at(60, quiet, 50, policy), Shift)
    new = [row for row in quiet if row.at > START]
    decision = at(60, new, 50, policy)
    assert isinstance(decision, Hold)
    assert "the step ends once half of its minutes have requests" in decision.reason


@at_each_pace
def test_15_minutes_left_out_of_busy_traffic(pace: float) -> None:
    """Minutes that busy traffic cannot have been without are named; a quiet stage's are not."""
    policy = attrs.evolve(PLAN, steps=[Step(10, 30 * MINUTE), Step(50, 30 * MINUTE)])
    rows = served(pace, 10, 38)
    single = [row for row in rows if row.at != START + 12 * MINUTE]
    assert isinstance(at(40, single, 10, policy), Shift)
    hidden = [row for row in rows if row.at < START or row.at.minute % 2]
    decision = at(40, hidden, 10, policy)
    if pace < 10:
        assert "missing" not in decision.reason
        return
    assert isinstance(decision, Hold)
    assert decision.waiting_for == "metrics"
    assert "complete minutes are missing in errors_5xx" in decision.reason
    assert str((START + 2 * MINUTE).minute).zfill(2) + " UTC" in decision.reason
    assert " more), though minutes before" in decision.reason
    few = [row for row in rows if row.at < START or row.at.minute % 7]
    named = at(40, few, 10, policy).reason
    assert "complete minutes are missing" in named
    assert "more)" not in named
    # Traffic that has become sparse since has minutes without requests.
    sparse = [
        attrs.evolve(row, baseline_requests=9, canary_requests=0.5, baseline_bad=0, canary_bad=0)
        if row.at > START
        else row
        for row in hidden
    ]
    assert "are missing" not in at(40, sparse, 10, policy).reason


# IV. Go up


@at_each_pace
def test_17_the_next_step_needs_a_comparable_minute(pace: float) -> None:
    """Minutes of the canary alone support nothing, and failing ones forbid (A5)."""
    alone = [Minute(START + i * MINUTE, 0, 0, pace, 0) for i in range(1, 19)]
    decision = at(25, alone, 50)
    assert isinstance(decision, Hold)
    failing = [attrs.evolve(row, canary_bad=pace) for row in alone]
    assert not isinstance(at(25, failing, 50), Shift)
    compared = served(pace, 10, 18)[::2]
    assert isinstance(at(25, compared, 10), Shift)
    few = [
        attrs.evolve(r, at=r.at + 20 * MINUTE, canary_requests=pace / 10, canary_bad=pace / 10)
        for r in failing
    ]
    policy = attrs.evolve(PLAN, steps=[Step(50, 10 * MINUTE), Step(90, 10 * MINUTE)])
    decision = at(45, [*served(pace, 50, 18, history=0), *few], 50, policy)
    if pace == 1:  # 1.8 requests
        return
    assert isinstance(decision, Hold)
    assert "failed in minutes without a baseline request" in decision.reason


@pytest.mark.parametrize("overlap", ["included", "unknown"])
@pytest.mark.parametrize("requests", [1, 2, 3])
def test_17_all_canary_requests_fail(requests: int, overlap: Any) -> None:
    """18 of 18, whether or not the stage's counts include them: never shifted up (A5)."""
    policy = RolloutPolicy.linear(30, 20, 10 * MINUTE)
    rows = [
        Minute(START + i * MINUTE, 3 * requests, requests, requests, requests) for i in range(1, 19)
    ]
    assert not isinstance(at(25, rows, 30, policy, overlap=overlap), Shift | Promote)


@at_each_pace
def test_17_the_latest_minutes_exceed_the_margin(pace: float) -> None:
    """Not worse than tolerated by the evidence, above the margin as counted: it waits."""
    policy = attrs.evolve(PLAN, signals=[Signal.errors_5xx(slack=0.5, margin=0.51, noise=2)])
    rows = served(pace, 50, 60, canary=lambda i: 0.6 if i > 46 else 0.001)
    policy = attrs.evolve(policy, steps=[Step(50, 10 * MINUTE), Step(90, 10 * MINUTE)])
    decision = at(62, rows, 50, policy)
    if pace == 1:  # 4.5 of 5 requests, where 51 % are tolerated
        return
    assert isinstance(decision, Hold)
    assert "in its latest 10 complete minutes the canary exceeds the margin" in decision.reason


@pytest.mark.parametrize("step", [10, 50])
@at_each_pace
def test_17_18_minutes_too_new_to_confirm_may_forbid(pace: float, step: float) -> None:
    """The last three minutes, between both delays, plainly exceed the margin: it waits."""
    policy = attrs.evolve(BELOW, signals=[Signal.errors_5xx(slack=0.5, margin=0.51, noise=2)])
    rows = served(pace, step, 58, canary=lambda i: 0.6 if i > 54 else 0.5 * (i > 46))
    minutes = {"errors_5xx": [row for row in rows if row.at < START + 55 * MINUTE]}
    kind = Shift if step == 10 else Promote
    assert isinstance(at(60, rows, step, policy, minutes=minutes), kind) or pace == 1
    decision = at(60, rows, step, policy)
    if pace == 1:  # 1.2 requests of 5, or 0.2 of 1
        return
    assert isinstance(decision, Hold)
    assert "complete minutes the canary exceeds the margin" in decision.reason


@pytest.mark.long
@at_each_pace
def test_18_a_promotion_shows_no_rate_above_the_margin(pace: float) -> None:
    """Also where the totals of the rollout would: percents that changed in an incident."""
    both = [Signal.errors_5xx(), Signal.errors_4xx()]
    policy = attrs.evolve(BELOW, signals=both, deadline=T(days=7))
    incident = [*range(100, 108)]
    rows = [
        *served(pace, 1, 100),
        *(
            attrs.evolve(row, at=row.at + 100 * MINUTE)
            for row in served(
                pace,
                90,
                2600,
                history=0,
                baseline=lambda i: 0.2 if i + 100 in incident else 0.001,
                canary=lambda i: 0.2 if i + 100 in incident else 0.001,
            )
        ),
    ]
    decision = at(2705, rows, 90, policy, minutes={"errors_5xx": rows, "errors_4xx": rows})
    assert isinstance(decision, Promote)
    assert "canary 0.10 % of" in decision.reason
    assert "4xx" not in decision.reason


@pytest.mark.traced
@pytest.mark.long
@at_each_pace
def test_18_from_100_percent_the_past_confirms(pace: float) -> None:
    """The numbers of the sentence are those of the step, beside the baseline's past."""
    minutes = 1500 if pace == 1 else 60
    rows = [
        *served(pace, 50, minutes * 2),
        *(
            attrs.evolve(row, at=row.at + 2 * minutes * MINUTE)
            for row in served(pace, 100, minutes, history=0)
        ),
    ]
    policy = attrs.evolve(PLAN, deadline=T(days=7))
    step = START + 2 * minutes * MINUTE
    decision = at(3 * minutes, rows, 100, policy, step_started_at=step)
    assert isinstance(decision, Promote)
    assert "at 100 %, the baseline's past 0.1" in decision.reason
    early = at(2 * minutes + 10, rows[: 2 * minutes + 68], 100, policy, step_started_at=step)
    assert isinstance(early, Promote if pace == 1e6 else Hold)
    common = attrs.evolve(policy, signals=[Signal.custom("errors_5xx", critical=True, rare=False)])
    assert isinstance(at(3 * minutes, rows, 100, common, step_started_at=step), Promote)
    worse = [
        attrs.evolve(row, canary_bad=row.canary_requests * 0.05) if row.at >= step else row
        for row in rows
    ]
    for each in (policy, common):
        decision = at(3 * minutes, worse, 100, each, step_started_at=step)
        assert isinstance(decision, Hold | Rollback)


@pytest.mark.long
@at_each_pace
def test_18_a_baseline_with_many_errors_is_no_measure(pace: float) -> None:
    """Above 2 % the past confirms nothing; the latest minutes are held against it all the same."""
    policy = attrs.evolve(PLAN, deadline=T(days=7), signals=[Signal.errors_5xx(margin=0.05)])
    minutes = 3000 if pace == 1 else 60
    lit: dict[str, Any] = {"past": 0.04, "baseline": 0.04, "canary": 0.04}
    below = served(pace, 50, minutes, **lit)
    step = START + minutes * MINUTE
    for rate, kind in ((0.04, Promote), (0.12, Hold)):
        alone = served(pace, 100, 30, history=0, canary=rate)
        rows = [*below, *(attrs.evolve(row, at=row.at + minutes * MINUTE) for row in alone)]
        decision = at(minutes + 32, rows, 100, policy, step_started_at=step)
        assert isinstance(decision, kind)


def test_18_the_minutes_of_the_step_alone_are_held_against_the_past() -> None:
    """Also where good minutes from before the step are still among the latest ten."""
    policy = attrs.evolve(PLAN, signals=[Signal.custom("errors_5xx", critical=True, rare=False)])
    alone = served(10_000, 100, 10, history=0, canary=0.0066)
    rows = [
        *served(10_000, 50, 60),
        *(attrs.evolve(row, at=row.at + 60 * MINUTE) for row in alone),
    ]
    decision = at(72, rows, 100, policy, step_started_at=START + 60 * MINUTE)
    assert isinstance(decision, Hold)
    assert "exceeds what the baseline's past tolerates: errors_5xx are 0.66 %" in decision.reason


# The blocks

HOLDS: list[dict[str, Any]] = [
    {"on_hold": "an operator waits"},
    {"production_changed": {"deployment_id": "changed"}},
    {"suspect": "of another API"},
    {"changed": {"description": "changed"}},
    {"notes": ("read in parts",)},
]


@pytest.mark.long
@given(policies, observations(), st.sampled_from(HOLDS))
def test_a_reason_to_hold_never_changes_a_rollback(
    policy: RolloutPolicy, observation: Observation, reason: dict[str, Any]
) -> None:
    """Whatever is added that holds, what rolls back does, and says the same numbers."""
    decision = policy.decide(observation)
    held = policy.decide(attrs.evolve(observation, **reason))
    assert isinstance(held, Rollback) == isinstance(decision, Rollback)
    if isinstance(decision, Rollback):
        assert held.reason.startswith(decision.reason)
    else:
        assert type(held) is type(decision) or isinstance(held, Hold)


@pytest.mark.traced
@pytest.mark.long
@given(policies, observations())
def test_a_block_decides_only_what_it_is_for(
    policy: RolloutPolicy, observation: Observation
) -> None:
    """Each rule of the blocks, asked by itself; the last one always answers."""
    view = View(policy, observation)
    kinds: dict[str, Any] = {
        "Over": Hold | Promote,
        "Roll back": Rollback,
        "Hold": Hold,
        "Shift up": Shift | Promote | Hold,
    }
    assert tuple(rules.BLOCKS) == tuple(kinds)
    for block, members in rules.BLOCKS.items():
        for rule in members:
            decision = rule(view)
            assert decision is None or isinstance(decision, kinds[block])
            if isinstance(decision, Hold) and not decision.final:
                assert decision.waiting_for is not None
                assert decision.reason
    assert rules.RULES[-1](view) is not None


def test_decisions_name_their_release() -> None:
    """From what they were made on; without that there is none."""
    named = attrs.evolve(BASIS, release="2026-11-23.1")
    assert at(60, [], 10, basis=named).release == "2026-11-23.1"
    assert at(60, [], 10).release is None
    assert at(60, [], 10, basis=None).release is None
