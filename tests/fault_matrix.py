"""Every operation, every AWS call in it, every fault: what becomes of it, and of the second try.

`python tests/fault_matrix.py` prints the matrix.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from acting import V2, fresh, sent, serving, untrue
from apigw_canary import CanaryError, RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError
from apigw_canary.testing import Fault, ProcessDeath, Rehearsal, rehearsal
from apigw_canary.testing.wire import simulated_session

QUIET: dict[str, Any] = {"requests_per_minute": 1, "history": timedelta(0)}

POLICY = RolloutPolicy.canary(5, timedelta(minutes=10))
ALARMED = RolloutPolicy.canary(5, timedelta(minutes=10), alarms=["errors"])

FAULTS = [
    *((fault, False) for fault in Fault),
    # What is carried out, and the answer lost.
    (Fault.TIMEOUT, True),
    (Fault.INTERNAL_ERROR, True),
    (Fault.UNAVAILABLE, True),
    (Fault.DEATH, True),
]

Serving = tuple[str, dict[str, str], Any]


class Operation(NamedTuple):
    """One line of a user's script, and what it asks for."""

    name: str
    prepare: Callable[[Rehearsal], object]
    line: Callable[[Stage], object]
    asked: Callable[[Serving, Serving], bool]
    """Of what the stage served before and serves now."""
    moves_production: bool = False


def running(aws: Rehearsal) -> None:
    aws.sleep(60)
    aws.stage.enable_canary(5, release="r1", variables=V2)
    aws.sleep(60)


def on_hold(aws: Rehearsal) -> None:
    running(aws)
    with_canary("hold", "a freeze")(aws.stage)


def running_with_alarm(aws: Rehearsal) -> None:
    """An alarm that has changed since the start, so that its history is read."""
    running(aws)
    aws.alarm("errors")


def running_variables_only(aws: Rehearsal) -> None:
    aws.sleep(60)
    own = serving(aws)[0]
    aws.stage.enable_canary(5, release="r1", variables=V2, deployment_id=own)
    aws.sleep(60)


def promoted(aws: Rehearsal) -> None:
    running(aws)
    canary = aws.stage.canary()
    assert canary is not None
    canary.promote()


def promoted_variables_only(aws: Rehearsal) -> None:
    running_variables_only(aws)
    canary = aws.stage.canary()
    assert canary is not None
    canary.promote()


def with_canary(verb: str, *arguments: Any) -> Callable[[Stage], object]:
    def line(stage: Stage) -> None:
        canary = stage.canary()
        if canary is not None:
            getattr(canary, verb)(*arguments)

    return line


def enable(stage: Stage) -> object:
    return stage.enable_canary(5, release="r1", variables=V2)


def enable_variables_only(stage: Stage) -> object:
    own = stage.describe().deployment_id
    return stage.enable_canary(5, release="r1", variables=V2, deployment_id=own)


def release_at_once(stage: Stage) -> object:
    """A whole script: run again, it must not release twice."""
    try:
        return enable_and_promote(stage)
    except RolloutEndedError as ended:
        if ended.outcome != "promoted":
            raise
        return ended


def enable_and_promote(stage: Stage) -> object:
    return stage.enable_canary(5, release="r1", variables=V2).promote()


def canary_at(percent: float) -> Callable[[Serving, Serving], bool]:
    return lambda _, now: now[2] is not None and now[2]["percentTraffic"] == percent


def gone(before: Serving, now: Serving) -> bool:
    return now == (*before[:2], None)


def is_v2(_: Serving, now: Serving) -> bool:
    return now[1:] == (V2, None)


def is_v1(_: Serving, now: Serving) -> bool:
    return now[1:] == ({"alias": "v1"}, None)


def same(before: Serving, now: Serving) -> bool:
    return now == before


OPERATIONS = [
    Operation("describe", running, lambda stage: stage.describe(), same),
    Operation("enable", lambda aws: aws.sleep(60), enable, canary_at(5)),
    Operation(
        "enable, variables only", lambda aws: aws.sleep(60), enable_variables_only, canary_at(5)
    ),
    Operation("enable again", running, enable, same),
    Operation("observe", running, with_canary("observe", POLICY), same),
    Operation("observe, alarms", running_with_alarm, with_canary("observe", ALARMED), same),
    Operation("shift", running, with_canary("shift", 25), canary_at(25)),
    Operation("pause", running, with_canary("shift", 0), canary_at(0)),
    Operation("hold", running, with_canary("hold", "a freeze"), same),
    Operation("resume", on_hold, with_canary("resume"), same),
    Operation("accept", running, with_canary("accept_production_changes"), same),
    Operation("promote", running, with_canary("promote"), is_v2, moves_production=True),
    Operation(
        "promote, variables only",
        running_variables_only,
        with_canary("promote"),
        is_v2,
        moves_production=True,
    ),
    Operation("roll back", running, with_canary("rollback"), gone),
    Operation("roll back, variables only", running_variables_only, with_canary("rollback"), gone),
    Operation("disable", running, with_canary("disable"), gone),
    Operation("stage.rollback", running, lambda stage: stage.rollback(), gone),
    Operation("revert", promoted, lambda stage: stage.revert(), is_v1, moves_production=True),
    Operation(
        "revert, variables only",
        promoted_variables_only,
        lambda stage: stage.revert(),
        is_v1,
        moves_production=True,
    ),
    Operation(
        "release at once",
        lambda aws: aws.sleep(60),
        release_at_once,
        is_v2,
        moves_production=True,
    ),
]


class Case(NamedTuple):
    operation: Operation
    call: str
    nth: int
    fault: Fault
    after: bool
    unsettled: int | None = None
    """From which GetStage on reading fails too; None: it does not."""

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        then = "" if self.unsettled is None else ", and reading fails too"
        return f"{self.operation.name}: {self.fault} {when} {self.call} no. {self.nth + 1}{then}"


class Result(NamedTuple):
    first: str
    """How the first try ended: "ok", "death", or the error's name."""
    second: str
    """How the same line ended in another process, without a fault."""
    wrong: str
    """What must not be; empty where all is as it must be."""


@contextmanager
def prepared(operation: Operation) -> Iterator[Rehearsal]:
    """What an operation needs, once for all of its cases: each uses a copy."""
    with rehearsal(**QUIET) as aws:
        operation.prepare(aws)
        yield aws


def copied(aws: Rehearsal) -> Rehearsal:
    """A rehearsal that goes on by itself from here, without queries of logs."""
    other = object.__new__(Rehearsal)
    anew = {"_lock": threading.RLock(), "calls": [*aws.calls]}
    state = {
        name: value for name, value in vars(aws).items() if name not in {*anew, "session", "stages"}
    }
    vars(other).update(anew, **copy.deepcopy(state, {id(aws): other}))
    other.session = simulated_session(other._dispatch, other.now, other._gateway._rng)
    return other


def cases(operation: Operation, ready: Rehearsal) -> Iterator[Case]:
    """Every fault at every call that the operation makes when nothing goes wrong."""
    aws = copied(ready)
    operation.line(fresh(aws))
    made = sent(aws)[len(ready.calls) :]
    for i, call in enumerate(made):
        for fault, after in FAULTS:
            yield Case(operation, call, made[:i].count(call), fault, after)
            if call == "UpdateStage" and fault is not Fault.DEATH:
                reads = made[:i].count("GetStage")
                yield Case(operation, call, made[:i].count(call), fault, after, reads)


def run(case: Case, ready: Rehearsal) -> Result:
    """Runs the line with the fault, then again, by another process, without."""
    operation, aws = case.operation, copied(ready)
    before = serving(aws)
    aws.fail(case.call, case.fault, skip=case.nth, after=case.after)
    if case.unsettled is not None:
        aws.fail("GetStage", Fault.ACCESS_DENIED, skip=case.unsettled)
    first, error = attempt(aws, operation)
    aws._interruptions._pending.clear()
    between = serving(aws)
    wrong = []
    if not operation.moves_production and between[:2] != before[:2]:
        wrong.append("production was changed")
    if first == "ok" and not operation.asked(before, between):
        wrong.append("success was told, and the stage is not as asked")
    if error is not None and not (error.state or error.remedy):
        wrong.append(f"the error says neither state nor remedy: {error}")
    if error is not None and (false := untrue(aws, error)):
        wrong.append(false)
    aws.sleep(5)
    second, error = attempt(aws, operation)
    now = serving(aws)
    if second == "ok" and not operation.asked(before, now):
        wrong.append(f"the second try left {now}")
    if error is not None and not (error.state and error.remedy):
        wrong.append(f"the second error says not both state and remedy: {error}")
    if error is not None and (false := untrue(aws, error)):
        wrong.append(false)
    if not operation.moves_production and now[:2] != before[:2]:
        wrong.append("production was changed by the second try")
    return Result(first, second, "; ".join(wrong))


def attempt(aws: Rehearsal, operation: Operation) -> tuple[str, CanaryError | None]:
    try:
        operation.line(fresh(aws))
    except ProcessDeath:
        return "death", None
    except CanaryError as error:
        return type(error).__name__, error
    return "ok", None


def main() -> None:
    """Print a row for each operation: cases, and how first and second try ended."""
    total, second_errors, failed = 0, 0, 0
    print("| operation | cases | first try | the same line again |")
    print("|---|---|---|---|")
    for operation in OPERATIONS:
        with prepared(operation) as ready:
            results = [run(case, ready) for case in cases(operation, ready)]
        wrong = [result for result in results if result.wrong]
        first = Counter(result.first for result in results)
        second = Counter(result.second for result in results)
        total += len(results)
        failed += len(wrong)
        second_errors += sum(n for name, n in second.items() if name != "ok")
        shown = [
            ", ".join(f"{name} {count}" for name, count in tally.most_common())
            for tally in (first, second)
        ]
        print(f"| {operation.name} | {len(results)} | {shown[0]} | {shown[1]} |")
        for result in wrong:
            print(f"WRONG: {result}")
    print(
        f"\n{total} cases; the same line again ended as asked in "
        f"{total - second_errors}. Not as it must be: {failed}."
    )


if __name__ == "__main__":
    main()
