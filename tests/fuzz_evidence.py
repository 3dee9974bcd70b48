"""Random series of any size through all evidence: no exception, a number always.

`python tests/fuzz_evidence.py [series]` counts what happened, 100,000 series unless said otherwise.
Where the history is at hand it also compares the evidence for "worse" with that of commit 6e9fb79,
which knew no unknown outcomes and no late onset (here `reserve=0`), had another limit, and raised
where capital underflowed. The evidence for "not worse" makes other bets now.
"""

from __future__ import annotations

import importlib
import io
import math
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from apigw_canary import Minute, Observation, RolloutPolicy, Signal
from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import Overlap

BEFORE = "6e9fb79"
PRECISION = 1e-12
LEFT_OUT = 2e-4
"""What a minute's correction for overshoot may be where it is left out now, in logs."""
OVERLAPS: tuple[Overlap, ...] = ("excluded", "included", "unknown")
MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Setting(NamedTuple):
    """What is tolerated, and at which risk."""

    ratio: float
    slack: float
    noise: float
    margin: float
    alpha: float


SETTINGS = (
    Setting(1.0, 0.0, 0.0, 0.005, 0.01),
    Setting(1.1, 0.0002, 0.05, 0.005, 0.05),
    Setting(1.2, 0.002, 0.2, 0.02, 0.05),
    Setting(1.0, 0.0, 0.5, 0.01, 1e-6),
    Setting(3.0, 0.05, 1.0, 0.2, 0.5),
    Setting(20.0, 0.0, 0.05, 0.9, 0.001),
)


class Series(NamedTuple):
    """A rollout: its rows, and by what it is judged."""

    rows: list[Row]
    setting: Setting
    limit: float
    percent: float


def series(seed: int) -> Series:
    """1 to 20 minutes at 1 to 10⁹ requests a minute, of which a part may be of unknown outcome."""
    rng = Random(f"series {seed}")
    per_minute = 10 ** rng.uniform(0, 9)
    share = rng.choice([10 ** rng.uniform(-4, 0) * 0.999, rng.uniform(0.001, 0.999), 0.5])
    fractional, unknown = rng.random() < 0.2, rng.random() < 0.5
    minutes, rates = rng.randint(1, 20), (_rate(rng), _rate(rng))
    hour = 60 * per_minute
    rows = [_whole(Row(hour, hour * rates[0], 0, 0))] if rng.random() < 0.7 else []
    changes_at = rng.randint(0, 20)
    for i in range(minutes):
        if i == changes_at:
            rates = (rng.choice([rates[0], _rate(rng)]), _rate(rng))
        total = per_minute * rng.uniform(0.8, 1.2)
        n_b, n_c = total * (1 - share), total * share
        if rng.random() < 0.05:
            n_b = 0.0
        if rng.random() < 0.05:
            n_c = 0.0
        x_b, x_c = (_count(rng, n, p) for n, p in zip((n_b, n_c), rates, strict=True))
        u_b, u_c = (
            (n - x) * rng.choice([0, 0.001, rng.random(), 1]) if unknown else 0.0
            for n, x in ((n_b, x_b), (n_c, x_c))
        )
        row = Row(n_b, x_b, n_c, x_c, u_b, u_c)
        rows.append(row if fractional else _whole(row))
    limit = rng.choice([0.001, 0.02, 0.3, 0.99])
    return Series(rows, rng.choice(SETTINGS), limit, round(100 * share, 6))


def _rate(rng: Random) -> float:
    return rng.choice([0.0, 1.0, 0.5, 0.98, *(10 ** rng.uniform(-7, 0) for _ in range(4))])


def _count(rng: Random, requests: float, rate: float) -> float:
    mean = requests * rate
    return min(max(rng.gauss(mean, math.sqrt(mean * (1 - rate))), 0.0), requests)


def _whole(row: Row) -> Row:
    n_b, x_b, n_c, x_c, u_b, u_c = (float(round(value)) for value in row)
    x_b, x_c = min(x_b, n_b), min(x_c, n_c)
    return Row(n_b, x_b, n_c, x_c, min(u_b, n_b - x_b), min(u_c, n_c - x_c))


def paths(drawn: Series, module: Any = evidence) -> dict[str, list[float]]:
    """All evidence of a series."""
    ratio, slack, noise, margin, alpha = drawn.setting
    return {
        "worse": module.worse(drawn.rows, ratio=ratio, slack=slack, noise=noise, alpha=alpha),
        "not worse": module.not_worse(drawn.rows, ratio=ratio, margin=margin, noise=noise),
    }


def with_limit(drawn: Series) -> list[float]:
    """The evidence with a limit, the last half of the rows being of a step at 100 %."""
    ratio, slack, noise, _, alpha = drawn.setting
    return evidence.worse(
        drawn.rows,
        ratio=ratio,
        slack=slack,
        noise=noise,
        alpha=alpha,
        limit=drawn.limit,
        no_baseline_from=len(drawn.rows) // 2,
    )


def decided(drawn: Series) -> str:
    """The decision on the series, whichever overlap it is read with."""
    ratio, slack, noise, margin, alpha = drawn.setting
    signal = Signal.errors_5xx(
        ratio=ratio, slack=slack, noise=noise, margin=margin, limit=drawn.limit
    )
    policy = RolloutPolicy.canary(
        min(max(drawn.percent, 0.01), 99.99), 10 * MINUTE, signals=[signal], false_rollback=alpha
    )
    rows = [Minute(START + i * MINUTE, *row) for i, row in enumerate(drawn.rows)]
    seed = len(drawn.rows)
    seen = Observation(
        at=START + (len(rows) + seed % 9) * MINUTE,
        started_at=START,
        step_started_at=START + (seed // 2) * MINUTE,
        percent=(drawn.percent, 100, 0)[seed % 3],
        minutes={signal.name: rows},
        overlap=OVERLAPS[seed % 3],
    )
    decision = policy.decide(seen)
    for finding in decision.analysis.findings if decision.analysis is not None else ():
        for value in (finding.worse_evidence, finding.not_worse_evidence):
            if not math.isfinite(value):
                raise ArithmeticError(f"{finding} has evidence {value}")
    return type(decision).__name__


@contextmanager
def evidence_before() -> Iterator[Any]:
    """The module of commit 6e9fb79 under another name; None where there is no history."""
    root = Path(__file__).parent.parent
    archive = subprocess.run(
        ["git", "archive", BEFORE, "src/apigw_canary/rollout"],
        cwd=root,
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "judge_before"
        package.mkdir()
        (package / "__init__.py").touch()
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            for name in ("evidence", "boost", "noise", "stakes"):
                source = files.extractfile(f"src/apigw_canary/rollout/{name}.py")
                assert source is not None
                text = source.read().decode().replace("apigw_canary.rollout", "judge_before")
                (package / f"{name}.py").write_text(text)
        sys.path.insert(0, directory)
        try:
            yield importlib.import_module("judge_before.evidence")
        finally:
            sys.path.remove(directory)
            for name in [name for name in sys.modules if name.startswith("judge_before")]:
                del sys.modules[name]


def agrees(new: list[float], old: list[float]) -> bool:
    """Whether two paths are equal but for rounding and for what is left out."""
    return all(
        abs(a - b) <= PRECISION * max(1.0, abs(a), abs(b)) + LEFT_OUT * minutes
        for minutes, (a, b) in enumerate(zip(new, old, strict=True), start=1)
    )


def run(numbers: Iterable[int], before: Any = None) -> Counter[str]:
    """What became of the series; of each failure also the number of the first series."""
    counts: Counter[str] = Counter()
    for number in numbers:
        drawn = series(number)
        counts["series"] += 1
        for what in outcomes(drawn, before):
            counts[what] += 1
            if what.startswith("WRONG") and counts[what] == 1:
                counts[f"{what}: the first is series {number}"] += 1
    return counts


def outcomes(drawn: Series, before: Any) -> Iterator[str]:
    """What became of one series."""
    try:
        new, limited = paths(drawn), with_limit(drawn)
        yield decided(drawn)
    except Exception as error:  # noqa: BLE001 - which ones there are is the question
        yield f"WRONG: {type(error).__name__}"
        return
    if not all(map(math.isfinite, [*new["worse"], *new["not worse"], *limited])):
        yield "WRONG: NaN or infinite"
    if any(row.baseline_unknown or row.canary_unknown for row in drawn.rows):
        yield "with unknown outcomes"
    elif before is not None:
        yield "compared with the code before"
        yield compared(drawn, before)


def without_a_reserve(drawn: Series) -> list[float]:
    """The capital as the code before bet it, of which nothing was kept for a late onset."""
    ratio, slack, noise, _, alpha = drawn.setting
    game = evidence.Worse(ratio=ratio, slack=slack, noise=noise, alpha=alpha, reserve=0.0)
    path: list[float] = []
    for row in drawn.rows:
        log = game.add(row)
        path.append(path[-1] if path and path[-1] >= -math.log(alpha) else log)
    return path


def compared(drawn: Series, before: Any) -> str:
    """How the evidence compares with that of the code before."""
    rows = [before.Row(*row[:4]) for row in drawn.rows]
    try:
        old = paths(drawn._replace(rows=rows), before)
    except (ValueError, OverflowError, ZeroDivisionError):
        return "the code before raises"
    if not all(map(math.isfinite, [*old["worse"], *old["not worse"]])):
        return "the code before gives no number"
    if agrees(without_a_reserve(drawn), old["worse"]):
        return "equal to the code before"
    return "WRONG: differs from the code before"


def main() -> None:
    """Print the counts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with evidence_before() as before:
        if before is None:
            print(f"The history has no commit {BEFORE}: nothing is compared with it.")
        counts = run(range(count), before)
    for what, number in counts.items():
        print(f"{number:>8,} {what}")
    sys.exit(any(what.startswith("WRONG") for what in counts))


if __name__ == "__main__":
    main()
