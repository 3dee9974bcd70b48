"""How many AWS calls each operation makes, counted; the manual shows this table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from acting import V2, fresh, sent, serving

from apigw_canary import Canary, RolloutPolicy, Stage
from apigw_canary.testing import Rehearsal, rehearsal

PAGE = Path(__file__).parent.parent / "docs" / "calls.md"
POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))


def canary_of(aws: Rehearsal) -> Canary:
    found = fresh(aws).canary()
    assert found is not None
    return found


def enabled(aws: Rehearsal) -> Canary:
    return aws.stage.enable_canary(5, release="r1", variables=V2)


def of_variables(aws: Rehearsal) -> Canary:
    return aws.stage.enable_canary(5, release="r1", variables=V2, deployment_id=serving(aws)[0])


def promoted(aws: Rehearsal) -> Stage:
    enabled(aws).promote()
    return fresh(aws)


def observed(aws: Rehearsal) -> Canary:
    canary = enabled(aws)
    canary.observe(POLICY)
    return canary


# What it is called in the manual, the most calls it may make, what is there before, what is done.
ROWS: list[tuple[str, int, Callable[[Rehearsal], Callable[[], object]]]] = [
    ("`stage.describe()`", 2, lambda aws: fresh(aws).describe),
    ("`stage.enable_canary(…)`", 4, lambda aws: lambda: enabled(aws)),
    ("the same, of variables only", 4, lambda aws: lambda: of_variables(aws)),
    ("the same line again", 2, lambda aws: (enabled(aws), lambda: enabled(aws))[1]),
    ("`stage.canary()`", 2, lambda aws: (enabled(aws), fresh(aws).canary)[1]),
    ("`canary.observe(policy)`, first", 4, lambda aws: lambda c=enabled(aws): c.observe(POLICY)),
    ("the same, later", 2, lambda aws: lambda c=observed(aws): c.observe(POLICY)),
    ("`canary.shift(percent)`", 2, lambda aws: lambda c=enabled(aws): c.shift(25)),
    ("`canary.promote()`", 5, lambda aws: enabled(aws).promote),
    ("the same, of variables only", 5, lambda aws: of_variables(aws).promote),
    ("`canary.rollback()`", 3, lambda aws: enabled(aws).rollback),
    ("the same, of variables only", 3, lambda aws: of_variables(aws).rollback),
    ("`stage.rollback()`", 3, lambda aws: (enabled(aws), fresh(aws).rollback)[1]),
    ("`stage.revert()`", 4, lambda aws: promoted(aws).revert),
]


def counted(prepare: Callable[[Rehearsal], Callable[[], object]]) -> list[str]:
    with rehearsal() as aws:
        act = prepare(aws)
        before = len(aws.calls)
        act()
        return sent(aws)[before:]


@pytest.mark.parametrize("name, most, prepare", ROWS)
def test_calls(name: str, most: int, prepare: Callable[[Rehearsal], Callable[[], object]]) -> None:
    """No operation makes more calls than the manual promises, on an API of up to 500 deployments."""
    assert len(counted(prepare)) <= most


def test_the_manual_shows_the_calls() -> None:
    """The manual's table is what is counted."""
    table = [
        f"| {name} | {len(calls)} | {', '.join(calls)} |"
        for name, _, prepare in ROWS
        if (calls := counted(prepare))
    ]
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] != "|--"]
    assert [line for line in shown if line.startswith("|")][1:] == table, "\n".join(table)
