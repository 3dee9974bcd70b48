"""The order of the decisions: each rule, and what always holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import (
    Basis,
    Decision,
    Hold,
    Measurements,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    Step,
    Verdict,
    decision_from_dict,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.judge.evidence import log_mean
from apigw_canary.judge.observation import Overlap, Phase

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = RolloutPolicy([Step(5, 10 * MINUTE), Step(50, 10 * MINUTE)], signals=[Signal.errors_5xx()])
BASIS = Basis(
    region="eu-central-1",
    rest_api_id="a1b2c3d4e5",
    stage="prod",
    rollout_id="r",
    deployment_id="d",
    overrides="00000000",
    percent=5.0,
)


def rows(
    count: int,
    *,
    start: datetime = START,
    baseline: tuple[float, float] = (950, 1),
    canary: tuple[float, float] = (50, 0),
) -> list[Minute]:
    """Minutes alike: requests and bad requests of each arm."""
    return [Minute(start + i * MINUTE, *baseline, *canary) for i in range(count)]


def seen(minutes: Iterable[Minute] = (), **fields: Any) -> Observation:
    """A look an hour after the start, unless said otherwise."""
    given_ = {
        "at": START + 60 * MINUTE,
        "started_at": START - MINUTE,
        "step_started_at": START - MINUTE,
        "percent": 5,
        "minutes": {"errors_5xx": tuple(minutes)},
        "basis": BASIS,
        **fields,
    }
    return Observation(**given_)


def decide(minutes: Iterable[Minute] = (), policy: RolloutPolicy = POLICY, **f: Any) -> Decision:
    return policy.decide(seen(minutes, **f))


BAD = rows(60, canary=(50, 5))
GOOD = rows(60)
HUGE = rows(60, canary=(500, 0), baseline=(9500, 9))
HALF = rows(60, canary=(500, 0), baseline=(500, 0.5))


# Each rule, in its order


def test_2_a_promotion_that_was_begun_is_finished() -> None:
    """Also where the canary looks worse: production serves it already."""
    decision = decide(BAD, phase="promoting", percent=0)
    assert isinstance(decision, Promote)
    assert "begun" in decision.reason


def test_3_worse_is_rolled_back() -> None:
    """Also when without traffic, overdue or baking: nothing speaks for keeping it."""
    for fields in ({}, {"percent": 0}, {"at": START + timedelta(days=2)}):
        decision = decide(BAD, **fields)
        assert isinstance(decision, Rollback)
        assert decision.final
        assert "10.00 %" in str(decision)


@pytest.mark.parametrize(
    "phase", [phase for phase in get_args(Phase) if phase not in ("running", "promoting")]
)
@pytest.mark.parametrize("minutes", [(), BAD])
def test_1_an_ended_canary_ends_the_loop(phase: Any, minutes: Iterable[Minute]) -> None:
    """The rollout is over, and the sentence says how, whatever its minutes were."""
    decision = decide(minutes, phase=phase)
    assert str(decision).startswith("Ended: ")
    assert isinstance(decision, Hold)
    assert decision.final
    assert decision.wait == timedelta(0)
    assert "over" in decision.reason


def test_10_a_canary_without_traffic_holds() -> None:
    """At 0 % there is nothing to judge, whatever the numbers were; an operator has to act."""
    decision = decide(HUGE, percent=0)
    assert isinstance(decision, Hold)
    assert "no traffic" in str(decision)
    assert not decision.final
    assert decision.waiting_for == "operator"


@pytest.mark.parametrize("unobserved, kind", [(20, Hold), (40, Rollback)])
def test_6_a_canary_nobody_sees(unobserved: int, kind: type) -> None:
    """A canary without data beside a busy baseline is held first, then rolled back."""
    minutes = [
        *rows(58 - unobserved),
        *rows(unobserved, start=START + (58 - unobserved) * MINUTE, canary=(0, 0)),
    ]
    decision = decide(minutes)
    assert isinstance(decision, kind)
    assert f"{unobserved} min" in decision.reason
    assert ("unobserved" in decision.reason) == (kind is Rollback)


def test_a_signal_without_minutes() -> None:
    """What was not measured is no data, which is not the same as no requests."""
    signals = [Signal.errors_5xx(), Signal.custom("refunds")]
    policy = attrs.evolve(POLICY, signals=signals)
    assert "refunds: no data" in decide(rows(58), policy).reason


def test_6_a_canary_that_had_never_any_data() -> None:
    """A canary that was never seen counts from its start."""
    assert isinstance(decide(rows(58, canary=(0, 0))), Rollback)


def test_6_few_requests_are_no_darkness() -> None:
    """Where no request of the canary was to be expected, none is no reason."""
    decision = decide(rows(58, baseline=(2, 0), canary=(0, 0)))
    assert isinstance(decision, Hold)
    assert "no canary request" in decision.reason


@pytest.mark.parametrize(
    "watched, kind", [(None, Hold), (10, Hold), (30, Hold), (31, Rollback), (90, Rollback)]
)
def test_6_a_source_that_fails(watched: int | None, kind: type) -> None:
    """A failing source holds until `max_unobserved` is over since this step last had data."""
    at = START + 60 * MINUTE
    decision = decide(
        failure="no access", last_complete_at=None if watched is None else at - watched * MINUTE
    )
    assert isinstance(decision, kind)
    assert "no access" in decision.reason


def test_6_at_100_percent_a_busy_baseline_is_a_canary_that_gets_nothing() -> None:
    """At 100 % all requests are the canary's: a busy baseline beside none is lost data."""
    policy = attrs.evolve(POLICY, steps=[Step(5, MINUTE), Step(100, MINUTE)])
    assert isinstance(decide(rows(58, canary=(0, 0)), policy, percent=100), Rollback)


@pytest.mark.parametrize("on_inconclusive, kind", [("hold", Hold), ("rollback", Rollback)])
def test_9_and_16_the_deadline(on_inconclusive: Any, kind: type) -> None:
    """After the deadline nothing is shifted up: Rollback, or a Hold until an operator acts."""
    policy = attrs.evolve(POLICY, deadline=2 * 60 * MINUTE, on_inconclusive=on_inconclusive)
    assert isinstance(decide(rows(118), policy, at=START + 118 * MINUTE), Shift)
    decision = decide(rows(118), policy, at=START + 120 * MINUTE)
    assert isinstance(decision, kind)
    assert decision.final == (kind is Rollback)
    assert (decision.waiting_for == "operator") == (kind is Hold)
    assert "deadline of 2 h" in decision.reason


@pytest.mark.parametrize(
    "bad", [BAD, [*rows(118), *rows(60, start=START + 118 * MINUTE, canary=(50, 9))]]
)
def test_after_the_deadline_a_bad_canary_is_still_rolled_back(bad: list[Minute]) -> None:
    """On hold for an operator, what rolls back goes on doing so."""
    policy = attrs.evolve(POLICY, deadline=2 * 60 * MINUTE, on_inconclusive="hold")
    assert isinstance(decide(bad, policy, at=START + 180 * MINUTE), Rollback)


@pytest.mark.traced
@pytest.mark.long
def test_the_deadline_stands_still_on_hold_but_not_beyond_14_days() -> None:
    """Time on hold is not the rollout's; after 14 days it ends all the same."""
    policy = attrs.evolve(POLICY, deadline=2 * 60 * MINUTE)
    held = {"on_hold": "a holiday", "held_for": timedelta(days=3)}
    decision = decide(rows(4330), policy, at=START + timedelta(days=3), **held)
    assert isinstance(decision, Hold)
    assert "a holiday" in decision.reason
    assert decision.waiting_for == "operator"
    late = {"on_hold": "a holiday", "held_for": timedelta(days=14)}
    assert isinstance(decide((), policy, at=START + timedelta(days=14), **late), Rollback)
    assert "not counted" in decide((), policy, at=START + timedelta(days=14), **late).reason


@pytest.mark.parametrize("unseen", [{"failure": "no access"}, {"minutes": rows(20, canary=(0, 0))}])
@pytest.mark.parametrize("on_inconclusive, kind", [("hold", Hold), ("rollback", Rollback)])
def test_the_deadline_of_an_unobserved_canary(
    on_inconclusive: Any, kind: type, unseen: dict[str, Any]
) -> None:
    """To a process that starts afresh a failing source fails anew each time; not for ever."""
    policy = attrs.evolve(POLICY, deadline=60 * MINUTE, on_inconclusive=on_inconclusive)
    minutes = unseen.get("minutes", rows(20))
    failure = unseen.get("failure")
    decision = decide(minutes, policy, failure=failure, at=START + 60 * MINUTE)
    assert isinstance(decision, kind)
    assert (decision.waiting_for == "operator") == (kind is Hold)
    assert (failure or "") in decision.reason
    before = decide(minutes, policy, failure=failure, at=START + 25 * MINUTE)
    assert not before.final
    assert before.waiting_for == "metrics"


def test_counts_that_do_not_fit_hold() -> None:
    """A canary with more than the series that is said to include it is not believed."""
    minutes = rows(60, baseline=(40, 0), canary=(50, 0))
    decision = decide(minutes, overlap="included")
    assert isinstance(decision, Hold)
    assert "do not fit" in decision.reason
    assert decision.waiting_for == "metrics"


def test_variants_that_never_had_requests_in_the_same_minute() -> None:
    """There is nothing to compare, though each of them had requests."""
    minutes = [
        Minute(START + i * MINUTE, *((9, 0, 0, 0) if i % 2 else (0, 0, 1, 0))) for i in range(60)
    ]
    decision = decide(minutes)
    assert isinstance(decision, Hold)
    assert "in no complete minute of errors_5xx both variants had requests" in decision.reason
    assert decision.waiting_for == "evidence"


@pytest.mark.parametrize("percents", [(10,), (10, 50)])
def test_outcomes_of_one_variant_that_are_all_unknown(percents: tuple[int, ...]) -> None:
    """There is nothing to compare, however good the other one's are."""
    policy = attrs.evolve(POLICY, steps=[Step(each, timedelta(minutes=10)) for each in percents])
    for unknown in ((9000, 0, 1000, 0, 9000, 0), (9000, 0, 1000, 0, 0, 1000)):
        minutes = [Minute(START + i * MINUTE, *unknown) for i in range(15)]
        decision = decide(minutes, policy, percent=10)
        assert isinstance(decision, Hold | Rollback)
    minutes = [Minute(START + i * MINUTE, 9000, 0, 1000, 0, 9000, 0) for i in range(60)]
    decision = decide(minutes, policy, percent=10)
    assert isinstance(decision, Hold)
    assert "both variants had requests of known outcome" in decision.reason


@pytest.mark.parametrize("overlap", ["included", "unknown"])
@pytest.mark.parametrize("kept", [2, 3])
def test_a_bad_canary_beside_lost_minutes_of_a_stage_that_includes_it(
    overlap: Overlap, kept: int
) -> None:
    """A minute in which the stage has no data is not one of a stage without the canary."""
    minutes = [
        Minute(START + i * MINUTE, *((0, 0) if i % kept else (1000, 275)), 900, 270)
        for i in range(30)
    ]
    decision = decide(minutes, percent=90, overlap=overlap)
    assert isinstance(decision, Rollback)
    assert "the canary is worse" in decision.reason


def test_13_both_variants_unhealthy() -> None:
    """Where the baseline fails itself the canary is not blamed, and not promoted."""
    sick = rows(60, baseline=(950, 950), canary=(50, 50))
    decision = decide(sick)
    assert isinstance(decision, Hold)
    assert "too unhealthy" in decision.reason
    limited = attrs.evolve(POLICY, signals=[Signal.errors_5xx(limit=0.05)])
    both = rows(60, baseline=(950, 190), canary=(50, 10))
    assert "too unhealthy" in decide(both, limited).reason


def test_an_absolute_limit_rolls_back() -> None:
    """A canary over its limit is worse, also where the comparison inconclusive so far."""
    minutes = rows(60, baseline=(10, 0.12), canary=(50, 0.6))
    assert not isinstance(decide(minutes, percent=83.33), Rollback)
    limited = attrs.evolve(POLICY, signals=[Signal.errors_5xx(limit=0.004)])
    assert isinstance(decide(rows(60, baseline=(10, 0), canary=(50, 1)), limited), Rollback)


def test_an_incident_of_both_arms_does_not_count_against_the_limit() -> None:
    """Minutes in which the baseline exceeds the limit too count for nobody, also later."""
    limited = attrs.evolve(POLICY, signals=[Signal.errors_5xx(limit=0.01)])
    incident = rows(10, baseline=(950, 190), canary=(50, 10))
    during = decide(incident, limited, at=START + 14 * MINUTE)
    assert "too unhealthy" in during.reason
    after = [*incident, *rows(50, start=START + 10 * MINUTE)]
    assert isinstance(decide(after, limited), Shift)


def test_15_the_bake() -> None:
    """Before the bake is over it is Hold, with the time that is left."""
    decision = decide(GOOD, step_started_at=START + 53 * MINUTE)
    assert isinstance(decision, Hold)
    assert "another 3 min" in decision.reason


def test_15_the_minutes_of_the_step_must_be_complete() -> None:
    """After the bake a minute of this very step must be old enough to speak for the canary."""
    policy = attrs.evolve(POLICY, steps=[Step(5, MINUTE), Step(50, MINUTE)])
    started = START + 55 * MINUTE
    decision = decide(GOOD, policy, step_started_at=started)
    assert isinstance(decision, Hold)
    assert "waiting for complete metrics of this step, about 1 min more" in decision.reason
    assert decision.waiting_for == "metrics"
    assert isinstance(decide(GOOD, policy, step_started_at=started - MINUTE), Shift)


def test_17_the_next_step() -> None:
    """Below 100 % a canary that is not shown to be worse goes on."""
    decision = decide(rows(60, canary=(1, 0), baseline=(19, 0)))
    assert isinstance(decision, Shift)
    assert decision.percent == 50
    assert decision.analysis is not None
    assert decision.analysis.verdict is Verdict.UNDECIDED


def test_18_the_last_step_needs_a_verdict() -> None:
    """Promotion, and 100 %, only for a canary that is confirmed as not worse."""
    assert isinstance(decide(HALF, percent=50), Promote)
    few = rows(60, canary=(5, 0), baseline=(5, 0))
    decision = decide(few, percent=50)
    assert isinstance(decision, Hold)
    assert "inconclusive so far" in decision.reason
    assert decision.waiting_for == "evidence"
    assert "the evidence for not worse is" in decision.reason
    policy = attrs.evolve(POLICY, steps=[Step(5, MINUTE), Step(100, MINUTE)])
    up = decide(HUGE, policy)
    assert isinstance(up, Shift)
    assert up.percent == 100
    all_of_it = [*HALF[:40], *rows(20, start=HALF[40].at, baseline=(0, 0), canary=(1000, 0))]
    final = {"percent": 100, "step_started_at": HALF[39].at}
    decision = decide(all_of_it, policy, **final)
    assert isinstance(decision, Promote)
    assert "canary 0.00 % of 15,000 requests at 100 %" in decision.reason
    assert isinstance(decide(few, policy), Hold)


def test_19_hold_says_what_is_missing() -> None:
    """The evidence so far, and what it must reach, also where it points the other way."""
    minutes = rows(10, canary=(50, 0.5), baseline=(50, 0))
    decision = decide(minutes, percent=50, at=START + 15 * MINUTE)
    assert isinstance(decision, Hold)
    assert "the evidence for not worse is 0.1 (threshold 20)" in decision.reason


def test_a_share_between_steps() -> None:
    """A share that somebody else set is in the step below it, and goes on to the step above."""
    decision = decide(rows(60, baseline=(930, 1), canary=(70, 0)), percent=7)
    assert isinstance(decision, Shift)
    assert decision.percent == 50


def test_a_report_only_signal_decides_nothing() -> None:
    """It is in the findings, and neither rolls back nor blinds."""
    policy = attrs.evolve(
        POLICY,
        signals=[Signal.errors_5xx(), Signal.custom("refunds", report_only=True)],
    )
    observation = attrs.evolve(seen(GOOD), minutes={"errors_5xx": tuple(GOOD), "refunds": BAD})
    decision = policy.decide(observation)
    assert isinstance(decision, Shift)
    assert decision.analysis is not None
    assert [f.signal for f in decision.analysis.findings] == ["errors_5xx", "refunds"]


# Minutes that count


def test_minutes_of_an_earlier_canary_do_not_count() -> None:
    """Canary requests from before one full minute after the start are somebody else's."""
    later = START + 30 * MINUTE
    minutes = [*rows(31, canary=(50, 50)), *GOOD[31:]]
    decision = decide(minutes, started_at=later, step_started_at=later)
    assert isinstance(decision, Shift)
    assert decision.analysis is not None
    (finding,) = decision.analysis.findings
    assert finding.canary_bad == 0
    assert finding.canary_requests == 50 * 27  # minutes 31 to 57


def test_young_minutes_do_not_count() -> None:
    """A minute counts against the canary after `metric_delay`, for it after the longer delay."""
    old, young = rows(57), rows(3, start=START + 57 * MINUTE, canary=(50, 50))
    assert isinstance(decide([*old, *young[1:]], at=START + 60 * MINUTE), Shift)
    assert isinstance(decide([*old, *young], at=START + 60 * MINUTE), Rollback)


def test_the_history_teaches_the_baseline() -> None:
    """An hour of baseline before the start makes the evidence quicker, not other."""
    history = rows(60, start=START - 60 * MINUTE, baseline=(1000, 50), canary=(0, 0))
    bad = rows(2, baseline=(950, 47), canary=(50, 6))
    at = START + 4 * MINUTE
    without = POLICY.analyze(seen(bad, at=at))
    taught = POLICY.analyze(seen([*history, *bad], at=at))
    assert taught.worse_evidence > without.worse_evidence
    assert taught.findings[0].baseline_requests == without.findings[0].baseline_requests


def test_an_unknown_overlap_is_judged_both_ways() -> None:
    """A verdict is what both readings give; an impossible reading is left out."""
    included = rows(60, baseline=(1000, 51), canary=(500, 50))
    excluded = rows(60, baseline=(500, 1), canary=(500, 50))
    assert isinstance(decide(included, overlap="unknown", percent=50), Rollback)
    assert isinstance(decide(excluded, overlap="unknown", percent=50), Rollback)
    # At half of the requests the counts themselves say which reading is the right one.
    assert POLICY.analyze(seen(included, overlap="unknown", percent=50)) == POLICY.analyze(
        seen(included, overlap="included", percent=50)
    )
    # At a twentieth they do not, and the weaker evidence of both counts.
    few = rows(60, baseline=(1000, 10), canary=(50, 1))
    (both,) = POLICY.analyze(seen(few, overlap="unknown")).findings
    for overlap in ("included", "excluded"):
        (one,) = POLICY.analyze(seen(few, overlap=overlap)).findings
        assert both.not_worse_evidence <= one.not_worse_evidence
        assert both.worse_evidence <= one.worse_evidence
    # In one minute the canary had more than the series: it cannot be included.
    apart = [*few[:30], Minute(few[30].at, 40, 0, 50, 0), *few[31:]]
    assert POLICY.analyze(seen(apart, overlap="unknown")) == POLICY.analyze(seen(apart))


def test_a_source_that_says_included_is_not_believed_against_its_minutes() -> None:
    """Minutes in which the canary has more errors than the stage do not count as none at all."""
    failing = rows(60, baseline=(1000, 2), canary=(500, 0))
    failing[::2] = rows(60, baseline=(1000, 2), canary=(500, 40))[::2]
    assert isinstance(decide(failing, overlap="included", percent=33.33), Rollback)
    assert not isinstance(decide(failing, overlap="included", percent=50), Promote)


@pytest.mark.parametrize("share", [75, 85, 95])
def test_a_broken_canary_with_most_of_the_requests_is_found(share: int) -> None:
    """Where the series may include the canary's requests its failures are not taken for both's."""
    requests = 10 * share
    broken = rows(20, baseline=(1000, requests), canary=(requests, requests))
    decision = decide(broken, overlap="unknown", percent=share, at=START + 20 * MINUTE)
    assert isinstance(decision, Rollback)


def test_counts_of_something_else_are_not_believed() -> None:
    """A wrong dimension, in which both arms are the same series, never goes up."""
    same = rows(60, baseline=(1000, 1), canary=(1000, 1))
    for overlap in ("excluded", "unknown"):
        decision = decide(same, overlap=overlap)
        assert isinstance(decision, Hold)
        assert "do not fit 5 % of the traffic" in decision.reason


def test_a_canary_that_turned_bad_lately_is_not_promoted() -> None:
    """After hours of health, and at 100 % where nothing is compared, the latest minutes count."""
    healthy = rows(600, canary=(500, 0.5), baseline=(500, 0.5))
    bad = rows(14, start=START + 600 * MINUTE, canary=(500, 15), baseline=(500, 0.5))
    decision = decide([*healthy, *bad], percent=50, at=START + 614 * MINUTE)
    assert not isinstance(decision, Promote)
    policy = attrs.evolve(POLICY, steps=[Step(50, MINUTE), Step(100, 10 * MINUTE)])
    alone = rows(20, start=START + 60 * MINUTE, baseline=(0, 0), canary=(1000, 1000))
    decision = decide(
        [*HALF, *alone],
        policy,
        percent=100,
        at=START + 80 * MINUTE,
        step_started_at=START + 60 * MINUTE,
    )
    assert isinstance(decision, Rollback)
    assert "errors_5xx are 100.00 % of 2,000 requests in the last 2 minutes" in decision.reason


@pytest.mark.parametrize("overlap", ["included", "unknown"])
def test_latest_minutes_are_compared_without_the_canary_s_own(overlap: Any) -> None:
    """Where the baseline's series include the canary's failures these do not excuse it."""
    healthy = rows(600, baseline=(1000, 1), canary=(850, 0.85))
    bad = rows(10, start=START + 600 * MINUTE, baseline=(1000, 17), canary=(850, 16.9))
    decision = decide([*healthy, *bad], percent=85, at=START + 616 * MINUTE, overlap=overlap)
    assert not isinstance(decision, Promote)


@pytest.mark.long
def test_a_canary_that_went_silent_is_not_promoted() -> None:
    """Evidence from hours ago does not promote a canary without any request since."""
    few = rows(600, baseline=(4, 0), canary=(4, 0))
    assert isinstance(decide(few, percent=50, at=START + 605 * MINUTE), Promote)
    decision = decide(few, percent=50, at=START + 960 * MINUTE)
    assert isinstance(decision, Hold)
    assert "neither variant has had requests" in decision.reason
    assert decision.waiting_for == "metrics"


def test_a_quiet_night_is_no_darkness() -> None:
    """Hours without any request, and one late minute after them, are no reason to roll back."""
    evening = rows(60, baseline=(10, 0), canary=(10, 0))
    morning = Minute(START + 600 * MINUTE, 50, 0, 0, 0)
    decision = decide([*evening, morning], percent=50, at=START + 603 * MINUTE)
    assert isinstance(decision, Hold)
    stray = [*rows(5, baseline=(1, 0), canary=(19, 0)), Minute(START + 50 * MINUTE, 1, 0, 0, 0)]
    assert isinstance(decide(stray, percent=95), Hold)


@pytest.mark.parametrize("second", range(0, 60, 7))
def test_the_wait_ends_when_a_minute_settles(second: int) -> None:
    """The next look is when the next minute is old enough, at most a minute away."""
    policy = attrs.evolve(POLICY, metric_delay=timedelta(seconds=90))
    at = START + 60 * MINUTE + timedelta(seconds=second)
    decision = decide(GOOD, policy, at=at, step_started_at=at)
    assert timedelta(0) < decision.wait <= MINUTE
    assert (at + decision.wait - policy.metric_delay).timestamp() % 60 == 0


def test_a_minute_twice_is_refused() -> None:
    """An observation cannot hold the same minute of a signal twice."""
    with pytest.raises(InvalidInputError, match="each minute once"):
        seen([*rows(2), *rows(1)])
    routes: Any = {"GET /orders": {"errors_5xx": [*rows(2), *rows(1)]}}
    with pytest.raises(InvalidInputError, match=r"GET /orders.*each minute once"):
        seen(rows(2), routes=routes)


@pytest.mark.parametrize(
    "said", [{"notes": "read"}, {"notes": [3]}, {"suspect": ""}, {"suspect": False}]
)
def test_what_a_source_says_is_text(said: Any) -> None:
    """A source that says something else is mistaken, before it is judged or stored."""
    with pytest.raises(InvalidInputError, match=next(iter(said))):
        Measurements({}, **said)
    with pytest.raises(InvalidInputError, match=next(iter(said))):
        seen(**said)


def test_evidence_that_is_all_lost_stays_lost() -> None:
    """A mean of nothing but lost capital is lost capital, not a number that is none."""
    assert log_mean([-math.inf, -math.inf], [0.5, 0.5]) == -math.inf


def test_no_minute_has_settled() -> None:
    """Right after the start there is nothing to say, which is said."""
    at = START + MINUTE
    assert "no complete minute" in decide((), at=at).reason
    nothing = decide((), at=START + 30 * MINUTE)
    assert isinstance(nothing, Hold)
    assert "no metrics have arrived" in nothing.reason


# What always holds

counts = st.tuples(st.one_of(st.integers(0, 10**9), st.floats(0, 1e6)), st.floats(0, 1)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)


@st.composite
def series(draw: st.DrawFn) -> tuple[Minute, ...]:
    """Minutes of any kind around the start, with gaps."""
    offsets = draw(st.lists(st.integers(-60, 70), unique=True, max_size=25))
    return tuple(
        Minute(START + offset * MINUTE, *draw(counts), *draw(counts)) for offset in offsets
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Any look at a canary."""
    started = START + timedelta(seconds=draw(st.integers(-3600, 3600)))
    return Observation(
        at=START + timedelta(seconds=draw(st.integers(-600, 3 * 86400))),
        started_at=started,
        step_started_at=started + timedelta(seconds=draw(st.integers(0, 3600))),
        percent=draw(st.sampled_from([0, 0.01, 5, 7, 50, 99.99, 100])),
        minutes={name: draw(series()) for name in ("errors_5xx", "errors_4xx")},
        overlap=draw(st.sampled_from(["excluded", "included", "unknown"])),
        basis=BASIS,
        failure=draw(st.sampled_from([None, None, "failed"])),
        last_complete_at=draw(st.sampled_from([None, START])),
    )


policies = st.builds(
    RolloutPolicy,
    st.lists(st.sampled_from([1, 5, 20, 50, 100]), min_size=1, unique=True)
    .map(sorted)
    .filter(lambda percents: percents != [100])
    .map(lambda percents: [Step(percent, 5 * MINUTE) for percent in percents]),
    signals=st.sampled_from(
        [
            [Signal.errors_5xx(), Signal.errors_4xx()],
            [Signal.errors_5xx(limit=0.01), Signal.errors_4xx(noise=0)],
            [Signal.errors_5xx(ratio=1, slack=0, noise=0, margin=0.001)],
        ]
    ),
    on_inconclusive=st.sampled_from(["hold", "rollback"]),
)


def finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.long
@given(policies, observations())
def test_what_every_decision_keeps(policy: RolloutPolicy, observation: Observation) -> None:
    """No decision raises; the share never falls but by Rollback; numbers stay finite."""
    decision = policy.decide(observation)
    assert policy.decide(observation) == decision
    assert decision_from_dict(json.loads(json.dumps(decision.to_dict()))) == decision
    assert finite(decision.to_dict())
    assert decision.reason
    assert decision.final == (decision.wait == timedelta(0))
    assert decision.wait <= MINUTE
    verdict = policy.analyze(observation).verdict
    match decision:
        case Shift(percent=percent):
            assert percent > observation.percent
            assert percent < 100 or verdict is Verdict.NOT_WORSE
        case Promote():
            assert verdict is Verdict.NOT_WORSE
        case Rollback() | Hold():
            pass


@pytest.mark.long
@given(policies, observations())
def test_without_canary_data_nothing_goes_up(
    policy: RolloutPolicy, observation: Observation
) -> None:
    """No news is never good news."""
    blank = {
        name: tuple(attrs.evolve(row, canary_requests=0, canary_bad=0) for row in minutes)
        for name, minutes in observation.minutes.items()
    }
    assert not isinstance(policy.decide(attrs.evolve(observation, minutes=blank)), Shift | Promote)


@pytest.mark.long
@given(policies, observations())
def test_the_stored_observation_decides_the_same(
    policy: RolloutPolicy, observation: Observation
) -> None:
    """An observation and a policy that went through JSON replay to the same decision."""
    stored = Observation.from_dict(json.loads(json.dumps(observation.to_dict())))
    again = RolloutPolicy.from_dict(json.loads(json.dumps(policy.to_dict())))
    assert stored == observation
    assert again.decide(stored) == policy.decide(observation)


def rank(decision: Decision) -> int:
    """How well a canary is treated."""
    return [Rollback, Hold, Shift, Promote].index(type(decision))


@pytest.mark.long
@given(policies, observations(), st.data())
def test_the_worse_of_two_canaries_is_never_treated_better(
    policy: RolloutPolicy, observation: Observation, data: st.DataObject
) -> None:
    """More bad requests, all else alike, never turn a Rollback into a Hold, or a Hold into more.

    With the arms counted apart: where the baseline's series may include the canary's requests, one
    more of these is one less of the baseline's.
    """
    apart = attrs.evolve(observation, overlap="excluded")
    minutes = {
        name: tuple(
            attrs.evolve(
                row,
                canary_bad=data.draw(
                    st.sampled_from(
                        [
                            row.canary_bad,
                            (row.canary_bad + row.canary_requests) / 2,
                            row.canary_requests,
                        ]
                    )
                ),
            )
            for row in rows_
        )
        for name, rows_ in apart.minutes.items()
    }
    worse = attrs.evolve(apart, minutes=minutes)
    assert rank(policy.decide(worse)) <= rank(policy.decide(apart))
