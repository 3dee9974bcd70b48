"""How many AWS calls each operation makes, counted; the manual shows this table."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from acting import V2, fresh, sent, serving
from apigw_canary import AccessLogs, AliasCanary, Canary, RolloutPolicy, Stage
from apigw_canary.testing import Backend, Rehearsal, rehearsal

PAGE = Path(__file__).parent.parent / "docs" / "aws-calls.md"
POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))
ALARMED = RolloutPolicy.canary(5, timedelta(minutes=10), alarms=["errors"])


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


def comparable(canary: Any, aws: Rehearsal) -> Callable[[], object]:
    aws.sleep(1200)
    return cast("Callable[[], object]", canary.compare)


def logging(aws: Rehearsal) -> Canary:
    stage = fresh(aws, metrics=AccessLogs())
    return stage.enable_canary(5, release="r1", variables=V2)


def logged(aws: Rehearsal) -> Canary:
    canary = logging(aws)
    canary.observe(POLICY)
    return canary


def alarmed(aws: Rehearsal, *, changed: bool = False) -> Callable[[], object]:
    aws.alarm("errors")
    aws.sleep(60)
    canary = observed(aws)
    if changed:
        aws.alarm("errors", "INSUFFICIENT_DATA")
    return lambda: canary.observe(ALARMED)


def again(aws: Rehearsal) -> Callable[[], object]:
    enabled(aws)
    return lambda: enabled(aws)


def with_canary(verb: str) -> Callable[[Rehearsal], Callable[[], object]]:
    """A method of a stage that another process finds with a canary."""

    def prepare(aws: Rehearsal) -> Callable[[], object]:
        enabled(aws)
        return cast("Callable[[], object]", getattr(fresh(aws), verb))

    return prepare


def weighted(aws: Rehearsal) -> AliasCanary:
    return aws.alias("v1").enable_canary(5, release="r1", version="2")


def with_weights(
    verb: str, *arguments: Any, **named: Any
) -> Callable[[Rehearsal], Callable[[], object]]:
    """A method of an alias that another process finds with a canary."""

    def prepare(aws: Rehearsal) -> Callable[[], object]:
        weighted(aws)
        return partial(getattr(aws.alias("v1"), verb), *arguments, **named)

    return prepare


def promoted_alias(aws: Rehearsal) -> Callable[[], object]:
    weighted(aws).promote()
    return aws.alias("v1").revert


# What it is called in the manual, the most calls it may make, and what prepares it.
ROWS: list[tuple[str, int, Callable[[Rehearsal], Callable[[], object]]]] = [
    ("`stage.describe()`", 2, lambda aws: fresh(aws).describe),
    ("`stage.enable_canary(…)`", 9, lambda aws: partial(enabled, aws)),
    ("the same, of variables only", 8, lambda aws: partial(of_variables, aws)),
    ("the same line again", 2, again),
    ("`stage.check()`", 3, lambda aws: fresh(aws).check),
    ("`stage.check(percent)`", 8, lambda aws: partial(fresh(aws).check, 5)),
    (
        "`stage.check(policy=policy)`",
        13,
        lambda aws: partial(fresh(aws).check, policy=POLICY),
    ),
    (
        "`stage.smoke_test(…)` of two requests",
        4,
        lambda aws: partial(fresh(aws).smoke_test, ["GET /orders", "GET /orders/1"]),
    ),
    ("`stage.canary()`", 2, with_canary("canary")),
    ("`canary.observe(policy)`, first", 6, lambda aws: partial(enabled(aws).observe, POLICY)),
    ("the same, later", 3, lambda aws: partial(observed(aws).observe, POLICY)),
    ("the same with alarms, up to 100 of them", 4, alarmed),
    ("the same, if one has changed and is not in alarm", 5, partial(alarmed, changed=True)),
    ("the same of access logs, first", 9, lambda aws: partial(logging(aws).observe, POLICY)),
    ("the same, later", 5, lambda aws: partial(logged(aws).observe, POLICY)),
    ("`canary.compare()`, first", 4, lambda aws: comparable(enabled(aws), aws)),
    ("`canary.failures()`", 5, lambda aws: enabled(aws).failures),
    (
        "the same of execution logs",
        6,
        lambda aws: partial(enabled(aws).failures, source="execution"),
    ),
    ("`stage.log_groups()`", 5, with_canary("log_groups")),
    ("`canary.shift(percent)`", 2, lambda aws: partial(enabled(aws).shift, 25)),
    ("`canary.promote()`", 10, lambda aws: enabled(aws).promote),
    ("the same, of variables only", 10, lambda aws: of_variables(aws).promote),
    ("`canary.rollback()`", 7, lambda aws: enabled(aws).rollback),
    ("the same, of variables only", 7, lambda aws: of_variables(aws).rollback),
    ("`stage.rollback()`", 7, with_canary("rollback")),
    ("`stage.clean_up()`, nothing to delete", 2, lambda aws: fresh(aws).clean_up),
    ("`stage.revert()`", 8, lambda aws: promoted(aws).revert),
    ("`alias.describe()`", 1, lambda aws: aws.alias("v1").describe),
    ("`alias.enable_canary(…)`", 4, lambda aws: partial(weighted, aws)),
    ("the same line again", 1, with_weights("enable_canary", 5, release="r1", version="2")),
    ("`alias.canary()`", 1, with_weights("canary")),
    ("`canary.compare()` of an alias", 2, lambda aws: comparable(weighted(aws), aws)),
    (
        "`canary.observe(policy)` of an alias, first",
        3,
        lambda aws: partial(weighted(aws).observe, POLICY),
    ),
    ("`canary.shift(percent)` of an alias", 2, lambda aws: partial(weighted(aws).shift, 25)),
    ("`canary.promote()` of an alias", 2, lambda aws: weighted(aws).promote),
    ("`canary.rollback()` of an alias", 2, lambda aws: weighted(aws).rollback),
    ("`alias.rollback()`", 2, with_weights("rollback")),
    ("`alias.revert()`", 3, promoted_alias),
]


def counted(prepare: Callable[[Rehearsal], Callable[[], object]]) -> list[str]:
    with rehearsal(versions=[Backend(), Backend()], execution_logs="INFO") as aws:
        act = prepare(aws)
        before = len(aws.calls)
        act()
        return sent(aws)[before:]


@pytest.mark.long
@pytest.mark.parametrize("name, most, prepare", ROWS)
def test_calls(name: str, most: int, prepare: Callable[[Rehearsal], Callable[[], object]]) -> None:
    """No operation makes more calls than promised, on an API of up to 500 deployments."""
    assert len(counted(prepare)) <= most


@pytest.mark.long
def test_the_manual_shows_the_calls() -> None:
    """The manual's table is what is counted."""
    table = [
        f"| {name} | {len(calls)} | {', '.join(calls)} |"
        for name, _, prepare in ROWS
        if (calls := counted(prepare))
    ]
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.search(r" \| \d+ \| ", line)] == table, "\n".join(table)
