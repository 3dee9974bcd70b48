"""The record of an alias in a caller's store: all of it, a lock, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from acting import Store
from apigw_canary import (
    AliasCanary,
    LambdaAlias,
    Minute,
    Promotion,
    RolloutPolicy,
    Signal,
    StageState,
)
from apigw_canary.errors import (
    AccessDeniedError,
    CanaryAlreadyEnabledError,
    NothingToRevertError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

MINUTE = timedelta(minutes=1)
POLICY = RolloutPolicy.canary(10, 10 * MINUTE)
KEY = "eu-central-1/lambda/orders/v1"


def quiet() -> Any:
    return rehearsal(versions=[Backend()] * 3, requests_per_minute=1, history=timedelta(0))


def fresh(aws: Rehearsal, store: Store | None, **options: Any) -> LambdaAlias:
    """The alias as another process sees it."""
    return LambdaAlias(
        "orders", "v1", session=aws.session, sleep=aws.sleep, records=store, **options
    )


def found(aws: Rehearsal, store: Store | None, **options: Any) -> AliasCanary:
    canary = fresh(aws, store, **options).canary()
    assert canary is not None
    return canary


def enabled(aws: Rehearsal, store: Store | None, **options: Any) -> AliasCanary:
    return fresh(aws, store).enable_canary(10, **{"version": "2", "release": "r1", **options})


def client(aws: Rehearsal) -> Any:
    return aws.session.client("lambda")


def route(aws: Rehearsal, **parameters: Any) -> None:
    client(aws).update_alias(FunctionName="orders", Name="v1", **parameters)


def described(aws: Rehearsal) -> str:
    return str(client(aws).get_alias(FunctionName="orders", Name="v1").get("Description", ""))


def kept(store: Store) -> dict[str, Any]:
    """The record that the store has."""
    (key,) = store.texts
    assert key == KEY
    return dict(json.loads(json.loads(store.texts[key])["record"]))


class Broken:
    """A source that fails."""

    def minutes(
        self, stage: StageState, signals: tuple[Signal, ...], start: Any, end: Any
    ) -> dict[str, list[Minute]]:
        raise RuntimeError("no metrics")


def test_what_a_description_has_no_room_for() -> None:
    """The reason of a hold, the policy, since when metrics cannot be read: from any process."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store, policy=POLICY)
        canary.hold("waiting for the database team")
        aws.sleep(60)
        other = found(aws, store, metrics=Broken())
        seen = other.observe(RolloutPolicy.canary(10, 20 * MINUTE))
        assert seen.on_hold == "waiting for the database team"
        assert any("not the one that the rollout began with" in note for note in seen.notes)
        since = seen.at
        aws.sleep(120)
        assert found(aws, store, metrics=Broken()).observe(POLICY).failing_since == since
        assert found(aws, store).observe(POLICY).failing_since is None
        assert found(aws, store, metrics=Broken()).observe(POLICY).failing_since == aws.now()
        found(aws, store).resume()
        seen = found(aws, store).observe(POLICY)
        assert (seen.on_hold, seen.held_for) == (None, timedelta(minutes=3))
        assert not any("not the one that the rollout began with" in note for note in seen.notes)
        assert described(aws) == ""


def test_the_description_is_the_user_s() -> None:
    """It is set where that is asked for, and otherwise never touched."""
    store = Store()
    with quiet() as aws:
        route(aws, Description="Orders.")
        enabled(aws, store).promote()
        assert described(aws) == "Orders."
        enabled(aws, store, version="3", release="r2", description="More orders.")
        assert described(aws) == "More orders."


def test_releases_are_remembered() -> None:
    """Many more than a description has room for."""
    store = Store()
    with quiet() as aws:
        for number in range(12):
            enabled(aws, store, release=f"r{number}").rollback()
        for number in range(12):
            with pytest.raises(RolloutEndedError, match="its canary was rolled back"):
                enabled(aws, store, release=f"r{number}")


# Who dies between the record and the change


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after it"])
def test_a_process_that_dies_while_it_enables(after: bool) -> None:
    """The alias shows whether the change was made; the same line again goes on from there."""
    store = Store()
    with quiet() as aws:
        enabled(aws, store, release="r0").rollback()
        aws.fail("UpdateAlias", Fault.DEATH, after=after)
        with pytest.raises(ProcessDeath):
            enabled(aws, store)
        rollout = fresh(aws, store).describe().rollout
        assert rollout is not None
        assert rollout.release == ("r1" if after else "r0")
        assert enabled(aws, store).release == "r1"
        found(aws, store).rollback()
        with pytest.raises(RolloutEndedError):
            enabled(aws, store)


ACTS: dict[str, Callable[[Rehearsal, Store], object]] = {
    "shift": lambda aws, store: found(aws, store).shift(50),
    "promote": lambda aws, store: found(aws, store).promote(),
    "rollback": lambda aws, store: fresh(aws, store).rollback(),
    "disable": lambda aws, store: found(aws, store).disable(),
}


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after it"])
@pytest.mark.parametrize("act", ACTS)
def test_a_process_that_dies(act: str, after: bool) -> None:
    """Nothing is on record as done that was not done, and what was done is known."""
    store = Store()
    with quiet() as aws:
        enabled(aws, store)
        aws.sleep(60)
        aws.fail("UpdateAlias", Fault.DEATH, after=after)
        with pytest.raises(ProcessDeath):
            ACTS[act](aws, store)
        state = fresh(aws, store).describe()
        assert state.rollout is not None
        outcomes = {"shift": None, "promote": "promoted", "rollback": "rolled_back"}
        assert state.rollout.outcome == (outcomes.get(act, "disabled") if after else None)
        if act == "promote" and after:
            assert fresh(aws, store).revert().deployment_before == "1"
        elif state.canary is not None:
            ACTS[act](aws, store)


@pytest.mark.parametrize(
    "outside, outcome",
    [
        ({"RoutingConfig": {"AdditionalVersionWeights": {}}}, "removed_outside"),
        (
            {"FunctionVersion": "2", "RoutingConfig": {"AdditionalVersionWeights": {}}},
            "promoted_outside",
        ),
        ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.3}}}, None),
    ],
)
@pytest.mark.parametrize("act", ["shift", "rollback"])
def test_what_was_announced_and_then_done_otherwise(
    act: str, outside: dict[str, Any], outcome: str | None
) -> None:
    """The process dies before its change, and the canary is changed outside."""
    store = Store()
    with quiet() as aws:
        enabled(aws, store)
        aws.fail("UpdateAlias", Fault.DEATH)
        with pytest.raises(ProcessDeath):
            ACTS[act](aws, store)
        route(aws, **outside)
        rollout = fresh(aws, store).describe().rollout
        assert rollout is not None
        expected = outcome
        if act == "rollback" and outcome == "removed_outside":
            expected = "rolled_back"  # as was asked for, whoever did it
        assert rollout.outcome == expected


# A lock


def test_who_loses_the_store_sends_nothing() -> None:
    """Two promote at once: the store lets one."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)

        def race() -> None:
            store.between = lambda: None
            store.texts[KEY] += " "

        store.between = race
        with pytest.raises(StageChangedError, match="lost the race"):
            canary.promote()
        assert fresh(aws, store).describe().canary is not None
        assert canary.promote().deployment_before == "1"


def test_a_change_in_between_is_not_overwritten() -> None:
    """A hold that was read before another process's hold does not replace it."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)

        def race() -> None:
            store.between = lambda: None
            found(aws, store).hold("theirs")

        store.between = race
        with pytest.raises(StageChangedError, match="refused to change"):
            canary.hold("ours")
        assert kept(store)["hold_reason"] == "theirs"


@pytest.mark.parametrize("outcome", ["removed_outside", "rolled_back"])
def test_a_rollback_does_not_wait_for_the_store(outcome: str) -> None:
    """Where its record is refused the canary is ended all the same."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)

        def refuse() -> None:
            raise RuntimeError("out of order")

        store.between = (lambda: None) if outcome == "rolled_back" else refuse
        canary.rollback()
        rollout = fresh(aws, store).describe().rollout
        assert rollout is not None
        assert rollout.outcome == outcome
        assert canary.observe(POLICY).phase == "rolled_back"


BROKEN = ["x" * 40000, "", "[]", '{"a": 1}', "{", '{"record": "{}"}', '{"record": "["}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_store(text: str) -> None:
    """Nothing is begun or promoted, the decision is Hold, and a rollback is not held up."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)
        store.texts[KEY] = text
        for act in (canary.promote, lambda: canary.shift(50), lambda: canary.hold("x")):
            with pytest.raises(RecordError):
                act()
        held = canary.observe(POLICY).on_hold
        assert held is not None
        assert "record cannot be read" in held
        canary.rollback()
        assert fresh(aws, store).describe().canary is None
        with pytest.raises(RecordError):
            enabled(aws, store, release="r2")


def test_a_store_that_refuses_the_last_word() -> None:
    """The change was made; that it is on record as announced only is logged."""
    store = Store()
    with quiet() as aws:
        saves: list[int] = []

        def second() -> None:
            saves.append(1)
            if len(saves) == 2:
                raise RuntimeError("out of order")

        store.between = second
        canary = enabled(aws, store)
        assert found(aws, store).release == "r1"
        store.between = lambda: None
        canary.promote()


def test_a_store_that_keeps_another_text() -> None:
    """It is found at once, and nothing is sent."""

    class Forgetful(Store):
        def load(self, key: str) -> str | None:
            return None

    with quiet() as aws:
        with pytest.raises(RecordError, match="contains another one"):
            enabled(aws, Forgetful())
        assert fresh(aws, None).describe().canary is None


# What is forged


def test_with_a_store_no_description_is_believed() -> None:
    """Whatever the description claims, nothing that changes production is read from it."""
    store = Store()
    with quiet() as aws:
        enabled(aws, None, version="3", release="forged").promote()
        forged = described(aws)
        enabled(aws, None, version="2", release="r1")
        running = described(aws)
        fresh(aws, None).rollback()
        assert "r1" in running
        for text in (forged, running):
            store.texts.clear()
            route(aws, Description=text, FunctionVersion="3")
            with pytest.raises(NothingToRevertError):
                fresh(aws, store).revert()
            assert fresh(aws, store).describe().rollout is None
            canary = enabled(aws, store, version="2")
            route(aws, Description=text)
            assert found(aws, store).release == "r1"
            receipt = canary.promote()
            assert receipt.deployment_before == "3"
            route(aws, Description=text)
            assert fresh(aws, store).revert() == receipt
            route(aws, Description=text)
            with pytest.raises(RolloutEndedError, match="the promotion was undone"):
                enabled(aws, store, version="2")


def test_a_canary_that_the_store_does_not_know() -> None:
    """It is one of an unknown release."""
    with quiet() as aws:
        enabled(aws, None)
        with pytest.raises(CanaryAlreadyEnabledError, match="release unknown"):
            enabled(aws, Store())


FORGED: dict[str, object] = {
    "id": "fedcba9876543210",
    "added": "x" * 40000,
    "before": "3 or another",
    "after": "$LATEST",
    "percent": 101.0,
    "outcome": "never_started",
    "ended_by": "operator",
    "started_at": "2999-01-01T00:00:00+00:00",
    "step_started_at": "0001-01-01T00:00:00+00:00",
    "hold_since": "2099-01-01T00:00:00+00:00",
    "failing_since": "2099-01-01T00:00:00+00:00",
    "held": -1.0,
    "hold_reason": "two\nlines",
    "policy": "none",
    "past": "x",
    "release": "",
    "promoted": {"before": "1", "after": "x", "at": "2026-01-01T00:00:00+00:00"},
    "version": 3,
    "another": 1,
}


@pytest.mark.parametrize("field", FORGED)
def test_what_cannot_be_in_a_store(field: str) -> None:
    """It is an error that leaves everything as it is; the canary can be ended."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)
        store.texts[KEY] = json.dumps({"record": json.dumps(kept(store) | {field: FORGED[field]})})
        with pytest.raises(RecordError):
            canary.promote()
        with pytest.raises(RecordError):
            fresh(aws, store).revert()
        fresh(aws, store).rollback()
        assert fresh(aws, store).describe().canary is None


def test_the_record_of_another_alias() -> None:
    """A description that is copied from one alias to another is no record there."""
    with quiet() as aws:
        enabled(aws, None)
        client(aws).create_alias(
            FunctionName="orders", Name="copy", FunctionVersion="1", Description=described(aws)
        )
        copy = LambdaAlias("orders", "copy", session=aws.session, sleep=aws.sleep)
        assert copy.describe().rollout is None
        with pytest.raises(RecordError, match="of another alias"):
            copy.revert()


def test_a_rollback_that_may_not_be_made() -> None:
    """The store has it announced; the alias shows that it was not made."""
    store = Store()
    with quiet() as aws:
        canary = enabled(aws, store)
        aws.fail("UpdateAlias", Fault.ACCESS_DENIED)
        with pytest.raises(AccessDeniedError):
            canary.rollback()
        assert canary.observe(POLICY).phase == "running"
        canary.shift(50)
        receipt = canary.promote()
        assert Promotion.from_dict(receipt.to_dict()) == fresh(aws, store).revert(dry_run=True)
