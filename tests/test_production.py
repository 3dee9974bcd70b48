"""Production as a whole fails more than before the canary: since when, and what it follows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import attrs
import pytest

from apigw_canary import Decision, Minute, Observation, Rollback, RolloutPolicy, Signal
from apigw_canary.judge import production
from apigw_canary.judge.analysis import gather_evidence
from apigw_canary.judge.production import Unhealthy
from apigw_canary.planning.simulation import binomial
from apigw_canary.rollout.rules import _cause as cause
from apigw_canary.testing import Backend, rehearsal

MINUTE = timedelta(minutes=1)
PERIOD = 30 * MINUTE
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = RolloutPolicy.canary(10, PERIOD, signals=[Signal.errors_5xx()])


def observed(
    rate: Callable[[int], float],
    *,
    per_minute: int = 500,
    minutes: int = 60,
    shifted: int = 0,
    exact: bool = True,
    history: int = 60,
    seed: int = 1,
) -> Observation:
    """Both variants with one rate of bad requests, by the minute since the start."""
    rng = Random(seed)

    def bad(requests: float, p: float) -> float:
        return requests * p if exact else binomial(rng, int(requests), p)

    rows = []
    for i in range(-history, minutes):
        n_c = 0.0 if i < 1 else 0.1 * per_minute if exact else binomial(rng, per_minute, 0.1)
        n_b = per_minute - n_c
        if i != 0:  # a minute that is not all the canary's
            rows.append(Minute(START + i * MINUTE, n_b, bad(n_b, rate(i)), n_c, bad(n_c, rate(i))))
    return Observation(
        at=START + (minutes + 2) * MINUTE,
        started_at=START,
        step_started_at=START + shifted * MINUTE,
        percent=10,
        minutes={"errors_5xx": rows},
    )


def unhealthy(seen: Observation) -> Unhealthy | None:
    return production.unhealthy(gather_evidence(POLICY, seen).signals[0], seen, period=PERIOD)


def rises(at: int, to: float, *, until: int = 10**6) -> Callable[[int], float]:
    return lambda i: to if at <= i < until else 0.001


@pytest.mark.parametrize("per_minute", [100, 10**4, 10**6])
def test_both_rise_when_the_canary_starts(per_minute: int) -> None:
    """To 30 %: seen in the first minute, and throughout after half an hour."""
    for minutes, throughout in ((2, False), (30, False), (31, True), (90, True)):
        found = unhealthy(observed(rises(1, 0.3), per_minute=per_minute, minutes=minutes))
        assert found is not None
        assert found.since == START + MINUTE
        assert found.follows == START
        assert found.throughout is throughout
        assert found.threshold < 0.02
        assert found.rate == pytest.approx(0.3)
        assert str(found) == "rose from 0.10 % to 30.00 % at 12:01 UTC"


@pytest.mark.parametrize("per_minute", [1, 100, 10**6])
def test_healthy_production(per_minute: int) -> None:
    """Also at a rate that has doubled since."""
    for rate in (0.001, 0.002):
        assert unhealthy(observed(rises(1, rate), per_minute=per_minute)) is None


def test_one_request_a_minute_that_always_fails() -> None:
    found = unhealthy(observed(rises(1, 1.0), per_minute=1, minutes=40))
    assert found is not None
    assert found.throughout


@pytest.mark.parametrize(
    "at, shifted, follows", [(6, 0, None), (5, 0, 0), (-10, 0, None), (22, 20, 20), (19, 20, None)]
)
def test_what_it_follows(at: int, shifted: int, follows: int | None) -> None:
    """The start or the step, if it began within five minutes after it, and not before."""
    found = unhealthy(observed(rises(at, 0.5), shifted=shifted))
    assert found is not None
    assert found.since == START + at * MINUTE
    assert found.follows == (None if follows is None else START + follows * MINUTE)


def test_an_incident_that_is_over() -> None:
    """Unhealthy until five minutes together are within the limit again."""
    for minutes, over in ((16, False), (20, False), (25, True)):
        found = unhealthy(observed(rises(12, 0.3, until=16), minutes=minutes))
        assert (found is None) is over, minutes
    again = unhealthy(observed(lambda i: 0.3 if 12 <= i < 16 or i >= 40 else 0.001))
    assert again is not None
    assert again.since == START + 40 * MINUTE


def test_not_throughout() -> None:
    """A minute below the limit, or too few minutes with requests."""
    found = unhealthy(observed(lambda i: 0.0 if i == 40 else 0.3 if i > 0 else 0.001))
    assert found is not None
    assert not found.throughout
    seen = observed(rises(1, 0.3))
    few = [row for row in seen.minutes["errors_5xx"] if row.at.minute % 3 == 0 or row.at < START]
    found = unhealthy(attrs.evolve(seen, minutes={"errors_5xx": few}))
    assert found is not None
    assert not found.throughout


def test_without_history_there_is_no_rule() -> None:
    """Also where no outcome of the history is known."""
    seen = observed(rises(1, 0.3), history=0)
    assert unhealthy(seen) is None
    rows = [
        attrs.evolve(row, baseline_bad=0, baseline_unknown=row.baseline_requests)
        if row.at < START
        else row
        for row in observed(rises(1, 0.3)).minutes["errors_5xx"]
    ]
    seen = attrs.evolve(seen, minutes={"errors_5xx": rows})
    assert unhealthy(seen) is None
    assert unhealthy(observed(rises(1, 0.3))) is not None


def test_unknown_outcomes_are_left_out() -> None:
    """Half of the outcomes unknown: the rate of the other half decides."""
    rows = [
        attrs.evolve(
            row,
            baseline_bad=row.baseline_bad / 2,
            canary_bad=row.canary_bad / 2,
            baseline_unknown=row.baseline_requests / 2,
            canary_unknown=row.canary_requests / 2,
        )
        for row in observed(rises(1, 0.3)).minutes["errors_5xx"]
    ]
    found = unhealthy(attrs.evolve(observed(rises(1, 0.3)), minutes={"errors_5xx": rows}))
    assert found is not None
    assert found.rate == pytest.approx(0.3)


def test_an_open_overlap() -> None:
    """Unhealthy if it is so in any interpretation; what rolls back must hold in each."""
    seen = attrs.evolve(observed(rises(1, 0.3)), overlap="unknown")
    found = unhealthy(seen)
    assert found is not None
    assert found.throughout
    assert found.follows == START
    # The canary's failures alone are above the limit only where the stage's series leave them out.
    rows: Sequence[Minute] = [
        attrs.evolve(row, baseline_bad=row.canary_bad, canary_requests=50.0)
        for row in observed(rises(1, 0.07)).minutes["errors_5xx"]
        if row.at > START
    ]
    history = [row for row in seen.minutes["errors_5xx"] if row.at < START]
    found = unhealthy(attrs.evolve(seen, minutes={"errors_5xx": [*history, *rows]}))
    assert found is not None
    assert not found.throughout


@pytest.mark.parametrize("per_minute", [100, 10**6])
def test_failures_of_the_canary_only(per_minute: int) -> None:
    """The baseline alone is as before: production is not blamed. Without it nothing is known."""
    seen = observed(rises(1, 0.3), per_minute=per_minute)
    rows = [
        attrs.evolve(row, baseline_bad=0.001 * row.baseline_requests)
        for row in seen.minutes["errors_5xx"]
    ]
    seen = attrs.evolve(seen, minutes={"errors_5xx": rows})
    found = unhealthy(seen)
    assert found is not None
    assert found.only_canary
    assert found.baseline_rate == pytest.approx(0.001)
    assert found.follows == START
    assert cause(found, 50) == (
        "since then the baseline alone is at 0.10 %, so the failures are the canary's"
    )
    without = [
        attrs.evolve(row, baseline_requests=0, baseline_bad=0) if row.at > START else row
        for row in rows
    ]
    found = unhealthy(attrs.evolve(seen, minutes={"errors_5xx": without}))
    assert found is not None
    assert found.baseline_rate is None
    assert cause(found, 50) == "since then all requests were the canary's, which may be the cause"


def test_failures_of_both() -> None:
    found = unhealthy(observed(rises(1, 0.3)))
    assert found is not None
    assert not found.only_canary
    assert cause(found, 50) == "the canary may be the cause"
    found = unhealthy(observed(rises(40, 0.3)))
    assert found is not None
    assert cause(found, 50) == "fix it first"


@pytest.mark.long
def test_failures_of_the_canary_only_while_the_overlap_is_open() -> None:
    """The reason of the Hold names the canary and the baseline's own rate."""
    policy = RolloutPolicy.canary(5, 10 * MINUTE, signals=[Signal.errors_5xx()])
    backends = {"alias=v2": Backend(errors_5xx=0.8)}
    with rehearsal(requests_per_minute=500, backends=backends) as aws:
        canary = aws.stage.enable_canary(5, variables={"alias": "v2"}, policy=policy)
        decisions: list[Decision] = []
        while not decisions or not decisions[-1].final:
            aws.sleep(60)
            decisions.append(policy.decide(canary.observe(policy)))
    held = [each.reason for each in decisions if "production's errors_5xx rose" in each.reason]
    assert held
    for reason in held:
        assert "the canary may be the cause: if the baseline's counts include the" in reason
        assert re.search(r"the baseline alone is at 0\.\d\d %", reason)
        assert "fix it first" not in reason
    assert isinstance(decisions[-1], Rollback)


def test_a_rate_that_drifts_holds_nothing() -> None:
    """Sampled: up by 1.8 within the hour."""
    for seed in range(3):
        seen = observed(
            lambda i: 0.001 * (1 + 0.8 * i / 60) if i > 0 else 0.001, exact=False, seed=seed
        )
        assert unhealthy(seen) is None
