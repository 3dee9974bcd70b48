"""The requests of a rehearsal: how many come, which variant serves them, how they fare.

Generated minute by minute from the configuration in force, and exactly: without approximations, so
that what a judge promises about rare errors can be tested here.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, NamedTuple, TypeAlias

import attrs

from apigw_canary.model.failure import FailureCause
from apigw_canary.planning.simulation import binomial
from apigw_canary.testing.answers import Json
from apigw_canary.testing.patches import effective_variables

Arm: TypeAlias = Literal["baseline", "canary"]

Rate: TypeAlias = "float | Callable[[datetime], float]"
"""Mean number of requests a minute, or a function from the time to it."""

MINUTE = timedelta(minutes=1)
_ROUTES = {"GET /orders": 0.9, "POST /orders": 0.1}
_TEST_STAGE = "test-invoke-stage"


@attrs.frozen(kw_only=True)
class Backend:
    """The error rates and latencies of a backend's answers."""

    errors_5xx: float = attrs.field(
        default=0.001, validator=[attrs.validators.ge(0), attrs.validators.le(1)]
    )
    """The probability, 0 to 1, of an answer with a 5xx status. Default 0.001, as of a healthy
    API."""

    errors_4xx: float = attrs.field(
        default=0.01, validator=[attrs.validators.ge(0), attrs.validators.le(1)]
    )
    """The probability, 0 to 1, of an answer with a 4xx status. The sum with `errors_5xx` is at most
    1. Default 0.01, a usual fraction of bad input."""

    latency_ms: float = attrs.field(default=80.0, validator=attrs.validators.gt(0))
    """The median latency in milliseconds. Latencies have a lognormal distribution. Default 80."""

    latency_spread: float = attrs.field(default=0.5, validator=attrs.validators.ge(0))
    """The standard deviation of ln(latency). With the default of 0.5 the 99th percentile is 3.2
    times the median."""

    causes: tuple[FailureCause, ...] = ("function_error",)
    """The causes of 5xx answers in the logs; the answers have them in turn. "function_error" and
    "mapping" (a malformed answer of the function) have the status 502, "timeout" 504, and
    "permission" (a missing one), "throttling" and "other" (an answer of the backend itself) 500."""

    body: str = "{}"
    """The body of all answers to a smoke test."""

    def __attrs_post_init__(self) -> None:
        if self.errors_5xx + self.errors_4xx > 1:
            raise ValueError(
                f"errors_5xx + errors_4xx must be at most 1: {self.errors_5xx} + {self.errors_4xx}"
            )


@attrs.frozen(kw_only=True)
class Conditions:
    """What a function in `backends` can depend on: one variant in one minute."""

    at: datetime
    """The beginning of the minute, an aware datetime."""

    since: timedelta
    """How long ago the backend got its first request, for example to simulate a memory leak."""

    requests_per_minute: float
    """The requests a minute that the backend gets from the variant."""

    method: str
    """The method and path that are called, such as "GET /orders"."""

    stage: str
    """The name of the stage that is called; "test-invoke-stage" for a smoke test, as on AWS."""


Behavior: TypeAlias = "Backend | Callable[[Conditions], Backend]"
"""A backend that is always the same, or one that changes with time, load and route."""


@attrs.frozen(kw_only=True)
class Served:
    """What one deployment really served in one minute, whatever the metrics show."""

    at: datetime
    """The beginning of the minute."""

    stage: str
    """The name of the stage that was called."""

    arm: Arm
    """The variant: "baseline" or "canary"."""

    deployment_id: str
    """The id of the deployment that served the requests."""

    requests: int
    """The number of requests, 1 or more."""

    errors_5xx: int
    """The number of requests that were answered with a 5xx status."""

    errors_4xx: int
    """The number of requests that were answered with a 4xx status."""


_MOST_LATENCIES = 10_000
"""Latencies drawn for one variant in a minute: one of a million requests costs no more."""

_KEPT_SEGMENTS = 256
"""Segments whose latencies are kept, in 20 MB at most: each metric and query reads them again, and
so does a rehearsal with the same traffic."""


class Target(NamedTuple):
    """Where a part of a variant's requests ends up."""

    backend: Behavior
    share: float = 1.0
    invoked: tuple[str, str] | None = None
    """Alias and version of the function, where it is one that is invoked."""


@attrs.frozen(kw_only=True)
class Segment:
    """Requests of one variant between two changes of configuration, within one minute."""

    served: Served
    target: Target
    backend: Backend
    """That of the target, as it was at the time."""
    method: str
    seed: str
    canary_enabled: bool

    def latencies(self) -> list[float]:
        """Milliseconds, one per request, in no order."""
        drawn = self.drawn_latencies()
        times, rest = divmod(self.served.requests, len(drawn))
        all_ms = [*drawn * times, *drawn[:rest]]
        if times > 1:
            random.Random(self.seed).shuffle(all_ms)
        return all_ms

    def drawn_latencies(self) -> array[float]:
        """Milliseconds of 10,000 requests at most; as many others have each of them, or one more.

        Drawn from the segment's own seed, hence always the same.
        """
        backend = self.backend
        return _drawn(
            self.seed, self.served.requests, math.log(backend.latency_ms), backend.latency_spread
        )


@lru_cache(_KEPT_SEGMENTS)
def _drawn(seed: str, requests: int, center: float, spread: float) -> array[float]:
    """The latencies of so many requests.

    Of more than 10,000 one latency is drawn in each of equal parts of the distribution, so that a
    part of them varies no more than by chance.
    """
    rng = random.Random(seed)
    if requests <= _MOST_LATENCIES:
        gauss = rng.gauss
        return array("d", [math.exp(gauss(center, spread)) for _ in range(requests)])
    parts = requests // math.ceil(requests / _MOST_LATENCIES)
    draw, inverse = rng.random, NormalDist().inv_cdf
    places = [i + draw() for i in range(parts)]
    places[0] = max(places[0], 0.5)
    return array("d", [math.exp(center + spread * inverse(place / parts)) for place in places])


class Traffic:
    """All requests since `begins`.

    `rates` gives each stage's requests per minute at a time, `api` is the API as it is being
    edited, `backends` maps "variable=value" to what requests find that see it.
    """

    def __init__(
        self,
        *,
        rates: Mapping[str, Rate],
        api: Behavior,
        backends: Mapping[str, Behavior],
        seed: int,
        begins: datetime,
        routes: Mapping[str, float],
    ) -> None:
        self.api = api
        self.routes: Mapping[str, float] = _normalized(routes)
        """How many of the requests call each method, as fractions of 1."""
        self._first_requests: dict[int, datetime] = {}
        self.rates = rates
        self._by_variable = {
            _variable(assignment): backend for assignment, backend in backends.items()
        }
        self._reached: set[str] = set()
        self._had_canary = False
        self._deployed: dict[str, Behavior] = {}
        self.function: Callable[[Mapping[str, str]], Sequence[Target]] | None = None
        """What the API calls, by the variables that a request sees, if that is a function."""
        self._seed = seed
        self._until = dict.fromkeys(rates, begins)
        self._minutes: dict[datetime, list[Segment]] = {}

    def deploy(self, deployment_id: str) -> None:
        """Fix the API as it is now as that deployment."""
        self._deployed[deployment_id] = self.api

    def run(self, stages: Iterable[Json], until: datetime) -> None:
        """Serve what comes before `until`, all of it under the same configuration of each stage."""
        by_name = {stage["stageName"]: stage for stage in stages}
        # In order of time: a backend may have requests of several stages.
        while (begin := self._until[name := min(by_name, key=self._until.__getitem__)]) < until:
            minute = begin.replace(second=0, microsecond=0)
            end = min(until, minute + MINUTE)
            segments = self._segments(by_name[name], minute, begin, (end - begin) / MINUTE)
            self._minutes.setdefault(minute, []).extend(segments)
            self._until[name] = end

    def segments(
        self, minute: datetime, arms: Iterable[Arm], stage: str | None = None
    ) -> list[Segment]:
        """What those variants served in that minute, of one stage or of all."""
        return [
            segment
            for segment in self._minutes.get(minute, ())
            if segment.served.arm in arms and (stage is None or stage == segment.served.stage)
        ]

    def first(self, arms: Iterable[Arm], stage: str | None = None) -> datetime | None:
        """The first minute in which those variants served anything, of one stage or of all."""
        return next((at for at in self._minutes if self.segments(at, arms, stage)), None)

    def latencies(self, stage: str, arm: Arm, start: datetime, end: datetime) -> list[float]:
        """Milliseconds of each request of a variant in the minutes of [start, end), in no order."""
        return [
            latency
            for minute in self._minutes
            if start <= minute < end
            for segment in self.segments(minute, [arm], stage)
            for latency in segment.latencies()
        ]

    def served(self) -> tuple[Served, ...]:
        """One row per minute, stage, variant and deployment, in order of time."""
        rows: dict[tuple[datetime, str, Arm, str], Served] = {}
        for segments in self._minutes.values():
            for segment in segments:
                row = segment.served
                key = (row.at, row.stage, row.arm, row.deployment_id)
                rows[key] = _sum(rows[key], row) if key in rows else row
        return tuple(rows.values())

    def _segments(
        self, stage: Json, minute: datetime, begin: datetime, minutes: float
    ) -> Iterable[Segment]:
        # A seed for each segment: what comes in a minute depends neither on what came before, nor
        # on what the other stages get.
        name = stage["stageName"]
        own = "" if name == next(iter(self.rates)) else f"/{name}"
        seed = f"{self._seed}{own}/{begin.isoformat()}"
        rng = random.Random(seed)
        rate = self.rates[name]
        requests = poisson(rng, (rate(begin) if callable(rate) else rate) * minutes)
        share = stage.get("canarySettings", {}).get("percentTraffic", 0.0) / 100
        to_canary = binomial(rng, requests, share)
        arms: tuple[tuple[Arm, int], ...] = (
            ("baseline", requests - to_canary),
            ("canary", to_canary),
        )
        for arm, count in arms:
            if count:
                self._had_canary = self._had_canary or arm == "canary"
                variables = effective_variables(stage, canary=arm == "canary")
                deployment_id = (stage["canarySettings"] if arm == "canary" else stage)[
                    "deploymentId"
                ]
                for i, (target, reached) in enumerate(
                    _split(rng, count, self._targets(self._deployed[deployment_id], variables))
                ):
                    for k, (method, called) in enumerate(_called(rng, reached, self.routes)):
                        load = called / minutes
                        backend = self._now(target.backend, minute, load, method, name)
                        served = _fared(
                            rng,
                            backend,
                            at=minute,
                            stage=name,
                            arm=arm,
                            deployment_id=deployment_id,
                            requests=called,
                        )
                        yield Segment(
                            served=served,
                            target=target,
                            backend=backend,
                            method=method,
                            seed=f"{seed}/{arm}{'/' * i}{'-' * k}",
                            canary_enabled="canarySettings" in stage,
                        )

    def _now(
        self, behavior: Behavior, at: datetime, load: float, method: str, stage: str
    ) -> Backend:
        """What a behavior is under these conditions."""
        if isinstance(behavior, Backend):
            return behavior
        since = at - self._first_requests.setdefault(id(behavior), at)
        return behavior(
            Conditions(at=at, since=since, requests_per_minute=load, method=method, stage=stage)
        )

    def tested(
        self, variables: Mapping[str, str], at: datetime, method: str
    ) -> Sequence[tuple[Backend, float]]:
        """Where a request ends up that tests the API as it is being edited, each with its part."""
        return [
            (self._now(target.backend, at, 1, method, _TEST_STAGE), target.share)
            for target in self._targets(self.api, variables)
        ]

    def _targets(self, api: Behavior, variables: Mapping[str, str]) -> Sequence[Target]:
        if self.function is not None:
            return self.function(variables)
        for (name, value), backend in self._by_variable.items():
            if variables.get(name) == value:
                self._reached.add(f"{name}={value}")
                return [Target(backend)]
        return [Target(api)]

    def unreached(self) -> list[str]:
        """The backends that no request reached, where a canary had requests."""
        if not self._had_canary or self.function is not None:
            return []
        keys = (f"{name}={value}" for name, value in self._by_variable)
        return sorted(key for key in keys if key not in self._reached)


def _split(
    rng: random.Random, requests: int, targets: Sequence[Target]
) -> Iterator[tuple[Target, int]]:
    """How many requests reach each of one or two targets; those that none reaches are left out."""
    first, *others = targets
    to_others = binomial(rng, requests, others[0].share) if others else 0
    for target, count in ((first, requests - to_others), *((other, to_others) for other in others)):
        if count:
            yield target, count


def _called(
    rng: random.Random, requests: int, routes: Mapping[str, float]
) -> Iterator[tuple[str, int]]:
    """How many requests call each method; those that none calls are left out."""
    left, share_left = requests, 1.0
    *first, last = routes
    for method in first:
        count = binomial(rng, left, min(1.0, routes[method] / share_left))
        left, share_left = left - count, share_left - routes[method]
        if count:
            yield method, count
    if left:
        yield last, left


def _normalized(routes: Mapping[str, float]) -> Mapping[str, float]:
    if not routes or any(not weight > 0 for weight in routes.values()):
        raise ValueError(
            f"routes must be methods with weights above 0, such as {_ROUTES}, not {routes}"
        )
    return {method: weight / math.fsum(routes.values()) for method, weight in routes.items()}


def _fared(
    rng: random.Random,
    backend: Backend,
    *,
    at: datetime,
    stage: str,
    arm: Arm,
    deployment_id: str,
    requests: int,
) -> Served:
    """How that many requests fare at a backend."""
    errors_5xx = binomial(rng, requests, backend.errors_5xx)
    # Drawn from the others: no request has both, and each keeps its own probability.
    others = requests - errors_5xx
    errors_4xx = (
        binomial(rng, others, backend.errors_4xx / (1 - backend.errors_5xx)) if others else 0
    )
    return Served(
        at=at,
        stage=stage,
        arm=arm,
        deployment_id=deployment_id,
        requests=requests,
        errors_5xx=errors_5xx,
        errors_4xx=errors_4xx,
    )


def poisson(rng: random.Random, mean: float) -> int:
    """How many events fall before time `mean` if one comes per unit of time on average.

    Leaps from event to event: the time of the m-th is gamma distributed. When a leap overshoots,
    the m - 1 events before it were uniform up to there (Ahrens and Dieter 1974). Exact, and about
    log(mean) steps.
    """
    count = 0
    while mean > 0:
        leap = max(1, int(mean * 7 / 8))
        arrival = rng.gammavariate(leap, 1.0)
        if arrival > mean:
            return count + binomial(rng, leap - 1, mean / arrival)
        count += leap
        mean -= arrival
    return count


def _variable(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals:
        raise ValueError(
            'keys of backends must be stage variables with values, such as "alias=v2", not '
            f"{assignment!r}"
        )
    return name, value


def _sum(one: Served, other: Served) -> Served:
    return attrs.evolve(
        one,
        requests=one.requests + other.requests,
        errors_5xx=one.errors_5xx + other.errors_5xx,
        errors_4xx=one.errors_4xx + other.errors_4xx,
    )
