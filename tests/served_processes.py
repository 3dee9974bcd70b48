"""The manual's example for cron, as processes that are killed at calls chosen by a seed.

`make kills` runs 30 rollouts of 20 processes a minute and prints each kill; the tests run smaller
ones. One process that has imported all that is needed forks a process for each observation: these
share nothing, and do not spend their time on imports.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import apigw_canary.testing.server
from apigw_canary import RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError
from apigw_canary.testing import Backend, Rehearsal, RehearsalServer, rehearsal

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
REGION = "eu-central-1"
RELEASE = "2026-11-23.1"
POLICY = RolloutPolicy.canary(20, bake=timedelta(minutes=1))
"""In place of the policies of the examples, so that a rollout takes minutes and not an hour."""

Json = dict[str, Any]


class Forks:
    """Processes that call `handler(event, None)` of an example against a rehearsal."""

    def __init__(self, forker: subprocess.Popen[str], server: RehearsalServer) -> None:
        self._forker = forker
        self._environment = {**os.environ, **server.environment}

    def run(self, example: str, event: Json, processes: int = 1) -> list[Json]:
        """What each of that many said that ran at the same time, and with which exit code."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        asked = {
            "example": example,
            "event": event,
            "processes": processes,
            "environment": self._environment,
        }
        self._forker.stdin.write(json.dumps(asked) + "\n")
        self._forker.stdin.flush()
        done: list[Json] = json.loads(self._forker.stdout.readline())
        return done


@contextmanager
def forker() -> Iterator[subprocess.Popen[str]]:
    """The process that forks others; it ends with its input."""
    command = [sys.executable, __file__, "forks"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def _fork_looks() -> None:
    """For each line of the input fork processes, wait for them, and print what they said."""
    sys.path.insert(0, str(EXAMPLES))
    import boto3
    import botocore.session

    import every_minute
    import step_functions

    every_minute.POLICY = step_functions.POLICY = POLICY
    # What is read from files now is not read by each process.
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    for service in ("apigateway", "cloudwatch"):
        boto3.Session("rehearsal", "rehearsal", region_name=REGION).client(service)
    gc.disable()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        handler = {"every_minute": every_minute, "step_functions": step_functions}[
            asked["example"]
        ].handler
        forked = [
            _forked(handler, asked["event"], asked["environment"])
            for _ in range(asked["processes"])
        ]
        done = []
        for pid, answers in forked:
            with os.fdopen(answers) as said:
                text = said.read()
            _, status = os.waitpid(pid, 0)
            done.append(
                {"exit": os.waitstatus_to_exitcode(status), "said": json.loads(text or "{}")}
            )
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def _forked(handler: Any, event: Json, environment: dict[str, str]) -> tuple[int, int]:
    """Process id of a look, and where to read what it says."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    code = 0
    try:
        os.environ.clear()
        # botocore names the process in each request.
        os.environ.update(environment, AWS_SDK_UA_APP_ID=str(os.getpid()))
        said = handler(event, None)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is this process's end
        # As Lambda says it.
        said, code = {"errorType": type(error).__name__, "errorMessage": str(error)}, 1
    os.write(write, json.dumps(said).encode())
    os._exit(code)


Chosen = Literal["none", "any", "before copies", "after copies"]
"""Which calls kill: none, half of the writes and some of the reads, or the first promotion."""


class Kill(NamedTuple):
    """A process that was killed at one of its calls."""

    minute: int
    operation: str
    write: bool
    after: bool
    copies: bool
    """Whether the call copies the canary to production."""

    def __str__(self) -> str:
        when = "after, the answer lost" if self.after else "before"
        return f"minute {self.minute}: {self.operation}{' (copies)' * self.copies}, {when}"


class Killer:
    """Kills processes at calls of theirs that a seed chooses."""

    def __init__(self, seed: int, kill: Chosen) -> None:
        self._rng = random.Random(seed)
        self._chosen = kill
        self.kills: list[Kill] = []
        self.minute = 0

    @contextmanager
    def at_work(self, aws: Rehearsal) -> Iterator[None]:
        """Within the context, calls of processes that are named in their requests may be killed."""
        carried_out = RehearsalServer._carried_out

        def met(
            server: RehearsalServer, method: str, path: str, headers: Mapping[str, str], body: bytes
        ) -> Any:
            named = re.search(r"app/(\d+)", headers.get("User-Agent", ""))
            if named is None:
                return carried_out(server, method, path, headers, body)
            write = method != "GET" and path.startswith("/restapis")
            due, after = self._due(write=write, copies=b'"copy"' in body)
            response = None
            if after or not due:
                response = carried_out(server, method, path, headers, body)
            if due:
                try:
                    os.kill(int(named[1]), signal.SIGKILL)
                except ProcessLookupError:  # it did not wait for the answer, and has ended
                    return response
                what = f"{method} {re.sub('/restapis/[^/]*', '', path.partition('?')[0])}"
                kill = Kill(self.minute, what, write, after, b'"copy"' in body)
                self.kills.append(kill)
                return None
            return response

        with mock.patch.object(apigw_canary.testing.server.RehearsalServer, "_carried_out", met):
            yield

    def _due(self, *, write: bool, copies: bool) -> tuple[bool, bool]:
        """Whether the caller is killed, and whether after the call."""
        if self._chosen == "any":
            return self._rng.random() < (0.5 if write else 0.01), self._rng.random() < 0.7
        return not self.kills and copies and self._chosen != "none", self._chosen == "after copies"


class End(NamedTuple):
    """How a rollout ended."""

    outcome: str
    """What a look is told that comes later: how the release ended."""
    canary: bool
    deployment: str
    """That of production: "old" or "new", which is the canary's."""
    variables: dict[str, str]


class Run(NamedTuple):
    end: End
    kills: list[Kill]
    exits: Counter[int]
    errors: list[str]
    calls: int
    refusals: list[str]


def run(
    process: subprocess.Popen[str],
    seed: int,
    *,
    bad: bool,
    processes: int = 20,
    minutes: int = 14,
    kill: Chosen = "any",
) -> Run:
    """A rollout with that many looks at once in each minute."""
    backends = {"alias=v2": Backend(errors_5xx=0.05 if bad else 0.001)}
    killer = Killer(seed, kill)
    exits: Counter[int] = Counter()
    errors: list[str] = []
    with (
        rehearsal(
            backends=backends,
            requests_per_minute=10_000,
            seed=seed,
            absent_canary="refused" if seed % 2 else "ignored",
        ) as aws,
        killer.at_work(aws),
        aws.serve() as server,
    ):
        forked = Forks(process, server)
        event = {"rest_api_id": aws.rest_api_id, "stage": "prod", "release": RELEASE}
        before = aws.stage.describe()
        over = 0
        while over < 2 and killer.minute < minutes:
            done = forked.run("every_minute", event, processes)
            exits.update(each["exit"] for each in done)
            errors += [str(each["said"]) for each in done if each["exit"] == 1]
            over += any(
                "outcome" in each["said"] for each in done
            )  # once more, for what comes late
            aws.sleep(60)
            killer.minute += 1
        refusals = list(server.refusals)
        calls = len(aws.calls)
        end = _end(aws, before.deployment_id)
        return Run(end, killer.kills, exits, errors, calls, refusals)


def _end(aws: Rehearsal, old: str) -> End:
    stage = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
    try:
        stage.enable_canary(20, release=RELEASE, variables={"alias": "v2"}, policy=POLICY)
        outcome = "none"
    except RolloutEndedError as ended:
        outcome = str(ended.outcome)
    state = stage.describe()
    deployment = "old" if state.deployment_id == old else "new"
    return End(outcome, state.canary is not None, deployment, dict(state.variables))


def undisturbed(process: subprocess.Popen[str], *, bad: bool) -> End:
    """How the rollout ends if one process looks each minute, and none of them dies."""
    return run(process, 0, bad=bad, processes=1, kill="none").end


def main(seeds: int, first: int) -> int:
    """Print the kills of that many rollouts; how many ended otherwise than undisturbed."""
    with forker() as process:
        return _killed(process, seeds, first)


def _killed(process: subprocess.Popen[str], seeds: int, first: int) -> int:
    expected = {bad: undisturbed(process, bad=bad) for bad in (False, True)}
    runs = []
    wrong = 0
    for seed in range(first, first + seeds):
        killed = run(process, seed, bad=seed % 2 == 1)
        runs.append(killed)
        print(
            f"{seed}: {killed.end}, {sum(killed.exits.values())} processes, {dict(killed.exits)}",
            flush=True,
        )
        for line in [*killed.kills, *killed.errors, *killed.refusals]:
            print(f"    {line}")
        if killed.end != expected[seed % 2 == 1]:
            wrong += 1
            print(f"    UNDISTURBED: {expected[seed % 2 == 1]}")
    kills = [kill for each in runs for kill in each.kills]
    after = [kill for kill in kills if kill.write and kill.after]
    print(
        f"{seeds} rollouts, {sum(sum(each.exits.values()) for each in runs)} processes, "
        f"{sum(each.calls for each in runs)} calls; {len(kills)} processes killed, {len(after)} "
        f"after a write, {sum(each.copies for each in after)} after the copies of a promotion; "
        f"{wrong} rollouts ended otherwise than undisturbed"
    )
    return wrong


if __name__ == "__main__":
    if sys.argv[1:] == ["forks"]:
        _fork_looks()
    else:
        sys.exit(min(1, main(*map(int, sys.argv[1:]))))
