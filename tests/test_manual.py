"""What the manual says of the code is what the code says."""

from __future__ import annotations

import ast
import inspect
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import apigw_canary
from apigw_canary import errors
from apigw_canary.rollout.decision import RULES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def draw() -> Any:
    return runpy.run_path(str(DOCS / "pictures" / "draw.py"))


def test_pictures_are_what_the_code_draws(draw: Any) -> None:
    """A picture or the table of the decisions that is stale fails the build."""
    for path, text in draw["drawn"]().items():
        assert path.read_text(encoding="utf-8") == text, (
            f"{path} is stale; run: python docs/pictures/draw.py"
        )


def test_the_order_tells_every_rule_and_what_it_decides(draw: Any) -> None:
    """Each rule has a sentence, and at least one decision; what is left is Hold."""
    order = draw["order"]()
    assert len(order) == len(RULES) + 1
    assert all(asks.endswith(".") and decided for asks, decided in order)
    assert {verb for _, decided in order for verb in decided} == {
        "Hold",
        "final Hold",
        "Shift",
        "Promote",
        "Rollback",
    }
    assert order[-1] == ("None of these.", ["Hold"])
