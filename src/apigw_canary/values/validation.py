"""Checks of what comes in, made before anything is sent or judged.

Each check takes the name of the field, so that an error names what the caller wrote, and returns
the value in the form it is kept in.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from apigw_canary.errors import InvalidInputError

if TYPE_CHECKING:
    import attrs

PERCENT_DECIMALS = 2
"""Percents finer than 0.01 % are not known to be kept by AWS."""

MAX_VARIABLES = 100
MAX_VARIABLE_VALUE = 512
"""AWS's quotas for stage variables: how many, and characters a value."""

# Compiled when first used: compiling costs more than importing all the rest of the module.
_VARIABLE_NAME = r"[A-Za-z0-9_]{1,64}"
_VARIABLE_VALUE = r"[A-Za-z0-9\-._~:/?#&=,]+"
_IDENTIFIER = r"[A-Za-z0-9_-]{1,128}"
_MAX_TEXT = 200


def refuse(field: str, expected: str, value: object) -> NoReturn:
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python likes to print
        shown = f"that {type(value).__name__}"
    raise InvalidInputError(field, expected, shown if len(shown) <= 80 else f"{shown[:77]}...")


def source(value: object) -> None:
    """Refuse what is no source of metrics."""
    if isinstance(value, type) or not callable(getattr(value, "minutes", None)):
        refuse("metrics", "an object with a method minutes(stage, signals, start, end)", value)


def number(
    value: object, field: str, *, low: float = -math.inf, high: float = math.inf, unit: str = ""
) -> float:
    """A finite real number in [low, high]; True and False are not numbers here."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            finite = float(value)
            if math.isfinite(finite) and low <= finite <= high:
                return finite
    except OverflowError:  # an integer that no float can hold
        pass
    ends = f" from {low:g} to {high:.12g}" if high < math.inf else f" of {low:g} or more"
    refuse(field, f"a number{ends}{unit}" if low > -math.inf else f"a finite number{unit}", value)


def count(value: object, field: str, *, low: int, high: int) -> int:
    """A whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(field, f"a whole number from {low} to {high}", value)
    return value


def percent(value: object, field: str = "percent") -> float:
    """A percent of the requests, 0 to 100, rounded to 0.01.

    A percent above zero that would round to zero is refused: it would pause the canary.
    """
    checked = number(value, field, low=0, high=100)
    rounded = round(checked, PERCENT_DECIMALS)
    if checked > 0 and rounded == 0:
        refuse(field, "0, or from 0.01 to 100", value)
    return rounded + 0.0  # -0.0 would be sent as "-0"


def held_percent(value: object, field: str = "percent") -> float:
    """A traffic percentage that AWS holds, 0 to 100: not rounded, as AWS returned it."""
    return number(value, field, low=0, high=100)


def identifier(value: object, field: str) -> str:
    """An id or name that goes into a URL: letters, digits, `-` and `_`."""
    if not isinstance(value, str) or not re.fullmatch(_IDENTIFIER, value):
        refuse(field, "1 to 128 letters, digits, '-' or '_'", value)
    return value


def text(value: object, field: str, *, limit: int = _MAX_TEXT) -> str:
    """One line of printable text that is not empty."""
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= limit
        or not value.isprintable()
        or value != value.strip()
    ):
        refuse(field, f"1 to {limit} printable characters on one line", value)
    return value


def variables(value: object, field: str = "variables", *, held: bool = False) -> dict[str, str]:
    """Stage variables, name to value, as AWS accepts them. Errors name variables, not values.

    `held`: the values were read from AWS, so that each is accepted as it is.
    """
    if not isinstance(value, Mapping):
        refuse(field, "a mapping of names to values", type(value).__name__)
    checked: dict[str, str] = {}
    for name, content in value.items():
        # Names and values get swapped, and a value may be a secret: neither is shown.
        if not isinstance(name, str) or not re.fullmatch(_VARIABLE_NAME, name):
            raise InvalidInputError(
                f"a name in {field}", "1 to 64 letters, digits or '_'", _sized(name)
            )
        if not isinstance(content, str) or not (
            held or (len(content) <= MAX_VARIABLE_VALUE and re.fullmatch(_VARIABLE_VALUE, content))
        ):
            raise InvalidInputError(
                f"{field}[{name!r}]",
                f"a string of 1 to {MAX_VARIABLE_VALUE} characters A-Z a-z 0-9 - . _ ~ : / ? # & "
                "= , (so not $LATEST: point an alias at the version)",
                _sized(content),
            )
        checked[name] = content
    if len(checked) > MAX_VARIABLES:
        refuse(field, f"at most {MAX_VARIABLES} variables", f"{len(checked)} of them")
    return checked


def _sized(value: object) -> str:
    length = f" of length {len(value)}" if isinstance(value, str) else ""
    return f"this {type(value).__name__}{length}"


def flag(value: object, field: str) -> bool:
    """True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        refuse(field, "True or False", value)
    return value


def choice(value: object, field: str, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    if value not in choices:
        refuse(field, f"one of {', '.join(choices)}", value)


def utc(value: datetime) -> datetime:
    """For attrs: an aware time in UTC; anything else as it is, for `aware_field` to refuse.

    Python compares and subtracts two times of one zone by the clock on the wall, which is an hour
    off in a night in which the clocks change. So inside there is no zone but UTC.
    """
    return utc_or_none(value) or value


def utc_or_none(value: datetime | None) -> datetime | None:
    """As `utc`, where the field allows None."""
    if not isinstance(value, datetime) or value.tzinfo is UTC or value.utcoffset() is None:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        refuse("a time", "one in the years 1 to 9999 of UTC", value)


def choices(value: object, field: str, choices: tuple[str, ...]) -> frozenset[str]:
    """A collection of some of a few words."""
    if isinstance(value, str) or not isinstance(value, Collection) or not set(value) <= {*choices}:
        refuse(field, f"a set with any of {', '.join(choices)}", value)
    return frozenset(value)


def aware(value: object, field: str) -> datetime:
    """A time with a time zone, in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        refuse(field, "a datetime with a time zone", value)
    return utc(value)


def checked(
    check: Callable[..., object], *, or_none: bool = False, field: str | None = None, **limits: Any
) -> Callable[[object, "attrs.Attribute[Any]", Any], None]:
    """For attrs: the validator of a field that passes a check, or is None if that is allowed.

    `field`: its name in an error, if it is another one than the attribute's.
    """

    def validate(_: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if value is not None or not or_none:
            check(value, field or attribute.name, **limits)

    return validate


aware_field: Callable[[object, "attrs.Attribute[Any]", Any], None] = checked(aware, or_none=True)
"""For attrs: a time with a time zone, or None where the field allows it."""


def duration(
    value: object,
    field: str,
    *,
    low: timedelta = timedelta(0),
    high: timedelta = timedelta(days=14),
) -> timedelta:
    """A length of time in [low, high]. Fourteen days: metrics are kept for fifteen."""
    if not isinstance(value, timedelta) or not low <= value <= high:
        refuse(field, f"a timedelta from {low} to {high}, such as timedelta(minutes=10)", value)
    return value
