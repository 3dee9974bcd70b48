"""Several processes on one stage at once, in every order of their AWS calls that a seed gives.

`python tests/interleavings.py 500` runs that many and prints what became of them.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from acting import V2, patch, replace, serving
from apigw_canary import Canary, CanaryError, Stage
from apigw_canary.errors import NothingToRevertError, StageChangedError
from apigw_canary.testing import Rehearsal, rehearsal
from apigw_canary.testing.answers import RehearsalError


class Turns:
    """Threads of which one runs at a time, from one AWS call to its next, as a seed says."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._back = threading.Semaphore(0)
        self._go: dict[str, threading.Semaphore] = {}
        self._me = threading.local()

    def wait(self) -> None:
        """Before an AWS call: let another one run."""
        name = getattr(self._me, "name", None)
        if name is not None:
            self._back.release()
            self._go[name].acquire()

    def run(self, acts: dict[str, Callable[[], None]]) -> None:
        """Run all of them to their ends."""
        alive = list(acts)

        def body(name: str) -> None:
            self._me.name = name
            self._go[name].acquire()
            try:
                acts[name]()
            finally:
                alive.remove(name)
                self._back.release()

        self._go = {name: threading.Semaphore(0) for name in acts}
        threads = [threading.Thread(target=body, args=(name,), daemon=True) for name in acts]
        for thread in threads:
            thread.start()
        while alive:
            self._go[self._rng.choice(alive)].release()
            assert self._back.acquire(timeout=60), "an actor is stuck"
        for thread in threads:
            thread.join()


class Session:
    """A session of one process: each of its calls waits for its turn."""

    def __init__(self, aws: Rehearsal, before: Callable[[str], None]) -> None:
        self._aws, self._before = aws, before
        self._answers = random.Random(0)

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        made = self._aws.session.client(service_name, config=config)
        call = made._make_api_call

        def waited(operation: str, parameters: Any) -> Any:
            self._before(operation)
            try:
                return call(operation, parameters)
            except RehearsalError as error:
                # Ending a canary that another process has just ended: what AWS answers is not
                # known. It changes nothing, and is refused or not.
                if "on a stage without a canary" not in str(error):
                    raise
                if self._answers.random() < 0.5:
                    return call("GetStage", {k: parameters[k] for k in ("restApiId", "stageName")})
                answer = {"Error": {"Code": "BadRequestException", "Message": "Invalid patch path"}}
                raise ClientError(answer, operation) from error  # type: ignore[arg-type]

        made._make_api_call = waited
        return made


class Result(NamedTuple):
    ends: dict[str, str]
    """How each actor ended: "ok", or the error's name."""
    wrong: list[str]
    """What must not be."""


def run(seed: int) -> Result:  # noqa: C901 - four actors
    """Two orchestrators, an operator and a foreign writer; what must not be, is told."""
    rng = random.Random(seed)
    turns, ends, wrong = Turns(seed), dict[str, str](), list[str]()
    with rehearsal(requests_per_minute=1, history=timedelta(0)) as aws:
        aws.sleep(60)
        old = serving(aws)[0]
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.sleep(60)
        seen = [serving(aws)]

        def process() -> Stage:
            def before(_: str) -> None:
                if serving(aws) != seen[-1]:
                    seen.append(serving(aws))
                turns.wait()
                if serving(aws) != seen[-1]:
                    seen.append(serving(aws))

            return Stage(aws.rest_api_id, "prod", session=Session(aws, before), sleep=aws.sleep)

        def actor(name: str, act: Callable[[Stage], None]) -> Callable[[], None]:
            def body() -> None:
                try:
                    act(process())
                    ends[name] = "ok"
                except CanaryError as error:
                    ends[name] = type(error).__name__
                    seen.append(serving(aws))
                    if not claimed(error, seen):
                        wrong.append(f"{name}: {error!r} claims what never was")
                    if error.state is None or error.state.stage is None:
                        wrong.append(f"{name}: {error!r} does not say what is left")

            return body

        def orchestrator(stage: Stage) -> None:
            running = stage.enable_canary(10, release="r1", variables=V2)
            if rng.random() < 0.7:
                running.shift(50)
            if rng.random() < 0.8:
                running.promote()

        def operator(stage: Stage) -> None:
            found = stage.canary()
            verb = rng.choice(["hold", "hold and resume", "rollback", "accept"])
            if found is None:
                return
            operate(found, stage, verb)

        def foreign(_stage: Stage) -> None:
            for _ in range(2):
                turns.wait()
                act = rng.choice(["color", "alias", "percent", "nothing"])
                if act in {"color", "alias"}:
                    patch(aws, replace(f"/variables/{act}", "v9"))
                if act == "percent" and serving(aws)[2] is not None:
                    patch(aws, replace("/canarySettings/percentTraffic", "30.0"))

        turns.run(
            {
                "first": actor("first", orchestrator),
                "second": actor("second", orchestrator),
                "operator": actor("operator", operator),
                "foreign": actor("foreign", foreign),
            }
        )
        wrong += judged(aws, old, canary)
    return Result(ends, wrong)


def operate(canary: Canary, stage: Stage, verb: str) -> None:
    """What an operator does."""
    if verb == "rollback":
        stage.rollback()
    elif verb == "accept":
        canary.accept_production_changes()
    else:
        canary.hold("a freeze")
        if verb == "hold and resume":
            canary.resume()


def claimed(error: CanaryError, seen: list[Any]) -> bool:
    """Whether what an error states as read was so at some time."""
    known = error.state
    if known is None or known.stage is None:
        return True
    canary = known.stage.canary
    return any(
        deployment_id == known.stage.deployment_id
        and variables == known.stage.variables
        and (settings and settings["deploymentId"]) == (canary and canary.deployment_id)
        for deployment_id, variables, settings in seen
    )


def judged(aws: Rehearsal, old: str, canary: Canary) -> list[str]:
    """What is not as it must be afterwards."""
    wrong = []
    deployment_id, variables, settings = serving(aws)
    expected = {old: {"v1", "v9"}, canary.deployment_id: {"v2", "v9"}}
    if variables.get("alias") not in expected.get(deployment_id, set()):
        wrong.append(f"nobody asked for {deployment_id} with {variables}")
    stage = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
    described = stage.describe()
    if (described.canary is None) is not (settings is None):
        wrong.append("a canary is not described as it is")
    if settings is None and deployment_id == canary.deployment_id:
        try:
            receipt = stage.revert(dry_run=True)
            if receipt is None or receipt.deployment_before != old:
                wrong.append(f"the receipt is {receipt}")
        except NothingToRevertError as error:
            wrong.append(f"the receipt is lost: {error}")
        except StageChangedError as error:
            if old not in error.remedy:
                wrong.append(f"the way back is not told: {error}")
    return wrong


def main() -> None:
    """Print how the actors ended, and what was wrong."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    tally: Counter[str] = Counter()
    failed = 0
    for seed in range(count):
        result = run(seed)
        tally.update(
            f"{name.replace('second', 'first')}: {how}" for name, how in result.ends.items()
        )
        if result.wrong:
            failed += 1
            print(f"WRONG, seed {seed}: {result.ends} {result.wrong}")
    print(f"{count} interleavings, {failed} not as they must be")
    for how, times in sorted(tally.items()):
        print(f"{times:6} {how}")


if __name__ == "__main__":
    main()
