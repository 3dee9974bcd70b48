"""How many minutes after its start a canary's overlap is found out, by share: `make overlap`.

Rehearsed with 500 requests a minute, looked at once a minute; minutes count once they are five
minutes old.
"""

from __future__ import annotations

import statistics
from datetime import timedelta
from typing import Literal

from apigw_canary import RolloutPolicy, Signal
from apigw_canary.testing import Fault, rehearsal

SHARES = (1, 5, 10, 50, 100)
TRUTHS: tuple[Literal["included", "excluded"], ...] = ("included", "excluded")
SEEDS = range(5)
MINUTES = 120
POLICY = RolloutPolicy.canary(1, timedelta(hours=3), signals=[Signal.errors_5xx()])


def minutes_until_found(
    share: float, truth: Literal["excluded", "included"], seed: int, *, totals: bool
) -> int | None:
    """Minutes from the start to the first look that knows; None if none does in two hours."""
    with rehearsal(overlap=truth, seed=seed) as aws:
        if not totals:
            aws.fail("GetStages", Fault.ACCESS_DENIED)
        canary = aws.stage.enable_canary(share, variables={"alias": "v2"})
        for minute in range(MINUTES + 1):
            found = canary.observe(POLICY).overlap
            if found != "unknown":
                assert found == truth, f"{found} at {share} %, seed {seed}"
                return minute
            aws.sleep(60)
    return None


def cell(share: float, truth: Literal["excluded", "included"], *, totals: bool) -> str:
    found = [minutes_until_found(share, truth, seed, totals=totals) for seed in SEEDS]
    known = [minutes for minutes in found if minutes is not None]
    if len(known) < len(found):
        return f"not in {MINUTES}"
    return f"{statistics.median(known):g}"


def row(share: float) -> str:
    cells = [cell(share, truth, totals=totals) for totals in (True, False) for truth in TRUTHS]
    return f"| {share} % | {' | '.join(cells)} |"


def main() -> None:
    print(
        "| traffic percentage | included | excluded | included, no totals | excluded, no totals |"
    )
    print("|---|---|---|---|---|")
    for share in SHARES:
        print(row(share), flush=True)


if __name__ == "__main__":
    main()
