"""Two releases of the same API, rehearsed offline: a good v2 is promoted, a bad one rolled back."""

from collections.abc import Callable
from datetime import timedelta

from apigw_canary import RolloutPolicy, Stage, Step
from apigw_canary.testing import Backend, Rehearsal, rehearsal

BAKE = timedelta(minutes=10)
POLICY = RolloutPolicy([Step(5, BAKE), Step(25, BAKE), Step(50, BAKE), Step(100, BAKE)])


def roll_out(stage: Stage, release: str, sleep: Callable[[float], None]) -> None:
    """Release v2 on a stage; with a real stage, `sleep` is `time.sleep`."""
    canary = stage.enable_canary(5, release=release, variables={"alias": "v2"}, policy=POLICY)
    while True:
        observation = canary.observe(POLICY)
        decision = POLICY.decide(observation)
        print(f"{observation.at:%H:%M}  {decision}", flush=True)
        canary.apply(decision)
        if decision.final:
            break
        if observation.at - observation.started_at > POLICY.effective_deadline + timedelta(hours=1):
            raise SystemExit("An operator has to decide.")
        sleep(decision.wait.total_seconds())


def tell(aws: Rehearsal, v2: Backend) -> None:
    """What became of it, from the truth that only a rehearsal knows."""
    during = [row for row in aws.served if row.at >= aws.calls[0].at]
    users = sum(row.requests for row in during)
    failed = sum(row.errors_5xx for row in during)
    state = aws.stage.describe()
    print(f"\n{state}")
    print(f"Its variables are {dict(state.variables)}.")
    print(
        f"{failed:,} of {users:,} requests failed. Had v2 replaced v1 at once, "
        f"about {users * v2.errors_5xx:,.0f} would have."
    )
    print(f"{len(aws.calls)} AWS calls were made.\n")


for title, v2 in (
    ("A good release: v2 fails as rarely as v1", Backend(errors_5xx=0.001)),
    ("A bad release: v2 fails in 2 % of the requests, v1 in 0.1 %", Backend(errors_5xx=0.02)),
):
    print(f"== {title}\n")
    with rehearsal(backends={"alias=v2": v2}) as aws:
        roll_out(aws.stage, "2026-11-23.1", aws.sleep)
        tell(aws, v2)
