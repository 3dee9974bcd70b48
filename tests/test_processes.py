"""Twenty operating-system processes start the same release at once, against one rehearsal."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from acting import serving
from apigw_canary import CanaryError, Outcome, Stage
from apigw_canary.errors import RolloutEndedError
from apigw_canary.testing import RehearsalClient, rehearsal

PROCESSES = 20
ROUNDS = 5

pytestmark = [pytest.mark.long, pytest.mark.no_cover]


@pytest.fixture(autouse=True)
def _no_network() -> None:
    """In place of the fixture of all tests: the processes talk to each other."""


def asked(number: int) -> dict[str, Any]:
    return {"percent": 10, "release": f"r{number}", "variables": {"alias": f"v{number}"}}


def starts(environment: Mapping[str, str], rest_api_id: str, barrier: Any, ends: Any) -> None:
    """What one process does, once a round, and how that ends."""
    os.environ.update(environment)
    stage = Stage(rest_api_id, "prod", sleep=RehearsalClient().sleep)
    stage.describe()
    for number in range(2, 2 + ROUNDS):
        barrier.wait(timeout=240)
        try:
            stage.enable_canary(**asked(number))
        except CanaryError as error:
            known = error.state
            ends.put((type(error).__name__, known is not None and known.stage is not None))
        else:
            ends.put(("ok", True))


def test_twenty_processes_start_the_same_release() -> None:
    """Five times: one canary, and afterwards one outcome, the true one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "apigw_canary.stage", "apigw_canary.testing"])
    ends, barrier = context.Queue(), context.Barrier(PROCESSES + 1)
    tally: Counter[str] = Counter()
    with rehearsal(requests_per_minute=1, history=timedelta(0)) as aws, aws.serve() as server:
        arguments = (server.environment, aws.rest_api_id, barrier, ends)
        processes = [context.Process(target=starts, args=arguments) for _ in range(PROCESSES)]
        try:
            for process in processes:
                process.start()
            for number in range(2, 2 + ROUNDS):
                aws.sleep(60)
                before = serving(aws)
                barrier.wait(timeout=240)
                found = [ends.get(timeout=240) for _ in processes]
                tally.update(name for name, _ in found)
                assert all(known for _, known in found), "an error does not say what is left"
                assert any(name == "ok" for name, _ in found)
                assert serving(aws)[2] is not None
                assert serving(aws)[:2] == before[:2]
                fresh = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
                receipt = fresh.enable_canary(**asked(number)).promote()
                assert receipt.deployment_before == before[0]
                assert serving(aws)[1:] == ({"alias": f"v{number}"}, None)
                for _ in range(2):
                    with pytest.raises(RolloutEndedError) as ended:
                        fresh.enable_canary(**asked(number))
                    assert ended.value.outcome == "promoted"
                rollout = fresh.describe().rollout
                assert rollout is not None
                assert (rollout.release, rollout.outcome) == (f"r{number}", Outcome.PROMOTED)
        finally:
            barrier.abort()
            for process in processes:
                if process.pid is not None:
                    process.join(timeout=30)
                    process.kill()
    assert tally.total() == ROUNDS * PROCESSES, tally
