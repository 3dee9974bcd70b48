"""Queries of access logs that count by arm, and minutes from their rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from apigw_canary.aws.insights import Found, Row, count
from apigw_canary.aws.logformat import IS_CANARY, AccessLog
from apigw_canary.errors import MetricsError
from apigw_canary.rollout.observation import Minute

BY_MINUTE = "bin(1m)"
ARM = "apigwCanaryArm"
ARMS = {"true": "canary", "1": "canary", "false": "baseline", "0": "baseline", "-": "baseline"}
"""While no canary is enabled there is no `isCanaryRequest`. 1 and 0 stand for a JSON boolean."""

_UNREADABLE = 0.001
"""The lines without a status that a minute may have, as a part of the canary's requests. Were all
of them failures of the canary's, they would raise its rate by 0.1 %, within the default margin."""


class Counted(NamedTuple):
    """How a signal is counted: bad are the lines for which `bad` is true."""

    signal: str
    bad: str
    field: str | None
    """What a line must have to count as a request; None where any line does."""


def query_of(log: AccessLog, columns: Sequence[str], *commands: str) -> str:
    """A query of the stage's lines, with the arm as a column and what else is given."""
    fields = ", ".join([f"{log.column(IS_CANARY)} as {ARM}", *columns])
    scope = [f"filter {condition}" for condition in log.scope]
    return " | ".join([f"fields {fields}", *scope, *commands])


def arm_of(row: Row) -> str:
    """The arm that a row counts."""
    said = row.get(ARM, "")
    if said not in ARMS:
        raise MetricsError(f"{IS_CANARY} is {said!r} in the access logs, neither true nor false.")
    return ARMS[said]


def by_minute(found: Found, start: datetime, end: datetime) -> dict[datetime, dict[str, Row]]:
    """The rows by minute and by what they say of `isCanaryRequest`."""
    minutes: dict[datetime, dict[str, Row]] = {}
    for row in found.rows:
        try:
            at = datetime.fromisoformat(row[BY_MINUTE]).replace(tzinfo=UTC)
        except (KeyError, ValueError):
            at = datetime.min.replace(tzinfo=UTC)
        arm_of(row)
        if not start <= at < end or row[ARM] in minutes.setdefault(at, {}):
            raise MetricsError(
                f"Logs Insights gave a row for {row.get(BY_MINUTE)!r} that was not asked for, or "
                "gave it twice."
            )
        minutes[at][row[ARM]] = row
    return minutes


def minute_of(at: datetime, arms: Mapping[str, Row], index: int, counted: Counted) -> Minute | None:
    """A minute of one signal; None where lines that cannot be read might hide the canary's."""
    requests = {"baseline": 0, "canary": 0}
    bad = {"baseline": 0, "canary": 0}
    unreadable = 0
    for row in arms.values():
        lines, known = count(row, "requests"), count(row, f"known_{index}")
        unreadable += lines - known
        requests[arm_of(row)] += known if counted.field else lines
        # The sum over lines none of which has the field is not known to be there.
        if f"bad_{index}" in row or (counted.field and known):
            bad[arm_of(row)] += count(row, f"bad_{index}")
    if unreadable > _UNREADABLE * (requests["canary"] or requests["baseline"]):
        return None
    if any(bad[arm] > requests[arm] for arm in bad) or unreadable < 0:
        raise MetricsError(f"Logs Insights counts more bad requests than requests at {at}.")
    return Minute(at, requests["baseline"], bad["baseline"], requests["canary"], bad["canary"])
