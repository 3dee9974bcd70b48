"""A script: one process stays with the rollout from its first line to its last.

Killed at any line, it is started again from its first line: what it needs to know is on AWS.
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

from apigw_canary import Promote, RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError

POLICY = RolloutPolicy.linear(start=5, by=20, every=timedelta(minutes=10))
TIMEOUT = POLICY.effective_deadline + timedelta(hours=1)
NOT_PROMOTED, LEFT = 20, 25


def release(stage: Stage, name: str, *, sleep: Callable[[float], None] = time.sleep) -> bool | None:
    """Whether the release became production; None if an operator has to decide.

    Then the canary keeps its percent, and nothing observes it until the script is started again.
    """
    try:
        canary = stage.enable_canary(
            POLICY.steps[0].percent, release=name, variables={"alias": "v2"}, policy=POLICY
        )
    except RolloutEndedError as ended:
        print(ended)
        return ended.outcome == "promoted"
    while True:
        observation = canary.observe(POLICY)
        decision = POLICY.decide(observation)
        print(decision)
        canary.apply(decision)
        if decision.final:
            return isinstance(decision, Promote)
        if observation.at - observation.started_at > TIMEOUT:
            return None
        sleep(decision.wait.total_seconds())


if __name__ == "__main__":
    from apigw_canary.testing import rehearsal

    with rehearsal() as aws:  # against AWS: stage = Stage("a1b2c3d4e5", "prod")
        promoted = release(aws.stage, "2026-11-23.1", sleep=aws.sleep)
        again = release(aws.stage, "2026-11-23.1", sleep=aws.sleep)
    if promoted is None or again is None:
        sys.exit(LEFT)
    sys.exit(0 if promoted and again else NOT_PROMOTED)
