"""Another process, or a person, acts between any two AWS calls of a promotion or an ending."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from acting import CANARY, COPIES, V2, client, patch, remove, replace, sent
from apigw_canary import Canary, CanaryError, Stage
from apigw_canary.errors import KnownState
from apigw_canary.testing import Rehearsal, RehearsalError, rehearsal


def elsewhere(aws: Rehearsal) -> Stage:
    """The stage as another process has it."""
    return Stage(aws.rest_api_id, "prod", session=aws.session, sleep=aws.sleep)


def their_canary(aws: Rehearsal) -> Canary | None:
    return elsewhere(aws).canary()


def promote(aws: Rehearsal) -> None:
    if (canary := their_canary(aws)) is not None:
        canary.promote()


def forget(aws: Rehearsal) -> None:
    """Each deployment's description is replaced by another tool."""
    api = aws.rest_api_id
    for each in client(aws).get_deployments(restApiId=api)["items"]:
        operation = replace("/description", "deployed by another tool")
        client(aws).update_deployment(
            restApiId=api, deploymentId=each["id"], patchOperations=[operation]
        )


OTHERS: dict[str, Callable[[Rehearsal], Any]] = {
    "promotes": promote,
    "rolls back": lambda aws: elsewhere(aws).rollback(),
    "copies by hand": lambda aws: patch(aws, *COPIES),
    "ends by hand": lambda aws: patch(aws, remove(CANARY)),
    "sets production's own variable": lambda aws: patch(aws, replace("/variables/alias", "v0")),
    "sets another variable": lambda aws: patch(aws, replace("/variables/other", "x")),
    "overrides another value": lambda aws: patch(
        aws, replace("/canarySettings/stageVariableOverrides/alias", "v9")
    ),
    "replaces the descriptions": forget,
}


def calls_of(act: str) -> list[str]:
    """The calls of an undisturbed one."""
    with rehearsal() as aws:
        canary = aws.stage.enable_canary(5, release="r1", variables=V2)
        before = len(sent(aws))
        getattr(canary, act)()
        return sent(aws)[before:]


@pytest.mark.traced
@pytest.mark.long
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_what_is_said_is_so(act: str, other: str) -> None:
    """Whichever call it falls before: production is as one of the two asked, or the error says what
    was read last; and the same line again never makes it worse."""
    calls = calls_of(act)
    for i, operation in enumerate(calls):
        with rehearsal() as aws:
            canary = aws.stage.enable_canary(5, release="r1", variables=V2)
            old = aws.stage.describe().deployment_id
            act_now = getattr(canary, act)
            once = [lambda aws=aws: OTHERS[other](aws)]

            def meanwhile(once: list[Any] = once) -> None:
                with suppress(CanaryError, RehearsalError, ClientError):
                    once.pop()()

            aws.meanwhile(operation, meanwhile, skip=calls[:i].count(operation))
            raised: CanaryError | None = None
            try:
                act_now()
            except CanaryError as error:
                raised = error
            except RehearsalError:
                continue  # what AWS answers to a change that has lost its canary is not known
            now = elsewhere(aws).describe()
            where = f"{other} before call {i} ({operation}) of {act}: {raised}; {now}"
            assert now.deployment_id in {old, canary.deployment_id}, where
            if raised is None:
                assert now.canary is None, where
            else:
                state = raised.state
                assert isinstance(state, KnownState), where
                if now.canary is not None:  # the error tells of it, or claims no knowledge
                    assert state.stage is None or state.stage.canary is not None or state.sent, (
                        where
                    )
            with suppress(CanaryError, RehearsalError):
                act_now()
            assert elsewhere(aws).describe().deployment_id in {old, canary.deployment_id}, where
