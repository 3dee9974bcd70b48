"""What holds for every test: no credentials, no network, the same examples every time."""

from __future__ import annotations

import functools
import gc
import importlib
import itertools
import os
import pkgutil
import socket
import sys
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import boto3
import pytest
from hypothesis import settings

import apigw_canary
from apigw_canary.testing import rehearsal

NO_CREDENTIALS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, max_examples=100, print_blob=True
)
settings.register_profile("dev", deadline=None, max_examples=1000, print_blob=True)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own AWS account is out of reach of the tests, and so is another test's."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in NO_CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere, this machine included, fails the test that makes it."""

    def refuse(*where: Any, **_: Any) -> NoReturn:
        raise AssertionError(f"a test uses the network: {where}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


def _load_all() -> None:
    """Import each module, and make what a rehearsal makes once in a process.

    Where a test that is not traced were the first to do so, it would count as not covered.
    """
    for module in pkgutil.walk_packages(apigw_canary.__path__, "apigw_canary."):
        importlib.import_module(module.name)
    with rehearsal() as aws:
        aws.stage.describe()


def pytest_collection_finish() -> None:
    """Spare the tests what costs time and tests nothing."""
    import moto.core.models

    if sys.gettrace() is not None:
        _load_all()
    # moto registers each service's addresses for `requests` again with each rehearsal; no test
    # makes a request with it.
    if hasattr(moto.core.models, "RESPONSES_METHODS"):
        moto.core.models.RESPONSES_METHODS[:] = []
    # What is loaded by now stays; going through it again and again finds no garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


TRACED_EXAMPLES = 10
"""Examples of a hypothesis test that are traced for coverage: those that `make check` tries."""


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Trace for coverage what covers something; tracing takes longer than most of the tests.

    Not traced: tests marked `long` and not `traced`, or `no_cover`; and what a hypothesis test does
    after its first examples.
    """
    tracer = sys.gettrace()
    if tracer is None:
        return (yield)
    given: Any = getattr(getattr(item, "obj", None), "hypothesis", None)
    test: Any = given and given.inner_test
    marks = {mark.name for mark in item.iter_markers()}
    if "no_cover" in marks or ("long" in marks and "traced" not in marks):
        sys.settrace(None)
    elif given:
        given.inner_test = _traced_first(test)
    try:
        return (yield)
    finally:
        if given:
            given.inner_test = test
        sys.settrace(tracer)


def _traced_first(test: Callable[..., object]) -> Callable[..., object]:
    examples = itertools.count(1)

    @functools.wraps(test)
    def traced(*args: Any, **kwargs: Any) -> object:
        if next(examples) > TRACED_EXAMPLES:
            sys.settrace(None)
        return test(*args, **kwargs)

    return traced


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the steps recorded against AWS that were replayed, whatever the verbosity."""
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if "test_recorded.py" in report.nodeid and getattr(report, "when", "call") == "call":
                step = report.nodeid.partition("[")[2].rstrip("]") or report.nodeid
                terminalreporter.write_line(f"recorded step {outcome}: {step}")
