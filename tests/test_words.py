"""Numbers and times as the sentences of messages and reasons say them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary.values import formatting
from strategies import durations, times


class TestSpan:
    @pytest.mark.parametrize(
        "length, said",
        [
            (timedelta(0), "0 s"),
            (timedelta(milliseconds=400), "0 s"),
            (timedelta(seconds=1), "1 s"),
            (timedelta(seconds=59.6), "1 min"),
            (timedelta(seconds=90), "1 min 30 s"),
            (timedelta(minutes=10), "10 min"),
            (timedelta(minutes=65), "1 h 5 min"),
            (timedelta(hours=1, seconds=5), "1 h 5 s"),
            (timedelta(hours=24), "1 d"),
            (timedelta(hours=25, minutes=5, seconds=7), "1 d 1 h"),
            (timedelta(days=14), "14 d"),
        ],
    )
    def test_has_two_units(self, length: timedelta, said: str) -> None:
        """The two largest units that are not nought, to the second; no time at all is 0 s."""
        assert formatting.span(length) == said

    @given(durations())
    def test_adds_up(self, length: timedelta) -> None:
        """What is said is the length, short of less than the last unit that is said."""
        seconds = {"d": 86400, "h": 3600, "min": 60, "s": 1}
        parts = re.findall(r"(\d+) (d|h|min|s)", formatting.span(length))
        said = sum(int(count) * seconds[unit] for count, unit in parts)

        assert " ".join(f"{count} {unit}" for count, unit in parts) == formatting.span(length)
        assert 1 <= len(parts) <= 2
        assert -0.5 <= length.total_seconds() - said < seconds[parts[-1][1]]


class TestMoment:
    def test_is_to_the_minute(self) -> None:
        """A time is cut to its minute, and says that it is in UTC."""
        at = datetime(2026, 1, 5, 9, 7, 59, 999999, tzinfo=UTC)
        assert formatting.moment(at) == "2026-01-05 09:07 UTC"

    def test_is_in_utc(self) -> None:
        """Wherever a time was written down, it is said in UTC, the date included."""
        at = datetime(2026, 1, 5, 0, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        assert formatting.moment(at) == "2026-01-04 19:00 UTC"

    @given(times)
    def test_is_the_same_instant(self, at: datetime) -> None:
        """What is said is less than a minute before the time."""
        said = datetime.strptime(formatting.moment(at), "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)
        assert timedelta(0) <= at - said < timedelta(minutes=1)


class TestClock:
    def test_is_in_utc(self) -> None:
        """Month, day and minute in UTC, wherever the time was written down."""
        at = datetime(2026, 1, 5, 0, 30, 59, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        assert formatting.clock(at) == "01-04 19:00"


class TestOdds:
    @pytest.mark.parametrize(
        "value, said",
        [
            (0, "0.0"),
            (1.04, "1.0"),
            (19.96, "20.0"),
            (99.9, "99.9"),
            (100, "100"),
            (1234.5, "1,234"),
            (1e6, "1,000,000"),
            (1e6 + 1, "over 1,000,000"),
            (1e300, "over 1,000,000"),
            (math.inf, "over 1,000,000"),
        ],
    )
    def test_is_as_fine_as_it_matters(self, value: float, said: str) -> None:
        """A decimal below 100, none above; beyond a million the number says nothing more."""
        assert formatting.evidence(value) == said

    @given(st.floats(0))
    def test_stays_short(self, value: float) -> None:
        """However strong the evidence, it is said in a few digits."""
        assert len(formatting.evidence(value)) <= len("over 1,000,000")


class TestShare:
    @pytest.mark.parametrize(
        "rate, requests, said",
        [
            (None, 0, "no requests"),
            (0.0, 1, "0.00 % of 1"),
            (0.012345, 1000, "1.23 % of 1,000"),
            (0.5, 1234567.8, "50.00 % of 1,234,568"),
            (1.0, 3, "100.00 % of 3"),
        ],
    )
    def test_is_a_rate_out_of_how_many(
        self, rate: float | None, requests: float, said: str
    ) -> None:
        """A rate in percent, to 0.01, and whole requests; without any there is no rate."""
        assert formatting.share(rate, requests) == said


class TestSentence:
    @pytest.mark.parametrize("text", ["It failed", "It failed:", 'It said "no"', "It failed (5)"])
    def test_gets_its_full_stop(self, text: str) -> None:
        """A text of AWS's that does not end like a sentence gets a full stop."""
        assert formatting.sentence(text) == f"{text}."

    @pytest.mark.parametrize("text", ["It failed.", "It failed!", "Did it fail?", "It failed..."])
    def test_keeps_its_own(self, text: str) -> None:
        """One that ends like a sentence stays as it is."""
        assert formatting.sentence(text) == text

    @given(st.text())
    def test_once_is_enough(self, text: str) -> None:
        """A sentence is not ended twice, and keeps its text."""
        once = formatting.sentence(text)
        assert formatting.sentence(once) == once
        assert once.removesuffix(".") == text.removesuffix(".")
