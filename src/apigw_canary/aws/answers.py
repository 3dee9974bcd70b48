"""Answers of AWS in the shapes that botocore's description of the service gives them.

botocore parses an answer without comparing it with the description: a list where a map belongs, a
number where a text belongs or a missing member come through. Here they become one error.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from apigw_canary.errors import UnansweredError

if TYPE_CHECKING:
    from botocore.model import Shape

Answer = Mapping[str, Any]

CONFLICT = "ConflictException"
"""AWS's code for a change that was refused because of another one at the same time."""

_PYTHON: Mapping[str, Any] = {
    "blob": object,  # bytes or a stream; no answer that is read here has one
    "boolean": bool,
    "double": (int, float),
    "float": (int, float),
    "integer": int,
    "list": list,
    "long": int,
    "map": dict,
    "string": str,
    "structure": dict,
    "timestamp": datetime,
}
"""The type of a shape, and what it is in Python."""

EARLIEST, LATEST = datetime(2006, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Times that an answer can have. AWS began in 2006; arithmetic with later ones overflows."""


class Structure(dict[str, Any]):
    """A structure of an answer. A member that is missing is an error about the answer."""

    def __init__(self, operation: str, members: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._operation = operation

    def __missing__(self, name: str) -> Any:
        raise misunderstood(self._operation, f"it has no {name!r}")


def misunderstood(operation: str, why: str) -> UnansweredError:
    """The error for an answer that is not understood."""
    return UnansweredError(
        f"The answer to {operation} is not AWS's: {why}.",
        operation=operation,
        remedy="Check for a proxy or an endpoint that answers instead of AWS.",
    )


def conforming(operation: str, answer: Mapping[str, Any], shape: "Shape | None") -> Answer:
    """The answer with the members that its shape has. Raises `UnansweredError` where one differs.

    A member that is null counts as missing.
    """
    metadata = answer.get("ResponseMetadata")
    members = Structure(operation, {})
    if shape is not None:  # an operation may answer nothing
        members = _value(operation, "", answer, shape)
    members["ResponseMetadata"] = metadata if isinstance(metadata, dict) else {}
    return members


def _value(operation: str, where: str, value: Any, shape: Any) -> Any:
    kind = shape.type_name
    if not _is_a(kind, value):
        raise misunderstood(
            operation, f"{where or 'it'} is a {type(value).__name__} instead of a {kind}"
        )
    if kind == "structure":
        return Structure(
            operation,
            {
                name: _value(operation, f"{where}.{name}".lstrip("."), value[name], member)
                for name, member in shape.members.items()
                if value.get(name) is not None
            },
        )
    if kind == "map":
        a_key, a_value = f"a key of {where}", f"a value of {where}"
        return {
            _value(operation, a_key, key, shape.key): _value(operation, a_value, each, shape.value)
            for key, each in value.items()
        }
    if kind == "list":
        an_item, member = f"an item of {where}", shape.member
        return [_value(operation, an_item, each, member) for each in value]
    if kind in ("double", "float"):
        try:
            return float(value)
        except OverflowError:
            raise misunderstood(operation, f"{where} is out of range") from None
    if kind == "timestamp" and (value.utcoffset() is None or not EARLIEST <= value < LATEST):
        raise misunderstood(operation, f"{where} is {value}, which cannot be")
    return value


def _is_a(kind: str, value: object) -> bool:
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))
