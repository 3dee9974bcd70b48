"""What is kept of earlier observations changes the cost of a decision, and never the decision."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apigw_canary import Minute, Observation, RolloutPolicy, Shift, Signal, Stage, Step
from apigw_canary.judge import kept
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.kept import Cache, keep_in
from apigw_canary.judge.observation import Overlap
from apigw_canary.planning.simulation import binomial
from apigw_canary.testing import rehearsal

MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, 20, tzinfo=UTC)
FIRST = START.replace(second=0)


@st.composite
def policies(draw: st.DrawFn) -> RolloutPolicy:
    limits = st.sampled_from([None, 0.02, 0.4])
    return RolloutPolicy(
        [
            Step(10, 4 * MINUTE),
            Step(50, 8 * MINUTE),
            *draw(st.sampled_from([[], [Step(100, 9 * MINUTE)]])),
        ],
        signals=[
            Signal.errors_5xx(limit=draw(limits), margin=draw(st.sampled_from([0.01, 0.2]))),
            Signal.errors_4xx(critical=draw(st.booleans()), limit=draw(limits), rare=True),
            Signal.custom("empty", report_only=True),
        ],
        false_rollback=draw(st.sampled_from([0.01, 0.5])),
        max_failed_requests=draw(st.sampled_from([None, 3, 50])),
        on_inconclusive="hold",
        max_unobserved=draw(st.sampled_from([2, 30])) * MINUTE,
        metric_delay=draw(st.sampled_from([0, 2])) * MINUTE,
        promotion_metric_delay=draw(st.sampled_from([2, 5])) * MINUTE,
        route_weight=draw(st.sampled_from([0.0, 0.3])),
    )


class Rolled:
    """Observations of a rollout whose minutes come late, are restated, or are read in part."""

    def __init__(self, seed: int, policy: RolloutPolicy) -> None:
        self._rng = rng = Random(seed)
        self._policy = policy
        self._pace = rng.choice([3, 40, 2000])
        self._bad = [rng.choice([0.0, 0.01, 0.3]), rng.choice([0.0, 0.01, 0.3, 0.9])]
        self._unknown = rng.choice([0.0, 0.0, 0.02, 0.5])
        self._restated = rng.choice([0, 1, 3, 60])
        self._gaps = rng.choice([0.0, 0.1, 0.5])
        self._sick = range(rng.randrange(30), rng.randrange(60))
        self._overlap: Overlap = rng.choice(get_args(Overlap))
        self._routes = rng.choice([0, 0, 4])
        self._series: dict[tuple[str, str], list[Minute]] = {}
        self._cache = Cache()

    def __iter__(self) -> Iterator[Observation]:
        percent, since = 10.0, START
        for number in range(-8, 60):
            at = FIRST + (number + 1) * MINUTE
            self._serve(number, percent if number >= 0 else 0)
            if number < 1 or self._rng.random() < 0.2:
                continue  # nobody looks at each minute
            seen = self._seen(at, since, percent)
            yield seen
            # Only where the rollout goes on from here depends on this one.
            match self._policy.decide(keep_in(self._cache, attrs.evolve(seen))):
                case Shift() as decision:
                    percent, since = decision.percent, at
                case decision if decision.final:
                    break

    def _serve(self, number: int, percent: float) -> None:
        for name in ("errors_5xx", "errors_4xx", "empty"):
            for route in ("", *(f"GET /{i}" for i in range(self._routes))):
                rows = self._series.setdefault((route, name), [])
                if self._rng.random() >= self._gaps:
                    rows.append(self._minute(number, percent))
                for i in range(max(len(rows) - self._restated, 0), len(rows)):
                    if self._rng.random() < 0.3:
                        rows[i] = self._again(rows[i])

    def _minute(self, number: int, percent: float) -> Minute:
        total = binomial(self._rng, 2 * self._pace, 0.5)
        canary = binomial(self._rng, total, percent / 100)
        arms = {"baseline": total - canary, "canary": canary}
        counts: dict[str, int] = {}
        for i, (arm, requests) in enumerate(arms.items()):
            bad = binomial(self._rng, requests, 0.8 if number in self._sick else self._bad[i])
            counts |= {f"{arm}_requests": requests, f"{arm}_bad": bad}
            counts[f"{arm}_unknown"] = binomial(self._rng, requests - bad, self._unknown)
        minute = Minute(FIRST + number * MINUTE, **counts)
        return minute.with_canary_added() if self._overlap == "included" else minute

    def _again(self, minute: Minute) -> Minute:
        """The minute with fewer bad requests, or as another canary's, as it is restated."""
        if self._rng.random() < 0.2:
            return attrs.evolve(minute, canary_bad=0, canary_requests=0, canary_unknown=0)
        return attrs.evolve(minute, baseline_bad=self._rng.randint(0, int(minute.baseline_bad)))

    def _seen(self, at: datetime, since: datetime, percent: float) -> Observation:
        minutes: dict[str, dict[str, list[Minute]]] = {}
        for (route, name), rows in self._series.items():
            minutes.setdefault(route, {})[name] = rows
        return Observation(
            at=at,
            started_at=START,
            step_started_at=since,
            percent=percent,
            minutes=minutes.pop(""),
            overlap=self._overlap,
            routes=minutes or None,
        )


@pytest.mark.long
@pytest.mark.no_cover
@settings(max_examples=12)
@given(st.integers(0, 2**32), policies())
def test_decisions_with_a_cache_are_those_without(seed: int, policy: RolloutPolicy) -> None:
    """Restated, late and lost minutes, each overlap, routes, unknown outcomes, and old looks."""
    cache, seen = Cache(), []
    for observation in Rolled(seed, policy):
        seen.append(observation)
        for each in (observation, Random(len(seen)).choice(seen)):
            alone = attrs.evolve(each)
            assert policy.decide(keep_in(cache, each)) == policy.decide(alone)
            assert policy.analyze(each) == policy.analyze(alone)


@pytest.mark.long
def test_a_cache_forgets_only_what_no_minute_is_left_of() -> None:
    """Ten hours on, also one restated after ten hours, or a day of them under another start."""
    policy = RolloutPolicy([Step(25, timedelta(hours=20))], signals=[Signal.errors_5xx()])
    rng, cache = Random(1), Cache()
    rows = [
        Minute(
            FIRST + i * MINUTE,
            300,
            binomial(rng, 300, 0.01),
            100 * (i >= 0),
            int(i >= 0 and i % 7 == 3),
        )
        for i in range(-60, 600)
    ]

    def seen(rows: list[Minute], **changes: Any) -> Observation:
        at = rows[-1].at + MINUTE
        observation = Observation(
            at=at, started_at=START, step_started_at=START, percent=25, minutes={"errors_5xx": rows}
        )
        return attrs.evolve(observation, **changes)

    for i in (200, 201, 203, 600, 660):
        observation = keep_in(cache, seen(rows[:i]))
        assert policy.decide(observation) == policy.decide(seen(rows[:i]))
    for place in (0, 70, 500, 650, 655, 659):
        rows[place] = attrs.evolve(rows[place], baseline_bad=20)
        assert policy.decide(keep_in(cache, seen(rows))) == policy.decide(seen(rows))
    later: dict[str, Any] = {
        "started_at": START + MINUTE * 30,
        "step_started_at": START + MINUTE * 30,
    }
    assert policy.decide(keep_in(cache, seen(rows, **later))) == policy.decide(seen(rows, **later))


def test_states_are_kept_of_few_minutes_only() -> None:
    """Of the latest ones and each thirtieth, however often the rollout is observed."""
    series = kept.Series(recent=10)
    rows = [Minute(FIRST + i * MINUTE, 9, 0, 1, 0) for i in range(900)]
    for count in range(7, 900, 7):
        series.update(rows[:count], FIRST)
        path = series.path(Counting, (), "excluded", count)
        assert len(path.marks) <= 2 * (10 + count // 30) + 2
        assert path.marks[count].minutes == count


class Counting:
    def __init__(self) -> None:
        self.minutes = 0

    def add(self, _minute: Minute, _row: Row) -> None:
        self.minutes += 1


def test_a_look_adds_its_new_minutes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary keeps what it has computed; a second process computes all of it anew."""
    added: list[Minute] = []

    class Counted(kept.Series):
        def update(self, given: Any, judged_from: datetime) -> None:
            before = len(self.minutes)
            super().update(given, judged_from)
            added.extend(self.minutes[before:])

    monkeypatch.setattr(kept, "Series", Counted)
    policy = RolloutPolicy.canary(20, bake=30 * MINUTE, signals=[Signal.errors_5xx()])
    with rehearsal(requests_per_minute=60) as aws:
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
        canary = stage.enable_canary(20, variables={"alias": "v2"})
        counts = []
        for _ in range(4):
            aws.sleep(60)
            added.clear()
            policy.decide(canary.observe(policy))
            counts.append(len(added))
        assert counts[0] > 50 >= 4 * max(counts[1:])
        again = stage.canary()
        assert again is not None
        added.clear()
        policy.decide(again.observe(policy))
        assert len(added) > 50


def test_a_cache_serves_one_thread_at_a_time() -> None:
    """The other computes from scratch."""
    cache = Cache()
    first = cache.take()
    assert cache.take() is not first
    cache.give_back(first)
    assert cache.take() is first


def test_an_observation_is_its_values() -> None:
    """Not what is kept of it: equal, shown, copied, pickled and written without that."""
    plain = Observation(at=START, started_at=START, step_started_at=START, percent=5, minutes={})
    cached = keep_in(Cache(), attrs.evolve(plain))
    assert cached == plain
    assert repr(cached) == repr(plain)
    assert cached.to_dict() == plain.to_dict()
    for copied in (deepcopy(cached), pickle.loads(pickle.dumps(cached))):
        assert copied == plain
        assert RolloutPolicy.canary(5, MINUTE).decide(copied).kind == "hold"
