"""What an observation of many routes from access logs takes: `make log-routes`.

A rehearsal with 5,000 requests a minute, evenly over the routes, and a canary of 20 % for half an
hour, in which every request of one route fails. It is observed by a process that has just started,
which reads the hour before and the rollout, and a minute later by the same one. A line has 400
bytes.

"Waiting" is by the rehearsal's clock: it answers each query the second time it is asked, after half
a second. How long AWS takes for a query is not simulated. "Processor" is that of this library and
of boto3, for the observation and the decision, without what the rehearsal needs to answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from unittest.mock import patch

from apigw_canary import AccessLogs, Canary, RolloutPolicy, Stage
from apigw_canary.testing import Backend, Conditions, Rehearsal, rehearsal

PER_MINUTE = 5_000
POLICY = RolloutPolicy.canary(20, timedelta(hours=1))
ROUTES = (0, 100, 400)
"""0: without `routes`."""


class Look(NamedTuple):
    """What one observation and its decision took."""

    queries: int
    scanned: str
    """Megabytes, as its notes state them."""
    waited: float
    """Seconds of the rehearsal's clock."""
    seconds: float
    """Processor time of the library."""
    decision: str


def looks(routes: int, per_minute: float = PER_MINUTE) -> Iterator[Look]:
    """The first observation of a process, and the next one."""

    def fares(conditions: Conditions) -> Backend:
        rate = 1.0 if conditions.method == "GET /0" else 0.001
        return Backend(errors_5xx=rate if routes else 0.001, errors_4xx=0)

    names = {f"GET /{number}": 1.0 for number in range(max(routes, 1))}
    with rehearsal(
        requests_per_minute=per_minute, routes=names, backends={"alias=v2": fares}
    ) as aws:
        aws.stage.enable_canary(20, variables={"alias": "v2"})
        aws.sleep(1800)
        logs = AccessLogs(routes=routes > 0)
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=logs, sleep=aws.sleep)
        canary = stage.canary()
        assert canary is not None
        for _ in range(2):
            yield _look(aws, canary)
            aws.sleep(60)


def _look(aws: Rehearsal, canary: Canary) -> Look:
    calls, now, answering = len(aws.calls), aws.now(), 0.0
    answered: Any = Rehearsal._answer  # noqa: SLF001 - what answers is not measured

    def timed(*call: Any) -> Any:
        nonlocal answering
        began = time.process_time()
        try:
            return answered(*call)
        finally:
            answering += time.process_time() - began

    with patch.object(Rehearsal, "_answer", timed):
        began = time.process_time()
        seen = canary.observe(POLICY)
        decision = POLICY.decide(seen)
        seconds = time.process_time() - began - answering
    (scanned,) = [note for note in seen.notes if note.startswith("Logs Insights scanned")]
    return Look(
        queries=sum(call.operation == "StartQuery" for call in aws.calls[calls:]),
        scanned=scanned.split(" ")[3],
        waited=(aws.now() - now).total_seconds(),
        seconds=seconds,
        decision=type(decision).__name__,
    )


def sample() -> list[str]:
    """What does not depend on the machine, of a small rehearsal."""
    return [
        f"100 routes, 50 requests a minute: {each.queries} queries, {each.scanned} MB, "
        f"{each.waited:g} s"
        for each in looks(100, 50)
    ]


def main() -> None:
    print(
        "| Routes | Observation | Queries | Scanned | Waiting | Processor | Decision |\n"
        f"{'|---' * 7}|"
    )
    for routes in ROUTES:
        for which, each in zip(("first", "next"), looks(routes), strict=True):
            print(
                f"| {routes or 'not measured'} | {which} | {each.queries} | {each.scanned} MB "
                f"| {each.waited:g} s | {each.seconds:.2f} s | {each.decision} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
