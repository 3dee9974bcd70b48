"""A CI job with an approval between decide and apply.

    python ci_job.py decide decision.json     decides, and stores the decision for whoever approves
    python ci_job.py apply decision.json      applies what was approved

Exit codes: 0 the rollout goes on, 10 it ended with a promotion, 20 it was rolled back or ended
otherwise, 25 it waits for an operator (the deadline has passed, or the rollout is on hold) and the
canary keeps its percent, 30 the decision
is too old or the stage was changed since: decide again, 40 anything else, with the state of the
stage in the message.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

from apigw_canary import (
    CanaryError,
    Decision,
    Hold,
    Promote,
    RolloutPolicy,
    Shift,
    Stage,
    decision_from_dict,
)
from apigw_canary.errors import DecisionExpiredError, RolloutEndedError, StageChangedError

POLICY = RolloutPolicy.canary(10, bake=timedelta(minutes=15))
GOES_ON, PROMOTED, ENDED, LEFT, DECIDE_AGAIN, FAILED = 0, 10, 20, 25, 30, 40


def decide(stage: Stage, release: str, file: Path) -> int:
    """Store the decision of this look."""
    try:
        canary = stage.enable_canary(10, release=release, variables={"alias": "v2"}, policy=POLICY)
        decision = POLICY.decide(canary.observe(POLICY))
    except RolloutEndedError as ended:
        print(ended)
        return PROMOTED if ended.outcome == "promoted" else ENDED
    except CanaryError as error:
        print(error)
        return FAILED
    file.write_text(json.dumps(decision.to_dict()), encoding="utf-8")
    print(decision)
    return GOES_ON


def apply(stage: Stage, file: Path) -> int:
    """Apply the decision that was stored, if it still holds."""
    decision = decision_from_dict(json.loads(file.read_text(encoding="utf-8")))
    try:
        canary = stage.canary()
        if canary is None:
            print("there is no canary")
            return ENDED
        canary.apply(decision)
    except (DecisionExpiredError, StageChangedError) as error:
        print(error)
        return DECIDE_AGAIN
    except CanaryError as error:
        print(error)
        return FAILED
    return exit_code(decision)


def exit_code(decision: Decision) -> int:
    """What the job tells its pipeline."""
    match decision:
        case Promote():
            return PROMOTED
        case Hold(waiting_for="operator"):
            return LEFT
        case Shift() | Hold(final=False):
            return GOES_ON
        case _:
            return ENDED


if __name__ == "__main__" and len(sys.argv) == 3:
    job, path = sys.argv[1], Path(sys.argv[2])
    production = Stage("a1b2c3d4e5", "prod")
    if job == "decide":
        sys.exit(decide(production, "2026-11-23.1", path))
    sys.exit(apply(production, path))

if __name__ == "__main__":
    import tempfile

    from apigw_canary.testing import rehearsal

    with rehearsal() as aws, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decision.json"
        codes = [decide(aws.stage, "2026-11-23.1", path), apply(aws.stage, path)]
        aws.sleep(60 * 60)
        codes.append(decide(aws.stage, "2026-11-23.1", path))
        aws.sleep(11 * 60)  # the approval came too late
        codes.append(apply(aws.stage, path))
        codes.append(decide(aws.stage, "2026-11-23.1", path))
        aws.sleep(5 * 60)  # this one in time
        codes.append(apply(aws.stage, path))
        codes.append(decide(aws.stage, "2026-11-23.1", path))
        print("exit codes:", *codes)
