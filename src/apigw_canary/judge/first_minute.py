"""The first full minute after a canary began, which can be evidence against it.

It is not among the judged minutes: an earlier canary may have had requests in it, and a change
takes seconds to reach every place where requests are split. But where the hour before shows no
earlier canary, it is compared as well, for errors. It never counts for the canary.
"""

from apigw_canary.judge.detector import UNHEALTHY, Detector, highest_healthy
from apigw_canary.judge.evidence import Row
from apigw_canary.judge.observation import Minute, Observation, ceil_minute
from apigw_canary.judge.signals import ERRORS_4XX, ERRORS_5XX, Signal


def first_minute(signal: Signal, observation: Observation) -> Minute | None:
    """The first full minute of an error signal, if no earlier canary can be in it.

    The minutes before the start must be known, and the canary must have no requests in them. (The
    minute of the start itself is left out: an earlier canary may have ended in it.)
    """
    if signal.name not in (ERRORS_5XX, ERRORS_4XX):
        return None
    start = observation.started_at.replace(second=0, microsecond=0)
    first, has_history = ceil_minute(observation.started_at), False
    for minute in observation.minutes.get(signal.name, ()):
        if minute.at >= first:
            return minute if minute.at == first and has_history else None
        if minute.at < start:
            if minute.canary_requests:
                return None
            has_history = has_history or minute.baseline_requests > minute.baseline_unknown
    return None


class FirstMinute:
    """Hands the first minute out after the next one, if the baseline was not unhealthy in that.

    An incident that begins within the first minute counts more for one variant if the requests were
    split differently before and after. Whether the minute is handed out depends on other minutes
    only, so the capital that is bet in it keeps its expectation. Of the next minute the baseline's
    requests are asked alone: what only the canary fails in is none of an incident.
    """

    def __init__(self, signal: Signal, row: Row | None) -> None:
        self._signal, self._row = signal, row
        self._bad = self._requests = 0.0

    def after(self, minute: Minute, row: Row) -> Row | None:
        """What is to be judged after this minute, the next in order."""
        first = self._row
        if first is None:
            return None
        if not minute.canary_requests:
            self._bad += row.baseline_bad
            self._requests += row.baseline_known
            return None
        self._row = None
        limit = highest_healthy(self._signal, self._bad, self._requests)
        log = Detector().add(row.baseline_known, row.baseline_bad, limit)
        return first if log < UNHEALTHY else None
