"""A rollout on a terminal, live: the step, what is still missing, and the evidence as bars.

Needs rich (`pip install rich`), which the library itself does not.
"""

import math
import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from apigw_canary import Decision, Observation, RolloutPolicy, Stage

POLICY = RolloutPolicy.canary(20, bake=timedelta(minutes=5))
TIMEOUT = POLICY.effective_deadline + timedelta(hours=1)
WIDTH = 30


def bar(odds: float, needed: float, style: str) -> Text:
    """How far the evidence has come: odds multiply, so it is their logarithm."""
    reached = math.log(max(odds, 1.0)) / math.log(needed)
    full = round(WIDTH * min(reached, 1.0))
    return Text.assemble(("█" * full, style), ("░" * (WIDTH - full), "dim"))


def view(observation: Observation, decision: Decision) -> Group:
    """What there is to see of a rollout at one look."""
    step = POLICY.step_at(observation.percent)
    left = step.bake - (observation.at - observation.step_started_at)
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "step", f"{step.percent:g} %, {POLICY.steps.index(step) + 1} of {len(POLICY.steps)}"
    )
    table.add_row("bake", f"{left} left" if left > timedelta(0) else "over")
    for finding in decision.analysis.findings if decision.analysis else ():
        name = Text(finding.signal)  # text of others is not to be taken for rich's markup
        table.add_row(name, "worse", bar(finding.worse_evidence, finding.worse_threshold, "red"))
        better = bar(finding.not_worse_evidence, finding.not_worse_threshold, "green")
        table.add_row("", "not worse", better)
    return Group(Text(str(decision)), table)


def watch(
    stage: Stage, release: str, console: Console, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Roll a release out, and show how it goes; where there is no terminal, how it ended."""
    canary = stage.enable_canary(
        POLICY.steps[0].percent, release=release, variables={"alias": "v2"}, policy=POLICY
    )
    with Live(console=console, auto_refresh=False) as live:
        while True:
            observation = canary.observe(POLICY)
            decision = POLICY.decide(observation)
            live.update(view(observation, decision), refresh=True)
            canary.apply(decision)
            if (
                decision.final or observation.at - observation.started_at > TIMEOUT
            ):  # then an operator has to decide
                break
            sleep(decision.wait.total_seconds())


if __name__ == "__main__":
    from apigw_canary.testing import rehearsal

    with rehearsal() as aws:  # against AWS: stage = Stage("a1b2c3d4e5", "prod")
        watch(aws.stage, "2026-11-23.1", Console(width=100), sleep=aws.sleep)
