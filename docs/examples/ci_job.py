"""A CI job that needs an approval for a promotion, and for nothing else.

    python ci_job.py decide RELEASE decision.json   decides; applies what needs no approval
    python ci_job.py apply decision.json            applies the promotion that was approved

`decide` is run every few minutes. It applies a Rollback at once, and a Shift. A Promote is stored
for the person who approves it.

Exit codes: 0 promoted, or going on; 1 rolled back; 2 the decision is too old or the stage was
changed since: decide again; 3 an error, with the state of the stage in the message. The output file
(GITHUB_OUTPUT, or else rollout.env) gets a line `outcome=...` that tells more: a job that ends
without one failed before it began.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from apigw_canary import CanaryError, Hold, Promote, Rollback, RolloutPolicy, Stage
from apigw_canary import decision_from_dict as read_decision
from apigw_canary.errors import DecisionExpiredError, RolloutEndedError, StageChangedError

POLICY = RolloutPolicy.canary(
    10,
    bake=timedelta(minutes=15),
    decision_lifetime=timedelta(hours=1),  # how long an approval may take
)

EXIT_CODES = {
    "going_on": 0,
    "needs_approval": 0,
    "needs_operator": 0,
    "promoted": 0,
    "rolled_back": 1,
    "decide_again": 2,
    "error": 3,
}
"""What `outcome=` can be, and the exit code of the job then."""


def decide(stage: Stage, release: str, file: Path) -> str:
    """Observe and decide; apply what needs no approval. The outcome."""
    try:
        canary = stage.enable_canary(10, release=release, variables={"alias": "v2"}, policy=POLICY)
    except RolloutEndedError as ended:
        print(ended)
        return "promoted" if ended.outcome == "promoted" else "rolled_back"
    observation = canary.observe(POLICY)
    decision = POLICY.decide(observation)
    print(decision)
    if isinstance(decision, Promote) and observation.phase == "running":
        file.write_text(json.dumps(decision.to_dict()), encoding="utf-8")
        return "needs_approval"
    canary.apply(decision)
    if isinstance(decision, Promote):  # of a promotion that had been begun
        return "promoted"
    if isinstance(decision, Hold) and decision.waiting_for == "operator":
        return "needs_operator"
    if isinstance(decision, Hold) and decision.final:  # ended by another process or an operator
        return "promoted" if "promoted" in observation.phase else "rolled_back"
    return "rolled_back" if isinstance(decision, Rollback) else "going_on"


def apply(stage: Stage, file: Path) -> str:
    """Apply the decision that was approved, if it still holds. The outcome."""
    decision = read_decision(json.loads(file.read_text(encoding="utf-8")))
    canary = stage.canary()
    if canary is None:
        print("There is no canary any more.")
        return "decide_again"
    canary.apply(decision)
    print(decision)
    return "promoted"


def run(job: Callable[[], str], output: Path) -> int:
    """The exit code of a job, whose outcome is written to the output file."""
    try:
        outcome = job()
    except (DecisionExpiredError, StageChangedError) as error:
        print(error)
        outcome = "decide_again"
    except CanaryError as error:
        print(error)
        outcome = "error"
    except Exception:  # noqa: BLE001 - Python's exit code of one is 1, "rolled back" here
        traceback.print_exc()
        outcome = "error"
    with output.open("a", encoding="utf-8") as lines:
        lines.write(f"outcome={outcome}\n")
    return EXIT_CODES[outcome]


def main(arguments: list[str], stage: Stage, output: Path) -> int:
    """Run the job that the arguments name."""
    match arguments:
        case ["decide", release, path]:
            return run(lambda: decide(stage, release, Path(path)), output)
        case ["apply", path]:
            return run(lambda: apply(stage, Path(path)), output)
        case _:
            print(__doc__)
            return EXIT_CODES["error"]


if __name__ == "__main__" and len(sys.argv) > 1:
    outputs = Path(os.environ.get("GITHUB_OUTPUT", "rollout.env"))
    sys.exit(main(sys.argv[1:], Stage("a1b2c3d4e5", "prod"), outputs))

if __name__ == "__main__":
    import tempfile

    from apigw_canary.testing import rehearsal

    with rehearsal() as aws, tempfile.TemporaryDirectory() as folder:
        stored, told = Path(folder) / "decision.json", Path(folder) / "rollout.env"
        for wait in (0, 60, 5, 0):  # minutes
            aws.sleep(wait * 60)
            job = ["apply", str(stored)] if wait == 5 else ["decide", "2026-11-23.1", str(stored)]
            code = main(job, aws.stage, told)
            print("exit code", code, told.read_text(encoding="utf-8").splitlines()[-1])
