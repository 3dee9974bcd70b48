"""One rollout, whoever goes on with it: records, stores, and what does not leak."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from acting import V2, Store, describe, description, fresh, sent, serving
from apigw_canary import (
    CanaryError,
    Decision,
    Hold,
    LambdaMetrics,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Stage,
    Step,
)
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryAlreadyEnabledError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy([Step(10, 8 * MINUTE), Step(50, 8 * MINUTE)])
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def look(stage: Stage, release: str = "r1", variables: dict[str, str] = V2) -> Observation:
    """One call of a scheduled job, from its first line."""
    return stage.enable_canary(10, release=release, variables=variables).observe(POLICY)


def roll_out(aws: Rehearsal, release: str, variables: dict[str, str]) -> list[Observation]:
    """A rollout of which each look is another process's; the observations it made."""
    observations = []
    while True:
        canary = fresh(aws).enable_canary(10, release=release, variables=variables)
        observations.append(canary.observe(POLICY))
        decision = POLICY.decide(observations[-1])
        canary.apply(decision)
        if decision.final:
            return observations
        aws.sleep(decision.wait.total_seconds())


@pytest.mark.long
@pytest.mark.no_cover
def test_a_process_for_each_look_is_the_same_rollout() -> None:
    """A rollout of many processes sees and decides what one process does."""
    with rehearsal() as aws:
        many = roll_out(aws, "r1", V2)
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        decision: Decision | None = None
        for expected in many:
            observation = canary.observe(POLICY)
            assert observation.minutes == expected.minutes
            decision = POLICY.decide(observation)
            assert str(decision) == str(POLICY.decide(expected))
            canary.apply(decision)
            aws.sleep(decision.wait.total_seconds())
        assert decision is not None
        assert decision.final


@pytest.mark.traced
@pytest.mark.long
def test_two_rollouts_do_not_mix() -> None:
    """A bad release, and a good one ten minutes later: no minute of the first counts."""
    backends = {"alias=bad": Backend(errors_5xx=0.2)}
    with rehearsal(backends=backends) as aws:
        first = roll_out(aws, "r1", {"alias": "bad"})
        assert isinstance(POLICY.decide(first[-1]), Rollback)
        aws.sleep(600)
        second = roll_out(aws, "r2", {"alias": "good"})
        assert isinstance(POLICY.decide(second[-1]), Promote)
        started = second[0].started_at
        for observation in second:
            for finding in POLICY.analyze(observation).findings:
                assert finding.canary_bad <= 0.05 * finding.canary_requests + 5
            rows = observation.complete_minutes("errors_5xx", POLICY.metric_delay)
            assert all(row.at >= started + MINUTE or not row.canary_requests for row in rows)


@pytest.mark.long
def test_stored_observations_replay_the_rollout() -> None:
    """The observations of a rollout, also through JSON, give the same decisions."""
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.03)}) as aws:
        observations = roll_out(aws, "r1", V2)
    decisions = [POLICY.decide(seen) for seen in observations]
    assert isinstance(decisions[-1], Rollback)
    stored = json.dumps([seen.to_dict() for seen in observations], allow_nan=False)
    replayed = [POLICY.decide(Observation.from_dict(seen)) for seen in json.loads(stored)]
    assert replayed == decisions


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[: len(text) // 2], id="truncated"),
        pytest.param(lambda text: text + "\n" + text, id="twice"),
        pytest.param(lambda text: text.replace("canary:2:", "canary:3:"), id="newer version"),
        pytest.param(lambda text: text.replace('"id"', '"ids"'), id="other keys"),
        pytest.param(lambda text: text.replace('"2026-', '"0001-'), id="long ago"),
    ],
)
def test_a_damaged_record_falls_to_the_cautious_side(damage: Callable[[str], str]) -> None:
    """With a damaged record nothing is promoted, and rolling back works."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        describe(aws, canary.deployment_id, damage(description(aws, canary.deployment_id)))
        before = serving(aws)
        found = fresh(aws).canary()
        assert found is not None
        assert found.release is None
        assert fresh(aws).describe().canary is not None
        with pytest.raises(RecordError, match="cannot be read"):
            found.promote()
        assert serving(aws) == before
        with pytest.raises(CanaryError):
            fresh(aws).enable_canary(10, release="r1", variables=V2)
        found.rollback()
        assert serving(aws)[2] is None


def test_the_record_of_another_stage_is_kept() -> None:
    """A deployment that two stages serve carries a record of each."""
    with rehearsal() as aws:
        client = aws.session.client("apigateway")
        own = serving(aws)[0]
        client.create_stage(restApiId=aws.rest_api_id, stageName="test", deploymentId=own)
        test = Stage(aws.rest_api_id, "test", session=aws.session)
        test.enable_canary(10, release="t1", deployment_id=own, variables=V2)
        aws.stage.enable_canary(10, release="p1", deployment_id=own, variables=V2)
        releases = [stage.describe().rollout.release for stage in (test, aws.stage)]  # type: ignore[union-attr]
        assert releases == ["t1", "p1"]
        assert test.canary().promote().stage == "test"  # type: ignore[union-attr]
        assert aws.stage.describe().canary is not None
        test.revert()


# A store of the caller's own


def test_a_store_of_ones_own_keeps_the_records() -> None:
    """With a store, resume, promote, revert and refusal of ended releases work from it alone."""
    store = Store()
    with rehearsal() as aws:
        stage = fresh(aws, records=store)
        before = serving(aws)
        stage.enable_canary(10, release="r1", variables=V2)
        canary = fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        describe(aws, canary.deployment_id, "wiped")
        canary = fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        assert canary.release == "r1"
        canary.promote()
        assert "UpdateDeployment" not in sent(aws)[-4:]
        fresh(aws, records=store).revert()
        assert serving(aws) == before
        with pytest.raises(RolloutEndedError) as caught:
            fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        assert caught.value.outcome == "reverted"
        assert list(store.texts) == [f"eu-central-1/{aws.rest_api_id}/prod"]


def test_with_a_store_no_description_is_consulted() -> None:
    """A canary that the store does not know is one of an unknown release, whatever is described."""
    with rehearsal() as aws:
        aws.stage.enable_canary(10, release="r1", variables=V2)
        with pytest.raises(CanaryAlreadyEnabledError, match="release unknown"):
            fresh(aws, records=Store()).enable_canary(10, release="r1", variables=V2)


def test_a_store_is_a_lock() -> None:
    """Of two that promote at once, the one that loses sends nothing."""
    store = Store()
    with rehearsal() as aws:
        canary = fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        before = serving(aws)

        def race() -> None:
            store.between = lambda: None
            (key,) = store.texts
            store.texts[key] += " "

        store.between = race
        with pytest.raises(StageChangedError, match="lost the race"):
            canary.promote()
        assert serving(aws) == before
        canary.promote()
        assert serving(aws)[1] == V2


def test_a_record_that_changed_since_it_was_read_is_not_overwritten() -> None:
    """A hold that another process made between this one's read and its write stays."""
    store = Store()
    with rehearsal() as aws:
        canary = fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        other = fresh(aws, records=store).canary()
        assert other is not None
        load, loads = store.load, [0]

        def loaded(key: str) -> str | None:
            loads[0] += 1
            if loads[0] == 2:
                other.hold("theirs")
            return load(key)

        store.load = loaded  # type: ignore[method-assign]
        with pytest.raises(StageChangedError, match="changed the record"):
            canary.hold("ours")
        assert canary.observe(POLICY).on_hold == "theirs"
        canary.hold("ours")
        assert other.observe(POLICY).on_hold == "ours"


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_broken_store_changes_nothing(text: str) -> None:
    """Where the store cannot be read nothing is begun or promoted; a rollback is not held up."""
    store = Store()
    with rehearsal() as aws:
        stage = fresh(aws, records=store)
        canary = stage.enable_canary(10, release="r1", variables=V2)
        (key,) = store.texts
        store.texts[key] = text
        before = serving(aws)
        with pytest.raises(RecordError, match="store of records"):
            canary.promote()
        assert serving(aws) == before
        canary.rollback()
        assert serving(aws)[2] is None
        with pytest.raises(RecordError):
            stage.enable_canary(10, release="r2", variables=V2)
        assert serving(aws)[2] is None


# The callers of the manual


def example(name: str) -> ModuleType:
    """An example as a module of this test alone, without running its rehearsal."""
    spec = importlib.util.spec_from_file_location(f"resumed_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("deaths", [0, 1, 3, 8])
def test_the_script_is_killed_and_started_again(deaths: int) -> None:
    """Killed anywhere, the script started again ends in the promotion all the same."""
    script = example("script")
    with rehearsal() as aws:
        for death in range(deaths):
            aws.fail("UpdateStage" if death % 2 else "GetStage", Fault.DEATH, skip=3 * death)
        for _ in range(deaths + 1):
            try:
                assert script.release(fresh(aws), "r1", sleep=aws.sleep)
            except ProcessDeath:
                continue
        assert serving(aws)[1:] == (V2, None)
        assert script.release(fresh(aws), "r1", sleep=aws.sleep)


@pytest.mark.long
def test_the_script_does_not_start_a_bad_release_again() -> None:
    """A release that was rolled back stays so when its script is run again."""
    script = example("script")
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.05)}) as aws:
        before = serving(aws)
        assert not script.release(aws.stage, "r1", sleep=aws.sleep)
        assert not script.release(aws.stage, "r1", sleep=aws.sleep)
        assert serving(aws) == before


@pytest.mark.long
@pytest.mark.no_cover
def test_the_lambda_needs_its_event_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduled function takes what it needs from its event and the default session."""
    every_minute = example("every_minute")
    with rehearsal() as aws:
        monkeypatch.setattr("boto3.Session", lambda: aws.session)
        monkeypatch.setattr(every_minute, "Stage", partial(Stage, sleep=aws.sleep))
        event = {"rest_api_id": aws.rest_api_id, "stage": "prod", "release": "r1"}
        answers = []
        for _ in range(40):
            answers.append(every_minute.handler(event, None))
            aws.sleep(60)
        assert answers[-1] == {"final": True, "outcome": "promoted"}
        assert serving(aws)[1:] == (V2, None)


@pytest.mark.long
def test_a_process_a_minute_rolls_back_when_metrics_are_gone() -> None:
    """Processes that start afresh know from the record since when metrics cannot be read."""
    every_minute = example("every_minute")
    with rehearsal() as aws:
        before = serving(aws)
        answer: dict[str, Any] = {}
        for minute in range(70):
            if minute >= 5:
                aws.fail("GetMetricData", Fault.ACCESS_DENIED)
            answer = every_minute.look(fresh(aws), "r1")
            if answer["final"]:
                break
            aws.sleep(60)
        assert 30 <= minute <= 40
        assert "could not be read" in answer["decision"]
        assert serving(aws) == before


@pytest.mark.long
def test_the_ci_job_speaks_by_its_exit_codes(tmp_path: Path) -> None:
    """Each documented exit code and outcome means what the manual states."""
    job = example("ci_job")
    file, output = tmp_path / "decision.json", tmp_path / "rollout.env"

    def ran(aws: Rehearsal, *arguments: str) -> tuple[int, str]:
        code = job.main([*arguments, str(file)], fresh(aws), output)
        return code, output.read_text(encoding="utf-8").splitlines()[-1].removeprefix("outcome=")

    with rehearsal() as aws:
        assert ran(aws, "decide", "r1") == (0, "going_on")
        assert not file.exists()
        aws.fail("GetStage", Fault.ACCESS_DENIED)
        assert ran(aws, "decide", "r1") == (3, "error")
        aws.sleep(3600)
        before = serving(aws)
        assert ran(aws, "decide", "r1") == (0, "needs_approval")
        assert serving(aws) == before  # nothing is promoted without an approval
        aws.fail("GetStage", Fault.ACCESS_DENIED)
        assert ran(aws, "apply") == (3, "error")
        aws.sleep(3601)
        assert ran(aws, "apply") == (2, "decide_again")
        assert ran(aws, "decide", "r1") == (0, "needs_approval")
        canary = aws.stage.canary()
        assert canary is not None
        canary.shift(20)
        assert ran(aws, "apply") == (2, "decide_again")
        aws.sleep(3600)
        assert ran(aws, "decide", "r1") == (0, "needs_approval")
        assert ran(aws, "apply") == (0, "promoted")
        assert serving(aws)[1:] == (V2, None)
        assert ran(aws, "decide", "r1") == (0, "promoted")
        assert ran(aws, "apply") == (2, "decide_again")
    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.2)}) as aws:
        before = serving(aws)
        ran(aws, "decide", "r1")
        aws.sleep(3600)
        assert ran(aws, "decide", "r1") == (1, "rolled_back")  # at once, without an approval
        assert serving(aws) == before
        assert ran(aws, "decide", "r1") == (1, "rolled_back")


@pytest.mark.long
def test_the_ci_job_ends_as_the_canary_does(tmp_path: Path) -> None:
    """A begun promotion is finished; an operator is asked for; an exception is an error."""
    job = example("ci_job")
    file, output = tmp_path / "decision.json", tmp_path / "rollout.env"
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with suppress(ProcessDeath):
            canary.promote()
        assert job.decide(fresh(aws), "r1", file) == "promoted"
    with rehearsal(requests_per_minute=5) as aws:
        aws.stage.enable_canary(10, release="r1", variables=V2)
        policy = attrs.evolve(job.POLICY, deadline=timedelta(minutes=20), on_inconclusive="hold")
        job.decide.__globals__["POLICY"] = policy
        aws.sleep(1800)
        assert job.decide(fresh(aws), "r1", file) == "needs_operator"

    def broken() -> str:
        raise KeyError("no such key")

    assert job.run(broken, output) == 3
    with rehearsal() as aws:
        assert job.main(["what"], aws.stage, output) == 3


@pytest.mark.long
def test_each_loop_ends_where_an_operator_has_to_decide() -> None:
    """A Hold after the deadline is not final; the loops end by a time-out of their own."""
    script, cron, machine = map(example, ("script", "every_minute", "step_functions"))
    policy = RolloutPolicy.canary(
        10, timedelta(minutes=10), deadline=timedelta(minutes=20), on_inconclusive="hold"
    )
    for module in (script, cron, machine):
        vars(module).update(POLICY=policy, TIMEOUT=timedelta(minutes=30))
    with rehearsal(requests_per_minute=20) as aws:
        began = aws.now()
        assert script.release(aws.stage, "r1", sleep=aws.sleep) is None
        assert timedelta(minutes=30) < aws.now() - began < timedelta(minutes=32)
        answer = cron.look(aws.stage, "r1")
        assert (answer["final"], answer["outcome"]) == (True, "left to an operator")
        handed_on = machine.look(aws.stage, {"release": "r1"})
        assert (handed_on["final"], handed_on["outcome"]) == (True, "left")
        assert "the deadline of 20 min has passed" in handed_on["said"]
        assert aws.stage.canary() is not None


def _closed(*_: Any) -> Any:
    raise OSError("the warehouse is closed")


def _more_bad_than_requests(*window: Any) -> Any:
    return {"errors_5xx": [Minute(window[2], 9, 10, 0, 0)]}


@pytest.mark.parametrize(
    "minutes, said",
    [(_closed, "the warehouse is closed"), (_more_bad_than_requests, "baseline_bad must be")],
)
def test_a_source_of_ones_own_may_fail(minutes: Any, said: str) -> None:
    """Whatever a source raises is a Hold, and after `max_unobserved` a Rollback."""

    class Broken:
        def minutes(self, *window: Any) -> Any:
            return minutes(*window)

    with rehearsal() as aws:
        stage = fresh(aws, metrics=Broken())
        canary = stage.enable_canary(10, release="r1", variables=V2)
        decision = POLICY.decide(canary.observe(POLICY))
        assert isinstance(decision, Hold)
        assert said in decision.reason
        assert any(said in problem.what for problem in stage.check(policy=POLICY))
        aws.sleep(31 * 60)
        assert isinstance(POLICY.decide(canary.observe(POLICY)), Rollback)


def test_a_promotion_goes_on_whatever_the_source_refuses() -> None:
    """Half promoted, production calls the canary's alias: arms that are one stop no rollout."""
    with rehearsal(versions=[Backend(), Backend()]) as aws:
        source = LambdaMetrics("orders", variable="alias")
        aws.session.client("lambda").create_alias(
            FunctionName="orders", Name="v2", FunctionVersion="2"
        )
        canary = fresh(aws, metrics=source).enable_canary(10, release="r1", variables=V2)
        aws.fail("UpdateStage", Fault.ACCESS_DENIED, skip=1)
        with pytest.raises(AccessDeniedError):
            canary.promote()
        resumed = fresh(aws, metrics=source).canary()
        assert resumed is not None
        seen = resumed.observe(POLICY)
        assert "each change for the canary also changes production" in (seen.failure or "")
        assert resumed.apply(POLICY.decide(seen)) is not None
        assert serving(aws)[1:] == (V2, None)
