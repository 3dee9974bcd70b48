"""What a rollout says when an infrastructure tool puts the stage back to what its files declare.

The two calls below are what such a tool sends: it removes a canary that it does not know, and sets
the deployment back to its own.
"""

from datetime import timedelta
from typing import Any

from apigw_canary import Canary, Decision, RolloutPolicy
from apigw_canary.errors import NothingToRevertError
from apigw_canary.testing import Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(25, bake=timedelta(minutes=10))


def tool_applies(aws: Rehearsal, **change: str) -> None:
    """Somebody runs the tool."""
    client: Any = aws.session.client("apigateway")
    client.update_stage(restApiId=aws.rest_api_id, stageName="prod", patchOperations=[change])


def look(canary: Canary) -> Decision:
    """One look; a decision that is applied."""
    decision = POLICY.decide(canary.observe(POLICY))
    canary.apply(decision)
    return decision


if __name__ == "__main__":
    print("== The tool removes the canary during the rollout")
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(25, release="2026-11-23.1", variables={"alias": "v2"})
        aws.sleep(300)
        tool_applies(aws, op="remove", path="/canarySettings")
        print(look(canary))

    print("== The tool sets the deployment back after the promotion")
    with rehearsal() as aws:
        before = aws.stage.describe().deployment_id
        canary = aws.stage.enable_canary(25, release="2026-11-23.1", variables={"alias": "v2"})
        receipt = canary.promote()
        tool_applies(aws, op="replace", path="/deploymentId", value=before)
        state = aws.stage.describe()
        undone = state.deployment_id == receipt.deployment_before
        print(f"The promotion of the deployment is undone: {undone}.")
        print(f"The variable is still the release's: {state.variables['alias']}.")
        try:
            aws.stage.revert()
        except NothingToRevertError as error:
            print(error.happened)
        again = aws.stage.enable_canary(
            25, release="2026-11-23.1-again", deployment_id=receipt.deployment_after
        )
        print(f"Promoted again: {again.promote().deployment_after == receipt.deployment_after}.")
