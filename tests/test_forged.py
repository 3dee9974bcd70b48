"""Forged descriptions: with a store of the caller's own they change nothing at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest

from acting import V2, Store, client, describe, fresh, patch, replace, serving
from apigw_canary import CanaryError, Outcome, Promotion, RolloutPolicy
from apigw_canary.model.record import Begun, OnHold, Record, with_record
from apigw_canary.testing import Rehearsal, rehearsal

POLICY = RolloutPolicy.canary(10, timedelta(minutes=10))
EVIL = {"alias": "evil"}

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

Forge = Callable[[Rehearsal, str], str | Record]
"""What is written over the description of a deployment."""


def begun(aws: Rehearsal, **changes: Any) -> Begun:
    """A rollout of r1 that everything known of the stage agrees with."""
    rollout = Begun.of(
        fresh(aws).describe(),
        at=aws.now() - timedelta(minutes=1),
        rollout_id="f0f0f0f0f0f0f0f0",
        release="r1",
        variables=V2,
    )
    return attrs.evolve(rollout, **({"enabled_at": aws.now()} | changes))


def promotion(aws: Rehearsal, deployment_id: str, before: str, **changes: Any) -> Promotion:
    given: dict[str, Any] = {
        "region": "eu-central-1",
        "rest_api_id": aws.rest_api_id,
        "stage": "prod",
        "release": "r1",
        "rollout_id": "f0f0f0f0f0f0f0f0",
        "deployment_before": before,
        "deployment_after": deployment_id,
        "variables_before": EVIL,
        "variables_after": V2,
        "begun_at": aws.now(),
    }
    return Promotion(**(given | changes))


def other(aws: Rehearsal, deployment_id: str) -> str:
    """Another deployment of the API, which production must not get."""
    found = client(aws).get_deployments(restApiId=aws.rest_api_id)["items"]
    return str(next((each["id"] for each in found if each["id"] != deployment_id), "abc123"))


def rollout(**changes: Any) -> Forge:
    return lambda aws, _: Record(rollout=begun(aws, **changes))


def promoting(**changes: Any) -> Forge:
    def forge(aws: Rehearsal, deployment_id: str) -> Record:
        before = other(aws, deployment_id)
        record = Record(rollout=begun(aws))
        return record.promoting(promotion(aws, deployment_id, before, **changes))

    return forge


FORGED: dict[str, Forge] = {
    "no record": lambda aws, _: "a text",
    "a text": lambda aws, _: "apigw-canary:2:prod:{",
    "another version": lambda aws, _: "apigw-canary:3:prod:{}",
    "twice": lambda aws, _: "apigw-canary:2:prod:{}\napigw-canary:2:prod:{}",
    "rollout": rollout(),
    "rollout.id": rollout(id="0000000000000000"),
    "rollout.release": rollout(release="r2"),
    "rollout.release of none": rollout(release=None),
    "rollout.stage_deployment_id": rollout(stage_deployment_id="abc123"),
    "rollout.policy": rollout(policy="00000000"),
    "rollout.enabled_at": rollout(enabled_at=None),
    "rollout.production": rollout(production={"deployment_id": "00000000"}),
    "rollout.overrides": rollout(overrides={"variables.alias": "00000000"}),
    "rollout.held": rollout(held=timedelta(days=20)),
    "rollout.ended_by": rollout(outcome=Outcome.ROLLED_BACK, ended_by="operator"),
    **{f"rollout.outcome {each.value}": rollout(outcome=each) for each in Outcome},
    "rollout.hold": lambda aws, _: Record(
        rollout=begun(aws, hold=OnHold(reason="forged", since=aws.now()))
    ),
    "rollout.failing_since": lambda aws, _: Record(
        rollout=begun(aws, failing_since=aws.now() - timedelta(hours=9))
    ),
    "rollout.started_at": lambda aws, _: Record(
        rollout=begun(aws, started_at=aws.now() - timedelta(days=20))
    ),
    "promotion": promoting(),
    "promotion.variables": promoting(variables_before={}, variables_after={}),
    "promotion.absent": promoting(variables_before={"alias": None}),
    "promotion.rollout_id": promoting(rollout_id=None),
    "promotion, of variables only": lambda aws, deployment_id: Record(
        rollout=begun(aws, stage_deployment_id=deployment_id)
    ).promoting(promotion(aws, deployment_id, deployment_id)),
    "reverted_from": lambda aws, deployment_id: Record(reverted_from=other(aws, deployment_id)),
    "ended": lambda aws, _: Record(
        ended={"r1": Outcome.PROMOTED, "r2": Outcome.ROLLED_BACK, "r3": Outcome.PROMOTED}
    ),
    "region": lambda aws, _: Record(region="us-east-1", rollout=begun(aws)),
    "rest_api_id": lambda aws, _: Record(rest_api_id="another", rollout=begun(aws)),
}


def forged(aws: Rehearsal, forge: Forge) -> None:
    """Every description of the API is replaced."""
    for each in client(aws).get_deployments(restApiId=aws.rest_api_id)["items"]:
        made = forge(aws, each["id"])
        if isinstance(made, Record):
            place = {"region": "eu-central-1", "rest_api_id": aws.rest_api_id}
            given: Any = {name: getattr(made, name) or each for name, each in place.items()}
            made = with_record("a text", "prod", attrs.evolve(made, **given))
        describe(aws, each["id"], made)


def trace(forge: Forge | None, store: Store | None = None) -> Iterator[str]:
    """What comes of each line of a script, each in a process of its own."""
    with rehearsal(requests_per_minute=60, history=timedelta(0)) as aws:

        def done(act: Callable[[], object]) -> str:
            if forge is not None:
                forged(aws, forge)
            aws.sleep(60)
            try:
                result = repr(act())
            except CanaryError as error:
                result = f"{type(error).__name__}: {error.happened}"
            result = re.sub(r"(rollout_id|\bid)='[0-9a-f]{16}'", r"\1=…", result)
            for each in client(aws).get_deployments(restApiId=aws.rest_api_id)["items"]:
                known.setdefault(each["id"], f"d{len(known)}")
            return re.sub("|".join(known), lambda id_: known[id_[0]], f"{result} {serving(aws)}")

        def stage() -> Any:
            return fresh(aws, records=store)

        def running() -> Any:
            canary = stage().canary()
            assert canary is not None
            return canary

        own = serving(aws)[0]
        known = {own: "d0"}
        second: dict[str, Any] = {"variables": V2}
        yield done(lambda: stage().enable_canary(10, release="r1", **second).release)
        yield done(lambda: stage().describe())
        yield done(lambda: stage().enable_canary(10, release="r1", **second).release)
        yield done(lambda: running().observe(POLICY).on_hold)
        yield done(lambda: running().observe(POLICY).started_at)
        yield done(lambda: running().shift(50))
        yield done(lambda: running().promote())
        yield done(lambda: stage().describe())
        yield done(lambda: stage().rollback())
        yield done(lambda: stage().revert(dry_run=True))
        yield done(lambda: stage().revert())
        yield done(lambda: stage().revert())
        yield done(lambda: stage().enable_canary(10, release="r1", **second))
        second["deployment_id"] = own
        yield done(lambda: stage().enable_canary(10, release="r2", **second).release)
        patch(aws, replace("/variables/alias", "v2"))  # as in a promotion that is half done
        yield done(lambda: running().promote())
        yield done(lambda: stage().rollback())
        yield done(lambda: stage().describe())
        patch(aws, replace("/variables/alias", "v1"))
        yield done(lambda: stage().enable_canary(10, release="r3", **second).release)
        yield done(lambda: running().rollback())
        patch(aws, replace("/canarySettings/percentTraffic", "10.0"))
        yield done(lambda: running().promote())
        yield done(lambda: stage().rollback())
        yield done(lambda: stage().revert())


@pytest.fixture(scope="module")
def undisturbed() -> list[str]:
    return list(trace(None, Store()))


def test_the_script(undisturbed: list[str]) -> None:
    """It enables, promotes, undoes, refuses, and ends as it must."""
    shown = "\n".join(undisturbed)
    for expected in ("'r1'", "'r2'", "'r3'", "Promotion(", "RolloutEndedError", "promoted"):
        assert expected in shown
    assert undisturbed[-1].endswith("{'alias': 'v1'}, None)")


@pytest.mark.parametrize("name", FORGED)
def test_nothing_is_read_from_a_description(name: str, undisturbed: list[str]) -> None:
    """Each line has the outcome that it has without, and the stage serves the same."""
    assert list(trace(FORGED[name], Store())) == undisturbed


@pytest.mark.parametrize("name", ["rollout.hold", "rollout.started_at", "promotion"])
def test_without_a_store_the_same_forgeries_count(name: str) -> None:
    """So the test above would notice that a description is read."""
    assert list(trace(FORGED[name])) != list(trace(None))
