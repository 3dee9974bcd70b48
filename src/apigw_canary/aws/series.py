"""Minutes of both arms from CloudWatch's series. Pure."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from apigw_canary.aws.metricdata import Series
from apigw_canary.rollout.observation import Minute

_DENSE = 0.9
"""The part of the minutes with requests that have a number of errors where all are to have one."""


class Arms(NamedTuple):
    """The same of both arms."""

    baseline: Series
    canary: Series


def joined(requests: Arms, errors: Arms) -> Iterator[Minute]:
    """Minutes of errors.

    A missing count is no requests, and a missing number of errors none where the count is there,
    unless numbers of none are published as well. A minute with errors, be it none, and without a
    count, or with more errors than requests, is still being published, and left out; so are minutes
    that the errors have not come to yet.
    """
    until = _published_until(requests.baseline, errors)
    each = any(0 in bad.values() for bad in errors)
    # Not the other way round: a baseline without any number may be one without any error.
    beside = each or _has_each(requests.baseline, errors.baseline)
    late = {
        *_late(requests.baseline, errors.baseline, each=each),
        *_late(requests.canary, errors.canary, each=beside),
    }
    for at in _times(requests):
        if at > until:
            return
        if any(at in bad and at not in count for count, bad in zip(requests, errors, strict=True)):
            continue
        if at not in late:
            yield from _minute(at, requests, errors)


def joined_shares(requests: Arms, shares: Arms) -> Iterator[Minute]:
    """Minutes of what is known as a share of the requests, 0 to 1.

    An arm with requests and without its share is not known, and its minute left out; so is one
    that has a share and no count yet.
    """
    counts = Arms(*(_counts(*pair) for pair in zip(requests, shares, strict=True)))
    for at in _times(requests):
        pairs = zip(requests, shares, strict=True)
        if all((at in count) == (at in share) for count, share in pairs):
            yield from _minute(at, requests, counts)


def _counts(requests: Series, shares: Series) -> Series:
    # Rounded: a whole count came as a share, and is to be whole again.
    return {at: round(requests.get(at, 0.0) * share, 6) for at, share in shares.items()}


def _times(requests: Arms) -> list[datetime]:
    return sorted({*requests.baseline, *requests.canary})


def _minute(at: datetime, requests: Arms, bad: Arms) -> Iterator[Minute]:
    counts = [
        series.get(at, 0.0)
        for series in (requests.baseline, bad.baseline, requests.canary, bad.canary)
    ]
    if 0 <= counts[1] <= counts[0] and 0 <= counts[3] <= counts[2]:
        yield Minute(at, *counts)


def _late(count: Series, bad: Series, *, each: bool) -> Collection[datetime]:
    """The minutes of an arm whose number of errors has not come.

    Where it has a number of none for some minute it is to have one for each with requests; where it
    has no numbers at all, `each` says whether it should.
    """
    return count.keys() - bad.keys() if (0 in bad.values() if bad else each) else ()


def _published_until(count: Series, errors: Arms) -> datetime:
    """The latest minute whose errors are published.

    Where each minute with requests has a number of errors, be it none, one that lacks it is late,
    not healthy. Where only some have, what lacks it has none.
    """
    newest = max([*errors.baseline, *errors.canary], default=None)
    if newest is None or not _has_each(count, errors.baseline, newest):
        return datetime.max.replace(tzinfo=UTC)
    return newest


def _has_each(count: Series, bad: Series, newest: datetime | None = None) -> bool:
    """Whether each minute with requests has a number of errors, up to the newest that has."""
    newest = newest or max(bad, default=None)
    before = [at for at in count if newest is not None and at <= newest]
    return bool(before) and sum(at in bad for at in before) >= _DENSE * len(before)
