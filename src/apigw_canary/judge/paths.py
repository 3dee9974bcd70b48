"""The evidence minute by minute: what a picture of it is drawn from."""

from datetime import datetime
from typing import NamedTuple

from apigw_canary.judge.evidence import Row, odds
from apigw_canary.judge.gathering import gather
from apigw_canary.judge.observation import Observation
from apigw_canary.judge.plan import Plan
from apigw_canary.judge.signals import Signal


class SignalPath(NamedTuple):
    """One signal's minutes since the canary is judged, the baseline's history left out."""

    signal: Signal
    counts: list[tuple[datetime, Row]]
    """The settled minutes and what was counted in them, of two separate arms."""
    not_worse: list[tuple[datetime, float]]
    """The odds for "not worse" after each minute that is old enough to speak for the canary."""


class Paths(NamedTuple):
    """How the evidence of an observation came about."""

    worse: list[tuple[datetime, float]]
    """The odds for "worse", all signals together, after each settled minute."""
    signals: list[SignalPath]
    """In the policy's order."""


def paths(policy: Plan, observation: Observation) -> Paths:
    """The evidence that `analyze` sums up, minute by minute."""
    gathered = gather(policy, observation)
    first = observation.judged_from()
    against = zip(gathered.times, gathered.against, strict=True)
    return Paths(
        [(at, odds(log)) for at, log in against if at >= first],
        [
            SignalPath(
                g.signal,
                [
                    (minute.at, row)
                    for minute, row in zip(g.minutes, g.readings[0], strict=True)
                    if minute.at >= first
                ],
                [
                    (minute.at, odds(log))
                    for minute, log in zip(g.confirmed, g.not_worse, strict=True)
                    if minute.at >= first
                ],
            )
            for g in gathered.signals
        ],
    )
