"""What the stage truly serves, and what its source of metrics tells of it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import attrs
from botocore.exceptions import ClientError

from apigw_canary import CanaryState, CloudWatchMetrics, Minute, StageState
from search.names import Measurements, has, made
from search.scenario import MARGIN, Gaps, Scenario, zone

MINUTE = timedelta(minutes=1)
HISTORY = 60


@attrs.define
class Served:
    """What one variant served in one minute."""

    requests: int = 0
    errors_5xx: int = 0
    errors_4xx: int = 0
    hidden: int = 0
    """Failed ones among them whose outcome the source cannot read."""

    @property
    def rate(self) -> float:
        """Of 5xx, 0 without requests."""
        return self.errors_5xx / self.requests if self.requests else 0.0


class Seen(NamedTuple):
    """What the source has of one variant in one minute; None where it has nothing."""

    requests: int | None
    errors_5xx: int | None
    errors_4xx: int | None
    unknown: int = 0

    def without_errors(self) -> Seen:
        """Only the count."""
        return self._replace(errors_5xx=None, errors_4xx=None)

    def unread(self) -> Seen:
        """No outcome can be read."""
        if self.errors_5xx is None:
            return self
        return self._replace(errors_5xx=0, errors_4xx=0, unknown=self.requests or 0)

    def hiding(self, failed: int, each: bool) -> Seen:
        """So many failed requests cannot be read: each by itself, or else the minute's errors.

        CloudWatch may lose a number of errors, but it never gives one that is too small.
        """
        if self.errors_5xx is None or not failed:
            return self
        if not each:
            return self.without_errors()
        hidden = min(failed, self.errors_5xx)
        return self._replace(errors_5xx=self.errors_5xx - hidden, unknown=hidden)


class Known(NamedTuple):
    """A minute whose outcomes the source knows."""

    number: int
    baseline_requests: int
    baseline_bad: int
    canary_requests: int
    canary_bad: int


METRICS = {"Count": "requests", "5XXError": "errors_5xx", "4XXError": "errors_4xx"}
NOTHING = Seen(None, None, None)
ARMS = ("baseline", "canary")


class World:
    """The traffic of a scenario, and its source. Minutes are numbered from the start's minute."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.begin = scenario.started_at.replace(second=0, microsecond=0)
        self.minutes: dict[int, tuple[Served, Served]] = {}
        self._until = self.begin - (0 if scenario.no_history else HISTORY) * MINUTE
        self._first = self._number(self._until)
        self._zone = zone(scenario)
        self._concerned: dict[int, float] = {}
        self._final: dict[int, tuple[Seen, Seen]] = {}
        """What the source has, of the minutes of which it does not change any more."""
        self.serve(scenario.started_at, 0.0)

    def _number(self, at: datetime) -> int:
        return math.floor((at - self.begin) / MINUTE)

    def at(self, number: int) -> datetime:
        """When that minute begins."""
        return self.begin + number * MINUTE

    def serve(self, until: datetime, percent: float) -> None:
        """Let time go by, with one share of the canary."""
        while self._until < until:
            number = self._number(self._until)
            end = min(until, self.at(number + 1))
            rng = Random(f"traffic {self.scenario.seed} {self._until.timestamp()}")
            self._serve(rng, number, (end - self._until) / MINUTE, percent)
            self._until = end

    def _serve(self, rng: Random, number: int, part: float, percent: float) -> None:
        scenario = self.scenario
        baseline, canary = self.minutes.setdefault(number, (Served(), Served()))
        rate = scenario.requests * (1 + scenario.daily * math.sin((number + scenario.seed) / 229))
        if scenario.stops is not None and number >= scenario.stops:
            rate = 0.0
        requests = poisson(rng, rate * part)
        to_canary = binomial(rng, requests, percent / 100)
        for served, count, errors in (
            (baseline, requests - to_canary, self.rate(number)),
            (canary, to_canary, self.canary_rate(number)),
        ):
            bad = binomial(rng, count, errors)
            served.requests += count
            served.errors_5xx += bad
            served.errors_4xx += binomial(rng, count - bad, scenario.base_4xx)
            served.hidden += binomial(rng, bad, scenario.gap[2])

    def rate(self, number: int) -> float:
        """The baseline's rate of 5xx in a minute."""
        scenario = self.scenario
        rate = scenario.base
        if scenario.incident is not None:
            first, length, high = scenario.incident
            if first <= number < first + length:
                rate = max(rate, high)
        if scenario.jump is not None and number >= scenario.jump[0]:
            rate = max(rate, scenario.jump[1])
        return rate

    def canary_rate(self, number: int) -> float:
        """The canary's rate of 5xx in a minute."""
        scenario, baseline = self.scenario, self.rate(number)
        if scenario.at_margin:
            return min(scenario.ratio * baseline + MARGIN, 1.0)
        if scenario.canary is None or number < scenario.onset:
            return baseline
        return max(scenario.canary, baseline)

    # What the source has.

    def _in_gap(self, number: int) -> bool:
        first, length, likely = self.scenario.gap
        if not first <= number < first + length:
            return False
        if self.scenario.gaps in {
            "hide_minutes",
            "hide_canary",
            "hide_requests",
            "no_errors",
            "silence",
        }:
            return True
        if number not in self._concerned:
            self._concerned[number] = Random(f"gap {self.scenario.seed} {number}").random()
        return self._concerned[number] < likely

    def seen(self, number: int, now: datetime) -> tuple[Seen, Seen]:
        """What the source has of both variants, apart from each other."""
        if number in self._final:
            return self._final[number]
        scenario, served = self.scenario, self.minutes[number]
        age = (now - self.at(number + 1)) / MINUTE
        if age < scenario.count_lag:
            return NOTHING, NOTHING
        late = age < scenario.error_lag
        found = []
        for each in served:
            requests, bad, bad_4xx = each.requests, each.errors_5xx, each.errors_4xx
            if scenario.restated and age < scenario.count_lag + 4:
                requests, bad, bad_4xx = (math.floor(0.9 * n) for n in (requests, bad, bad_4xx))
            found.append(Seen(requests, *((None, None) if late else (bad, bad_4xx))))
        pair = self._with_gap(found[0], found[1], number)
        if age >= max(scenario.count_lag + 4, scenario.error_lag):
            self._final[number] = pair
        return pair

    def _gaps(self, number: int) -> Gaps:
        scenario = self.scenario
        if scenario.hides:
            return scenario.hides[number % len(scenario.hides)] if number >= 0 else "none"
        before = number < 0 and scenario.gaps != "no_errors"
        return "none" if before or not self._in_gap(number) else scenario.gaps

    def _with_gap(self, baseline: Seen, canary: Seen, number: int) -> tuple[Seen, Seen]:
        served, gaps = self.minutes[number], self._gaps(number)
        if gaps in {"hide_minutes", "hide_canary"} and not served[1].errors_5xx:
            return baseline, canary
        match gaps:
            case "lost" | "silence" | "hide_minutes":
                return NOTHING, NOTHING
            case "no_baseline":
                return NOTHING, canary
            case "hide_canary" if self.scenario.source == "cloudwatch":
                return baseline, canary.without_errors()  # the errors are lost, not the count
            case "no_canary" | "hide_canary":
                return baseline, NOTHING
            case "hide_requests":
                own = self.scenario.source == "own"
                return baseline.hiding(served[0].hidden, own), canary.hiding(served[1].hidden, own)
            case "no_errors" if self.scenario.source == "own":
                return baseline.unread(), canary.unread()
            case "no_errors":
                return baseline.without_errors(), canary.without_errors()
            case "none":
                return baseline, canary

    def stage_series(self, number: int, now: datetime) -> tuple[Seen, Seen]:
        """The counts under the stage's own name, and under its canary's."""
        baseline, canary = self.seen(number, now)
        if not self.scenario.included or baseline is NOTHING:
            return baseline, canary
        both = canary
        lost = canary.errors_5xx is None and baseline.errors_5xx is not None
        if canary is NOTHING or lost:  # its own series is lost, and not its part in the stage's
            served = self.minutes[number][1]
            both = Seen(served.requests, served.errors_5xx, served.errors_4xx)
        sums = [None if None in pair else sum(pair) for pair in zip(baseline, both, strict=True)]  # type: ignore[arg-type]
        return Seen(*sums), canary  # type: ignore[arg-type]

    def numbers(self, now: datetime) -> range:
        """The minutes that are over."""
        return range(self._first, self._number(now))

    def known(self, now: datetime) -> list[Known]:
        """The minutes whose 5xx the source knows, of the variants that had requests."""
        rows = []
        for number in self.numbers(now):
            baseline, canary = self.seen(number, now)
            counts: list[int] = []
            for seen in (baseline, canary):
                if seen.requests is None or seen.errors_5xx is None:
                    counts += [0, 0]
                else:
                    counts += [seen.requests - seen.unknown, seen.errors_5xx]
            if any(counts):
                rows.append(Known(number, *counts))
        return rows


class OwnSource:
    """A caller's own source: it counts what it can read."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._made: dict[tuple[Any, ...], Minute] = {}

    def minutes(self, now: datetime, names: list[str]) -> Any:
        """As `MetricSource.minutes`, at a time."""
        world, scenario = self._world, self._world.scenario
        rows: dict[str, list[Minute]] = {name: [] for name in names}
        for number in world.numbers(now):
            baseline, canary = world.stage_series(number, now)
            if baseline.requests is None and canary.requests is None:
                continue
            at = world.at(number).astimezone(world._zone)
            for name in names:
                key = (number, name, baseline, canary)
                if key not in self._made:
                    self._made[key] = made_minute(at, baseline, canary, name)
                rows[name].append(self._made[key])
        stated = "included" if scenario.included else "excluded"
        return Measurements(rows, overlap=stated if scenario.stated else "unknown")


def made_minute(at: datetime, baseline: Seen, canary: Seen, name: str) -> Minute:
    """A minute as an own source states it: an outcome that it cannot read is unknown.

    Before there were unknown outcomes such a request was in no count.
    """
    counts: dict[str, Any] = {}
    for arm, seen in zip(ARMS, (baseline, canary), strict=True):
        requests = seen.requests or 0
        unknown = seen.unknown
        if not has(Minute, "canary_unknown"):
            requests, unknown = requests - unknown, 0
        counts[f"{arm}_requests"] = requests
        counts[f"{arm}_bad"] = (seen.errors_5xx if name == "errors_5xx" else seen.errors_4xx) or 0
        counts[f"{arm}_unknown"] = unknown
    found: Minute = made(Minute, at=at, **counts)
    return found


class CloudWatchSource:
    """The library's own source, on a CloudWatch that has the series of the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._now = world.scenario.started_at
        scenario = world.scenario
        overlap: Any = "included" if scenario.included else "excluded"
        client = SimpleNamespace(
            meta=SimpleNamespace(region_name="eu-central-1"),
            get_metric_data=self._get_metric_data,
            list_metrics=lambda **_: _answer(Metrics=[]),
            get_stages=self._get_stages,
        )
        session: Any = SimpleNamespace(client=lambda *_, **__: client)
        self._source = CloudWatchMetrics(
            overlap=overlap if scenario.stated else "unknown",
            api_name="shop",
            session=session,
        )

    def minutes(self, now: datetime, signals: Any, percent: float, updated_at: datetime) -> Any:
        """As `CloudWatchMetrics.minutes`, at a time."""
        self._now = now
        stage = StageState(
            region="eu-central-1",
            rest_api_id="a1b2c3d4e5",
            name="prod",
            deployment_id="d1",
            canary=CanaryState(deployment_id="d2", percent=percent),
            updated_at=updated_at.replace(microsecond=0),
        )
        start = self._world.scenario.started_at - HISTORY * MINUTE
        return self._source.minutes(
            stage,
            signals,
            start.replace(second=0, microsecond=0),
            now.replace(second=0, microsecond=0),
        )

    def _get_stages(self, **_: Any) -> Any:
        if self._world.scenario.totals:
            return _answer(item=[{"stageName": "prod"}])
        error = {"Code": "AccessDeniedException", "Message": "not authorized"}
        refused: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(refused, "GetStages")

    def _get_metric_data(self, **asked: Any) -> Any:
        world = self._world
        first, end = (world._number(asked[name]) for name in ("StartTime", "EndTime"))
        numbers = [n for n in world.numbers(self._now) if first <= n < end]
        apart = {n: world.seen(n, self._now) for n in numbers}
        series = {n: world.stage_series(n, self._now) for n in numbers}
        results = []
        for query in asked["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            stages = [each["Value"] for each in metric["Dimensions"] if each["Name"] == "Stage"]
            field = METRICS.get(metric["MetricName"])
            times, values = [], []
            for number in numbers if field is not None else ():
                found = series[number]["/" in stages[0]] if stages else _total(apart[number])
                value = getattr(found, field or "")
                # A series has a datapoint where there were requests, of errors or none.
                if found.requests and value is not None:
                    times.append(world.at(number))
                    values.append(float(value))
            results.append(
                {"Id": query["Id"], "Timestamps": times, "Values": values, "StatusCode": "Complete"}
            )
        return _answer(MetricDataResults=results)


def _total(seen: tuple[Seen, Seen]) -> Seen:
    return Seen(sum(each.requests or 0 for each in seen), None, None)


def _answer(**fields: Any) -> Any:
    return {**fields, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": {}}}


def binomial(rng: Random, trials: int, chance: float) -> int:
    """How many of the trials succeed; for large numbers by the normal distribution."""
    if chance > 0.5:
        return trials - binomial(rng, trials, 1 - chance)
    mean = trials * chance
    if mean > 30:
        return min(max(round(rng.gauss(mean, math.sqrt(mean * (1 - chance)))), 0), trials)
    if chance <= 0:
        return 0
    count, i, log = 0, -1, math.log1p(-chance)
    while True:
        i += 1 + int(math.log(1 - rng.random()) / log)
        if i >= trials:
            return count
        count += 1


def poisson(rng: Random, mean: float) -> int:
    """How many requests come; for large means by the normal distribution."""
    if mean > 30:
        return max(round(rng.gauss(mean, math.sqrt(mean))), 0)
    count, left = 0, math.exp(-mean)
    product = rng.random()
    while product > left:
        count += 1
        product *= rng.random()
    return count
