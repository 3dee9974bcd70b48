"""Recipes for a loop of your own: approvals, release windows and freezes, notices to Slack and SNS.

Each is a function that a loop calls between `decide` and `apply`; `release` below is such a loop.
"""

import json
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from datetime import time as clock_time
from typing import Any
from zoneinfo import ZoneInfo

from apigw_canary import Canary, Decision, Hold, Observation, Promote, RolloutPolicy, Shift, Stage

POLICY = RolloutPolicy.linear(start=10, by=40, every=timedelta(minutes=10))


# Approvals ------------------------------------------------------------------------------------
def may_be_applied(decision: Decision, *, approved: Callable[[Decision], bool]) -> bool:
    """Ask for what gives the canary more requests; a Rollback is never kept waiting."""
    return not isinstance(decision, Shift | Promote) or approved(decision)


# Release windows and freezes ------------------------------------------------------------------
OPENS, CLOSES, ZONE = clock_time(9), clock_time(16), ZoneInfo("Europe/Berlin")


def is_open(at: datetime) -> bool:
    """Whether the release window is open: on workdays from nine to four."""
    local = at.astimezone(ZONE)
    return local.weekday() < 5 and OPENS <= local.time() < CLOSES


WINDOW_CLOSED = "outside the release window"


def keep_to_the_window(canary: Canary, observation: Observation) -> None:
    """Hold the rollout while the window is closed, so that the deadline's clock stops."""
    if is_open(observation.at):
        if observation.on_hold == WINDOW_CLOSED:  # not the hold of an operator
            canary.resume()
    elif observation.on_hold is None:
        canary.hold(WINDOW_CLOSED)


def freeze(stage: Stage, reason: str) -> bool:
    """Freeze whichever rollout runs, from any process; `canary.resume()` ends it."""
    canary = stage.canary()
    if canary is not None:
        canary.hold(reason)
    return canary is not None


# Notices --------------------------------------------------------------------------------------
def post_to_slack(
    webhook: str, text: str, *, send: Callable[..., Any] = urllib.request.urlopen
) -> None:
    """Post to an incoming webhook of Slack."""
    body = json.dumps({"text": text}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(webhook, body, headers)  # noqa: S310 - from your settings
    with send(request, timeout=5):
        pass


def publish_to_sns(sns: Any, topic: str, decision: Decision) -> None:
    """Publish to a topic; subscribers can filter by the kind of decision."""
    sns.publish(
        TopicArn=topic,
        Subject=f"Canary {decision.release}: {decision.kind}",
        Message=str(decision),
        MessageAttributes={"kind": {"DataType": "String", "StringValue": decision.kind}},
    )


def is_news(decision: Decision, before: Decision | None) -> bool:
    """Whether a decision is worth a notice: each change, and a Hold that needs an operator."""
    if not isinstance(decision, Hold):
        return True
    needs_operator = decision.waiting_for == "operator"
    needed_operator = before is not None and before.waiting_for == "operator"
    return decision.final or (needs_operator and not needed_operator)


# The loop -------------------------------------------------------------------------------------
def release(
    stage: Stage,
    name: str,
    *,
    approved: Callable[[Decision], bool],
    notify: Callable[[Decision], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Decision:
    """Release within the window, with approvals and notices. The last decision."""
    canary = stage.enable_canary(10, release=name, variables={"alias": "v2"}, policy=POLICY)
    before: Decision | None = None
    while True:
        keep_to_the_window(canary, canary.observe(POLICY))
        decision = POLICY.decide(canary.observe(POLICY))
        if may_be_applied(decision, approved=approved):
            canary.apply(decision)
            if is_news(decision, before):
                try:
                    notify(decision)
                except OSError as error:  # a notice that fails must not end the rollout's loop
                    print(f"no notice was sent: {error}")
            before = decision
            if decision.final:
                return decision
        sleep(max(decision.wait.total_seconds(), 60))


if __name__ == "__main__":
    from datetime import UTC

    from apigw_canary.testing import rehearsal

    before_nine = datetime(2026, 1, 5, 7, 50, tzinfo=UTC)  # 8:50 in Berlin
    with rehearsal(start=before_nine) as aws:

        def printed(decision: Decision) -> None:
            """A notice to the terminal."""
            print(f"{aws.now():%a %H:%M}  {decision}")

        release(aws.stage, "2026-01-05.1", approved=lambda _: True, notify=printed, sleep=aws.sleep)
