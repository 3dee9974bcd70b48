"""What an older checkout calls the same things, so that one search can judge both.

The search speaks the names of today. `made` gives a class only the fields that it has, under the
names that it has them by.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any, get_args

import attrs

import apigw_canary

FORMER = {
    "max_unobserved": "blind",
    "metric_delay": "settle",
    "promotion_metric_delay": "confirm_settle",
    "suspect": "doubt",
    "last_complete_at": "watched_at",
}
"""Field names of today, and of commit 6e9fb79."""

FORMER_PHASES = {"removed_outside": "removed", "promoted_outside": "promoted_elsewhere"}
"""The same of the values of `Observation.phase`."""

Measurements: Any = getattr(apigw_canary, "Measurements", None) or apigw_canary.Measured  # type: ignore[attr-defined]


def has(cls: Any, field: str) -> bool:
    """Whether a class has the field, by its name of today."""
    fields: frozenset[str] = _fields(cls)
    return field in fields


@cache
def _fields(cls: type[Any]) -> frozenset[str]:
    return frozenset(attrs.fields_dict(cls))


def made(cls: Any, **fields: Any) -> Any:
    """One of a class, without the fields that it does not have yet."""
    known = _fields(cls)
    given = {
        name if name in known else FORMER.get(name, name): each for name, each in fields.items()
    }
    return cls(**{name: each for name, each in given.items() if name in known})


def phase(name: str) -> str:
    """A value of `Observation.phase`, by its name of today."""
    field = attrs.fields_dict(apigw_canary.Observation)["phase"]
    return name if name in get_args(field.type) else FORMER_PHASES[name]


def keeping() -> Callable[[Any], Any]:
    """What makes the decisions about one canary cheap, where there is that already."""
    try:
        kept = importlib.import_module("apigw_canary.judge.kept")
    except ImportError:
        return lambda observation: observation
    return partial(kept.keep_in, kept.Cache())
