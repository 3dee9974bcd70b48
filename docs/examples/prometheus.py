"""Signals from Prometheus, beside those that CloudWatch has."""

import json
import math
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from apigw_canary import CloudWatchMetrics, Measurements, Minute, Signal, StageState

MINUTE = timedelta(minutes=1)


class Ratio(NamedTuple):
    """Two expressions that give the counts of a minute by the label `variant`."""

    requests: str
    bad: str


CHECKOUTS = Ratio(
    requests="sum by (variant) (increase(checkouts_total[1m]))",
    bad="sum by (variant) (increase(checkouts_failed_total[1m]))",
)


class Prometheus:
    """A source: the signals of `ratios` from Prometheus, all others from CloudWatch."""

    def __init__(
        self,
        url: str,
        ratios: Mapping[str, Ratio],
        *,
        open_url: Callable[..., Any] = urllib.request.urlopen,
    ) -> None:
        self._url, self._ratios, self._open = url.rstrip("/"), ratios, open_url
        self._cloudwatch = CloudWatchMetrics()

    def using(self, calls: Any) -> "Prometheus":
        """Let CloudWatch be read with the stage's session. The stage calls this when it is made."""
        self._cloudwatch = self._cloudwatch.using(calls)
        return self

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Measurements:
        """The minutes of each signal in [start, end): two queries for each that is from here."""
        others = [signal for signal in signals if signal.name not in self._ratios]
        found = self._cloudwatch.minutes(stage, others, start, end)
        return found.merged_with(
            {
                signal.name: self._rows(self._ratios[signal.name], start, end)
                for signal in signals
                if signal.name in self._ratios
            }
        )

    def _rows(self, ratio: Ratio, start: datetime, end: datetime) -> list[Minute]:
        requests = self._series(ratio.requests, start, end)
        bad = self._series(ratio.bad, start, end)
        rows = []
        for at in sorted({at for series in requests.values() for at in series}):
            counts = []
            for variant in ("baseline", "canary"):
                n = requests.get(variant, {}).get(at, 0.0)
                x = bad.get(variant, {}).get(at)
                if x is None or x > n:  # no number, or one that cannot be: the outcome is unknown
                    counts.append((n, 0.0, n))
                else:
                    counts.append((n, x, 0.0))
            (n_b, x_b, u_b), (n_c, x_c, u_c) = counts
            if n_b or n_c:
                rows.append(Minute(at, n_b, x_b, n_c, x_c, u_b, u_c))
        return rows

    def _series(
        self, query: str, start: datetime, end: datetime
    ) -> dict[str, dict[datetime, float]]:
        """By variant the value of each minute, by the minute's beginning.

        `increase(...[1m])` at a time is about the minute before it.
        """
        asked = {
            "query": query,
            "start": (start + MINUTE).timestamp(),
            "end": end.timestamp(),
            "step": 60,
        }
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        # An answer of status 400, 422 or 503 raises HTTPError.
        with self._open(url, timeout=10) as response:
            answer = json.load(response)
        if answer["status"] != "success" or answer.get("warnings"):
            raise ValueError(f"Prometheus: {answer.get('error') or answer['warnings']}")
        found: dict[str, dict[datetime, float]] = {}
        for series in answer["data"]["result"]:
            values = {
                datetime.fromtimestamp(at, UTC) - MINUTE: float(value)
                for at, value in series["values"]
            }
            if not all(math.isfinite(value) and value >= 0 for value in values.values()):
                raise ValueError(f"Prometheus: values that are no counts for {query}")
            found[series["metric"]["variant"]] = values
        return found


if __name__ == "__main__":
    import io

    from apigw_canary import RolloutPolicy, Stage
    from apigw_canary.testing import rehearsal

    def answered(url: str, *, timeout: float) -> io.BytesIO:  # noqa: ARG001 - as urlopen has it
        """An answer of Prometheus: 2 % of the checkouts fail, and 40 % of the canary's."""
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
        times = range(int(float(asked["start"][0])), int(float(asked["end"][0])) + 1, 60)
        failed = "failed" in asked["query"][0]
        counts = {"baseline": "9" if failed else "450", "canary": "20" if failed else "50"}
        result = [
            {
                "metric": {"variant": variant},
                "values": [
                    [at, count] for at in times if variant == "baseline" or at > begun.timestamp()
                ],
            }
            for variant, count in counts.items()
        ]
        answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return io.BytesIO(json.dumps(answer).encode())

    policy = RolloutPolicy.canary(
        10, 10 * MINUTE, signals=[Signal.errors_5xx(), Signal.custom("checkouts_failed")]
    )
    with rehearsal() as aws:
        begun = aws.now()
        source = Prometheus(
            "http://prometheus:9090", {"checkouts_failed": CHECKOUTS}, open_url=answered
        )
        stage = Stage(aws.rest_api_id, "prod", metrics=source, session=aws.session, sleep=aws.sleep)
        canary = stage.enable_canary(10, release="r1", variables={"alias": "v2"}, policy=policy)
        aws.sleep(600)
        print(policy.decide(canary.observe(policy)))
