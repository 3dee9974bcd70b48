"""What value classes use: conversion to JSON types and back, views, and immutable mappings.

Strict on the way in. Times become ISO 8601 strings, durations seconds, tuples lists. A key that is
not known, one that is missing, a value of another type, a naive time, NaN or infinity is an
`InvalidInputError` that names the path to it.
"""

import functools
import math
import types
import typing
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal, Self, TypeVar, cast

import attrs

from apigw_canary.errors import InvalidInputError
from apigw_canary.values import validation


class Serializable:
    """A frozen attrs class with `to_dict` and `from_dict`."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON-serializable types, from which `from_dict` restores it."""
        return {field.name: _dump(getattr(self, field.name)) for field in _fields(type(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Restore a value from what `to_dict` returned.

        Raises `InvalidInputError` (a `ValueError`) for other data.
        """
        return load_class(cls, data, cls.__name__)


def _fields(kind: type) -> tuple["attrs.Attribute[Any]", ...]:
    return tuple(field for field in attrs.fields(cast("Any", kind)) if field.init)


def _dump(value: object) -> Any:
    match value:
        case Serializable():
            return value.to_dict()
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case tuple():
            return [_dump(item) for item in value]
        case Mapping():
            return {str(name): _dump(item) for name, item in value.items()}
        case float() if not math.isfinite(value):
            validation.refuse("a number to be written", "finite", value)
    return value


@functools.cache
def _types(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


_Loaded = TypeVar("_Loaded")


def load_class(kind: type[_Loaded], data: object, path: str) -> _Loaded:
    if not isinstance(data, Mapping):
        raise InvalidInputError(path, "an object", f"a {type(data).__name__}")
    fields = {field.name: field for field in _fields(kind)}
    for name in data:
        if name not in fields:
            validation.refuse(f"a key of {path}", f"one of {', '.join(fields)}", name)
    for name, field in fields.items():
        if name not in data and field.default is attrs.NOTHING:
            validation.refuse(path, f"an object with the key {name!r}", sorted(map(str, data)))
    hints = _types(cast("Hashable", kind))
    loaded = {name: _load(hints[name], value, f"{path}.{name}") for name, value in data.items()}
    return kind(**loaded)


def _load(kind: Any, value: object, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _load_union(arguments, value, path)
    if origin is typing.Literal:
        if value not in arguments:
            validation.refuse(path, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            validation.refuse(path, "a list", value)
        return tuple(_load(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        return _load_mapping(arguments[1], value, path)
    return _load_scalar(kind, value, path)


def _load_mapping(kind: Any, value: object, path: str) -> dict[str, Any]:
    # Stage variables come this way, and may be secrets: an error shows types instead of values.
    if not isinstance(value, Mapping):
        raise InvalidInputError(path, "an object", f"a {type(value).__name__}")
    loaded = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise InvalidInputError(f"a key of {path}", "a str", f"a {type(name).__name__}")
        allowed = {str: (str,), str | None: (str, type(None))}.get(kind)
        if allowed is not None and not isinstance(item, allowed):
            raise InvalidInputError(f"{path}.{name}", "a str", f"this {type(item).__name__}")
        loaded[name] = _load(kind, item, f"{path}.{name}")
    return loaded


def _load_union(choices: tuple[Any, ...], value: object, path: str) -> Any:
    if value is None and type(None) in choices:
        return None
    (kind,) = (choice for choice in choices if choice is not type(None))
    return _load(kind, value, path)


def _load_scalar(kind: Any, value: object, path: str) -> Any:
    if attrs.has(kind):
        return load_class(kind, value, path)
    if kind is datetime:
        return validation.aware(_parsed_time(value), path)
    if kind is timedelta:
        return timedelta(seconds=validation.number(value, path, low=-1e9, high=1e9))
    if kind is float:
        return validation.number(value, path)
    if issubclass(kind, Enum):
        if value not in (member.value for member in kind):
            validation.refuse(path, f"one of {', '.join(member.value for member in kind)}", value)
        return kind(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        validation.refuse(path, f"a {kind.__name__}", value)
    return value


def _parsed_time(value: object) -> object:
    try:
        return datetime.fromisoformat(cast("str", value))
    except (TypeError, ValueError):
        return value


Tone = Literal["good", "bad", "open"]
"""How it ended, in short: well, badly, or not yet."""


page: Callable[[Any], str] | None = None
"""An `Renderable` value as HTML, set by `apigw_canary`; None where nothing makes pages."""


class Renderable(Serializable):
    """A value that explains itself: `apigw_canary.Report` shows it in every form."""

    __slots__ = ()

    @property
    def about(self) -> str:
        """What a report of it is about, in a word or two."""
        return "Report"

    @property
    def title(self) -> str:
        """What came out, in a few words."""
        return type(self).__name__

    @property
    def tone(self) -> Tone:
        """How a report of it is marked."""
        return "open"

    def _repr_html_(self) -> str | None:
        return None if page is None else page(self)


_Name = TypeVar("_Name")
_Value_co = TypeVar("_Value_co", covariant=True)


class FrozenMapping(Mapping[_Name, _Value_co]):
    """A copy of a mapping, immutable, and hashable where its values are; equal to any like it."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[_Name, _Value_co]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: _Name) -> _Value_co:
        return self._items[name]

    def __iter__(self) -> Iterator[_Name]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def frozen_texts(texts: Mapping[str, str]) -> Mapping[str, str]:
    """For attrs: names and texts."""
    return FrozenMapping(texts)


NO_TEXTS: Mapping[str, str] = FrozenMapping({})
