"""The Lambda function that a state machine of Step Functions calls, then waits, until it is over.

The state machine is rollout.asl.json beside this file. The state that it hands from look to look
holds only what AWS does not keep: when metrics were last seen.
"""

from datetime import datetime, timedelta
from math import ceil
from typing import Any

from apigw_canary import RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError

POLICY = RolloutPolicy.exponential(start=5, factor=3, every=timedelta(minutes=10))
TIMEOUT = POLICY.effective_deadline + timedelta(hours=1)


def look(stage: Stage, event: dict[str, Any]) -> dict[str, Any]:
    """One look; what it returns is the input of the next one."""
    try:
        canary = stage.enable_canary(
            POLICY.steps[0].percent,
            release=event["release"],
            variables={"alias": "v2"},
            policy=POLICY,
        )
    except RolloutEndedError as ended:
        return {**event, "final": True, "outcome": ended.outcome, "wait": 0}
    seen = event.get("last_complete_at")
    observation = canary.observe(POLICY, last_complete_at=seen and datetime.fromisoformat(seen))
    decision = POLICY.decide(observation)
    canary.apply(decision)
    left = (
        not decision.final and observation.at - observation.started_at > TIMEOUT
    )  # an operator has to decide
    return {
        **event,
        "last_complete_at": observation.last_complete_at
        and observation.last_complete_at.isoformat(),
        "final": decision.final or left,
        "outcome": "left" if left else decision.kind,
        "said": str(decision),
        "wait": ceil(decision.wait.total_seconds()),
    }


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The Lambda function; the first event has `rest_api_id`, `stage` and `release`."""
    del context
    return look(Stage(event["rest_api_id"], event["stage"]), event)


if __name__ == "__main__":
    from apigw_canary.testing import rehearsal

    with rehearsal() as aws:
        state: dict[str, Any] = {"release": "2026-11-23.1"}
        while not state.get("final"):
            fresh = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
            state = look(fresh, state)
            print(state["said"])
            aws.sleep(state["wait"])
