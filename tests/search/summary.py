"""What many rollouts say together: single violations, and the two promises about shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from search.rollout import RULES, Run, run
from search.scenario import NOT_SHRUNK, Scenario, without

CHANCE = 1e-6
"""A promise counts as broken where so many failures have at most that chance under it. Dozens of
groups are looked at, each after every rollout, hence far below 0.05."""

HONEST = {"none", "lost", "no_baseline", "no_canary", "silence", "hide_requests"}


class Failure(NamedTuple):
    """A broken rule, and where to see it."""

    rule: str
    text: str
    found_in: Run
    runs: int
    """How many rollouts it took."""


class Promise(NamedTuple):
    """A group of rollouts of which no more than a share may end in a certain way."""

    rule: str
    group: str
    runs: int
    failed: int
    expected: float
    chance: float
    """Of so many failures or more, where each rollout fails with just the share promised."""


def failures(runs: Sequence[Run]) -> list[Failure]:
    """The first violation of each rule, of each cause."""
    found: dict[str, Failure] = {}
    for count, each in enumerate(runs, 1):
        for rule, _, percent, what in each.violations:
            key = f"{rule} {case_of(rule, each.scenario, percent)}"
            if key not in found:
                found[key] = Failure(rule, what, each, count)
    return list(found.values())


def case_of(rule: str, scenario: Scenario, percent: float) -> str:
    """The case of the project's list that a violation is an example of; "" for another."""
    if rule == "raises":
        return "A1"
    if scenario.gaps == "no_errors" and rule in {"promoted_plainly_bad", "upward_blind"}:
        return "A3"
    if percent == 100 and rule in {
        "upward_on_bad",
        "bad_is_kept",
        "promoted_plainly_bad",
    }:
        return "A4"
    if rule == "upward_blind":
        return "A5"
    if rule == "false_rollback" and scenario.limit is not None:
        return "A6"
    if rule == "silence_not_rolled_back":
        return "A7"
    if rule == "upward_in_outage":
        return "A8"
    return ""


def promises(runs: Iterable[Run]) -> list[Promise]:
    """Of each group: how many failed, and with what chance that is by chance."""
    groups: dict[tuple[str, str], _Count] = {}
    for each in runs:
        for key, allowed, failed in _told(each):
            groups.setdefault(key, _Count()).add(allowed, failed=failed)
    return [
        Promise(*key, count.runs, count.failed, count.expected, count.chance)
        for key, count in groups.items()
    ]


def broken(runs: Sequence[Run]) -> list[Failure]:
    """The first rollout with which each promise is broken."""
    groups: dict[tuple[str, str], _Count] = {}
    found: dict[tuple[str, str], Failure] = {}
    for number, each in enumerate(runs, 1):
        for key, allowed, failed in _told(each):
            count = groups.setdefault(key, _Count())
            count.add(allowed, failed=failed)
            if failed and key not in found and count.chance < CHANCE:
                text = (
                    f"{count.failed} of {count.runs} rollouts ({key[1]}), where "
                    f"{count.expected:.1f} are allowed: by chance in {count.chance:.1g}; "
                    f"the last: {each.reason}"
                )
                found[key] = Failure(key[0], text, each, number)
    return list(found.values())


class _Count:
    """Failures among rollouts, each of which may fail with its own chance."""

    def __init__(self) -> None:
        self.runs = self.failed = 0
        self.expected = 0.0

    def add(self, allowed: float, *, failed: bool) -> None:
        self.runs += 1
        self.failed += failed
        self.expected += allowed

    @property
    def chance(self) -> float:
        """At most (Chernoff's bound for a sum of independent indicators)."""
        if self.failed <= self.expected:
            return 1.0
        return math.exp(
            self.failed - self.expected - self.failed * math.log(self.failed / self.expected)
        )


def _told(each: Run) -> Iterator[tuple[tuple[str, str], float, bool]]:
    scenario = each.scenario
    if scenario.healthy:
        failed = each.ended == "rolled back by evidence"
        for group in _groups(scenario):
            yield ("false_rollback", group), scenario.false_rollback, failed
    elif is_worse_by_margin(scenario) and is_honest(scenario):
        failed = each.ended == "promoted"
        for group in _groups(scenario):
            yield ("false_promotion", group), scenario.false_promotion, failed


def is_worse_by_margin(scenario: Scenario) -> bool:
    """Whether the canary is worse by the margin or more in all its minutes."""
    if scenario.at_margin:
        return True
    if scenario.canary is None or scenario.onset > 0 or scenario.incident or scenario.jump:
        return False
    return scenario.canary >= scenario.tolerable


def is_honest(scenario: Scenario) -> bool:
    """Whether what is missing does not depend on the outcome, or is stated as unknown."""
    return {scenario.gaps, *scenario.hides} <= HONEST


def _groups(scenario: Scenario) -> Iterator[str]:
    yield "all"
    yield f"source {scenario.source}"
    yield f"gaps {'mixed' if scenario.hides else scenario.gaps}"
    shared = scenario.incident is not None or scenario.jump is not None
    limited = scenario.limit is not None
    if shared:
        yield "both variants fail"
    if limited:
        yield "with a limit"
    if limited and shared:
        yield "with a limit, and both variants fail"
        if scenario.requests <= 100:
            yield "with a limit, and both variants fail, up to 100 requests a minute"
    if scenario.restated:
        yield "restated minutes"
    if scenario.error_lag > 2:
        yield "errors later than counts"
    if scenario.with_4xx:
        yield "two signals"
    if scenario.steps[-1][0] == 100:
        yield "with a step at 100 %"
    if not scenario.stated:
        yield "overlap unknown"


def shrunk(failure: Failure) -> Scenario:
    """The dullest scenario, field by field, that still violates the rule."""
    scenario = failure.found_in.scenario
    if failure.rule not in RULES:
        return scenario
    for name in scenario.differences():
        if name in NOT_SHRUNK:
            continue
        duller = without(scenario, (name,))
        if failure.rule in {violation.rule for violation in run(duller).violations}:
            scenario = duller
    return scenario
