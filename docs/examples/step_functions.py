"""The Lambda function that a state machine of Step Functions calls, then waits, until it is over.

The state machine is rollout.asl.json beside this file. The state that it hands from look to look
holds only what AWS does not keep: when metrics were last seen.
"""

from datetime import datetime, timedelta
from typing import Any

from apigw_canary import RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError

POLICY = RolloutPolicy.exponential(start=5, factor=3, every=timedelta(minutes=10))


def look(stage: Stage, event: dict[str, Any]) -> dict[str, Any]:
    """One look; what it returns is the input of the next one."""
    try:
        canary = stage.enable_canary(
            POLICY.steps[0].percent, release=event["release"], variables={"alias": "v2"}
        )
    except RolloutEndedError as ended:
        return {**event, "final": True, "outcome": ended.outcome, "wait": 0}
    seen = event.get("watched_at")
    observation = canary.observe(
        POLICY, watched_at=datetime.fromisoformat(seen) if seen is not None else None
    )
    decision = POLICY.decide(observation)
    canary.apply(decision)
    assert observation.watched_at is not None
    return {
        **event,
        "watched_at": observation.watched_at.isoformat(),
        "final": decision.final,
        "outcome": decision.kind,
        "said": str(decision),
        "wait": int(decision.wait.total_seconds()),
    }


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The Lambda function; the first event has `rest_api_id`, `stage` and `release`."""
    del context
    return look(Stage(event["rest_api_id"], event["stage"]), event)


if __name__ == "__main__":
    import json
    from pathlib import Path

    from apigw_canary.testing import rehearsal

    machine = json.loads(Path(__file__).with_name("rollout.asl.json").read_text(encoding="utf-8"))
    with rehearsal() as aws:
        state = {"rest_api_id": aws.rest_api_id, "stage": "prod", "release": "2026-11-23.1"}
        name, looks = machine["StartAt"], 0
        while True:
            match machine["States"][name]:
                case {"Type": "Task", "Next": following}:
                    fresh = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
                    state, looks = look(fresh, json.loads(json.dumps(state))), looks + 1
                    name = following
                case {"Type": "Choice", "Choices": choices, "Default": name}:
                    for choice in choices:
                        wanted = {k: v for k, v in choice.items() if k.endswith("Equals")}
                        if state[choice["Variable"].removeprefix("$.")] in wanted.values():
                            name = choice["Next"]
                            break
                case {"Type": "Wait", "Next": following}:
                    aws.sleep(state["wait"])
                    name = following
                case ending:
                    print(f"{looks} looks, {ending['Type']}: {state['said']}")
                    break
