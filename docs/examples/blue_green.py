"""Blue/green: one alias for each release, which nobody changes again; a stage variable picks one.

The old colour stays as it is, and `stage.revert()` goes back to it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from apigw_canary import LambdaMetrics, RolloutPolicy, Stage

POLICY = RolloutPolicy.linear(start=10, by=30, every=timedelta(minutes=10))


def release(stage: Stage, lambda_: Any, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Publish the function's code, and give it to the API's requests step by step."""
    version = lambda_.publish_version(FunctionName="orders")["Version"]
    alias = {"FunctionName": "orders", "Name": f"v{version}", "FunctionVersion": version}
    with suppress(lambda_.exceptions.ResourceConflictException):  # run again: it is there already
        lambda_.create_alias(**alias)
        allow_invocation(lambda_, alias["Name"])
    canary = stage.enable_canary(
        10, release=version, variables={"alias": alias["Name"]}, policy=POLICY
    )
    while True:
        observation = canary.observe(POLICY)
        decision = POLICY.decide(observation)
        print(decision)
        canary.apply(decision)
        if decision.final:
            return
        if observation.at - observation.started_at > POLICY.effective_deadline + timedelta(hours=1):
            raise SystemExit("An operator has to decide.")
        sleep(decision.wait.total_seconds())


def allow_invocation(lambda_: Any, alias: str) -> None:
    """Each alias needs the API's permission for itself, or each of its requests is a 500."""
    lambda_.add_permission(
        FunctionName="orders",
        Qualifier=alias,
        StatementId="apigateway",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
    )


if __name__ == "__main__":
    from apigw_canary.testing import Backend, rehearsal

    with rehearsal(versions=[Backend(), Backend(errors_5xx=0.0005)]) as aws:
        # Against AWS: session=None, sleep=time.sleep, and lambda_ = boto3.client("lambda").
        stage = Stage(
            aws.rest_api_id,
            "prod",
            session=aws.session,
            sleep=aws.sleep,
            metrics=LambdaMetrics("orders", variable="alias"),
        )
        release(stage, aws.session.client("lambda"), sleep=aws.sleep)
        print(dict(stage.describe().variables))
        stage.revert()
        print(dict(stage.describe().variables))
