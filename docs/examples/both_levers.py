"""Both levers at once: a canary of the API for its contract, a weighted alias for the code.

Both arms of the API call the same alias, so new code is the same to both; and to both versions come
requests of both contracts. Each judge sees its own change only.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from apigw_canary import LambdaAlias, RolloutPolicy, Stage

POLICY = RolloutPolicy.linear(start=10, by=30, every=timedelta(minutes=10))
TIMEOUT = POLICY.effective_deadline + timedelta(hours=1)


def release(
    stage: Stage, alias: LambdaAlias, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """The API as it is edited now, and version 2 of the code, each at its own pace."""
    canaries = {
        "contract": stage.enable_canary(10, release="2026-11-23.1", policy=POLICY),
        "code": alias.enable_canary(10, release="2026-11-23.1", version="2", policy=POLICY),
    }
    while canaries:
        for lever, canary in list(canaries.items()):
            observation = canary.observe(POLICY)
            decision = POLICY.decide(observation)
            print(f"{lever:8}  {decision}")
            canary.apply(decision)
            if (
                decision.final or observation.at - observation.started_at > TIMEOUT
            ):  # then an operator has to decide
                del canaries[lever]
        sleep(60)


if __name__ == "__main__":
    from apigw_canary.testing import Backend, rehearsal

    good, bad = Backend(), Backend(errors_5xx=0.05)
    with rehearsal(versions=[good, bad], variables={"alias": "live"}) as aws:
        # Against AWS: Stage("a1b2c3d4e5", "prod") and LambdaAlias("orders", "live").
        release(aws.stage, aws.alias("live"), sleep=aws.sleep)
        print(aws.stage.describe())
        print(aws.alias("live").describe())
