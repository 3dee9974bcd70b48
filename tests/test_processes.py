"""Twenty operating-system processes start the same release at once, against one rehearsal."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from typing import Any

import pytest

from acting import V2, serving
from apigw_canary import CanaryError, Outcome, Stage
from apigw_canary.errors import RolloutEndedError
from apigw_canary.testing import RehearsalClient, rehearsal

PROCESSES = 20
ROUNDS = 10

pytestmark = [pytest.mark.long, pytest.mark.no_cover]


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """In place of the fixture of all tests: the processes talk to each other."""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have imported what they need, and share nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "apigw_canary.stage", "apigw_canary.testing"])
    return context


def release(environment: Mapping[str, str], rest_api_id: str, barrier: Any, ends: Any) -> None:
    """What one process does, and how it ends."""
    os.environ.update(environment)
    stage = Stage(rest_api_id, "prod", sleep=RehearsalClient().sleep)
    stage.describe()  # with the client made, all begin at the same moment
    barrier.wait(timeout=120)
    try:
        stage.enable_canary(10, release="r1", variables=V2)
    except CanaryError as error:
        known = error.state
        ends.put((type(error).__name__, known is not None and known.stage is not None))
    else:
        ends.put(("ok", True))


def at_once(context: ForkServerContext, environment: Any, rest_api_id: str) -> Any:
    """How the processes ended."""
    ends, barrier = context.Queue(), context.Barrier(PROCESSES)
    arguments = (environment, rest_api_id, barrier, ends)
    started = [context.Process(target=release, args=arguments) for _ in range(PROCESSES)]
    try:
        for process in started:
            process.start()
        found = [ends.get(timeout=240) for _ in started]
        for process in started:
            process.join(timeout=60)
    finally:
        for process in started:
            if process.is_alive():
                process.kill()
    return found


def test_twenty_processes_start_the_same_release(processes: ForkServerContext) -> None:
    """Ten times: one canary, and afterwards one outcome, the true one."""
    tally: Counter[str] = Counter()
    for _ in range(ROUNDS):
        with rehearsal(requests_per_minute=1, history=timedelta(0)) as aws:
            aws.sleep(60)
            old = serving(aws)[0]
            with aws.serve() as server:
                found = at_once(processes, server.environment, aws.rest_api_id)
            tally.update(name for name, _ in found)
            assert all(is_known for _, is_known in found), "an error that does not say what is left"
            assert any(name == "ok" for name, _ in found)
            stage = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
            assert serving(aws)[2] is not None
            stage.enable_canary(10, release="r1", variables=V2).promote()
            assert serving(aws)[1:] == (V2, None)
            for _ in range(2):
                with pytest.raises(RolloutEndedError) as ended:
                    stage.enable_canary(10, release="r1", variables=V2)
                assert ended.value.outcome == "promoted"
            rollout = stage.describe().rollout
            assert rollout is not None
            assert rollout.outcome is Outcome.PROMOTED
            receipt = stage.revert()
            assert receipt is not None
            assert receipt.deployment_before == old
    assert tally.total() == ROUNDS * PROCESSES, tally
