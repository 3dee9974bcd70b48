"""A canary that exceeds the margin in each of 15 minutes, whatever the evidence of hours says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import attrs
import pytest

from apigw_canary import Minute, Observation, Rollback, RolloutPolicy, Signal, Step
from apigw_canary.judge.gathering import gather
from apigw_canary.judge.kept import Kept
from apigw_canary.judge.lasting import LastingExcess, lasting_excess
from apigw_canary.planning.chance import binomial
from apigw_canary.rollout import rules
from apigw_canary.rollout.view import View

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = RolloutPolicy([Step(50, 600 * MINUTE)], signals=[Signal.errors_5xx()])
SCALES = (1, 100, 10**6)
"""Requests a minute of each variant."""
Rate = Callable[[int], float]
SAID = "have exceeded the margin in each of the latest 15 minutes"


def rows(
    per_minute: int,
    minutes: int,
    *,
    baseline: Rate,
    canary: Rate,
    seed: int = 0,
    unknown: tuple[float, float] = (0.0, 0.0),
) -> list[Minute]:
    """An hour of the baseline, then both variants, with the unknown part of each."""
    rng = Random(f"{seed} {per_minute}")

    def bad(rate: float, hidden: float = 0.0) -> float:
        return min(binomial(rng, per_minute, rate), per_minute * (1 - hidden))

    before = [
        Minute(START - i * MINUTE, per_minute, bad(baseline(-i)), 0, 0) for i in range(60, 0, -1)
    ]
    after = [
        Minute(
            START + i * MINUTE,
            per_minute,
            bad(baseline(i), unknown[0]),
            per_minute,
            bad(canary(i), unknown[1]),
            unknown[0] * per_minute,
            unknown[1] * per_minute,
        )
        for i in range(1, minutes)
    ]
    return [*before, *after]


def seen(minutes: Sequence[Minute], *, age: float = 2, **fields: Any) -> Observation:
    """An observation `age` minutes after the end of the last of these."""
    given: dict[str, Any] = {
        "at": minutes[-1].at + (1 + age) * MINUTE,
        "started_at": START,
        "step_started_at": START,
        "percent": 50,
        "minutes": {"errors_5xx": minutes},
        **fields,
    }
    return Observation(**given)


def found(
    minutes: Sequence[Minute], kept: Kept | None = None, **fields: Any
) -> LastingExcess | None:
    observation = seen(minutes, **fields)
    return lasting_excess(gather(POLICY, observation, kept).signals[0], observation)


def constant(rate: float) -> Rate:
    return lambda _: rate


def from_minute(onset: int, rate: float, before: float) -> Rate:
    return lambda i: rate if i >= onset else before


def test_a_late_onset_at_a_high_base_rate() -> None:
    """30 % on the baseline, and from minute 60 on 60 % on the canary; not before 15 minutes."""
    minutes = rows(10**6, 75, baseline=constant(0.3), canary=from_minute(60, 0.6, 0.3))
    assert found(minutes[:-1]) is None
    decision = POLICY.decide(seen(minutes))
    assert isinstance(decision, Rollback)
    excess = found(minutes)
    assert excess is not None
    assert str(excess).startswith("in each of the latest 15 minutes: canary 60.")
    assert "% of 15,000,000, baseline 30." in str(excess)


@pytest.mark.parametrize("per_minute", SCALES)
def test_a_canary_that_answers_nothing_but_errors(per_minute: int) -> None:
    """At one request a minute 15 requests are too few for ten standard deviations."""
    minutes = rows(per_minute, 375, baseline=constant(0), canary=from_minute(360, 1, 0))
    assert (found(minutes) is not None) is (per_minute > 1)
    decision = POLICY.decide(seen(minutes))
    assert isinstance(decision, Rollback) or per_minute == 1


def test_the_sentence_of_the_decision() -> None:
    """The evidence finds this one as well, and comes first."""
    minutes = rows(14_000, 75, baseline=constant(0.3), canary=from_minute(60, 1, 0.3))
    rule = next(rule for rule in rules.RULES if rule.__name__ == "_lasting_excess")
    decision = rule(View(POLICY, seen(minutes)))
    assert isinstance(decision, Rollback)
    assert decision.reason.startswith(f"errors_5xx {SAID}: canary 100.00 % of 210,000, baseline ")


def test_errors_later_than_requests_do_not_matter() -> None:
    """The errors of the latest three minutes have not come yet."""
    minutes = rows(14_000, 78, baseline=constant(0.3), canary=from_minute(60, 1, 0.3))
    late = [attrs.evolve(row, baseline_bad=0, canary_bad=0) for row in minutes[-3:]]
    assert found([*minutes[:-3], *late]) is not None
    assert found([*minutes[:-4], *late]) is None


@pytest.mark.parametrize("per_minute", SCALES)
@pytest.mark.parametrize("seed", range(3))
class TestHealthyCanaries:
    """Looked at after each minute; no rollback by this rule."""

    def none_found(self, minutes: Sequence[Minute]) -> bool:
        kept = Kept()
        return all(found(minutes[:end], kept) is None for end in range(76, len(minutes) + 1))

    def test_a_shared_incident_of_40_minutes(self, per_minute: int, seed: int) -> None:
        def incident(i: int) -> float:
            return 0.4 if 30 <= i < 70 else 0.001

        minutes = rows(per_minute, 90, baseline=incident, canary=incident, seed=seed)
        assert self.none_found(minutes)

    def test_variants_that_drift_by_themselves(self, per_minute: int, seed: int) -> None:
        """AR(1) that keeps 0.9, around 30 %, each variant with the noise of the signal."""
        drift = [drifting(seed + 1000 * arm, cv=POLICY.signals[0].noise) for arm in (1, 2)]
        minutes = rows(per_minute, 120, baseline=drift[0], canary=drift[1], seed=seed)
        assert self.none_found(minutes)

    def test_a_drift_of_both(self, per_minute: int, seed: int) -> None:
        """One that is the same for both may be as large as it likes."""
        drift = drifting(seed, cv=0.5, base=0.1)
        minutes = rows(per_minute, 120, baseline=drift, canary=drift, seed=seed)
        assert self.none_found(minutes)

    def test_a_hot_container_of_five_minutes(self, per_minute: int, seed: int) -> None:
        def hot(i: int) -> float:
            return 0.9 if 30 <= i < 35 else 0.001

        minutes = rows(per_minute, 60, baseline=constant(0.001), canary=hot, seed=seed)
        assert self.none_found(minutes)


def drifting(seed: int, *, cv: float, base: float = 0.3) -> Rate:
    """A rate whose logarithm varies from minute to minute and keeps 0.9 of it."""
    rng = Random(seed)
    level, path = rng.gauss(0, cv), []
    for _ in range(240):
        path.append(min(base * math.exp(level), 0.95))
        level = 0.9 * level + rng.gauss(0, cv * math.sqrt(1 - 0.81))
    return lambda i: path[i + 60]


def test_unknown_outcomes_count_in_the_canary_s_favor() -> None:
    """Of the canary as good, of the baseline as bad."""
    worse: dict[str, Any] = {"baseline": constant(0.001), "canary": constant(0.3)}
    assert found(rows(10_000, 30, **worse, unknown=(0.4, 0.0))) is None
    assert found(rows(10_000, 30, **worse, unknown=(0.0, 1.0))) is None
    excess = found(rows(10_000, 30, **worse, unknown=(0.1, 0.1)))
    assert excess is not None
    assert str(excess).endswith("(unknown outcomes count in the canary's favor)")


@pytest.mark.parametrize("per_minute", [100, 10**6])
def test_each_minute_must_have_requests_of_both(per_minute: int) -> None:
    minutes = rows(per_minute, 16, baseline=constant(0), canary=constant(0.5))
    assert found(minutes) is not None
    alone = attrs.evolve(minutes[-3], baseline_requests=0, baseline_bad=0)
    assert found([*minutes[:-3], alone, *minutes[-2:]]) is None


def test_in_each_open_interpretation_of_the_overlap() -> None:
    """The stage's series equal to the canary's is either no baseline, or a healthy one."""
    minutes = rows(100, 30, baseline=constant(0.0), canary=constant(0.5))
    minutes = [
        row if row.at < START else attrs.evolve(row, baseline_bad=row.canary_bad / 100)
        for row in minutes
    ]
    assert found(minutes, overlap="excluded") is not None
    assert found(minutes, overlap="included") is None


def test_ten_standard_deviations_in_all_minutes_together() -> None:
    """15 minutes above the margin are not enough with few requests."""
    rising = [Minute(START + i * MINUTE, 20, 2, 20, 4) for i in range(1, 30)]
    assert found(rising) is None


def test_only_critical_signals() -> None:
    """4xx errors are not, by default; both are above the margin for 29 minutes."""
    bad = rows(10**6, 30, baseline=constant(0.1), canary=constant(0.5))
    for critical in (True, False):
        policy = attrs.evolve(
            POLICY, signals=[Signal.errors_5xx(), Signal.errors_4xx(critical=critical)]
        )
        view = View(policy, attrs.evolve(seen(bad), minutes={"errors_4xx": bad}))
        lasting = [each(view) for each in rules.RULES if each.__name__ == "_lasting_excess"]
        assert (lasting != [None]) is critical
