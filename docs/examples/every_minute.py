"""One observation a minute, each in a process of its own: a cron job, or a Lambda on a schedule.

Nothing is kept between two calls. The first of them enables the canary, the others find it. Once
the answer is `final` the schedule can end.
"""

from datetime import timedelta
from typing import Any

from apigw_canary import RolloutPolicy, Stage
from apigw_canary.errors import RolloutEndedError

POLICY = RolloutPolicy.exponential(start=5, factor=3, every=timedelta(minutes=10))
TIMEOUT = POLICY.effective_deadline + timedelta(hours=1)


def look(stage: Stage, release: str) -> dict[str, Any]:
    """One look at the rollout, and what came of it; fit for a log."""
    try:
        canary = stage.enable_canary(
            POLICY.steps[0].percent, release=release, variables={"alias": "v2"}, policy=POLICY
        )
    except RolloutEndedError as ended:
        return {"final": True, "outcome": ended.outcome}
    observation = canary.observe(POLICY)
    decision = POLICY.decide(observation)
    canary.apply(decision)
    if not decision.final and observation.at - observation.started_at > TIMEOUT:
        return {"final": True, "outcome": "left to an operator", "decision": str(decision)}
    return {"final": decision.final, "decision": str(decision)}


def handler(event: dict[str, str], context: object) -> dict[str, Any]:
    """The Lambda function: one invocation a minute, with the release in the event."""
    del context
    return look(Stage(event["rest_api_id"], event["stage"]), event["release"])


if __name__ == "__main__":
    from apigw_canary.testing import rehearsal

    with rehearsal() as aws:
        for minute in range(60):
            fresh = Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)
            seen = look(fresh, "2026-11-23.1")
            print(f"{minute:>2} min  {seen.get('decision') or seen['outcome']}")
            if "outcome" in seen:
                break
            aws.sleep(60)
