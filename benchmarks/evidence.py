"""Write docs/evidence: the output of each benchmark, with its command, seeds and commit.

`make evidence` runs all of them, `make evidence NAME=guards` one. `make test` runs the sample of
each again and compares it with the page.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import guards
import latency
import log_routes
import low_traffic
import overlap
import production
import sharpness
import unknown

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "evidence"
INDEX = ROOT / "docs" / "evidence.md"
TABLE = "<!-- written by make evidence -->\n"
NO_SAMPLE = "None: it needs NumPy, which the tests do not."


class Figure(NamedTuple):
    """Figures that one command prints."""

    name: str
    question: str
    page: str
    """Where the manual has them, from docs/."""
    command: str
    arguments: list[str]
    """Of Python: what the command runs."""
    seeds: str
    sample: Callable[[], list[str]] | None
    """Some of it, in seconds; None where the tests cannot run it."""


FIGURES = (
    Figure(
        "guards",
        "How often does the guard at 100 % roll back on healthy days, and how soon on a failure?",
        "statistics.md#without-a-baseline",
        "make guards DAYS=1000",
        ["benchmarks/guards.py", "1000"],
        "the number of the day, the traffic and the rate, each as text",
        lambda: [guards.failing_row(per_minute, 30) for per_minute in (50, 500)],
    ),
    Figure(
        "production",
        "How many healthy rollouts does the rule about production delay or roll back?",
        "statistics.md#production",
        "make production ROLLOUTS=300",
        ["benchmarks/production.py", "300"],
        "the name of the condition, the traffic and the number of the rollout, as text",
        lambda: [production.row(production.conditions()[number], 5) for number in (6, 13)],
    ),
    Figure(
        "unknown",
        "What do unknown outcomes cost in detection and promotion?",
        "statistics.md#unknown-outcomes",
        "make unknown ROLLOUTS=30",
        ["benchmarks/unknown.py", "30"],
        "the scenario, the unknown part and the number of the rollout, as text",
        lambda: [
            unknown.cell(unknown.SCENARIOS[number], (part, part), 10)
            for number, part in ((4, 0.0), (4, 0.001), (6, 0.003))
        ],
    ),
    Figure(
        "overlap",
        "How soon is it known whether the stage's metrics count the canary's requests?",
        "cloudwatch-metrics.md#whether-the-stage-counts-the-canarys-requests",
        "make overlap",
        ["benchmarks/overlap.py"],
        "0 to 4, of the rehearsal",
        lambda: [overlap.cell(50, truth, totals=True) for truth in overlap.TRUTHS],
    ),
    Figure(
        "low-traffic",
        "How long does a verdict take at low traffic?",
        "low-traffic.md#with-the-canary-how-to-get-a-verdict-sooner",
        "make low-traffic ROLLOUTS=20",
        ["benchmarks/low_traffic.py", "20"],
        "0, of `RolloutPolicy.forecast`",
        lambda: [low_traffic.row(50, 50, 0.02, 10)],
    ),
    Figure(
        "latency",
        "What does latency as a default signal find, and does it roll back healthy canaries whose "
        "containers start cold?",
        "cloudwatch-metrics.md#cold-starts",
        "make latency ROLLOUTS=40",
        ["benchmarks/latency.py", "40"],
        "the canary, the traffic and the number of the rollout, as text",
        lambda: [latency.row(latency.CASES[number], 5) for number in (0, 1, 7)],
    ),
    Figure(
        "sharpness",
        "How near its limit is a confirmation, how soon is a late change found, and what do bursts "
        "of one variant cost?",
        "statistics.md#a-late-change-and-bursts",
        "make sharpness ROLLOUTS=100",
        ["benchmarks/sharpness.py", "100"],
        "what is measured and the number of the rollout, as text",
        lambda: [
            sharpness.confirmation(0.0, 4),
            sharpness.late(*sharpness.CHANGES[0][:2], 60, sharpness.CHANGES[0][2], 2),
        ],
    ),
    Figure(
        "log-routes",
        "What does an observation of many routes from access logs take?",
        "access-logs.md#routes",
        "make log-routes",
        ["benchmarks/log_routes.py"],
        "0, of the rehearsal",
        log_routes.sample,
    ),
    Figure(
        "judges",
        "How often is a healthy canary rolled back, how soon is a bad one found, and how many "
        "requests fail until then: this library and eight other rules?",
        "statistics.md#what-it-was-measured-to-do",
        "make bench ROLLOUTS=600",
        ["benchmarks/run.py", "--rollouts", "600"],
        "the number of the condition, 7 and 11",
        None,
    ),
)


def page(figure: Figure) -> Path:
    return PAGES / f"{figure.name}.md"


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def _commit() -> str:
    changed = _git("status", "--porcelain", "--", "src", "benchmarks")
    return _git("rev-parse", "--short=10", "HEAD") + (", with uncommitted changes" * bool(changed))


def measure(figure: Figure) -> str:
    """Run the command; the page with what it printed."""
    printed = subprocess.run(
        [sys.executable, *figure.arguments], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    sample = figure.sample() if figure.sample else None
    shown = "\n".join(["```text", *sample, "```"]) if sample else NO_SAMPLE
    return f"""# Evidence: {figure.name}

{figure.question}

| | |
|---|---|
| Figures of | [{figure.page.partition("#")[0]}](../{figure.page}) |
| Command | `{figure.command}` |
| Seeds | {figure.seeds} |
| Commit | {_commit()} |
| Measured | {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()} |

## Output

{_sections(printed)}

## Sample

`make test` runs this part again and compares.

{shown}
"""


def _sections(printed: str) -> str:
    """What was printed, with each table as a section that other pages insert: "1", "2"."""
    parts = []
    tables = 0
    for part in printed.rstrip().split("\n\n"):
        if part.startswith("|"):
            tables += 1
            parts.append(
                f"<!-- --8<-- [start:{tables}] -->\n{part}\n<!-- --8<-- [end:{tables}] -->"
            )
        elif "\n" in part:
            parts.append(f"```text\n{part}\n```")
        else:
            parts.append(part)
    return "\n\n".join(parts)


def recorded_commit(figure: Figure) -> str:
    text = page(figure).read_text(encoding="utf-8")
    return text.partition("| Commit | ")[2].partition(" |")[0]


def recorded_sample(figure: Figure) -> list[str]:
    text = page(figure).read_text(encoding="utf-8")
    return text.rpartition("```text\n")[2].partition("\n```")[0].splitlines()


def index() -> str:
    """The table of all figures."""
    rows = [
        f"| [{figure.question}](evidence/{figure.name}.md) "
        f"| [{figure.page.partition('#')[0]}]({figure.page}) "
        f"| `{figure.command}` | {recorded_commit(figure)} |"
        for figure in FIGURES
        if page(figure).exists()
    ]
    return "\n".join(
        ["| Question | Figures of | Command | Commit |", "|---|---|---|---|", *rows, ""]
    )


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    chosen = sys.argv[1:] or [figure.name for figure in FIGURES]
    for figure in FIGURES:
        if figure.name in chosen:
            print(f"==> {figure.command}", flush=True)
            page(figure).write_text(measure(figure), encoding="utf-8")
    text = INDEX.read_text(encoding="utf-8")
    before, _, _ = text.partition(TABLE)
    INDEX.write_text(before + TABLE + "\n" + index(), encoding="utf-8")


if __name__ == "__main__":
    main()
