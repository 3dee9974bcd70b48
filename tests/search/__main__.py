"""`python -m search`: search, replay one rollout, or prove that the search finds known faults."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import apigw_canary
from search.rehearsed import rehearse
from search.rollout import RULES, Run, run
from search.scenario import Scenario, drawn, without
from search.summary import Failure, broken, case_of, failures, promises, shrunk

PER_REHEARSED = 100
"""Of so many rollouts one is also rehearsed end to end."""
AT_ONCE = 200
"""Rollouts after which the proof looks whether each case is found."""

SHOWN = 20
"""Seeds of violations of one rule that are printed."""

CASES = {
    "A1": "decide raises",
    "A3": "the error series is missing for both variants",
    "A4": "a failing canary at 100 %, without a baseline",
    "A5": "no comparable minute",
    "A6": "a limit, and an incident of both variants",
    "A7": "both variants fall silent after a busy hour",
    "A8": "production fails since the canary started",
}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 where nothing was found, or, with --proof, where all was."""
    parser = argparse.ArgumentParser(prog="search", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=50_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay the rollout of one seed, look by look")
    parser.add_argument(
        "--without", default="", help="fields of the scenario to leave out, by comma"
    )
    parser.add_argument("--proof", action="store_true", help="fail unless each known case is found")
    given = parser.parse_args(arguments)
    print(f"Searched: {Path(apigw_canary.__file__).parent}")
    if given.seed is not None:
        return _replay(given.seed, tuple(filter(None, given.without.split(","))))
    begin = time.monotonic()
    if given.proof:
        return _prove(given.first_seed, given.rollouts, given.processes)
    seeds = range(given.first_seed, given.first_seed + given.rollouts)
    runs = searched(of_seed, seeds, given.processes)
    compared = searched(rehearse, seeds[::PER_REHEARSED], given.processes)
    took = time.monotonic() - begin
    found = [*failures([*runs, *compared]), *broken(runs)]
    _report(runs, compared, found, took, given.processes)
    return 1 if found else 0


def searched(one: Callable[[int], Run], seeds: Sequence[int], processes: int) -> list[Run]:
    """The rollouts of seeds, in their order."""
    if processes == 1:
        return list(map(one, seeds))
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(one, seeds, chunksize=10))


def of_seed(seed: int) -> Run:
    """The rollout of one seed."""
    return run(drawn(seed))


def _replay(seed: int, left_out: tuple[str, ...]) -> int:
    scenario = without(drawn(seed), left_out)
    print(described(scenario))
    ended = run(scenario, told=print)
    for violation in ended.violations:
        print(f"VIOLATED at {violation.minute:.1f} min: {RULES[violation.rule]}: {violation.what}")
    print(f"{ended.ended} after {ended.minutes:.0f} min and {ended.looks} looks")
    return 1 if ended.violations else 0


def described(scenario: Scenario) -> str:
    """A scenario by what is not as dull as can be."""
    return f"seed {scenario.seed}: " + ", ".join(
        f"{name}={value}" for name, value in scenario.differences().items()
    )


def _report(
    runs: Sequence[Run],
    compared: Sequence[Run],
    found: Sequence[Failure],
    took: float,
    processes: int,
) -> None:
    looks = sum(each.looks for each in runs)
    print(f"{len(runs):,} rollouts, {looks:,} looks, {took:.0f} s in {processes} processes")
    looks = sum(each.looks for each in compared)
    print(f"{len(compared):,} rollouts on a rehearsal, {looks:,} looks compared")
    for ended, count in Counter(each.ended for each in runs).most_common():
        print(f"  {ended}: {count:,}")
    reasons = Counter(_rule_of(each.reason) for each in runs if each.ended == "rolled back by rule")
    for reason, count in reasons.most_common():
        print(f"    {reason}: {count}")
    print("| promise | group | rollouts | failed | allowed |")
    print("|---|---|---|---|---|")
    for each in sorted(promises(runs)):
        print(f"| {each.rule} | {each.group} | {each.runs} | {each.failed} | {each.expected:.1f} |")
    for rule, text in RULES.items():
        seeds = [e.scenario.seed for e in runs if rule in {v.rule for v in e.violations}]
        shown = f" (seeds {', '.join(map(str, seeds[:SHOWN]))})" if seeds else ""
        print(f"{len(seeds):5} times: {text}{shown}")
    for failure in found:
        print(f"\nVIOLATED: {RULES.get(failure.rule, failure.rule)}\n  {failure.text}")
        original, least = failure.found_in.scenario, shrunk(failure)
        print(f"  {described(least)}")
        left_out = sorted(original.differences().keys() - least.differences().keys())
        without = f" --without {','.join(left_out)}" if left_out else ""
        print(
            f"  replay: PYTHONPATH=tests .venv/bin/python -m search --seed {original.seed}{without}"
        )


def _rule_of(reason: str) -> str:
    """The beginning of its sentence, without the numbers."""
    words = reason.split(";", maxsplit=1)[0].split()[:7]
    return " ".join("…" if each[0].isdigit() else each for each in words)


def _prove(first_seed: int, most: int, processes: int) -> int:
    """Search until each known case is found."""
    runs: list[Run] = []
    first: dict[str, Failure] = {}
    while len(runs) < most and not CASES.keys() <= first.keys():
        begin = first_seed + len(runs)
        runs += searched(of_seed, range(begin, begin + AT_ONCE), processes)
        for failure in sorted([*failures(runs), *broken(runs)], key=lambda each: each.runs):
            percents = [v.percent for v in failure.found_in.violations if v.rule == failure.rule]
            case = case_of(failure.rule, failure.found_in.scenario, *percents or [0.0])
            first.setdefault(case, failure)
    print("| case | found | seed | rollouts until then |")
    print("|---|---|---|---|")
    for case, text in CASES.items():
        cells = "not found | | "
        if case in first:
            where = first[case]
            cells = f"{where.rule} | {where.found_in.scenario.seed} | {where.runs}"
        print(f"| {case}: {text} | {cells} |")
    return 0 if CASES.keys() <= first.keys() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
