"""A mapping that cannot be changed, so that what holds one can be compared and hashed."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

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
