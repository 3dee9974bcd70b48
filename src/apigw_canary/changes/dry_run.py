"""Enabling a canary without sending what would change anything."""

from collections.abc import Callable
from typing import NamedTuple

from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.aws.dry_run import DryCalls, Sent
from apigw_canary.changes import journal
from apigw_canary.changes.control import Control
from apigw_canary.changes.enable import CanaryRequest, enable
from apigw_canary.changes.sending import Condition
from apigw_canary.errors import CanaryError


class DryRun(NamedTuple):
    """What enabling a canary would come to."""

    sent: list[Sent]
    error: CanaryError | None
    """What it would raise."""


def dry_run(
    control: Control, request: CanaryRequest, only_if: Callable[[ApiGateway], Condition]
) -> DryRun:
    """Enables the canary with reads alone; `only_if` gives the condition for a gateway."""
    calls = DryCalls(control.gateway.calls)
    gateway = ApiGateway(calls, control.gateway.rest_api_id, control.gateway.stage_name)
    try:
        with journal.dry():
            enable(control.dry(gateway), request, only_if(gateway))
    except CanaryError as error:
        return DryRun(calls.sent, error)
    return DryRun(calls.sent, None)
