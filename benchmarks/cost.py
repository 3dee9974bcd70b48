"""What a verdict costs in pure Python: processor time and memory; prints a table.

Linear in minutes, signals and routes. Of each time the least of three is given: what else runs on
the machine only ever adds.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import attrs

from apigw_canary import (
    CloudWatchMetrics,
    Decision,
    Minute,
    Observation,
    RolloutPolicy,
    Signal,
    StageState,
    Verdict,
)
from apigw_canary.judge.evidence import Row, Worse
from apigw_canary.judge.kept import Cache, keep_in

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
STAGE = StageState(
    region="eu-central-1",
    rest_api_id="a1b2c3d4e5",
    name="prod",
    deployment_id="old111",
    updated_at=START,
)
SIGNALS = (
    Signal.errors_5xx(),
    Signal.errors_4xx(),
    Signal.custom("slow"),
    Signal.custom("refused"),
)


def series(rng: Random, count: int, requests: int, rate: float) -> list[Minute]:
    """An hour of the baseline, and `count` minutes of both arms at 10 %, alike: the evidence
    against a canary that is found worse is not followed any further, and would cost less.
    """

    def bad(n: int) -> int:
        return sum(rng.random() < rate for _ in range(n))

    made = [Minute(START - i * MINUTE, requests, bad(requests), 0, 0) for i in range(1, 61)]
    for i in range(count):
        n_c = max(requests // 10, 1)
        n_b = requests - n_c
        made.append(Minute(START + (i + 1) * MINUTE, n_b, bad(n_b), n_c, bad(n_c)))
    return made


def observation(count: int, signals: int, routes: int) -> Observation:
    rng = Random(0)
    names = [signal.name for signal in SIGNALS[:signals]]
    return Observation(
        at=START + (count + 10) * MINUTE,
        started_at=START,
        step_started_at=START,
        percent=10,
        minutes={name: series(rng, count, 1000, 0.002) for name in names},
        routes={
            f"GET /route{i}": {name: series(rng, count, 50, 0.002) for name in names}
            for i in range(routes)
        }
        if routes
        else None,
    )


class Day(NamedTuple):
    """What the decisions of a rollout cost that is observed each minute, in seconds."""

    kept: float
    """All of them, by a canary that keeps its states."""
    last_kept: float
    """One of the last thirty, so."""
    scratch: float
    """All of them from scratch: each 30th is made, and counts for 30."""
    last_scratch: float
    """The last one, so."""


def day(minutes: int, signals: int, routes: int) -> Day:
    """A minute that is read again is the same object, as the library's sources give it."""
    whole, cache = observation(minutes, signals, routes), Cache()
    policy = RolloutPolicy.canary(10, minutes * MINUTE, signals=SIGNALS[:signals])
    seen = [_until(whole, START + (i + 1) * MINUTE) for i in range(1, minutes + 1)]

    def decide(each: Observation) -> Decision:
        return policy.decide(keep_in(cache, each))

    # To read the clock for each of them would cost as much as they do.
    spans = [
        _once(lambda some=seen[i : i + EACH]: [*map(decide, some)])  # type: ignore[misc]
        for i in range(0, minutes, EACH)
    ]
    scratch = []
    for each in seen[EACH - 1 :: EACH]:
        alone = attrs.evolve(each)
        scratch.append(_once(lambda alone=alone: policy.decide(alone)))  # type: ignore[misc]
        assert policy.decide(each) == policy.decide(alone)
    return Day(sum(spans), spans[-1] / EACH, EACH * sum(scratch), scratch[-1])


EACH = 30


def _until(whole: Observation, at: datetime) -> Observation:
    def cut(minutes: Mapping[str, Sequence[Minute]]) -> dict[str, list[Minute]]:
        return {name: [row for row in rows if row.at < at] for name, rows in minutes.items()}

    routes = whole.routes and {name: cut(rows) for name, rows in whole.routes.items()}
    return attrs.evolve(whole, at=at, minutes=cut(whole.minutes), routes=routes)


def _once(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


LOOKED_AT = (*SIGNALS[:2], Signal.latency(over=500), Signal.latency(over=2000))


class CloudWatch:
    """Answers for a stage with routes; three in a hundred have failures on the canary."""

    def __init__(self, routes: int) -> None:
        self.meta = SimpleNamespace(region_name="eu-central-1")
        self.routes = routes
        self.calls = 0
        self._times = [START + i * MINUTE for i in range(-60, 60)]

    def client(self, service_name: str, *, config: object = None) -> CloudWatch:
        return self

    def get_rest_apis(self, *, limit: int) -> Any:
        return {"items": [{"id": STAGE.rest_api_id, "name": "orders"}]}

    def get_stages(self, *, restApiId: str) -> Any:  # noqa: N803 - boto3's name
        return {"item": [{"stageName": "prod"}]}

    def list_metrics(self, **_: object) -> Any:
        names = [[("Method", "GET"), ("Resource", f"/r{i}")] for i in range(self.routes)]
        return {"Metrics": [{"Dimensions": _dimensions(of)} for of in names]}

    def get_metric_data(self, **request: Any) -> Any:
        self.calls += 1
        results = [
            self._result(query, request["StartTime"]) for query in request["MetricDataQueries"]
        ]
        return {"MetricDataResults": results, "Messages": []}

    def _result(self, query: Any, start: datetime) -> Any:
        stat = query["MetricStat"]
        is_canary = query["Id"].startswith("canary")
        value = {"Count": 5.0 if is_canary else 45.0, "Latency": 100.0}.get(
            stat["Metric"]["MetricName"], 0.0
        )
        if is_canary and query["Id"].endswith(("7", "57", "97")) and stat["Stat"] == "Sum":
            value = 0.2
        times = [at for at in self._times if at >= (START if is_canary else start)]
        return {"Id": query["Id"], "Timestamps": times, "Values": [value] * len(times)}


def _dimensions(of: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in of]


def look(policy: RolloutPolicy, routes: int) -> tuple[float, int]:
    """Seconds of a fresh process's look at an hour of rollout, and its calls of GetMetricData."""
    aws = CloudWatch(routes)

    def act() -> object:
        aws.calls = 0
        metrics = CloudWatchMetrics(session=aws, routes=True)
        end = START + 60 * MINUTE
        found = metrics.minutes(STAGE, policy.signals, START - 60 * MINUTE, end)
        return policy.decide(
            Observation(
                at=end,
                started_at=START,
                step_started_at=START,
                percent=10,
                minutes=found.minutes,
                overlap=found.overlap,
                routes=found.routes,
            )
        )

    return least(act), aws.calls


def least(act: Callable[[], object]) -> float:
    """Seconds of processor time."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        act()
        taken.append(time.process_time() - began)
    return min(taken)


def main() -> None:
    print(f"\n{'cost of a verdict':<42}{'ms':>8}{'MB held':>10}{'MB more at work':>17}")
    for what, count, signals, routes in (
        ("3 h of one signal", 180, 1, 0),
        ("24 h of one signal", 1440, 1, 0),
        ("3 h of four signals", 180, 4, 0),
        ("1 h, 4 signals, 75 routes", 60, 4, 75),
        ("1 h, 4 signals, 150 routes", 60, 4, 150),
        ("1 h, 4 signals, 300 routes", 60, 4, 300),
        ("3 h, 4 signals, 300 routes", 180, 4, 300),
    ):
        policy = RolloutPolicy.canary(10, 60 * MINUTE, signals=SIGNALS[:signals])
        tracemalloc.start()
        seen = observation(count, signals, routes)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert policy.analyze(seen).verdict is not Verdict.WORSE
        policy.decide(seen)
        more = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.stop()

        def verdict(policy: RolloutPolicy = policy, seen: Observation = seen) -> object:
            return policy.decide(seen)

        print(f"{what:<42}{1000 * least(verdict):>8.1f}{held / 1e6:>10.1f}{more / 1e6:>17.1f}")
    print(f"\n{'decisions, one a minute':<42}{'kept':>8}{'last':>10}{'scratch':>10}{'last':>10}")
    for what, minutes, signals, routes in (
        ("24 h of one signal", 1440, 1, 0),
        ("24 h of two signals", 1440, 2, 0),
        ("24 h of four signals", 1440, 4, 0),
        ("1 h, 2 signals, 50 routes", 60, 2, 50),
        ("1 h, 2 signals, 300 routes", 60, 2, 300),
    ):
        cost = day(minutes, signals, routes)
        print(
            f"{what:<42}{cost.kept:>6.2f} s{1000 * cost.last_kept:>7.1f} ms"
            f"{cost.scratch:>8.1f} s{1000 * cost.last_scratch:>7.1f} ms",
            flush=True,
        )
    policy = RolloutPolicy.canary(10, 60 * MINUTE, signals=LOOKED_AT)
    for count in (75, 150, 300):
        seconds, calls = look(policy, count)
        what = f"{count} routes read anew, {calls} calls"
        print(f"{what:<42}{1000 * seconds:>8.1f}")
    game = Worse(ratio=1.1, slack=0.0002, noise=0.05, alpha=0.05)
    rows = [Row(900, 2, 100, i % 5 == 0) for i in range(2000)]
    step = least(lambda: [game.add(row) for row in rows]) / len(rows)
    print(f"{'a step from a kept state':<42}{1000 * step:>8.3f}")


if __name__ == "__main__":
    main()
