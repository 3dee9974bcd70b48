"""Whole rollouts at the edges: both variants silent, both failing, and a baseline that is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from apigw_canary import Decision, Hold, Minute, Promote, Rollback, RolloutPolicy, Shift, Stage
from apigw_canary.testing import Rehearsal, rehearsal

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy.linear(10, 40, 10 * MINUTE, deadline=timedelta(hours=3))
Counts = tuple[float, float]


class Source:
    """Requests and bad ones of both variants, by the minute since the canary's start."""

    def __init__(self, begin: datetime, pace: float) -> None:
        self.begin, self.pace = begin, pace
        self.percent = 0.0
        self.rate: Callable[[int], float] = lambda minute: 0.001
        self.traffic: Callable[[int], float] = lambda minute: 1.0

    def minutes(self, stage: Any, signals: Any, start: datetime, end: datetime) -> Any:
        percents = self.percents
        rows = []
        for i in range(int((end - start) / MINUTE)):
            at = start + i * MINUTE
            number = int((at - self.begin) / MINUTE)
            requests = self.pace * self.traffic(number)
            canary = requests * percents.get(number, 0.0) / 100
            rate = self.rate(number)
            if requests:
                rows.append(
                    Minute(at, requests - canary, (requests - canary) * rate, canary, canary * rate)
                )
        return {signal.name: rows for signal in signals}

    percents: dict[int, float]


@contextmanager
def rollout(pace: float) -> Iterator[tuple[Rehearsal, Source, Callable[[], list[Decision]]]]:
    """A rehearsal with such a source; the last value runs the loop and gives its decisions."""
    with rehearsal() as aws:
        source = Source(aws.now(), pace)
        source.percents = {}
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=source, sleep=aws.sleep)

        def run() -> list[Decision]:
            canary = stage.enable_canary(10, variables={"alias": "v2"}, policy=POLICY)
            decisions: list[Decision] = []
            while True:
                percent = stage.describe().canary
                now = int((aws.now() - source.begin) / MINUTE)
                source.percents[now] = percent.percent if percent else 0.0
                observation = canary.observe(POLICY)
                decisions.append(POLICY.decide(observation))
                canary.apply(decisions[-1])
                if decisions[-1].final:
                    return decisions
                assert observation.age < timedelta(hours=4)
                aws.sleep(60)

        yield aws, source, run


@pytest.mark.parametrize("pace", [100, 1e6])
def test_silence_after_a_busy_hour_is_rolled_back(pace: float) -> None:
    """Neither variant has a datapoint any more: half an hour, then Rollback (A7)."""
    with rollout(pace) as (aws, source, run):
        source.traffic = lambda minute: float(minute < 5)
        decisions = run()
        assert isinstance(decisions[-1], Rollback)
        assert "unobserved for longer than 30 min" in decisions[-1].reason
        assert timedelta(minutes=35) < aws.now() - source.begin < timedelta(minutes=40)
        assert [d.percent for d in decisions if isinstance(d, Shift)] == [
            50
        ]  # on four good minutes
        assert aws.stage.describe().canary is None


def test_a_night_without_traffic_is_held() -> None:
    """It ends slowly, as traffic does, and the deadline ends the rollout (A7, A16)."""
    with rollout(100) as (aws, source, run):
        source.traffic = lambda minute: max(0.0, min(1.0, 1 - (minute + 30) / 35))
        decisions = run()
        assert "neither variant has had requests in errors_5xx" in decisions[100].reason
        assert isinstance(decisions[-1], Rollback)
        assert "the deadline of 3 h has passed without a verdict" in decisions[-1].reason
        assert aws.now() - source.begin > timedelta(hours=3)


@pytest.mark.parametrize("pace", [100, 1e6])
def test_a_canary_that_breaks_production_is_not_shifted_up(pace: float) -> None:
    """Both variants jump to 30 % when it starts: Hold, and Rollback after half an hour (A8)."""
    with rollout(pace) as (aws, source, run):
        source.rate = lambda minute: 0.3 if minute >= 0 else 0.001
        decisions = run()
        assert {type(decision) for decision in decisions} == {Hold, Rollback}
        assert "when the canary started" in decisions[-1].reason
        assert aws.now() - source.begin < timedelta(minutes=40)


@pytest.mark.parametrize("pace", [1000, 1e6])
def test_an_incident_that_is_not_the_canary_s_delays_it(pace: float) -> None:
    """It begins by itself and ends after 40 minutes; then the rollout goes on (A6)."""
    with rollout(pace) as (_, source, run):
        source.rate = lambda minute: 0.3 if 17 <= minute < 57 else 0.001
        decisions = run()
        assert isinstance(decisions[-1], Promote)
        held = [d for d in decisions if "production's errors_5xx rose" in d.reason]
        assert held
        assert all(isinstance(decision, Hold) for decision in held)
        assert "fix it first" in held[-1].reason


@pytest.mark.parametrize("pace", [1, 100, 1e6])
def test_traffic_that_ends_in_a_step_is_not_enough_for_the_next(pace: float) -> None:
    """Two minutes of the first step have requests: it is held until there are more (A15)."""
    with rollout(pace) as (_, source, run):
        source.traffic = lambda minute: float(minute < 2 or minute >= 120)
        decisions = run()
        shifts = [i for i, decision in enumerate(decisions) if isinstance(decision, Shift)]
        assert not shifts or shifts[0] > 120
