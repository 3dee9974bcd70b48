"""What is let in, in which form it is kept, and what a refusal says."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apigw_canary import Minute, Stage
from apigw_canary.aws.apigateway import fixed_point
from apigw_canary.errors import InvalidInputError
from apigw_canary.values import validation
from strategies import (
    NAME_CHARACTERS,
    VALUE_CHARACTERS,
    identifiers,
    lines,
    percents,
    times,
    variables,
)

NO_NUMBERS: list[Any] = [
    None,
    True,
    False,
    "5",
    b"5",
    5j,
    [5],
    Decimal(5),
    Fraction(5),
    pytest.param(object(), id="an object"),
    math.nan,
    math.inf,
    -math.inf,
]

no_number = pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)


def refused(check: Any, value: object, *arguments: Any, **options: Any) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as raised:
        check(value, *arguments, **options)
    return raised.value


class TestPercent:
    @given(st.floats(0, 100) | st.integers(0, 100))
    def test_is_kept_to_a_hundredth(self, value: float) -> None:
        """A share from 0 to 100 is kept to 0.01, as a float, and a kept one stays as it is."""
        assume(value == 0 or value > 0.006)
        kept = validation.percent(value)

        assert type(kept) is float
        assert 0 <= kept <= 100
        assert abs(kept - value) <= 0.005 + 1e-9
        assert kept == round(kept, 2)
        assert validation.percent(kept) == kept

    @given(percents)
    def test_hundredths_are_kept_exactly(self, value: float) -> None:
        """What has two decimals already is not touched."""
        assert validation.percent(value) == value

    @pytest.mark.parametrize("value", [1e-300, 0.0001, 0.001, 0.004])
    def test_above_zero_never_becomes_zero(self, value: float) -> None:
        """A share that would round to 0 and so pause the canary is refused."""
        assert "from 0.01 to 100" in str(refused(validation.percent, value))

    @pytest.mark.parametrize(
        "value, kept", [(0.006, 0.01), (33.333, 33.33), (66.666, 66.67), (99.999, 100.0)]
    )
    def test_rounds_to_the_nearest(self, value: float, kept: float) -> None:
        """What is finer than 0.01 goes to the nearest hundredth."""
        assert validation.percent(value) == kept

    @pytest.mark.parametrize("value", [-0.0, 0.0, 0])
    def test_zero_has_no_sign(self, value: float) -> None:
        """-0.0 is kept as 0.0, lest "-0.0" be sent."""
        assert str(validation.percent(value)) == "0.0"

    @pytest.mark.parametrize("value", [-0.01, -5, 100.01, 101, 1e308, 10**400])
    def test_out_of_range_is_refused(self, value: float) -> None:
        """A share below 0 or above 100 is refused, with field, range and value."""
        error = refused(validation.percent, value, "start")
        assert error.field == "start"
        assert error.expected == "a number from 0 to 100"
        assert str(value)[:20] in str(error)

    @no_number
    def test_takes_numbers_only(self, value: object) -> None:
        """Truth values, texts, other number types, NaN and infinity are no percents."""
        assert refused(validation.percent, value).field == "percent"


class TestNumber:
    @given(st.floats(allow_nan=False, allow_infinity=False))
    def test_any_finite_number_is_taken(self, value: float) -> None:
        """Without a range any finite number is taken as it is."""
        assert validation.number(value, "x") == value

    @given(st.integers(-(2**53), 2**53))
    def test_integers_become_floats(self, value: int) -> None:
        """An integer is taken as the float of the same value."""
        kept = validation.number(value, "x")
        assert type(kept) is float
        assert kept == value

    @given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10))
    def test_range_includes_its_ends(self, value: float, low: float, high: float) -> None:
        """A number is taken exactly where low <= number <= high."""
        assume(low <= high)
        if low <= value <= high:
            assert validation.number(value, "x", low=low, high=high) == value
        else:
            assert refused(validation.number, value, "x", low=low, high=high).field == "x"

    @no_number
    def test_takes_numbers_only(self, value: object) -> None:
        """Truth values, texts, other number types, NaN and infinity are no numbers."""
        assert refused(validation.number, value, "weight", low=0).field == "weight"

    @pytest.mark.parametrize("digits", [400, 4000, 5000, 100_000])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_huge_integers_are_refused(self, digits: int, sign: int) -> None:
        """An integer beyond every float is refused like any other number out of range."""
        error = refused(validation.number, sign * 10**digits, "weight", low=0, high=10)
        assert error.field == "weight"
        assert len(str(error)) < 200

    def test_says_the_range(self) -> None:
        """The message has field, range, unit and value."""
        error = refused(validation.number, 3, "age", low=0, high=2.5, unit=" minutes")
        assert str(error) == "age must be a number from 0 to 2.5 minutes, not 3."

    def test_says_a_half_open_range(self) -> None:
        """A range without an upper end is said as such."""
        assert str(refused(validation.number, -1, "n", low=0)) == (
            "n must be a number of 0 or more, not -1."
        )

    def test_says_it_plainly_without_a_range(self) -> None:
        """Where any number would do the message does not speak of infinities."""
        assert "-inf" not in str(refused(validation.number, "5", "n"))


class TestIdentifier:
    @given(identifiers)
    def test_ids_and_names_are_taken(self, value: str) -> None:
        """Letters, digits, '-' and '_' are taken as they are."""
        assert validation.identifier(value, "name") == value

    def test_length(self) -> None:
        """1 to 128 characters."""
        assert validation.identifier("a" * 128, "name") == "a" * 128
        refused(validation.identifier, "a" * 129, "name")
        refused(validation.identifier, "", "name")

    @pytest.mark.parametrize(
        "value", ["a/b", "../x", "a b", "a\n", "\na", "ä", "٣", "a.b", "%2e", None, 5, b"a", ["a"]]
    )
    def test_nothing_else_reaches_a_url(self, value: object) -> None:
        """Anything that could change the address of a request is refused."""
        assert refused(validation.identifier, value, "rest_api_id").field == "rest_api_id"

    @given(st.text())
    def test_takes_exactly_its_alphabet(self, value: str) -> None:
        """Whatever is taken has the known characters only, and all of those are taken."""
        if 0 < len(value) <= 128 and set(value) <= set(NAME_CHARACTERS + "-"):
            assert validation.identifier(value, "name") == value
        else:
            refused(validation.identifier, value, "name")


class TestText:
    @given(lines)
    def test_lines_are_taken(self, value: str) -> None:
        """A printable line is taken as it is."""
        assert validation.text(value, "release") == value

    @pytest.mark.parametrize(
        "value", ["", " ", " a", "a ", "a\nb", "a\r", "a\tb", "\x1b[31m", "\u2028", "\0", "\ud800"]
    )
    def test_what_garbles_a_log_is_refused(self, value: str) -> None:
        """Line breaks, control characters and spaces around are refused."""
        assert refused(validation.text, value, "release").field == "release"

    @pytest.mark.parametrize("value", [None, 5, b"a", ["a"]])
    def test_takes_texts_only(self, value: object) -> None:
        """Only a string is a text."""
        assert refused(validation.text, value, "release").field == "release"

    def test_length(self) -> None:
        """Up to 200 characters, unless said otherwise."""
        assert validation.text("a" * 200, "release") == "a" * 200
        assert "1 to 200" in str(refused(validation.text, "a" * 201, "release"))
        assert "1 to 3" in str(refused(validation.text, "abcd", "release", limit=3))


class TestVariables:
    @given(variables)
    def test_what_aws_accepts_is_taken(self, value: dict[str, str]) -> None:
        """Names and values within AWS's rules are taken as they are, into a dict of their own."""
        kept = validation.variables(value)
        assert kept == value
        assert kept is not value

    def test_limits(self) -> None:
        """Up to 100 variables, names of 1 to 64 characters, values of 1 to 512."""
        assert len(validation.variables({f"v{i}": "x" for i in range(100)})) == 100
        assert validation.variables({"n" * 64: "v" * 512}) == {"n" * 64: "v" * 512}
        assert "at most 100" in str(
            refused(validation.variables, {f"v{i}": "x" for i in range(101)})
        )
        refused(validation.variables, {"n" * 65: "v"})
        refused(validation.variables, {"": "v"})
        refused(validation.variables, {"n": "v" * 513})

    def test_empty_value_is_refused(self) -> None:
        """AWS's documentation asks for at least one character, so a variable cannot be emptied."""
        error = refused(validation.variables, {"a": "v", "n": ""}, "overrides")
        assert error.field == "overrides['n']"
        assert error.expected.startswith("a string of 1 to 512 characters ")
        assert str(error).endswith("not this str of length 0.")

    @pytest.mark.parametrize(
        "name, told",
        [
            ("", "str of length 0"),
            ("a-b", "str of length 3"),
            ("a.b", "str of length 3"),
            ("a b", "str of length 3"),
            ("a/b", "str of length 3"),
            ("ä", "str of length 1"),
            ("a\n", "str of length 2"),
            ("n" * 65, "str of length 65"),
            (5, "int"),
            (None, "NoneType"),
            (b"a", "bytes"),
        ],
    )
    def test_other_names_are_refused(self, name: object, told: str) -> None:
        """A name that AWS would not take, or that could change the patch's path, is refused."""
        error = refused(validation.variables, {name: "v"}, "overrides")
        assert str(error) == (
            f"a name in overrides must be 1 to 64 letters, digits or '_', not this {told}."
        )

    @given(st.text(max_size=20) | st.text(VALUE_CHARACTERS, max_size=20))
    def test_takes_exactly_the_values_of_aws(self, value: str) -> None:
        """A value is taken exactly where it has characters and all are on AWS's list."""
        if value and set(value) <= set(VALUE_CHARACTERS):
            assert validation.variables({"name": value}) == {"name": value}
        else:
            assert refused(validation.variables, {"name": value}).field == "variables['name']"

    def test_latest_is_named(self) -> None:
        """`$LATEST` cannot be a value, and the message says what to do instead."""
        assert "point an alias at the version" in str(
            refused(validation.variables, {"a": "$LATEST"})
        )

    @given(
        st.text(st.characters(exclude_characters=VALUE_CHARACTERS), min_size=1, max_size=3),
        st.text(VALUE_CHARACTERS, min_size=12, max_size=30),
    )
    def test_values_never_reach_a_message(self, bad: str, secret: str) -> None:
        """A stage variable may hold a secret: no error shows a value, or a part of it."""
        assume(secret not in "a string of 1 to 512 characters A-Z a-z 0-9 - . _ ~ : / ? # & = ,")
        for value in (f"{secret}{bad}", f"{bad}{secret}", secret * 50, [secret], {secret: secret}):
            error = refused(validation.variables, {"TOKEN": value})
            assert "TOKEN" in str(error)
            assert secret not in str(error)
            assert secret not in repr(vars(error))

    @given(
        st.text(st.characters(exclude_characters=NAME_CHARACTERS), min_size=1, max_size=3),
        st.text(VALUE_CHARACTERS, min_size=12, max_size=30),
    )
    def test_swapped_names_never_reach_a_message(self, bad: str, secret: str) -> None:
        """Who swaps name and value gives a secret for a name: no error shows a refused name."""
        assume(secret not in "a name in variables must be 1 to 64 letters, digits or '_', not this")
        for name in (f"{secret}{bad}", f"{bad}{secret}", secret * 6, (secret,)):
            error = refused(validation.variables, {name: "TOKEN"})
            assert error.field == "a name in variables"
            assert secret not in str(error)
            assert secret not in repr(vars(error))

    def test_length_and_type_are_said(self) -> None:
        """In the value's place the message has its type and length."""
        assert str(refused(validation.variables, {"a": "§" * 7})).endswith(
            "not this str of length 7."
        )
        assert str(refused(validation.variables, {"a": 5})).endswith("not this int.")

    @pytest.mark.parametrize("value", [None, "a=b", ["a"], [("a", "hush-hush-hush")], {"a"}, 5])
    def test_takes_mappings_only(self, value: object) -> None:
        """Only a mapping is taken; what else was given is told by its type."""
        error = refused(validation.variables, value)
        assert str(error) == (
            f"variables must be a mapping of names to values, not {type(value).__name__!r}."
        )


class TestTimes:
    @given(times)
    def test_aware_times_are_taken(self, value: datetime) -> None:
        """A time with a time zone is taken, in UTC."""
        taken = validation.aware(value, "at")
        assert (taken.tzinfo, taken.timestamp()) == (UTC, value.timestamp())

    @pytest.mark.parametrize(
        "value", [datetime(2026, 1, 5), date(2026, 1, 5), "2026-01-05T00:00:00Z", 1767571200, None]
    )
    def test_others_are_refused(self, value: object) -> None:
        """A naive time, a date, a text or a number is no time."""
        error = refused(validation.aware, value, "at")
        assert str(error).startswith("at must be a datetime with a time zone, not ")

    @given(st.timedeltas(timedelta(0), timedelta(days=14)))
    def test_durations_are_taken(self, value: timedelta) -> None:
        """From nothing to fourteen days."""
        assert validation.duration(value, "bake") is value

    @pytest.mark.parametrize(
        "value",
        [timedelta(microseconds=-1), timedelta(days=14, microseconds=1), 60, 60.0, "1 min", None],
    )
    def test_other_durations_are_refused(self, value: object) -> None:
        """A negative or longer one, or a bare number, is refused with the range."""
        error = refused(validation.duration, value, "bake")
        assert error.field == "bake"
        assert "from 0:00:00 to 14 days" in str(error)

    def test_range_of_durations_is_the_callers(self) -> None:
        """Both ends of a given range are included."""
        low, high = timedelta(minutes=1), timedelta(minutes=2)
        for value in (low, high):
            assert validation.duration(value, "max_unobserved", low=low, high=high) == value
        for value in (low - timedelta.resolution, high + timedelta.resolution):
            refused(validation.duration, value, "max_unobserved", low=low, high=high)


@pytest.mark.long
@given(st.text(min_size=300) | st.lists(st.integers(), min_size=200))
def test_messages_stay_short(value: object) -> None:
    """However long the refused value, its message can be read."""
    assert len(str(refused(validation.aware, value, "at"))) < 200


class TestFixedPoint:
    @given(percents)
    def test_round_trips_without_exponent(self, percent: float) -> None:
        """What goes over the wire is the same share: digits, a point, one or two decimals."""
        written = fixed_point(percent)
        assert re.fullmatch(r"\d{1,3}\.\d{1,2}", written)
        assert float(written) == percent

    @given(st.floats(0, 100))
    def test_never_an_exponent(self, value: float) -> None:
        """Whatever a caller gives, once it is let in, is written in digits."""
        assume(value == 0 or value >= 0.01)
        assert re.fullmatch(r"\d{1,3}\.\d{1,2}", fixed_point(validation.percent(value)))

    @pytest.mark.parametrize(
        "percent, written",
        [(0, "0.0"), (0.01, "0.01"), (0.1, "0.1"), (5, "5.0"), (10.5, "10.5"), (33.33, "33.33")],
    )
    def test_as_aws_writes_it(self, percent: float, written: str) -> None:
        """At least one decimal, as in AWS's own answers."""
        assert fixed_point(percent) == written
        assert fixed_point(100) == "100.0"


def test_utc_is_aware() -> None:
    """A time in UTC is a time with a time zone."""
    now = datetime(2026, 1, 5, tzinfo=UTC)
    assert validation.aware(now, "at") == now


@pytest.mark.parametrize("session", ["eu-central-1", 5, {"region": "eu-central-1"}])
def test_what_is_no_session_is_refused(session: Any) -> None:
    """A region given as a session is named at once."""
    with pytest.raises(InvalidInputError, match=r"session must be a boto3\.Session"):
        Stage("a1b2c3d4e5", "prod", session=session)


def test_counts_of_another_numeric_type() -> None:
    """A subclass of float, as NumPy has one, counts as the number that it is."""

    class Count(float):
        """Such as numpy.float64."""

    at = datetime(2026, 1, 5, 9, tzinfo=UTC)
    minute = Minute(at, Count(2), Count(1), Count(1), 0)
    assert minute == Minute(at, 2, 1, 1, 0)
    with pytest.raises(InvalidInputError, match="canary_bad must be a number from 0 to 1"):
        Minute(at, 2, 1, Count(1), Count(2))
