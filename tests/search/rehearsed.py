"""The same loop on a rehearsal, end to end: the search builds what `canary.observe` reads."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import attrs

from apigw_canary import Canary, CloudWatchMetrics, Observation, Stage
from apigw_canary.errors import MetricsError
from apigw_canary.testing import Backend, Rehearsal, rehearsal
from search.rollout import Loop, Run
from search.scenario import Scenario, drawn
from search.world import MINUTE, Served, World

COMPARED = (
    "at",
    "started_at",
    "step_started_at",
    "percent",
    "phase",
    "overlap",
    "suspect",
    "minutes",
)
"""What a look of the search and one of the library have in common, on the same traffic."""


def suited(seed: int) -> Scenario:
    """The rollout of a seed, without what a rehearsal cannot do."""
    scenario, rng = drawn(seed), Random(f"rehearsed {seed}")
    return Scenario(
        seed=seed,
        started_at=scenario.started_at.replace(microsecond=0),
        requests=rng.choice((1, 20, 200, 500)),
        base=min(scenario.base, 0.3),
        base_4xx=scenario.base_4xx,
        canary=scenario.canary,
        at_margin=scenario.at_margin,
        source="cloudwatch",
        included=scenario.included,
        stated=scenario.stated,
        count_lag=scenario.count_lag,
        error_lag=scenario.error_lag,
        steps=scenario.steps,
        limit=scenario.limit,
        ratio=scenario.ratio,
        with_4xx=scenario.with_4xx,
        deadline=scenario.deadline,
        on_inconclusive=scenario.on_inconclusive,
        every=scenario.every,
        one_process=scenario.one_process,
    )


class Replayed(World):
    """A world whose traffic is that of a rehearsal."""

    def __init__(self, scenario: Scenario, aws: Rehearsal) -> None:
        self._aws = aws
        super().__init__(scenario)

    def serve(self, until: Any, percent: float) -> None:
        """Take over what the rehearsal has served."""
        self.minutes = {n: (Served(), Served()) for n in self.numbers(until)}
        for row in self._aws.served:
            if row.at < until.replace(second=0, microsecond=0):
                served = self.minutes[self._number(row.at)][row.arm == "canary"]
                served.requests += row.requests
                served.errors_5xx += row.errors_5xx
                served.errors_4xx += row.errors_4xx


class Rehearsed(Loop):
    """A loop that observes and applies by the library, and compares each look with its own."""

    def __init__(self, scenario: Scenario, aws: Rehearsal, stage: Stage) -> None:
        self._aws = aws
        self._stage = stage
        super().__init__(scenario)
        self.world = Replayed(scenario, aws)
        percent = scenario.steps[0][0]
        self._canary: Canary = stage.enable_canary(
            percent, variables={"alias": "v2"}, policy=self.policy
        )

    def observe(self) -> Observation:
        """As the library reads it."""
        if not self.scenario.one_process:
            found = self._stage.canary()
            assert found is not None
            self._canary = found
        read = self._canary.observe(self.policy)
        built = super().observe()
        for name in COMPARED:
            ours, theirs = (getattr(each, name, None) for each in (built, read))
            if ours != theirs:
                self._violated("differs", f"{name}: the search has {ours}, canary.observe {theirs}")
        return read

    def _pass(self, time: timedelta) -> None:
        self._aws.sleep(time.total_seconds())
        self.now = self._aws.now()
        self.world.serve(self.now, self.percent)

    def _apply(self, decision: Any) -> bool:
        self._canary.apply(decision)
        return super()._apply(decision)


def rehearse(seed: int) -> Run:
    """One rollout of the search, end to end."""
    scenario = suited(seed)
    baseline = Backend(errors_5xx=scenario.base, errors_4xx=scenario.base_4xx)
    world = World(attrs.evolve(scenario, requests=0.0))
    rate = min(world.canary_rate(0), 1 - scenario.base_4xx)
    lag = timedelta(minutes=scenario.error_lag)
    with rehearsal(
        requests_per_minute=scenario.requests,
        backends={
            "alias=v1": baseline,
            "alias=v2": Backend(errors_5xx=rate, errors_4xx=scenario.base_4xx),
        },
        overlap="included" if scenario.included else "excluded",
        lag={"Count": scenario.count_lag * MINUTE, "5XXError": lag, "4XXError": lag},
        start=scenario.started_at,
        seed=seed,
    ) as aws:
        overlap: Any = (
            ("included" if scenario.included else "excluded") if scenario.stated else "unknown"
        )
        source = CloudWatchMetrics(overlap=overlap)
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=source, sleep=aws.sleep)
        try:
            rollout = Rehearsed(scenario, aws, stage)
        except MetricsError as error:  # the hour before shows metrics that judge no canary
            return _refused(scenario, error)
        return rollout.run()


def _refused(scenario: Scenario, error: MetricsError) -> Run:
    return Run(
        scenario=scenario, ended="refused", reason=str(error), looks=0, minutes=0.0, violations=()
    )
