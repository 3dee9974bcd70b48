"""The search over whole rollouts: it finds nothing here, and it can find what it looks for."""

from __future__ import annotations

import itertools
import os
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apigw_canary import Decision, Hold, Observation, Promote, Rollback, RolloutPolicy, Shift
from search import rehearsed
from search.__main__ import described, main
from search.rollout import RULES, Loop, run
from search.scenario import GAPS, Scenario, drawn
from search.summary import broken, failures, shrunk

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

ROLLOUTS, AT_ONCE = 2000, 200

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))


@pytest.mark.parametrize("first", range(0, ROLLOUTS, AT_ONCE))
def test_nothing_is_found(first: int) -> None:
    """The seeds of `make search`, looked at every five minutes or less often, 15 times at most."""
    scenarios = [drawn(seed) for seed in range(first, first + AT_ONCE)]
    runs = [run(attrs.evolve(s, every=max(s.every, 5)), most_looks=15) for s in scenarios]
    assert [f"{described(shrunk(each))}: {each.text}" for each in failures(runs)] == []


@given(
    hides=st.lists(st.sampled_from(("none", *GAPS)), min_size=1, max_size=8),
    rate=st.sampled_from((0.08, 0.3, 1.0)),
    requests=st.sampled_from((50.0, 500.0, 20_000.0)),
    steps=st.sampled_from((((10.0, 20),), ((50.0, 15),), ((20.0, 10), (50.0, 10), (100.0, 15)))),
    source=st.sampled_from(("own", "cloudwatch")),
    included=st.booleans(),
    stated=st.booleans(),
    error_lag=st.sampled_from((2, 5)),
)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
def test_no_plainly_bad_canary_is_promoted_whatever_the_source_hides(
    hides: list[Any], steps: Any, source: Any, rate: float, **fields: Any
) -> None:
    ended = run(
        Scenario(hides=tuple(hides), canary=rate, source=source, steps=steps, every=5, **fields)
    )
    assert [each for each in ended.violations if each.rule == "promoted_plainly_bad"] == []


@pytest.mark.parametrize("seed", [7, 8, 9, 10])
def test_the_search_observes_what_the_library_does(seed: int) -> None:
    found = rehearsed.rehearse(seed)
    assert (found.violations, found.looks > 2) == ((), True)


def test_a_rehearsal_whose_metrics_judge_no_canary_is_no_rollout() -> None:
    """The errors of seed 2 come 15 minutes late."""
    found = rehearsed.rehearse(2)
    assert (found.ended, found.violations, found.looks) == ("refused", (), 0)


def test_another_source_than_the_library_reads_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    later = attrs.evolve(rehearsed.suited(10), error_lag=5)
    made = rehearsed.Replayed.__init__
    monkeypatch.setattr(
        rehearsed.Replayed, "__init__", lambda world, scenario, aws: made(world, later, aws)
    )
    assert [each.rule for each in rehearsed.rehearse(10).violations] == ["differs"]


def decision(kind: type[Any], seen: Observation, **fields: Any) -> Decision:
    common: dict[str, Any] = {
        "at": seen.at,
        "reason": "as the test has it",
        "percent": seen.percent,
        "wait": timedelta(minutes=1),
        "final": kind in {Promote, Rollback},
        "analysis": None,
        "basis": seen.basis,
    }
    made: Decision = kind(**{**common, **fields})
    return made


def minutes(seen: Observation) -> float:
    return (seen.at - seen.started_at) / timedelta(minutes=1)


def raising(policy: RolloutPolicy, seen: Observation) -> Decision:
    raise ValueError("math domain error")


def holding(policy: RolloutPolicy, seen: Observation) -> Decision:
    return decision(Hold, seen, reason="there is nothing to do")


def careless(policy: RolloutPolicy, seen: Observation) -> Decision:
    """Promotes after 20 minutes, whatever is seen."""
    return decision(Promote if minutes(seen) >= 20 else Hold, seen)


def shifting(policy: RolloutPolicy, seen: Observation) -> Decision:
    """At once."""
    step = policy.next_step(seen.percent)
    return decision(Hold, seen) if step is None else decision(Shift, seen, percent=step.percent)


def held(policy: RolloutPolicy, seen: Observation) -> Decision:
    return decision(Hold if seen.on_hold else Rollback, seen)


KINDS = itertools.cycle([Hold, Rollback])


def moody(policy: RolloutPolicy, seen: Observation) -> Decision:
    return decision(next(KINDS), seen)


HOUR = ((50.0, 60),)
BAD = Scenario(canary=0.9, steps=HOUR)


@pytest.mark.parametrize(
    "rule, decide, scenario",
    [
        ("raises", raising, Scenario()),
        ("promoted_plainly_bad", careless, BAD),
        (
            "promoted_plainly_bad",
            careless,
            attrs.evolve(BAD, gaps="no_errors", source="cloudwatch"),
        ),
        ("upward_on_bad", careless, BAD),
        ("upward_blind", shifting, Scenario(steps=((10.0, 5), (50.0, 5)))),
        ("upward_in_outage", careless, Scenario(jump=(0, 0.3), steps=HOUR)),
        ("bad_is_kept", holding, BAD),
        ("bad_is_kept", shifting, Scenario(canary=0.9, steps=((50.0, 5), (100.0, 60)))),
        ("silence_not_rolled_back", holding, Scenario(gaps="silence", steps=HOUR)),
        ("no_end", holding, Scenario(deadline=10, steps=((50.0, 10),))),
        ("waits_for_nothing", holding, Scenario()),
        ("ended_not_final", holding, Scenario(ended=(5, "removed_outside"))),
        ("hold_prevents_rollback", held, Scenario()),
        ("time_zone_matters", moody, Scenario(zone="Europe/Berlin")),
    ],
)
def test_it_finds(
    rule: str, decide: Any, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule, in decisions that break it."""
    monkeypatch.setattr(RolloutPolicy, "decide", decide)
    ended = run(scenario)
    assert rule in {violation.rule for violation in ended.violations}
    (failure, *_) = [each for each in failures([ended]) if each.rule == rule]
    assert shrunk(failure).differences().items() <= scenario.differences().items()


def test_each_rule_is_found_by_a_test() -> None:
    (tested,) = [mark.args[1] for mark in test_it_finds.pytestmark]
    assert {rule for rule, *_ in tested} | {"differs"} == RULES.keys()


@pytest.mark.parametrize(
    "rule, ended, scenario",
    [
        ("false_rollback", "rolled back by evidence", Scenario()),
        ("false_promotion", "promoted", Scenario(at_margin=True)),
        ("false_promotion", "promoted", Scenario(canary=0.5)),
    ],
)
def test_it_counts_what_the_policy_promises(rule: str, ended: str, scenario: Scenario) -> None:
    """20 of 20 are more than one in twenty; 2 of 20 may be chance."""
    well = attrs.evolve(Loop(scenario).run(), ended="waiting", violations=())
    ill = attrs.evolve(well, ended=ended)
    assert {failure.rule for failure in broken([ill] * 20)} == {rule}
    assert broken([*[well] * 18, ill, ill]) == []


def test_it_replays_and_reports(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RolloutPolicy, "decide", raising)
    assert main(["--rollouts", "3", "--processes", "1"]) == 1
    told = capsys.readouterr().out
    assert "    3 times: (a)" in told
    assert "ValueError: math domain error" in told
    assert "--seed 0 --without " in told
    assert main(["--seed", "0", "--without", "deadline,every"]) == 1
    assert "VIOLATED at 0.0 min" in capsys.readouterr().out
