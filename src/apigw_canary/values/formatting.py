"""Numbers and times as written in a sentence."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta


def span(length: timedelta) -> str:
    """A length of time in its two largest units, such as "1 h 5 min"."""
    seconds = max(round(length.total_seconds()), 0)  # clocks may differ by a little
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    named = [f"{count} {unit}" for count, unit in units if count]
    return " ".join(named[:2]) or "0 s"


def moment(at: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def clock(at: datetime) -> str:
    """A time to the minute, in UTC, where the year and the zone are known."""
    return f"{at.astimezone(UTC):%m-%d %H:%M}"


def evidence(value: float) -> str:
    """An e-value: beyond a million the exact number does not matter."""
    if value > 1e6:
        return "over 1,000,000"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def share(rate: float | None, requests: float) -> str:
    """A rate of bad requests out of how many."""
    return "no requests" if rate is None else f"{100 * rate:.2f} % of {requests:,.0f}"


def share_of(bad: float, requests: float) -> str:
    """The rate of so many bad requests, out of how many."""
    return share(bad / requests if requests else None, requests)


def listed(names: Iterable[object], most: int = 20) -> str:
    """The names in alphabetical order, and how many more than `most` there are."""
    found = sorted(map(str, names))
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")


def sentence(text: str) -> str:
    """The text with a full stop at its end, if it has none."""
    return text if text.endswith((".", "!", "?")) else f"{text}."
