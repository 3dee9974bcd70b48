"""How long a verdict takes at low traffic: `make low-traffic` (ROLLOUTS=n, 20 unless said).

`RolloutPolicy.forecast` of one step with a bake of 30 minutes and a deadline of 12 hours, where one
request in a thousand fails on production. A time is when half of all rollouts have ended so.
"""

from __future__ import annotations

import sys
from datetime import timedelta

from apigw_canary import RolloutPolicy, Signal
from apigw_canary.values.formatting import span

BAD_RATE = 0.001
PLANS = tuple(
    (per_minute, percent, margin)
    for per_minute in (5, 50)
    for percent in (10, 50)
    for margin in (0.005, 0.02)
)


def _when(after: timedelta | None, part: float, rollouts: int) -> str:
    count = round(part * rollouts)
    if after is None:
        return f"by half never, {count} of {rollouts}" if count else "never"
    return span(after) if count == rollouts else f"{span(after)}, {count} of {rollouts}"


def row(per_minute: int, percent: int, margin: float, rollouts: int) -> str:
    policy = RolloutPolicy.canary(
        percent,
        timedelta(minutes=30),
        signals=[Signal.errors_5xx(margin=margin)],
        deadline=timedelta(hours=12),
    )
    found = policy.forecast(
        per_minute, bad_rate=BAD_RATE, times=[20, 1 / BAD_RATE], rollouts=rollouts
    )
    bad, broken = found.worse
    cells = (
        f"{per_minute}",
        f"{percent} %",
        f"{100 * margin:g} points",
        _when(found.clean.promoted_after, found.clean.promoted, rollouts),
        _when(bad.rolled_back_after, bad.rolled_back, rollouts),
        f"{round(bad.promoted * rollouts)}",
        _when(broken.rolled_back_after, broken.rolled_back, rollouts),
        f"{broken.failed_requests:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(
        "| Requests a minute | Canary | Margin | A clean canary is promoted after | "
        f"2 % errors are found after | of {rollouts}, promoted | "
        "A canary that always fails is found after | with failed requests |\n"
        f"{'|---' * 8}|"
    )
    for plan in PLANS:
        print(row(*plan, rollouts), flush=True)


if __name__ == "__main__":
    main()
