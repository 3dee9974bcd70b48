"""The manual's loops run as operating-system processes against one served rehearsal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import boto3
import pytest
from moto import mock_aws

import served_processes as processes
from apigw_canary import Minute, Signal, Stage, StageState
from apigw_canary.testing import (
    Backend,
    Conditions,
    Fault,
    Rehearsal,
    rehearsal,
)

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

V1, V2 = {"alias": "v1"}, {"alias": "v2"}
BAD = {"alias=v2": Backend(errors_5xx=0.1)}
MACHINE = (processes.EXAMPLES / "rollout.asl.json").read_text(encoding="utf-8")


Forker = subprocess.Popen[str]


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    """The process that all others of these tests are forked from."""
    with processes.forker() as process:
        yield process


@pytest.mark.parametrize("bad", [False, True])
def test_processes_killed_at_any_call(forker: Forker, bad: bool) -> None:
    """Whichever processes die, and at which call, the rollout ends as one that nobody disturbs.

    `make kills` runs thirty of them, with 20 processes a minute.
    """
    killed = processes.run(forker, int(bad), bad=bad, processes=3)
    assert killed.kills
    assert killed.errors == []
    if bad:
        assert killed.end == processes.End("rolled_back", False, "old", V1)
    else:
        assert killed.end == processes.End("promoted", False, "new", V2)


@pytest.mark.parametrize("after", [False, True])
def test_processes_killed_inside_a_promotion(forker: Forker, after: bool) -> None:
    """A process dies at the copies of its promotion: the next one finishes it."""
    kill: processes.Chosen = "after copies" if after else "before copies"
    ended = processes.run(forker, 0, bad=False, processes=1, kill=kill)
    assert [(each.copies, each.after) for each in ended.kills] == [(True, after)]
    assert ended.end == processes.End("promoted", False, "new", V2)


def test_two_stages_side_by_side(forker: Forker) -> None:
    """The same release is promoted on one stage while it is rolled back on the other."""

    def bad_in_beta(now: Conditions) -> Backend:
        return Backend(errors_5xx=0.1 if now.stage == "beta" else 0.001)

    with (
        rehearsal(backends={"alias=v2": bad_in_beta}, stages={"beta": 1000}) as aws,
        aws.serve() as server,
    ):
        forked = processes.Forks(forker, server)
        outcomes: dict[str, str] = {}
        for _ in range(20):
            for stage in aws.stages.keys() - outcomes.keys():
                event = {"rest_api_id": aws.rest_api_id, "stage": stage}
                (look,) = forked.run("every_minute", {**event, "release": processes.RELEASE})
                assert look["exit"] == 0, look
                if "outcome" in look["said"]:
                    outcomes[stage] = look["said"]["outcome"]
            aws.sleep(60)
        assert outcomes == {"prod": "promoted", "beta": "rolled_back"}
        assert [dict(stage.describe().variables) for stage in aws.stages.values()] == [V2, V1]


def _script(name: str, rest_api_id: str, folder: Path) -> Path:
    """An example, for this API."""
    text = (processes.EXAMPLES / name).read_text(encoding="utf-8")
    (folder / name).write_text(text.replace("a1b2c3d4e5", rest_api_id), encoding="utf-8")
    return folder / name


def _ci_jobs(
    folder: Path, jobs: Sequence[tuple[float, str]], **options: Any
) -> tuple[list[tuple[int, str]], dict[str, str]]:
    """Exit codes and outcomes of jobs, each after that many minutes; production's variables."""
    ended = []
    with rehearsal(**options) as aws, aws.serve() as server:
        script = _script("ci_job.py", aws.rest_api_id, folder)
        for minutes, job in jobs:
            aws.sleep(60 * minutes)
            done = subprocess.run(
                [sys.executable, "-W", "error", script, *job.split()],
                env={**os.environ, **server.environment, "GITHUB_OUTPUT": "outcomes"},
                cwd=folder,
                stdout=subprocess.PIPE,
                check=False,
                timeout=60,
            )
            outcome = (folder / "outcomes").read_text(encoding="utf-8").splitlines()[-1]
            ended.append((done.returncode, outcome.removeprefix("outcome=")))
        return ended, dict(aws.stage.describe().variables)


DECIDE, APPLY = "decide 2026-11-23.1 decision.json", "apply decision.json"


def test_ci_jobs_promote(tmp_path: Path) -> None:
    """Each job is a process: it goes on, waits for an approval, and is told of the end."""
    late = [(90, APPLY), (0, DECIDE)]
    jobs = [(0, DECIDE), (40, DECIDE), *late, (5, APPLY), (0, DECIDE)]
    ended, variables = _ci_jobs(tmp_path, jobs)
    assert ended == [
        (0, "going_on"),
        (0, "needs_approval"),
        (2, "decide_again"),  # the approval came after the decision's lifetime
        (0, "needs_approval"),
        (0, "promoted"),
        (0, "promoted"),
    ]
    assert variables == V2


def test_ci_jobs_roll_back(tmp_path: Path) -> None:
    """A bad release is rolled back without an approval, and stays so."""
    ended, variables = _ci_jobs(tmp_path, [(0, DECIDE), (30, DECIDE), (1, DECIDE)], backends=BAD)
    assert ended == [(0, "going_on"), (1, "rolled_back"), (1, "rolled_back")]
    assert variables == V1


class Execution(NamedTuple):
    status: str
    error: str
    cause: str
    output: dict[str, Any]
    events: Counter[str]
    minutes: float


Handler = Callable[[dict[str, Any]], Any]


@contextmanager
def _interpreter(handler: Handler, sleep: Callable[[float], None]) -> Iterator[Any]:
    """Step Functions of moto, whose Lambda functions are `handler`, and whose time is `sleep`'s."""
    from moto.awslambda_simple.models import LambdaSimpleBackend
    from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
    from moto.stepfunctions.parser.asl.component.state.wait.wait_function import wait_function

    def invoke(*arguments: Any) -> bytes:
        _backend, _name, _qualifier, body, _headers, answered = arguments
        try:
            return json.dumps(handler(json.loads(body))).encode()
        except Exception as error:  # noqa: BLE001 - as Lambda answers it
            answered["x-amz-function-error"] = "Unhandled"
            said = {"errorMessage": str(error), "errorType": type(error).__name__}
            return json.dumps({**said, "stackTrace": []}).encode()

    with (
        mock.patch.object(LambdaSimpleBackend, "invoke", invoke),
        mock.patch.object(
            wait_function.WaitFunction,
            "_wait_interval",
            lambda self, env, wait_seconds: sleep(wait_seconds),
        ),
        mock.patch.object(retrier_decl, "time", SimpleNamespace(sleep=sleep)),
    ):
        yield boto3.client("stepfunctions", region_name="eu-central-1")


def _executed(aws: Rehearsal, handler: Handler, machine: str = MACHINE) -> Execution:
    """rollout.asl.json, executed by moto's interpreter of the states language."""
    begun = aws.now()
    with _interpreter(handler, aws.sleep) as states:
        made = states.create_state_machine(
            name="rollout", definition=machine, roleArn="arn:aws:iam::123456789012:role/r"
        )
        given = {"rest_api_id": aws.rest_api_id, "stage": "prod", "release": "2026-11-23.1"}
        arn = states.start_execution(
            stateMachineArn=made["stateMachineArn"], input=json.dumps(given)
        )["executionArn"]
        given_up = time.monotonic() + 120
        while (done := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < given_up, "the execution does not end"
            time.sleep(0.02)  # the interpreter has a thread of its own
        pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = Counter(event["type"] for page in pages for event in page["events"])
        states.delete_state_machine(stateMachineArn=made["stateMachineArn"])
    return Execution(
        done["status"],
        done.get("error", ""),
        done.get("cause", ""),
        json.loads(done.get("output", "{}")),
        events,
        (aws.now() - begun).total_seconds() / 60,
    )


@contextmanager
def _rehearsed(**options: Any) -> Iterator[Rehearsal]:
    configured: Any = {
        "stepfunctions": {"execute_state_machine": True},
        "lambda": {"use_docker": False},
    }
    # The rehearsal's own mock_aws is within this one, and inherits how it is configured.
    with mock_aws(config=configured), rehearsal(**options) as aws:
        yield aws


def _in_process(aws: Rehearsal, **options: Any) -> Handler:
    """The example's look, which moves the virtual clock where it waits."""
    with mock.patch.object(sys, "path", [str(processes.EXAMPLES), *sys.path]):
        import step_functions

    def handler(event: dict[str, Any]) -> Any:
        stage = Stage(
            event["rest_api_id"], event["stage"], session=aws.session, sleep=aws.sleep, **options
        )
        return step_functions.look(stage, event)

    return handler


@pytest.mark.parametrize("bad", [False, True])
def test_state_machine_of_processes(forker: Forker, bad: bool) -> None:
    """The whole example but for a shorter policy: each look is a process of its own."""
    with (
        _rehearsed(backends=BAD if bad else {}) as aws,
        aws.serve() as server,
    ):
        forks = processes.Forks(forker, server)

        def handler(event: dict[str, Any]) -> Any:
            (done,) = forks.run("step_functions", event)
            assert done["exit"] == 0, done
            return done["said"]

        execution = _executed(aws, handler)
        state = aws.stage.describe()
    assert state.canary is None
    assert dict(state.variables) == (V1 if bad else V2)
    if bad:
        assert execution[:3] == ("FAILED", "NotPromoted", "rollback")
    else:
        assert execution[:2] == ("SUCCEEDED", "")
        assert execution.output["outcome"] == "promote"
    assert execution.events["TaskSucceeded"] == execution.events["WaitStateEntered"] + 1 > 3


def test_state_machine_promotes_once() -> None:
    """An execution that is started again for a release ends in the same state at once."""
    with _rehearsed() as aws:
        first, again = (_executed(aws, _in_process(aws)) for _ in range(2))
    assert (first.status, first.output["outcome"]) == ("SUCCEEDED", "promote")
    assert (again.status, again.output["outcome"]) == ("SUCCEEDED", "promoted")
    assert again.events["TaskSucceeded"] == 1
    assert again.minutes < 1


def test_state_machine_retries() -> None:
    """A look that fails is repeated after half a minute, and the rollout goes on."""
    with _rehearsed() as aws:
        for skip in range(40):
            aws.fail("GetStage", Fault.INTERNAL_ERROR, skip=skip)
        execution = _executed(aws, _in_process(aws))
    assert execution.status == "SUCCEEDED"
    assert execution.events["TaskFailed"] >= 1


def test_state_machine_gives_up_where_no_retry_helps() -> None:
    """Without permission the execution fails at once, with the library's error as its own."""
    with _rehearsed(allow={"Version": "2012-10-17", "Statement": []}) as aws:
        execution = _executed(aws, _in_process(aws))
    assert (execution.status, execution.error) == ("FAILED", "AccessDeniedError")
    assert execution.events["TaskFailed"] == 1
    assert execution.minutes == 0


class _Failing:
    """A source that works for ten minutes of the rollout, and then fails."""

    def __init__(self, aws: Rehearsal) -> None:
        self.aws = aws
        self.began = aws.now()

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> dict[str, list[Minute]]:
        if (self.aws.now() - self.began).total_seconds() > 600:
            raise OSError("gone")
        return {signal.name: [Minute(self.began, 400, 0, 20, 0)] for signal in signals}


def test_state_machine_remembers_when_metrics_were_seen() -> None:
    """Although each look is a process of its own, a source that fails ends in a rollback."""
    with _rehearsed() as aws:
        execution = _executed(aws, _in_process(aws, metrics=_Failing(aws)))
        assert execution[:3] == ("FAILED", "NotPromoted", "rollback")
        assert dict(aws.stage.describe().variables) == V1
