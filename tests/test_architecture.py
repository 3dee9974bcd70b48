"""The page on the architecture is what the code is."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import apigw_canary
from apigw_canary import Minute, RolloutPolicy
from apigw_canary.testing import Backend, rehearsal
from test_house import BELOW, PACKAGE, ROOT

PATH = Path(__file__).parent.parent / "docs" / "architecture.md"
PAGE = PATH.read_text(encoding="utf-8")
POLICY = RolloutPolicy.linear(start=5, by=20, every=timedelta(minutes=5))
PERCENT, RELEASE = 12.34, "2026-11-29.17"
MOST = {"A percent": 10, "A minute": 12, "A release": 13}
"""Modules that a value may pass at the most."""


def test_layers_are_those_of_the_code() -> None:
    """The page has the table of test_house.py, from above."""
    block = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    layers = [set(line.split(", ")) for line in block[1].splitlines()]
    assert layers == [{name or PACKAGE for name in layer} for layer in reversed(BELOW)]


def test_each_package_is_described() -> None:
    """A package or module on the page is there, and none is missing."""
    described = re.findall(r"(?m)^\| `(\w+)` \|", PAGE)
    there = {
        path.stem
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
    }
    assert sorted(described) == sorted(there - {"__init__"} | {PACKAGE})


def _holds(value: object, is_it: Callable[[object], bool], depth: int = 2) -> bool:
    """Whether a value is what is followed, or a tuple, list or mapping of it."""
    if is_it(value):
        return True
    if not depth or isinstance(value, str):
        return False
    if isinstance(value, Mapping):
        value = [*value.values()]
    return isinstance(value, tuple | list) and any(
        _holds(each, is_it, depth - 1) for each in value[:3]
    )


def way(is_it: Callable[[object], bool], act: Callable[[], Any]) -> list[str]:
    """The modules of which a function takes or returns it while `act` runs, in their order."""
    passed: dict[str, None] = {}

    def follow(frame: FrameType, event: str, arg: object) -> None:
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        package, _, name = module.partition(".")
        if package != PACKAGE or name.startswith(("testing", "values")) or name in passed:
            return
        if event == "call":
            count = code.co_argcount + code.co_kwonlyargcount
            count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)  # *args, **kwargs
            names = [each for each in code.co_varnames[:count] if each != "self"]
            values = [frame.f_locals.get(each) for each in names]
        else:
            values = [arg] if event == "return" else []
        if any(_holds(value, is_it) for value in values):
            passed[name] = None

    sys.setprofile(follow)
    try:
        act()
    finally:
        sys.setprofile(None)
    return [name.replace(".", "/") for name in passed]


def _percent() -> list[str]:
    with rehearsal(backends={"alias=v2": Backend()}) as aws:
        canary = aws.stage.enable_canary(5, variables={"alias": "v2"})
        return way(lambda value: value == PERCENT, lambda: canary.shift(PERCENT))


def _minute() -> list[str]:
    with rehearsal(backends={"alias=v2": Backend()}) as aws:
        canary = aws.stage.enable_canary(variables={"alias": "v2"}, policy=POLICY)
        aws.sleep(900)
        return way(
            lambda value: isinstance(value, Minute),
            lambda: POLICY.decide(canary.observe(POLICY)),
        )


def _release() -> list[str]:
    with rehearsal(backends={"alias=v2": Backend()}) as aws:

        def roll_out() -> None:
            canary = aws.stage.enable_canary(5, variables={"alias": "v2"}, release=RELEASE)
            assert POLICY.decide(canary.observe(POLICY)).release == RELEASE
            assert canary.promote().release == RELEASE

        return way(lambda value: value == RELEASE, roll_out)


WAYS: dict[str, Callable[[], list[str]]] = {
    "A percent": _percent,
    "A minute": _minute,
    "A release": _release,
}


@pytest.mark.long
@pytest.mark.parametrize("title", WAYS)
def test_ways_are_those_of_the_code(title: str) -> None:
    """A value passes the modules that the page names, and not more than is agreed."""
    passed = WAYS[title]()
    section = PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]
    listed = re.findall(r"(?m)^1\. `([\w/]+)`$", section)
    assert sorted(listed) == sorted(passed), "docs/architecture.md is stale; run: make outputs"
    assert len(passed) <= MOST[title]


def test_a_way_is_followed_through_containers() -> None:
    """In a tuple, a list or a dict, not in a text or an object."""
    assert _holds([{"a": (1, 2)}], lambda value: value == 2, depth=3)
    assert not _holds("2", lambda value: value == 2)
    assert not _holds(apigw_canary, lambda value: value == 2)


def _written(page: str) -> str:
    """The page with the ways as they are."""
    for title, walk in WAYS.items():
        before, _, rest = page.partition(f"### {title}\n")
        text, _, after = rest.partition("\n#")
        kept = re.sub(r"(?m)^1\. .*\n?", "", text).strip()
        steps = "\n".join(f"1. `{name}`" for name in walk())
        page = f"{before}### {title}\n\n{kept}\n\n{steps}\n" + (f"\n#{after}" if after else "")
    return page


if __name__ == "__main__":
    PATH.write_text(_written(PAGE), encoding="utf-8")
