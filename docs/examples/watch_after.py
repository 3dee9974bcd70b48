"""For an hour after a promotion: production is watched, and goes back where it breaks a limit.

There is no other arm to compare with any more, so the limit is absolute: at most 1 % of errors.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from apigw_canary import (
    LambdaAlias,
    LambdaMetrics,
    Minute,
    Observation,
    Promotion,
    RolloutPolicy,
    Signal,
    Verdict,
)

LIMIT = RolloutPolicy.canary(
    5,
    timedelta(minutes=10),
    signals=[Signal.errors_5xx(limit=0.01)],
    metric_delay=timedelta(minutes=2),
)


def watch(
    alias: LambdaAlias,
    receipt: Promotion,
    metrics: LambdaMetrics,
    *,
    now: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Whether the promotion lasted for an hour."""
    while now() < receipt.begun_at + timedelta(hours=1):
        sleep(60)
        state = alias.describe()
        rows = metrics.minutes(state, LIMIT.signals, receipt.begun_at, now())["errors_5xx"]
        observation = Observation(
            at=now(),
            started_at=receipt.begun_at,
            step_started_at=receipt.begun_at,
            percent=100,  # what is production now is what was the canary
            minutes={
                "errors_5xx": [
                    Minute(row.at, 0, 0, row.baseline_requests, row.baseline_bad) for row in rows
                ]
            },
        )
        analysis = LIMIT.analyze(observation)
        if analysis.verdict is Verdict.WORSE:
            print(f"{now():%H:%M} reverting: {analysis}")
            alias.revert(receipt)
            return False
    return True


if __name__ == "__main__":
    from apigw_canary.testing import Backend, rehearsal

    with rehearsal(
        versions=[Backend(), Backend(errors_5xx=0.05)], variables={"alias": "live"}
    ) as aws:
        # Against AWS: LambdaAlias("orders", "live"), LambdaMetrics(), and now = the time in UTC.
        alias = aws.alias("live")
        receipt = alias.enable_canary(5, version="2").promote()  # in a hurry, and unwatched
        metrics = LambdaMetrics(session=aws.session)
        lasted = watch(alias, receipt, metrics, now=aws.now, sleep=aws.sleep)
        print(f"Lasted: {lasted}. {alias.describe()}")
