"""Runs scripts as processes forked from one that has made a rehearsal and its clients before.

Imports and service models take two seconds in a process that starts afresh.
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

TIMEOUT = 120
"""Seconds after which a script is killed."""


@contextmanager
def forked_scripts(folder: Path) -> Iterator[Callable[[Path], str]]:
    """A function that runs a script in the folder and returns what it prints.

    It raises AssertionError with the errors of a script that fails. A warning is one.
    """
    with (
        tempfile.TemporaryDirectory() as written,
        subprocess.Popen(
            [sys.executable, "-W", "error", __file__, written],
            cwd=folder,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ) as forker,
    ):
        asked, answers = forker.stdin, forker.stdout
        assert asked is not None
        assert answers is not None

        def output(script: Path) -> str:
            print(script, file=asked, flush=True)
            code = answers.readline().strip()
            printed, errors = (
                Path(written, each).read_text(encoding="utf-8") for each in ("stdout", "stderr")
            )
            assert code == "0", f"{script} ended with {code}:\n{errors}"
            return printed

        yield output  # the process ends with its input


def _next_script(written: Path) -> Path | None:
    """In the process forked for it: the script to run. In the first one, None at the end."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            for number, file in enumerate(
                (Path(os.devnull), written / "stdout", written / "stderr")
            ):
                with file.open("wb" if number else "rb") as opened:
                    os.dup2(opened.fileno(), number)
            signal.alarm(TIMEOUT)
            return Path(line.rstrip("\n"))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def _import_all() -> None:
    """Import what a rollout needs, and read the models of its services."""
    from apigw_canary import RolloutPolicy
    from apigw_canary.testing import Backend, rehearsal

    policy = RolloutPolicy.canary(10, timedelta(minutes=10))
    with rehearsal(versions=[Backend(), Backend()]) as aws:
        canary = aws.stage.enable_canary(release="r1", variables={"alias": "v2"}, policy=policy)
        aws.sleep(120)
        policy.decide(canary.observe(policy))
    # As the tests have it: what is imported stays, and is not garbage to look for.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def main(written: Path) -> None:
    _import_all()
    script = _next_script(written)
    if script is not None:
        # As `python script` does it.
        sys.argv[:] = [str(script)]
        sys.path[0] = str(script.parent)
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
