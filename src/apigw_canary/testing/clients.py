"""Clients as copies: making one is most of what a rehearsal costs.

A copy has everything in common with a client that is made once per process for its service and
options. The first change to a copy's event handlers gives it everything of its own. A named handler
that is registered last, as this library does, only gives it another client to copy.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from functools import partial
from inspect import isfunction
from typing import Any

import boto3
from botocore.hooks import BaseEventHooks
from botocore.session import Session as Core

from apigw_canary.testing.answers import Json

_LOCK = threading.RLock()
_SHARED: dict[object, tuple[object, Any]] = {}
_OF_BOTO3 = {"_loader", "_session", "resource_factory"}
"""What boto3 gives a session when it is made; making it is half of what a rehearsal costs."""


class Session(boto3.Session):
    """A session whose clients find `wire` in the context of each request, under `key`.

    They are copies of those of `shared`, unless arguments beside `config` are given or `events`
    was read, to register handlers there. Everything else of a session is made when it is asked for.
    """

    def __init__(
        self,
        core: Callable[[], Core],
        shared: boto3.Session,
        *,
        region: str,
        key: str,
        wire: object,
    ) -> None:
        self._core = core
        self._shared = shared
        self._region = region
        self._wire = {key: wire}
        self._events_read = False

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            if name in _OF_BOTO3 and "_session" not in vars(self):
                super().__init__(
                    "rehearsal",
                    "rehearsal",
                    region_name=self._region,
                    botocore_session=self._core(),
                )
                super().events.register_first("provide-client-params", partial(_put, self._wire))
        return object.__getattribute__(self, name)

    @property
    def events(self) -> BaseEventHooks:
        """The handlers that clients made from now on have."""
        self._events_read = True
        return super().events

    def client(self, service_name: str, *args: Any, **options: Any) -> Any:
        """Make a client: `boto3.Session.client`, arguments and errors included."""
        make = partial(super().client, service_name, *args, **options)
        if args or options.keys() - {"config"} or self._events_read:
            return make()
        found = partial(_made, self._shared, service_name, options.get("config"))
        return _copied(found, self._wire, make)


def _put(wire: Json, *, context: Json, **_: object) -> None:
    context.update(wire)


Registration = tuple[str, Callable[..., Any], str]
"""An event's name, a handler, and the handler's unique id."""


def _made(
    shared: boto3.Session, service: str, config: Any, last: Registration | None = None
) -> Any:
    """The client that is made once for these; the environment may configure clients as well."""
    environment = sorted((name, os.environ[name]) for name in os.environ if name[:4] == "AWS_")
    key = (service, repr(config and vars(config)), repr(environment), last)
    with _LOCK:
        if key not in _SHARED:
            make: Any = shared.client
            client = make(service, config=config)
            if last is not None:
                client.meta.events.register_last(*last[:2], unique_id=last[2])
            # `config` is kept: a representation may hold the addresses of what is in it.
            _SHARED[key] = config, client
        return _SHARED[key][1]


def _copied(found: Callable[..., Any], wire: Json, make: Callable[[], Any]) -> Any:
    made = found()
    # Not copy.copy: a client makes up the attributes that are looked for there.
    client = object.__new__(type(made))

    def share(hooks: BaseEventHooks, last: Registration | None = None) -> BaseEventHooks:
        vars(client).update(vars(found(last)))
        events: BaseEventHooks = client.meta.events
        client.meta = copy.copy(client.meta)
        client.meta.events = hooks
        return events

    def separate() -> BaseEventHooks:
        vars(client).update(vars(make()))
        events: BaseEventHooks = client.meta.events
        return events

    _Events(wire, share, separate)
    return client


class _Events(BaseEventHooks):
    """The events that `share` gives until handlers are changed; then those that `separate` gives.

    What is emitted has `wire` in its context.
    """

    def __init__(
        self,
        wire: Json,
        share: Callable[..., BaseEventHooks],
        separate: Callable[[], BaseEventHooks],
    ) -> None:
        self._events = share(self)
        self._share = share
        self._last: Registration | None = None
        self._wire = wire
        self._separate: Callable[[], BaseEventHooks] | None = separate

    def emit(self, event_name: str, **about: Any) -> Any:
        about.get("context", {}).update(self._wire)
        return self._events.emit(event_name, **about)

    def emit_until_response(self, event_name: str, **about: Any) -> Any:
        about.get("context", {}).update(self._wire)
        return self._events.emit_until_response(event_name, **about)  # type: ignore[attr-defined]

    def register(self, *args: Any, **options: Any) -> None:
        self._own().register(*args, **options)

    def register_first(self, *args: Any, **options: Any) -> None:
        self._own().register_first(*args, **options)

    def register_last(self, *args: Any, **options: Any) -> None:
        with _LOCK:
            if self._last is None and self._separate is not None and _is_named(*args, **options):
                self._last = (*args, options["unique_id"])
                self._events = self._share(self, self._last)
                return
        self._own().register_last(*args, **options)

    def unregister(self, *args: Any, **options: Any) -> None:
        self._own().unregister(*args, **options)

    def _own(self) -> BaseEventHooks:
        with _LOCK:
            if self._separate is not None:
                self._events, self._separate = self._separate(), None
                if self._last is not None:
                    self._events.register_last(*self._last[:2], unique_id=self._last[2])
            return self._events


def _is_named(_: str, handler: object, **options: object) -> bool:
    """Whether the handler is a module's function with a unique id: the same in every rehearsal."""
    return [*options] == ["unique_id"] and isfunction(handler) and "<" not in handler.__qualname__
