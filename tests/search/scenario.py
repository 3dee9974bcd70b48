"""One rollout, drawn from a seed: traffic, canary, source, policy, and who looks how often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal
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
    def margin(self) -> float:
        """Of errors_5xx, the default."""
        return 0.005

    @property
    def healthy(self) -> bool:
        """Whether the canary fares exactly as the baseline does."""
        return self.canary is None and not self.at_margin

    @property
    def tolerable(self) -> float:
        """The rate from which on a canary is worse by the margin, without incidents."""
        return self.ratio * self.base + self.margin

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
    return attrs.evolve(scenario, **{name: fields[name].default for name in names})


def drawn(seed: int) -> Scenario:
    """The rollout of a seed."""
    rng = Random(f"rollout {seed}")
    chance = lambda part: rng.random() < part  # noqa: E731
    requests = 10 ** rng.uniform(0, 6)
    base = rng.choice((0.0, 1e-5, 0.001, 0.001, 0.001, 0.01, 0.05, 0.3))
    steps = _steps(rng)
    length = sum(bake for _, bake in steps)
    ratio = rng.choice((1.1, 1.1, 1.1, 1.0, 1.5))
    source: Any = "cloudwatch" if chance(0.35) else "own"
    when = lambda: rng.randrange(max(length, 2) + 15)  # noqa: E731
    fields: dict[str, Any] = {
        "seed": seed,
        "requests": requests,
        "base": base,
        "base_4xx": rng.choice((0.01, 0.0, 0.1)),
        "steps": steps,
        "ratio": ratio,
        "source": source,
        "daily": rng.choice((0.0, 0.0, 0.8)),
        "included": chance(0.4),
        "stated": chance(0.5),
        "totals": chance(0.5),
        "restated": chance(0.15),
        "with_4xx": chance(0.3),
        "limit": rng.choice((0.02, 0.05, 0.1)) if chance(0.25) else None,
        "false_rollback": rng.choice((0.05, 0.05, 0.01, 0.1)),
        "false_promotion": rng.choice((0.05, 0.05, 0.01)),
        "deadline": max(length, 1) * rng.choice((1, 2, 4)) + rng.choice((0, 30, 60)),
        "on_inconclusive": "hold" if chance(0.3) else "rollback",
        "max_unobserved": rng.choice((10, 20, 30)),
        "every": rng.choice((1, 1, 2, 2, 5, 10, 15)),
        "one_process": chance(0.6),
        "no_history": chance(0.1),
    }
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    if chance(0.2):
        fields["zone"] = rng.choice(("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"))
        start = datetime(2026, *rng.choice(((3, 29), (10, 25), (3, 8), (11, 1), (4, 4), (10, 3))), tzinfo=UTC)
        start += timedelta(minutes=rng.randrange(24 * 60))
    fields["started_at"] = start + timedelta(seconds=rng.choice((0, 0, 7, 31.5, 59)))
    # The canary.
    tolerable = ratio * base + 0.005
    kind = rng.choice(("healthy", "healthy", "healthy", "margin", "bad", "bad", "bad", "gross", "gross"))
    if kind == "margin":
        fields["at_margin"] = True
    elif kind == "bad":
        fields["canary"] = min(tolerable * rng.choice((1.5, 3.0, 10.0)) + rng.choice((0, 0.02, 0.06)), 1.0)
    elif kind == "gross":
        fields["canary"] = min(max(rng.choice((0.3, 0.6, 1.0)), tolerable + 0.06), 1.0)
    if kind in {"bad", "gross"} and chance(0.5):
        last = sum(bake for _, bake in steps[:-1]) if steps[-1][0] == 100 else 0
        fields["onset"] = last + rng.randrange(steps[-1][1]) + 5 if chance(0.5) else when()
    if fields["limit"] is not None and chance(0.5):  # both variants exceed it, for long
        fields["requests"] = 10 ** rng.uniform(0.7, 3)
        fields["incident"] = (rng.randrange(6), rng.choice((40, 60)), rng.choice((0.15, 0.3)))
    elif chance(0.25):
        fields["incident"] = (when(), rng.choice((3, 8, 15, 40)), rng.choice((0.03, 0.1, 0.3)))
    if chance(0.08):
        fields["jump"] = (rng.choice((0, 0, when())), rng.choice((0.1, 0.3, 0.9)))
    if chance(0.05):
        fields["stops"] = when()
    # The source.
    if chance(0.5):
        fields["gaps"] = rng.choice(GAPS)
        begin, length = (0, 10_000) if chance(0.5) else (when(), rng.choice((10, 30, 60)))
        fields["gap"] = (begin, length, rng.choice((0.1, 0.5, 0.9, 1.0)))
    if chance(0.3):
        fields["count_lag"] = rng.choice((0, 1, 2))
        fields["error_lag"] = rng.choice((2, 3, 5))
        if source == "cloudwatch":
            fields["error_lag"] = rng.choice((2, 5, 8, 15))
    if chance(0.08):
        fields["fails"] = (when(), rng.choice((5, 15, 40, 100)))
    if chance(0.1):
        fields["alarm"] = (when(), rng.choice(("ALARM", "INSUFFICIENT_DATA")))
    if chance(0.08):
        fields["on_hold"] = (when(), rng.choice((5, 20, 60)))
    fields["crash"] = chance(0.05)
    if chance(0.04):
        fields["ended"] = (when(), rng.choice(("removed", "replaced", "promoted_elsewhere")))
    return Scenario(**fields)


def _steps(rng: Random) -> tuple[tuple[float, int], ...]:
    percents = rng.choice(
        ((10,), (50,), (1,), (5, 25, 50), (10, 50), (20, 60), (50, 100), (90,), (90, 100), (10, 100), (5, 50, 100), (33.3, 66.6, 100))
    )
    bake = rng.choice((3, 5, 10, 15))
    steps = [(float(percent), bake) for percent in percents]
    if percents[-1] == 100:
        steps[-1] = (100.0, rng.choice((10, 20, 30, 40)))
    return tuple(steps)


def zone(scenario: Scenario) -> Any:
    """The time zone in which its source states times."""
    return UTC if scenario.zone == "UTC" else ZoneInfo(scenario.zone)
