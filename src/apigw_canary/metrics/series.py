"""Minutes of both arms from CloudWatch's series. Pure."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from apigw_canary.judge.observation import MINUTE, Minute
from apigw_canary.metrics.metricdata import Series

SETTLED = timedelta(minutes=5)
"""How long after its end a minute may still lack what CloudWatch has not published yet, and how old
it must be to say anything of what its series are; as a policy's `promotion_metric_delay`."""


class Arms(NamedTuple):
    """The same of both arms."""

    baseline: Series
    canary: Series


class _Counts(NamedTuple):
    """One minute of one variant."""

    requests: float
    bad: float
    unknown: float


_NOTHING = _Counts(0.0, 0.0, 0.0)


def counted(requests: Arms) -> list[Minute]:
    """Minutes of requests alone."""
    return [
        Minute(at, requests.baseline.get(at, 0.0), 0.0, requests.canary.get(at, 0.0), 0.0)
        for at in sorted({*requests.baseline, *requests.canary})
    ]


def joined(requests: Arms, errors: Arms, end: datetime) -> Iterator[Minute]:
    """Minutes of errors, as of `end`.

    API Gateway and Lambda publish a 0 for each good request, so a minute with requests has a
    number of errors, if only of none. Where one lacks it, or has more errors than requests, it may
    still be on its way: the minute is left out until it is `SETTLED`, and is then one of unknown
    outcome. It is one without errors only if no minute of the series has a 0 (so that only those
    with errors have a number) and the nearest minutes with requests, before and after it, have one.
    """
    zeros = any(0 in bad.values() for bad in errors)
    healthy = [() if zeros else _between(*pair) for pair in zip(requests, errors, strict=True)]
    for at in sorted({at for series in (*requests, *errors) for at in series}):
        settled = at + MINUTE <= end - SETTLED
        yield from _minute(
            at,
            *(
                _counts(at, count, bad, healthy=at in quiet, settled=settled)
                for count, bad, quiet in zip(requests, errors, healthy, strict=True)
            ),
        )


def joined_shares(requests: Arms, shares: Arms, end: datetime) -> Iterator[Minute]:
    """Minutes of what is known as a share of the requests, 0 to 1, as of `end`.

    A variant with requests and without its share is not known, and its minute left out; so is one
    that has a share and no count yet. Once the minute is `SETTLED` its requests are of unknown
    outcome, if the variant has shares in other minutes.
    """
    for at in sorted({*requests.baseline, *requests.canary}):
        settled = at + MINUTE <= end - SETTLED
        yield from _minute(
            at,
            *(
                _of_share(at, count, share, settled=settled)
                for count, share in zip(requests, shares, strict=True)
            ),
        )


def _minute(at: datetime, baseline: _Counts | None, canary: _Counts | None) -> Iterator[Minute]:
    if baseline and canary and (baseline.requests or canary.requests):
        yield Minute(
            at,
            baseline_requests=baseline.requests,
            baseline_bad=baseline.bad,
            baseline_unknown=baseline.unknown,
            canary_requests=canary.requests,
            canary_bad=canary.bad,
            canary_unknown=canary.unknown,
        )


def _counts(
    at: datetime, count: Series, bad: Series, *, healthy: bool, settled: bool
) -> _Counts | None:
    """A minute of one variant; None as long as it may not be published in full."""
    requests, number = count.get(at), bad.get(at)
    if requests is None:
        if number is None:
            return _NOTHING
        # That there were requests is known, and that of these so many were bad.
        return _Counts(number, 0.0, number) if number and settled else None
    if number is not None and number <= requests:
        return _Counts(requests, number, 0.0)
    if not settled:
        return None
    if number is None and healthy:
        return _Counts(requests, 0.0, 0.0)
    known = max(requests, number or 0.0)
    return _Counts(known, 0.0, known)


def _between(count: Series, bad: Series) -> Collection[datetime]:
    """The minutes between two with requests, nearest before and after, that have errors."""
    order = sorted(count)
    nearest = zip(order, order[1:], order[2:], strict=False)
    return {at for before, at, after in nearest if before in bad and after in bad}


def _of_share(at: datetime, count: Series, share: Series, *, settled: bool) -> _Counts | None:
    requests, part = count.get(at), share.get(at)
    if requests is None:
        return _NOTHING if part is None else None
    if part is None:
        return _Counts(requests, 0.0, requests) if settled and share else None
    bad = round(requests * part, 6)  # a whole count came as a share, and is to be whole again
    return _Counts(requests, min(max(bad, 0.0), requests), 0.0)
