"""One rollout, drawn from a seed: traffic, canary, source, policy, and who looks how often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import attrs

Gaps = Literal[
    "none",
    "lost",
    "no_baseline",
    "no_canary",
    "hide_minutes",
    "hide_canary",
    "hide_requests",
    "no_errors",
    "silence",
]

GAPS: tuple[Gaps, ...] = (
    "lost",
    "no_baseline",
    "no_canary",
    "hide_minutes",
    "hide_canary",
    "hide_requests",
    "no_errors",
    "silence",
)

STEPS = (
    (1,),
    (10,),
    (50,),
    (90,),
    (10, 50),
    (20, 60),
    (5, 25, 50),
    (10, 100),
    (50, 100),
    (90, 100),
    (5, 50, 100),
    (33.3, 66.6, 100),
)
MARGIN = 0.005
"""Of errors_5xx, the library's default."""


@attrs.frozen(kw_only=True)
class Scenario:
    """Minutes count from the start of the canary. A default is the dullest value."""

    seed: int = 0
    started_at: datetime = datetime(2026, 1, 5, 9, tzinfo=UTC)
    zone: str = "UTC"
    """The time zone in which the source states times."""

    # The traffic.
    requests: float = 500.0
    """Of both variants, a minute."""
    daily: float = 0.0
    """Amplitude of the day's wave, 0 to 1."""
    base: float = 0.001
    """The baseline's rate of 5xx."""
    base_4xx: float = 0.01
    canary: float | None = None
    """The canary's rate of 5xx from `onset` on; None: as the baseline's."""
    at_margin: bool = False
    """The canary is worse by exactly the margin, always."""
    onset: int = 0
    incident: tuple[int, int, float] | None = None
    """From which minute, for how many, and how high the rate of both variants."""
    jump: tuple[int, float] | None = None
    """From which minute on both variants fail that often: the canary broke what they share."""
    stops: int | None = None
    """From which minute on there is no traffic."""

    # The source.
    source: Literal["own", "cloudwatch"] = "own"
    included: bool = False
    """Whether the baseline's counts include the canary's."""
    stated: bool = True
    """Whether the source says so; else it says "unknown"."""
    totals: bool = True
    """Whether CloudWatch's totals can tell of the overlap."""
    gaps: Gaps = "none"
    gap: tuple[int, int, float] = (0, 10_000, 0.5)
    """From which minute, for how many, and how likely each is concerned."""
    hides: tuple[Gaps, ...] = ()
    """Instead: the gap of each minute, over and over."""
    no_history: bool = False
    """Whether there is nothing from before the canary."""
    count_lag: int = 1
    error_lag: int = 2
    """Minutes after a minute's end at which its counts, and its errors, appear."""
    restated: bool = False
    """Whether counts first appear a tenth too small, and are corrected four minutes later."""
    fails: tuple[int, int] | None = None
    """From which minute, for how many, the source raises."""

    # The policy.
    steps: tuple[tuple[float, int], ...] = ((10.0, 10),)
    limit: float | None = None
    ratio: float = 1.1
    with_4xx: bool = False
    false_rollback: float = 0.05
    false_promotion: float = 0.05
    deadline: int = 240
    on_inconclusive: Literal["hold", "rollback"] = "rollback"
    max_unobserved: int = 30
    alarm: tuple[int, str] | None = None
    """From which minute on the policy's alarm is in that state; before it is OK."""

    # Who looks.
    every: int = 1
    """Minutes between two looks, at least."""
    one_process: bool = True
    on_hold: tuple[int, int] | None = None
    """An operator holds the rollout from that minute, for that many."""
    crash: bool = False
    """Whether the process dies within a promotion, and another finishes it."""
    ended: tuple[int, str] | None = None
    """From which minute on the canary is gone, and how."""

    @property
    def healthy(self) -> bool:
        """Whether the canary fares exactly as the baseline does."""
        return self.canary is None and not self.at_margin

    @property
    def tolerable(self) -> float:
        """The rate from which on a canary is worse by the margin, without incidents."""
        return self.ratio * self.base + MARGIN

    def differences(self) -> dict[str, Any]:
        """What is not as dull as can be."""
        return {
            field.name: value
            for field in attrs.fields(Scenario)
            if (value := getattr(self, field.name)) != field.default and field.name != "seed"
        }


NOT_SHRUNK = {"seed", "steps"}


def without(scenario: Scenario, names: tuple[str, ...]) -> Scenario:
    """The same, some fields at their dullest."""
    fields = attrs.fields_dict(Scenario)
    dull: dict[str, Any] = {name: fields[name].default for name in names}
    return attrs.evolve(scenario, **dull)


def drawn(seed: int) -> Scenario:
    """The rollout of a seed."""
    draw = _Draw(Random(f"rollout {seed}"))
    steps = draw.steps()
    fields = {"seed": seed, "steps": steps, **draw.policy(steps), **draw.traffic()}
    fields |= draw.canary(fields) | draw.shared(fields) | draw.source() | draw.time()
    return Scenario(**fields, **draw.who_looks())


_Item = TypeVar("_Item")


class _Draw:
    """What a scenario is made from. Most fields stay at their dullest in most scenarios."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._length = 0

    def chance(self, part: float) -> bool:
        return self._rng.random() < part

    def one(self, *items: _Item) -> _Item:
        return self._rng.choice(items)

    def when(self) -> int:
        """A minute of the bakes, or of the quarter of an hour after them."""
        return self._rng.randrange(self._length + 15)

    def steps(self) -> tuple[tuple[float, int], ...]:
        percents = self._rng.choice(STEPS)
        bake = self.one(3, 5, 10, 15)
        steps = [(float(percent), bake) for percent in percents]
        if percents[-1] == 100:
            steps[-1] = (100.0, self.one(10, 20, 30, 40))
        self._length = sum(minutes for _, minutes in steps)
        return tuple(steps)

    def policy(self, steps: tuple[tuple[float, int], ...]) -> dict[str, Any]:
        return {
            "ratio": self.one(1.1, 1.1, 1.1, 1.0, 1.5),
            "limit": self.one(0.02, 0.05, 0.1) if self.chance(0.25) else None,
            "with_4xx": self.chance(0.3),
            "false_rollback": self.one(0.05, 0.05, 0.01, 0.1),
            "false_promotion": self.one(0.05, 0.05, 0.01),
            "deadline": self._length * self.one(1, 2, 4) + self.one(0, 30, 60),
            "on_inconclusive": "hold" if self.chance(0.3) else "rollback",
            "max_unobserved": self.one(10, 20, 30),
            "alarm": (self.when(), self.one("ALARM", "INSUFFICIENT_DATA"))
            if self.chance(0.1)
            else None,
        }

    def traffic(self) -> dict[str, Any]:
        return {
            "requests": 10 ** self._rng.uniform(0, 6),
            "daily": self.one(0.0, 0.0, 0.8),
            "base": self.one(0.0, 1e-5, 0.001, 0.001, 0.001, 0.01, 0.05, 0.3),
            "base_4xx": self.one(0.01, 0.0, 0.1),
            "stops": self.when() if self.chance(0.05) else None,
            "no_history": self.chance(0.1),
        }

    def canary(self, fields: dict[str, Any]) -> dict[str, Any]:
        kind = self.one(*["healthy"] * 3, "margin", *["bad"] * 3, *["gross"] * 2)
        tolerable = fields["ratio"] * fields["base"] + MARGIN
        worse = tolerable * self.one(1.5, 3.0, 10.0) + self.one(0, 0.02, 0.06)
        gross = max(self.one(0.3, 0.6, 1.0), tolerable + 0.06)
        if kind in {"healthy", "margin"}:
            return {"at_margin": kind == "margin"}
        *before, (percent, bake) = fields["steps"]
        last = sum(minutes for _, minutes in before) if percent == 100 else 0
        onset = self.one(0, 0, self.when(), last + self._rng.randrange(bake) + 5)
        return {"canary": min(worse if kind == "bad" else gross, 1.0), "onset": onset}

    def shared(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What both variants suffer from."""
        found: dict[str, Any] = {}
        if fields["limit"] is not None and self.chance(0.5):  # both exceed it, for long
            found["requests"] = 10 ** self._rng.uniform(0.7, 2)
            found["incident"] = (self._rng.randrange(6), self.one(40, 60), self.one(0.15, 0.3))
        elif self.chance(0.25):
            found["incident"] = (self.when(), self.one(3, 8, 15, 40), self.one(0.03, 0.1, 0.3))
        if self.chance(0.08):
            found["jump"] = (self.one(0, 0, self.when()), self.one(0.1, 0.3, 0.9))
        return found

    def source(self) -> dict[str, Any]:
        source = "cloudwatch" if self.chance(0.35) else "own"
        found: dict[str, Any] = {
            "source": source,
            "included": self.chance(0.4),
            "stated": self.chance(0.5),
            "totals": self.chance(0.5),
            "restated": self.chance(0.15),
        }
        if self.chance(0.5):
            first, length = self.one((0, 10_000), (self.when(), self.one(10, 30, 60)))
            found["gaps"] = self.one(*GAPS)
            found["gap"] = (first, length, self.one(0.1, 0.5, 0.9, 1.0))
        elif self.chance(0.1):
            found["hides"] = tuple(self.one("none", *GAPS) for _ in range(self.one(2, 5, 11)))
        if self.chance(0.3):
            # An own source keeps to the policy's promotion_metric_delay, CloudWatch to nothing.
            found["count_lag"] = self.one(0, 1, 2)
            found["error_lag"] = self.one(2, 3, 5) if source == "own" else self.one(2, 5, 8, 15)
        if self.chance(0.08):
            found["fails"] = (self.when(), self.one(5, 15, 40, 100))
        return found

    def time(self) -> dict[str, Any]:
        start, zone = datetime(2026, 1, 5, 9, tzinfo=UTC), "UTC"
        if self.chance(0.2):  # a day on which some clocks change
            zone = self.one("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
            days = ((3, 29), (10, 25), (3, 8), (11, 1), (4, 4), (10, 3))
            month, day = self.one(*days)
            start = datetime(2026, month, day, tzinfo=UTC)
            start += timedelta(minutes=self._rng.randrange(24 * 60))
        seconds = self.one(0, 0, 7, 31.5, 59)
        return {"started_at": start + timedelta(seconds=seconds), "zone": zone}

    def who_looks(self) -> dict[str, Any]:
        return {
            "every": self.one(1, 1, 2, 2, 5, 10, 15),
            "one_process": self.chance(0.6),
            "on_hold": (self.when(), self.one(5, 20, 60)) if self.chance(0.08) else None,
            "crash": self.chance(0.05),
            "ended": (self.when(), self.one("removed_outside", "replaced", "promoted_outside"))
            if self.chance(0.04)
            else None,
        }


def zone(scenario: Scenario) -> Any:
    """The time zone in which its source states times."""
    return UTC if scenario.zone == "UTC" else ZoneInfo(scenario.zone)
