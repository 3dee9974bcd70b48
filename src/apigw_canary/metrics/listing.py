"""Which stages CloudWatch knows of an API: a series that is missing, told from one without data."""

from datetime import datetime, timedelta
from typing import Any

from apigw_canary.aws.calls import Calls
from apigw_canary.errors import AccessDeniedError
from apigw_canary.metrics.metricdata import NAMESPACE

_EVERY = timedelta(minutes=5)
"""How often it is asked again: a new series is listed within 15 minutes."""


class Listing:
    """Looks for a canary's series that has no data."""

    def __init__(self, calls: Calls, api_name: str, wanted: str) -> None:
        self._calls = calls
        self._api_name = api_name
        self._wanted = wanted
        self._asked: datetime | None = None
        self._note = ""

    def note(self, at: datetime) -> str:
        """What is known of the series at that time: one ListMetrics every five minutes."""
        if self._asked is None or not self._asked <= at < self._asked + _EVERY:
            try:
                known = self._known()
            except AccessDeniedError as error:
                self._note = f"whether CloudWatch has a series {self._wanted} is not known: {error}"
            else:
                self._note = self._compared(known)
            self._asked = at
        return self._note

    def _compared(self, known: set[str]) -> str:
        if self._wanted in known:
            return f"the series {self._wanted} exists, without requests"
        others = ", ".join(sorted(known)) or "none"
        return (
            f"the series {self._wanted} is missing: of {self._api_name!r} CloudWatch knows {others}"
            " (a new one can take 15 minutes to be listed); CloudWatchMetrics(canary_stage=…) "
            "states where the canary's requests are"
        )

    def _known(self) -> set[str]:
        request: dict[str, Any] = {
            "Namespace": NAMESPACE,
            "MetricName": "Count",
            "Dimensions": [{"Name": "ApiName", "Value": self._api_name}],
        }
        known: set[str] = set()
        for answer in self._calls.pages("cloudwatch", "ListMetrics", "NextToken", **request):
            for metric in answer["Metrics"]:
                dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
                if dimensions.keys() == {"ApiName", "Stage"}:
                    known.add(dimensions["Stage"])
        return known
