"""Puts a dispatcher in the place of AWS, for every client of a boto3 session.

It hangs on botocore's own events, after parameters are validated and before they are serialised. So
it works whatever protocol a service uses, and paginators and typed exceptions are the real ones.
"""

from __future__ import annotations

import copy
import functools
import os
import random
import uuid
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from apigw_canary.testing.answers import Json, Refusal, copied

if TYPE_CHECKING:
    import boto3
    from botocore.hooks import BaseEventHooks
    from botocore.loaders import Loader
    from botocore.session import Session as Core

REGION = "eu-central-1"

Dispatcher: TypeAlias = Callable[[str, str, Json], Json | None]
"""Service, operation and parameters → the answer, without ResponseMetadata; None: moto answers."""

# Keys in botocore's context of a request.
_PARAMETERS = "apigw_canary.testing.parameters"
_WIRE = "apigw_canary.testing.wire"  # the arguments of simulated_session


def simulated_session(
    dispatch: Dispatcher, now: Callable[[], datetime], rng: random.Random
) -> boto3.Session:
    """A session whose calls `dispatch` answers, dated by `now`; `rng` makes the request ids."""
    from apigw_canary.testing.clients import Session

    return Session(_core, _shared_session(), region=REGION, key=_WIRE, wire=(dispatch, now, rng))


def _keep_parameters(*, params: Json, context: Json, **_: object) -> None:
    context[_PARAMETERS] = params


def _reply(*, model: Any, context: Json, **_: object) -> Any:
    dispatch, _now, rng = context[_WIRE]
    parameters = _snapshot(model, context[_PARAMETERS])
    try:
        answer = dispatch(model.service_model.service_name, model.name, parameters)
    except Refusal as refusal:
        return _response(refusal.status, _error(model, refusal), rng)
    if answer is None:
        return None
    return _response(model.http.get("responseCode", 200), answer, rng)


def _state_date(*, parsed: Json, context: Json, **_: object) -> None:
    _dispatch, now, _rng = context[_WIRE]
    parsed["ResponseMetadata"]["HTTPHeaders"]["date"] = format_datetime(now(), usegmt=True)


def _core() -> Core:
    """What knows nothing of the user's profile, configuration files and endpoints."""
    import botocore.session

    # Each is: name in a file, environment variables, default, conversion.
    variables = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
        "ignore_configured_endpoint_urls": (None, None, True, None),
    }
    core = botocore.session.Session(
        variables, event_hooks=copy.copy(_handlers()), include_builtin_handlers=False
    )
    core.register_component("data_loader", loader())
    return core


@functools.cache
def _shared_session() -> boto3.Session:
    import boto3

    return boto3.Session("rehearsal", "rehearsal", region_name=REGION, botocore_session=_core())


@functools.cache
def _handlers() -> BaseEventHooks:
    """Botocore's own handlers of events, and ours: registering them is most of the rest of it."""
    import botocore.session
    from botocore.hooks import HierarchicalEmitter

    events = HierarchicalEmitter()
    botocore.session.Session(event_hooks=events)
    events.register_last("before-parameter-build", _keep_parameters)
    events.register_first("before-call", _reply)
    events.register_last("after-call", _state_date)
    return events


@functools.cache
def loader() -> Loader:
    """Reads the services' descriptions."""
    # Parsing the services' descriptions is most of what a session costs; they never change.
    from botocore.loaders import create_loader

    return create_loader()


def _snapshot(model: Any, parameters: Json) -> Json:
    """The parameters as they are now, with times as aware datetimes, however they were given."""
    from botocore.utils import parse_to_aware_datetime

    snapshot: Json = copied(parameters)
    for name in snapshot:
        if model.input_shape.members[name].type_name == "timestamp":
            snapshot[name] = parse_to_aware_datetime(snapshot[name])
    return snapshot


def _response(status: int, answer: Json, rng: random.Random) -> tuple[object, Json]:
    """What botocore makes of an HTTP response: the response, and what is parsed from it."""
    from botocore.awsrequest import AWSResponse, HTTPHeaders

    request_id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    metadata = {
        "RequestId": request_id,
        "HTTPStatusCode": status,
        "HTTPHeaders": {"x-amzn-requestid": request_id},
        "RetryAttempts": 0,
    }
    return AWSResponse("", status, HTTPHeaders(), None), {**answer, "ResponseMetadata": metadata}


def _error(model: Any, refusal: Refusal) -> Json:
    error: Json = {
        "Error": {"Code": refusal.code, "Message": refusal.message},
        **refusal.details,
    }
    # Members that the service's description gives to an error stand beside it, as botocore does it.
    if any(e.name == refusal.code and "message" in e.members for e in model.error_shapes):
        error["message"] = refusal.message
    return error
