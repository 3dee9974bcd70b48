"""What goes on at the edges: stale reads, holds, changes from outside, forged records, endings."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from botocore.exceptions import ClientError

import interleavings
from acting import (
    CANARY,
    COPIES,
    PERCENT,
    V2,
    describe,
    description,
    fresh,
    new_deployment,
    patch,
    remove,
    replace,
    sent,
    serving,
    untrue,
)
from apigw_canary import (
    AliasCanary,
    Canary,
    Hold,
    Outcome,
    Rollback,
    RolloutPolicy,
    Shift,
    Stage,
    Step,
)
from apigw_canary.errors import (
    CallerError,
    CanaryAlreadyEnabledError,
    CanaryError,
    CannotTellError,
    InvalidInputError,
    NoCanaryError,
    NothingToRevertError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnconfirmedChangeError,
)
from apigw_canary.model.record import Begun
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy.canary(10, 10 * MINUTE)
QUIET: dict[str, Any] = {"requests_per_minute": 60, "history": timedelta(0)}


def enabled(aws: Rehearsal, percent: float = 10, **options: Any) -> Canary:
    aws.sleep(60)
    canary = aws.stage.enable_canary(percent, release="r1", variables=V2, **options)
    aws.sleep(60)
    return canary


def found(aws: Rehearsal, **options: Any) -> Canary:
    """The canary as a process finds it that starts afresh."""
    canary = fresh(aws, **options).canary()
    assert canary is not None
    return canary


def shift(canary: Canary | AliasCanary, percent: float) -> Shift:
    """A decision that was made just now."""
    decision = POLICY.decide(canary.observe(POLICY))
    assert isinstance(decision, Hold)
    kept = {name: getattr(decision, name) for name in ("at", "analysis", "basis")}
    return Shift(
        reason="a test",
        percent=percent,
        wait=timedelta(0),
        final=False,
        waiting_for=None,
        **kept,
    )


# The record


def test_a_record_of_usual_names_is_short() -> None:
    """Under 1,000 characters, with all that a rollout can have: hold, failing reads, promotion."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws, policy=POLICY)
        canary.hold("waiting for the database team to finish its migration")
        canary._verbs.failing(canary._control, canary._handle, aws.now())
        canary.promote()
        line = description(aws, canary.deployment_id)
        assert line.startswith("apigw-canary:2:prod:")
        assert len(line) < 1000
        aws.stage.revert()
        assert len(description(aws, canary.deployment_id)) < 1000


def test_a_record_of_a_newer_version_does_not_keep_a_canary() -> None:
    """It cannot be promoted, and the error names what ends it."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        text = description(aws, canary.deployment_id)
        describe(aws, canary.deployment_id, text.replace("canary:2:", "canary:3:"))
        with pytest.raises(RecordError, match=r"another version than 2.*stage\.rollback\(\)"):
            found(aws).promote()
        with pytest.raises(RecordError, match="another version"):
            found(aws).hold("a reason")
        observation = found(aws).observe(POLICY)
        assert "may be on hold" in (observation.on_hold or "")
        fresh(aws).rollback()
        assert serving(aws)[2] is None


def forged(change: Callable[[dict[str, Any]], None]) -> Callable[[Rehearsal, str], None]:
    """A record that whoever may describe deployments has changed."""

    def forge(aws: Rehearsal, deployment_id: str) -> None:
        text = description(aws, deployment_id)
        mark, line = text[:20], text[20:]
        data = json.loads(line)
        change(data)
        describe(aws, deployment_id, mark + json.dumps(data))

    return forge


def moved(data: dict[str, Any]) -> None:
    data["region"] = "us-east-1"


def of_another_api(data: dict[str, Any]) -> None:
    data["rest_api_id"] = "another123"


def replaced_deployment(data: dict[str, Any]) -> None:
    data["promotion"]["deployment_before"] = "evil12"


def replaced_variable(data: dict[str, Any]) -> None:
    data["promotion"]["variables_before"] = {"alias": "evil"}


def replaced_value(data: dict[str, Any]) -> None:
    data["promotion"]["variables_after"] = {"alias": "evil"}


def from_the_future(data: dict[str, Any]) -> None:
    data["rollout"]["started_at"] = "2026-02-01T09:00:00+00:00"


def before_it_began(data: dict[str, Any]) -> None:
    data["promotion"]["begun_at"] = "2026-01-05T08:00:00+00:00"


def of_another_deployment(data: dict[str, Any]) -> None:
    data["promotion"]["deployment_after"] = "another1"


def oversized(data: dict[str, Any]) -> None:
    data["ended"] = {f"r{n}": "promoted" for n in range(2000)}


FORGED = [
    moved,
    of_another_api,
    replaced_deployment,
    replaced_variable,
    replaced_value,
    from_the_future,
    before_it_began,
    of_another_deployment,
    oversized,
]


@pytest.mark.parametrize("change", FORGED)
def test_a_forged_receipt_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """What a record claims is checked against all else that is known, before it is used."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        canary.promote()
        forged(change)(aws, canary.deployment_id)
        before = serving(aws)
        for dry_run in (True, False):
            with pytest.raises(RecordError) as raised:
                fresh(aws).revert(dry_run=dry_run)
            assert untrue(aws, raised.value) == ""
        assert serving(aws) == before


def test_the_record_of_another_stage_is_not_this_stages() -> None:
    """A receipt under another stage's mark undoes nothing here."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        canary.promote()
        text = description(aws, canary.deployment_id)
        describe(aws, canary.deployment_id, text.replace(":prod:", ":other:", 1))
        before = serving(aws)
        for dry_run in (True, False):
            with pytest.raises(NothingToRevertError):
                fresh(aws).revert(dry_run=dry_run)
        assert serving(aws) == before


def test_a_deleted_ending_does_not_make_a_rollout_run() -> None:
    """Whether a canary runs is told by the stage, and the dry run shows the same receipt."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        canary = enabled(aws)
        receipt = canary.promote()

        def change(data: dict[str, Any]) -> None:
            del data["rollout"]["outcome"]

        forged(change)(aws, canary.deployment_id)
        assert fresh(aws).canary() is None
        assert fresh(aws).revert(dry_run=True) == receipt
        assert serving(aws)[0] == canary.deployment_id
        fresh(aws).revert()
        assert serving(aws)[0] == old


def test_a_consistent_forgery_is_shown_by_the_dry_run() -> None:
    """Whoever may write descriptions can write a whole receipt: the dry run shows what it sets."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        receipt = canary.promote()
        evil = new_deployment(aws)

        def change(data: dict[str, Any]) -> None:
            del data["rollout"]
            data["promotion"]["deployment_before"] = evil

        forged(change)(aws, canary.deployment_id)
        shown = fresh(aws).revert(dry_run=True)
        assert shown is not None
        assert shown.deployment_before == evil
        assert serving(aws) == (canary.deployment_id, V2, None)
        assert fresh(aws).revert(receipt) == receipt  # the receipt is not the record


class Store:
    """A caller's store, with compare-and-set."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.loses = False

    def load(self, key: str) -> str | None:
        return self.texts.get(key)

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        assert self.texts.get(key) == expected
        self.texts[key] = "{}" if self.loses else text


@pytest.mark.parametrize("change", FORGED)
def test_with_a_store_descriptions_are_not_read(change: Callable[[dict[str, Any]], None]) -> None:
    """Nothing that changes production is taken from a description."""
    store = Store()
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        old = serving(aws)[0]
        canary = enabled(aws)
        canary.promote()
        forged(change)(aws, canary.deployment_id)
        with pytest.raises(NothingToRevertError):
            fresh(aws, records=store).revert()
        stage = fresh(aws, records=store)
        stage.enable_canary(10, release="r2", variables={"alias": "v3"}).promote()
        reverted = stage.revert()
        assert reverted is not None
        assert reverted.deployment_before == canary.deployment_id
        assert serving(aws) == (canary.deployment_id, V2, None)
        assert old != canary.deployment_id


def test_a_store_that_loses_what_it_takes() -> None:
    """Each write is read back."""
    store = Store()
    with rehearsal(**QUIET) as aws:
        canary = fresh(aws, records=store).enable_canary(10, release="r1", variables=V2)
        store.loses = True
        with pytest.raises(RecordError, match="contains another one"):
            canary.hold("a reason")


def test_a_promotion_under_way_on_a_fresh_canary_is_not_believed() -> None:
    """A canary that has no trace of a promotion has none, whatever its record claims."""
    with rehearsal(**QUIET) as aws:
        own = serving(aws)[0]
        aws.sleep(60)
        canary = aws.stage.enable_canary(
            10, release="r1", deployment_id=own, variables={"alias": "v2", "color": "red"}
        )

        def change(data: dict[str, Any]) -> None:
            data["promotion"] = {
                "rollout_id": data["rollout"]["id"],
                "release": "r1",
                "deployment_before": own,
                "deployment_after": own,
                "variables_before": {"alias": "evil"},
                "variables_after": {"alias": "v2"},
                "begun_at": data["rollout"]["started_at"],
            }

        forged(change)(aws, own)
        assert found(aws).observe(POLICY).phase == "running"
        before = serving(aws)
        with pytest.raises(RecordError, match="The canary was ended") as raised:
            fresh(aws).rollback()
        assert untrue(aws, raised.value) == ""
        assert serving(aws) == (*before[:2], None)
        assert canary.deployment_id == own


# Holds, accepted changes, failing reads


@pytest.mark.traced
@pytest.mark.long
def test_a_hold_is_seen_by_every_process() -> None:
    """It holds what goes up, not what goes back, and its time is counted."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        decision = shift(canary, 50)
        found(aws).hold("a freeze")
        found(aws).hold("a longer freeze")
        aws.sleep(600)
        for each in (canary, found(aws)):
            seen = each.observe(POLICY)
            assert (seen.on_hold, seen.phase) == ("a longer freeze", "running")
            assert seen.held_for >= 10 * MINUTE
            held = POLICY.decide(seen)
            assert isinstance(held, Hold)
            assert held.waiting_for == "operator"
        with pytest.raises(StageChangedError, match=r"on hold: a longer freeze.*resume\(\)"):
            canary.apply(decision)
        found(aws).resume()
        found(aws).resume()
        aws.sleep(600)
        seen = found(aws).observe(POLICY)
        assert seen.on_hold is None
        assert 10 * MINUTE <= seen.held_for < 11 * MINUTE
        canary.apply(shift(canary, 50))
        found(aws).hold("again")
        canary.rollback()
        assert serving(aws)[2] is None


def test_a_hold_is_of_the_canary_it_was_made_for() -> None:
    """Of one that does not exist any more, or was replaced, there is none."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        with pytest.raises(InvalidInputError, match="reason"):
            canary.hold("r" * 121)
        patch(aws, remove(CANARY))
        aws.sleep(60)
        with pytest.raises(NoCanaryError):
            canary.hold("x")
        for act in (canary.resume, canary.accept_production_changes):
            with pytest.raises(NoCanaryError):
                act()


def test_a_canary_that_was_enabled_outside_can_be_held() -> None:
    """Its record begins with the hold."""
    with rehearsal(**QUIET) as aws:
        other = new_deployment(aws)
        patch(
            aws,
            replace("/canarySettings/deploymentId", other),
            replace(PERCENT, "5.0"),
        )
        found(aws).hold("nobody knows it")
        assert found(aws).observe(POLICY).on_hold == "nobody knows it"
        found(aws).promote()
        assert serving(aws)[0] == other


def test_changes_of_production_are_found_by_a_process_an_observation() -> None:
    """Held until they are accepted; a second change holds again; values stay secret."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        canary = enabled(aws)
        decision = shift(canary, 50)
        patch(aws, replace("/variables/alias", "v9"))
        seen = found(aws).observe(POLICY)
        assert set(seen.production_changed) == {"variables.alias"}
        assert "v9" not in str(dict(seen.production_changed))
        assert isinstance(POLICY.decide(seen), Hold)
        with pytest.raises(StageChangedError, match=r"accept_production_changes\(\)"):
            canary.apply(decision)
        found(aws).accept_production_changes()
        assert found(aws).observe(POLICY).production_changed == {}
        patch(aws, replace("/variables/alias", "v8"))
        assert set(found(aws).observe(POLICY).production_changed) == {"variables.alias"}
        found(aws).accept_production_changes()
        receipt = found(aws).promote()
        assert receipt.variables_before == {"alias": "v8"}
        fresh(aws).revert()
        assert serving(aws) == (old, {"alias": "v8"}, None)


def test_a_deployment_of_production_s_that_changed() -> None:
    """Named with the one that the rollout began from, unless another one was accepted."""
    with rehearsal(**QUIET) as aws:
        state = fresh(aws).describe()
        begun = Begun.of(state, at=aws.now(), rollout_id="r", release=None, variables={})
        later = attrs.evolve(state, deployment_id="later1")
        last = attrs.evolve(state, deployment_id="last22")
        first = f"later1 instead of {state.deployment_id}"
        assert begun.production_changes(state, {}) == {}
        assert begun.production_changes(later, {}) == {"deployment_id": first}
        accepted = begun.accepting(later, {})
        assert accepted.production_changes(later, {}) == {}
        assert accepted.production_changes(last, {}) == {
            "deployment_id": "last22, which is not the one that was accepted"
        }


def test_other_variables_are_only_reported() -> None:
    """A variable that the canary does not override reaches both variants."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        patch(aws, replace("/variables/color", "red"))
        seen = canary.observe(POLICY)
        assert seen.changed == {"variables": "color changed"}
        assert seen.production_changed == {}
        assert canary.observe(POLICY).changed == {}


@pytest.mark.parametrize("look", [None, "describe", "canary"])
def test_a_change_is_reported_whatever_looked_before(look: str | None) -> None:
    """A dashboard's thread does not take it from the loop."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        canary.observe(POLICY)
        patch(aws, replace(PERCENT, "50.0"))
        if look is not None:
            getattr(aws.stage, look)()
        assert canary.observe(POLICY).changed == {"canary.percent": "50 instead of 10"}


def test_own_changes_are_not_foreign() -> None:
    """Not even while a thread's own change is on its way back."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        changed = []
        aws.meanwhile(
            "UpdateStage",
            lambda: changed.append(canary.observe(POLICY).changed),
            after=True,
        )
        canary.shift(20)
        assert changed == [{}]
        assert canary.observe(POLICY).changed == {}


def test_failing_reads_are_on_record() -> None:
    """A process an observation learns since when the metrics cannot be read, and when they can."""
    with rehearsal(**QUIET) as aws:
        enabled(aws)
        since = []
        for fault in (Fault.ACCESS_DENIED, Fault.ACCESS_DENIED, None):
            if fault is not None:
                aws.fail("GetMetricData", fault)
            since.append(found(aws).observe(POLICY).failing_since)
            aws.sleep(300)
        assert since[0] is not None
        assert since[1] == since[0]
        assert since[2] is None


def test_failing_reads_that_cannot_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    """The observation goes on."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        aws.fail("UpdateDeployment", Fault.ACCESS_DENIED)
        seen = canary.observe(POLICY)
        assert seen.failure is not None
        assert seen.failing_since == seen.at
        assert "is not on record" in caplog.text


def test_another_policy_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """In the notes, and in the log; what is only reported does not make another policy."""
    caplog.set_level(logging.WARNING, "apigw_canary")
    other = attrs.evolve(POLICY, deadline=timedelta(hours=5))
    with rehearsal(**QUIET) as aws:
        enabled(aws, policy=POLICY)
        assert not any("another one" in note for note in found(aws).observe(POLICY).notes)
        seen = found(aws).observe(other)
        assert any("not the one that the rollout began with" in n for n in seen.notes)
        assert "another policy" in caplog.text


def test_the_first_step_is_where_a_rollout_begins(caplog: pytest.LogCaptureFixture) -> None:
    """Unless a percent is given; one that is no step is reported."""
    policy = RolloutPolicy([Step(7, 10 * MINUTE), Step(50, 10 * MINUTE)])
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        with pytest.raises(InvalidInputError, match="percent must be a number from 0 to 100"):
            aws.stage.enable_canary(release="r1", variables=V2)
        aws.stage.enable_canary(release="r1", variables=V2, policy=policy)
        assert serving(aws)[2]["percentTraffic"] == 7
        fresh(aws).rollback()
        canary = aws.stage.enable_canary(9, release="r2", variables=V2, policy=policy)
        assert "9 % is no step of the policy, whose steps are 7 %, 50 %" in caplog.text
        assert any("no step of the policy" in note for note in canary.observe(policy).notes)


# Stale reads


class Stale:
    """A session in which a GetStage after each UpdateStage answers once as before it."""

    def __init__(self, aws: Rehearsal, answers: list[Any] | None = None, times: int = 1) -> None:
        self.aws, self.times = aws, times
        self.old: list[Any] = [] if answers is None else answers

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        made: Any = self.aws.session.client(service_name, config=config)
        call = made._make_api_call

        def stale(operation: str, parameters: Any) -> Any:
            if operation == "UpdateStage":
                before = call("GetStage", {k: parameters[k] for k in ("restApiId", "stageName")})
                answer = call(operation, parameters)
                self.old[:] = [before] * self.times
                return answer
            if operation == "GetStage" and self.old:
                answer = call(operation, parameters)
                return {**self.old.pop(), "ResponseMetadata": answer["ResponseMetadata"]}
            return call(operation, parameters)

        made._make_api_call = stale
        return made


def through(aws: Rehearsal, session: Any) -> Stage:
    return Stage(aws.rest_api_id, "prod", session=session, sleep=aws.sleep)


@pytest.mark.parametrize("processes", ["one", "fresh ones"])
@pytest.mark.parametrize("verb", ["rollback", "disable", "page", "promote"])
@pytest.mark.parametrize("wait", [0, 30])
def test_a_stale_read_loses_no_canary(verb: str, processes: str, wait: float) -> None:
    """Each GetStage answers once with the state from before each change."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        old: list[Any] = []
        stage = through(aws, Stale(aws, old))
        canary = stage.enable_canary(10, release="r1", variables=V2)
        aws.sleep(wait)
        if processes != "one":
            stage = through(aws, Stale(aws, old))
            canary = stage.enable_canary(10, release="r1", variables=V2)
            aws.sleep(wait)
        canary.shift(20)
        if verb == "page":
            stage.rollback()
        else:
            getattr(canary, verb)()
        assert serving(aws)[2] is None
        assert serving(aws)[1] == (V2 if verb == "promote" else {"alias": "v1"})


def test_a_loop_is_not_ended_by_a_stale_read() -> None:
    """What is found ended outside is read again before that ends the loop."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        old: list[Any] = []
        through(aws, Stale(aws, old)).enable_canary(10, release="r1", variables=V2)
        kept = list(old)
        aws.sleep(60)
        canary = through(aws, Stale(aws, old)).canary()
        assert canary is not None
        old[:] = kept
        assert canary.observe(POLICY).phase == "running"


def test_reads_that_stay_old_are_an_error() -> None:
    """The process has seen a later state; it does not go on with the older one."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        canary = through(aws, Stale(aws, times=9)).enable_canary(10, release="r1", variables=V2)
        aws.sleep(5)
        with pytest.raises(CannotTellError, match="older than one that was read before"):
            canary.rollback()
        assert serving(aws)[2] is not None


def test_nothing_to_end_is_certain_or_an_error() -> None:
    """A fresh process that is shown the old state twice is not told that there is nothing."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        old: list[Any] = []
        through(aws, Stale(aws, old, times=9)).enable_canary(10, release="r1", variables=V2)
        aws.sleep(5)
        with pytest.raises(CannotTellError, match="may still be active"):
            through(aws, Stale(aws, old)).rollback()
        assert serving(aws)[2] is not None
        old.clear()
        through(aws, Stale(aws, old)).rollback()
        assert serving(aws)[2] is None


def test_reads_that_do_not_agree_are_an_error() -> None:
    """A stage that changes with each read has, or has not, a canary."""
    with rehearsal(**QUIET) as aws:
        colors = iter("abcde")
        for number in range(5):
            aws.meanwhile(
                "GetStage",
                lambda: patch(aws, replace("/variables/color", next(colors))),
                skip=number,
                after=True,
            )
        with pytest.raises(CannotTellError, match="do not agree"):
            fresh(aws).rollback()


def test_a_canary_that_is_about_to_be_enabled_is_not_overlooked() -> None:
    """An operator's rollback while another process makes a canary ready says so."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        said = []

        def page() -> None:
            with pytest.raises(CannotTellError, match="may be about to be enabled") as raised:
                fresh(aws).rollback()
            said.append(raised.value)

        aws.meanwhile("UpdateStage", page)
        aws.stage.enable_canary(10, release="r1", variables=V2)
        assert len(said) == 1
        fresh(aws).rollback()
        assert serving(aws)[2] is None


def test_an_answer_that_is_lost_and_takes_effect_late() -> None:
    """The error says that AWS may still carry it out; the next rollback ends what came of it."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        for skip in range(3):
            aws.fail("UpdateStage", Fault.TIMEOUT, skip=skip)
        with pytest.raises(CanaryError) as raised:
            aws.stage.enable_canary(10, release="r1", variables=V2)
        state = raised.value.state
        assert state is not None
        assert "not known whether AWS carried out: enabling a canary" in str(raised.value)
        aws._interruptions._pending.clear()
        made = state.sent[0].split()[5]
        patch(aws, replace("/canarySettings/deploymentId", made), replace(PERCENT, "10.0"))
        fresh(aws).rollback()
        assert serving(aws)[2] is None


# No takeover, no false ending


@pytest.mark.parametrize("call", ["UpdateDeployment", "GetDeployment", "CreateDeployment"])
def test_no_canary_is_taken_over(call: str) -> None:
    """A colleague's canary that came meanwhile stays, whatever we waited for."""
    with rehearsal(**QUIET) as aws:
        old = new_deployment(aws, description="kept for later")
        aws.sleep(60)

        def colleague() -> None:
            aws.sleep(20)
            fresh(aws).enable_canary(50, release="colleague", variables={"alias": "v3"})

        aws.meanwhile(call, colleague)
        options: dict[str, Any] = {"deployment_id": old} if call == "UpdateDeployment" else {}
        with pytest.raises(CanaryAlreadyEnabledError, match="of release colleague"):
            aws.stage.enable_canary(10, release="mine", variables=V2, **options)
        assert serving(aws)[2]["percentTraffic"] == 50


def test_production_that_changes_while_a_canary_is_made_ready() -> None:
    """What was compared and recorded is of other production: the same line runs again."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        aws.meanwhile("GetDeployment", lambda: patch(aws, replace("/variables/alias", "v9")))
        with pytest.raises(StageChangedError, match=r"being prepared: variables\.alias"):
            aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.stage.enable_canary(10, release="r1", variables=V2)
        assert sent(aws).count("CreateDeployment") == 1


@pytest.mark.parametrize("seed", range(4))
def test_of_twins_the_promoted_one_counts(seed: int) -> None:
    """Two runs at once make two deployments of a release; one of them is promoted."""
    with rehearsal(seed=seed, **QUIET) as aws:
        aws.sleep(60)
        aws.meanwhile(
            "CreateDeployment",
            lambda: fresh(aws).enable_canary(10, release="r1", variables=V2),
        )
        aws.stage.enable_canary(10, release="r1", variables=V2).promote()
        aws.sleep(60)
        with pytest.raises(RolloutEndedError) as ended:
            fresh(aws).enable_canary(10, release="r1", variables=V2)
        assert ended.value.outcome == "promoted"
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert rollout.outcome is Outcome.PROMOTED


def test_what_never_had_traffic_was_no_rollout() -> None:
    """Though the stage was changed in the second before, and the process died before enabling."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        patch(aws, replace("/variables/color", "red"))
        aws.fail("CreateDeployment", Fault.DEATH, after=True)
        with pytest.raises(ProcessDeath):
            aws.stage.enable_canary(10, release="r1", variables=V2)
        aws.sleep(300)
        assert fresh(aws).describe().rollout is None
        fresh(aws).enable_canary(10, release="r1", variables=V2)
        assert serving(aws)[2]["percentTraffic"] == 10


def test_a_canary_of_production_itself_has_nothing_to_judge() -> None:
    """The console's first state: neither judged nor promoted, and no promotion of the past."""
    with rehearsal(**QUIET) as aws:
        enabled(aws).promote()
        own = serving(aws)[0]
        patch(aws, replace("/canarySettings/deploymentId", own), replace(PERCENT, "5.0"))
        canary = found(aws)
        seen = canary.observe(POLICY)
        assert seen.phase == "running"
        assert "nothing to judge or promote" in (seen.suspect or "")
        assert isinstance(POLICY.decide(seen), Hold)
        for act in (canary.promote, lambda: canary.shift(20)):
            with pytest.raises(CallerError, match="nothing to judge or promote"):
                act()
        fresh(aws).rollback()
        assert serving(aws) == (own, V2, None)


@pytest.mark.long
def test_a_script_that_is_run_again_gets_to_its_end() -> None:
    """Whatever call of it a process died at: enable, shift, promote."""

    def script(stage: Stage) -> None:
        canary = stage.enable_canary(10, release="r1", variables=V2)
        canary.shift(50)
        canary.promote()

    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        script(fresh(aws))
        calls = sent(aws)
    for number, call in enumerate(calls):
        for after in (False, True):
            with rehearsal(**QUIET) as aws:
                aws.sleep(60)
                aws.fail(call, Fault.DEATH, skip=calls[:number].count(call), after=after)
                with pytest.raises(ProcessDeath):
                    script(fresh(aws))
                aws.sleep(5)
                with suppress(RolloutEndedError):  # it was promoted
                    script(fresh(aws))
                assert serving(aws)[1:] == (V2, None)


# Outcomes

ENDINGS: list[tuple[str, str | None, Callable[[Rehearsal, Canary], object]]] = [
    ("promoted", None, lambda aws, canary: canary.promote()),
    ("reverted", None, lambda aws, canary: (canary.promote(), fresh(aws).revert())),
    ("rolled_back", "caller", lambda aws, canary: canary.rollback()),
    ("rolled_back", "operator", lambda aws, canary: fresh(aws).rollback()),
    ("disabled", "caller", lambda aws, canary: canary.disable()),
    ("promoted_outside", None, lambda aws, _: (patch(aws, *COPIES), patch(aws, remove(CANARY)))),
    ("removed_outside", None, lambda aws, _: patch(aws, remove(CANARY))),
]


@pytest.mark.long
@pytest.mark.parametrize("own", [False, True], ids=["deployment", "variables"])
@pytest.mark.parametrize("outcome, by, end", ENDINGS)
def test_every_call_tells_the_same_ending(
    outcome: str, by: str | None, end: Callable[[Rehearsal, Canary], object], *, own: bool
) -> None:
    """`describe`, `enable_canary` and `observe`, in this process and in others."""
    with rehearsal(**QUIET) as aws:
        options: dict[str, Any] = {"deployment_id": serving(aws)[0]} if own else {}
        canary = enabled(aws, **options)
        other = found(aws)
        end(aws, canary)
        aws.sleep(60)
        for stage in (aws.stage, fresh(aws)):
            rollout = stage.describe().rollout
            assert rollout is not None
            assert (rollout.outcome, rollout.ended_by, rollout.release) == (outcome, by, "r1")
            with pytest.raises(RolloutEndedError) as ended:
                stage.enable_canary(10, release="r1", variables=V2, **options)
            assert ended.value.outcome == outcome
        assert other.observe(POLICY).phase == outcome
        decision = POLICY.decide(other.observe(POLICY))
        assert decision.final


@pytest.mark.long
def test_the_judge_s_rollback_is_recorded_as_the_judge_s() -> None:
    """And the release is in the basis and in the decision."""
    bad = rehearsal(requests_per_minute=3000, backends={"alias=v2": Backend(errors_5xx=0.5)})
    with bad as aws:
        canary = enabled(aws)
        aws.sleep(600)
        decision = POLICY.decide(canary.observe(POLICY))
        assert isinstance(decision, Rollback)
        assert decision.basis is not None
        assert (decision.basis.release, decision.release) == ("r1", "r1")
        canary.apply(decision)
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert (rollout.outcome, rollout.ended_by) == ("rolled_back", "judge")


def test_a_rollback_that_cannot_be_recorded_is_a_rollback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It waits for nothing; what is not on record is logged."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        for skip in range(2):
            aws.fail("UpdateDeployment", Fault.ACCESS_DENIED, skip=skip)
        canary.rollback()
        assert serving(aws)[2] is None
        assert "rolled_back is not announced" in caplog.text
        assert "rolled_back is not on record" in caplog.text


def test_a_change_outside_in_a_half_promotion_loses_no_receipt() -> None:
    """What production was before is on record only; the promotion goes on with that record."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        canary = enabled(aws)
        aws.fail("UpdateStage", Fault.DEATH, skip=1)
        with pytest.raises(ProcessDeath):
            canary.promote()
        patch(aws, replace("/variables/alias", "v9"))
        assert found(aws).promote().deployment_before == old
        assert serving(aws) == (canary.deployment_id, V2, None)
        fresh(aws).revert()
        assert serving(aws) == (old, {"alias": "v1"}, None)


def test_a_canary_that_aws_made_by_itself_is_not_promoted() -> None:
    """The canary was ended outside, and a percent that was set made one of production itself."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        before = serving(aws)

        def outside() -> None:
            patch(aws, remove(CANARY))
            patch(aws, replace(PERCENT, "30.0"))

        aws.meanwhile("UpdateStage", outside)
        with pytest.raises(StageChangedError, match="production serves what it served before"):
            canary.promote()
        assert serving(aws) == (*before[:2], None)


@pytest.mark.parametrize("half", [False, True], ids=["announced", "half done"])
def test_accepting_changes_where_a_promotion_was_begun(half: bool) -> None:
    """What is recorded stays what is so: the way back is not lost."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        canary = enabled(aws)
        aws.fail("UpdateStage", Fault.DEATH, skip=int(half))
        with pytest.raises(ProcessDeath):
            canary.promote()
        patch(aws, replace("/variables/alias", "v9"))
        found(aws).accept_production_changes()
        found(aws).promote()
        receipt = fresh(aws).revert()
        assert receipt is not None
        assert receipt.deployment_before == old
        assert serving(aws) == (old, {"alias": "v1" if half else "v9"}, None)


def test_disable_after_a_promotion_is_success() -> None:
    """There is nothing left to disable."""
    with rehearsal(versions=[Backend(), Backend()], **QUIET) as aws:
        canary = enabled(aws)
        canary.promote()
        canary.disable()
        with pytest.raises(RolloutEndedError):
            canary.rollback()
        alias = aws.alias("v1").enable_canary(10, version="2", release="r1")
        alias.promote()
        alias.disable()
        with pytest.raises(RolloutEndedError):
            alias.rollback()


# Errors


def refuse() -> None:
    answer = {"Error": {"Code": "BadRequestException", "Message": "Invalid patch"}}
    raise ClientError(answer, "UpdateStage")  # type: ignore[arg-type]


def test_a_half_promotion_is_not_said_to_be_unchanged() -> None:
    """The refusal of the second write is raised, though the read that settles it fails too."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        aws.meanwhile("UpdateStage", refuse, skip=1)
        aws.fail("GetStage", Fault.ACCESS_DENIED, skip=2)
        with pytest.raises(CanaryError, match="Invalid patch") as raised:
            canary.promote()
        error = raised.value
        assert error.state is not None
        assert error.state.made == ("making the canary's deployment and variables the stage's own",)
        assert "GetStage was denied" in error.happened
        assert untrue(aws, error) == ""
        assert serving(aws)[1] == V2


def test_the_first_error_is_the_one_that_is_raised() -> None:
    """What is tried to repair it fails too: its error is told, and does not take its place."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        aws.meanwhile("UpdateStage", lambda: patch(aws, remove(CANARY)))
        aws.fail("GetStage", Fault.ACCESS_DENIED, skip=1)
        with pytest.raises(UnconfirmedChangeError, match="GetStage was denied") as raised:
            canary.shift(50)
        assert untrue(aws, raised.value) == ""
        fresh(aws).rollback()
        canary = aws.stage.enable_canary(10, release="r2", variables=V2)
        other = new_deployment(aws)
        aws.meanwhile(
            "UpdateStage", lambda: patch(aws, replace("/canarySettings/deploymentId", other))
        )
        aws.fail("GetStage", Fault.ACCESS_DENIED, skip=2)
        with pytest.raises(UnconfirmedChangeError, match="GetStage was denied") as raised:
            canary.promote()
        assert untrue(aws, raised.value) == ""


# Aliases


def test_an_alias_is_held_with_a_letter() -> None:
    """From any process; the reason stays with the process that gave it."""
    with rehearsal(versions=[Backend()] * 3, **QUIET) as aws:
        canary = aws.alias("v1").enable_canary(10, version="2", release="r1")
        decision = shift(canary, 50)
        canary.hold("a freeze")
        canary.hold("a freeze")
        aws.sleep(600)
        assert canary.observe(POLICY).on_hold == "a freeze"
        other = aws.alias("v1").canary()
        assert other is not None
        seen = other.observe(POLICY)
        assert seen.on_hold == "by an operator"
        assert seen.held_for == timedelta(seconds=600)
        with pytest.raises(StageChangedError, match="on hold"):
            canary.apply(decision)
        other.resume()
        other.resume()
        assert canary.observe(POLICY).held_for == timedelta(seconds=600)
        canary.rollback()
        rollout = aws.alias("v1").describe().rollout
        assert rollout is not None
        assert (rollout.outcome, rollout.ended_by) == ("rolled_back", "caller")


def test_an_alias_whose_version_was_changed_outside() -> None:
    """Held until it is accepted."""
    with rehearsal(versions=[Backend()] * 3, **QUIET) as aws:
        alias = aws.alias("v1")
        canary = alias.enable_canary(10, version="2", release="r1")
        client = aws.session.client("lambda")
        client.update_alias(FunctionName=alias.function, Name="v1", FunctionVersion="3")
        seen = canary.observe(POLICY)
        assert seen.production_changed == {"deployment_id": "3 instead of 1"}
        with pytest.raises(StageChangedError):
            canary.shift(20)
        canary.accept_production_changes()
        assert canary.observe(POLICY).production_changed == {}
        canary.shift(20)
        assert canary.promote().deployment_before == "3"


def test_reads_of_an_alias_that_do_not_agree() -> None:
    """An alias that changes with each read has, or has not, a canary."""
    with rehearsal(versions=[Backend()] * 3, **QUIET) as aws:
        alias = aws.alias("v1")
        client = aws.session.client("lambda")
        texts = iter("abcdef")
        for number in range(6):
            aws.meanwhile(
                "GetAlias",
                lambda: client.update_alias(
                    FunctionName=alias.function, Name="v1", Description=next(texts)
                ),
                skip=number,
                after=True,
            )
        with pytest.raises(CannotTellError, match="do not agree"):
            alias.rollback()


# Many at once


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_any_interleaving(seed: int) -> None:
    """Two orchestrators, an operator, a foreign writer: nothing is lost (`make interleavings`)."""
    assert interleavings.run(seed).wrong == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_many_processes_start_the_same_release(seed: int) -> None:
    """One canary, and afterwards one outcome, the true one."""
    with rehearsal(**QUIET) as aws:
        aws.sleep(60)
        turns = interleavings.Turns(seed)
        ends: Counter[str] = Counter()

        def start() -> None:
            session = interleavings.Session(aws, lambda _: turns.wait())
            try:
                Stage(aws.rest_api_id, "prod", session=session, sleep=aws.sleep).enable_canary(
                    10, release="r1", variables=V2
                )
                ends["ok"] += 1
            except CanaryError as error:
                ends[type(error).__name__] += 1

        turns.run({f"process {n}": start for n in range(20)})
        assert serving(aws)[2] is not None
        assert ends["ok"] >= 1
        canary = fresh(aws).enable_canary(10, release="r1", variables=V2)
        canary.promote()
        for _ in range(2):
            with pytest.raises(RolloutEndedError) as ended:
                fresh(aws).enable_canary(10, release="r1", variables=V2)
            assert ended.value.outcome == "promoted"
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert rollout.outcome is Outcome.PROMOTED


def test_a_hold_at_the_same_time_loses_no_receipt() -> None:
    """A promotion that is recorded between a hold's read and its write is put back."""
    with rehearsal(**QUIET) as aws:
        old = serving(aws)[0]
        enabled(aws)
        aws.meanwhile("UpdateDeployment", lambda: found(aws).promote())
        canary = found(aws)
        canary.hold("a freeze")
        receipt = fresh(aws).revert(dry_run=True)
        assert receipt is not None
        assert receipt.deployment_before == old


def test_threads_share_a_stage() -> None:
    """What one thread's error claims is not of another thread's call."""
    with rehearsal(**QUIET) as aws:
        canary = enabled(aws)
        errors: list[CanaryError] = []

        def wrong() -> None:
            try:
                canary.shift(101)
            except CanaryError as error:
                errors.append(error)

        def shifted() -> None:
            thread = threading.Thread(target=wrong)
            thread.start()
            thread.join()

        aws.meanwhile("UpdateStage", shifted)
        canary.shift(20)
        assert [error.state for error in errors] == [None]


def test_times_are_aws_s() -> None:
    """A record that states a time within five minutes ahead is of a caller's own clock."""
    with rehearsal(**QUIET) as aws:
        ahead = Stage(
            aws.rest_api_id,
            "prod",
            session=aws.session,
            sleep=aws.sleep,
            clock=lambda: aws.now() + 4 * MINUTE,
        )
        aws.sleep(60)
        ahead.enable_canary(10, release="r1", variables=V2)
        assert found(aws).release == "r1"
        assert datetime.now(UTC) > aws.now()
