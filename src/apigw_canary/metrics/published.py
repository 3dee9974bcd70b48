"""Under which names CloudWatch has an API's metrics, and whether they are that API's alone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from apigw_canary.aws.apigateway import ApiGateway, api_names, stage_names
from apigw_canary.aws.calls import Calls
from apigw_canary.errors import AccessDeniedError, NotFoundError
from apigw_canary.metrics.source import NAMESPACE
from apigw_canary.model import StageState

_EVERY = timedelta(minutes=5)
"""How often it is asked again: a new series is listed within 15 minutes."""


class Published(NamedTuple):
    """What API Gateway says of an API, asked once."""

    api_name: str
    """The value of the dimension `ApiName`."""
    stages: tuple[str, ...]
    """All stages whose requests the API's total counts; empty where that is not known."""
    notes: tuple[str, ...] = ()
    suspect: str | None = None


def published_as(name: str, rest_api_id: str) -> str:
    """The value of `ApiName`: the name without what is not ASCII, or the id if nothing is left.

    "Amazon API Gateway dimensions and metrics", API Gateway Developer Guide.
    """
    kept = "".join(character for character in name if character.isascii())
    return kept if kept.strip() else rest_api_id


def published(calls: Calls, stage: StageState, stated: str | None) -> Published:
    """GetRestApis and GetStages; of further APIs of the same name GetStages each.

    Without permission for either the rest is found out all the same, and a note says what is not.
    A `stated` name is the caller's word that it is the right one.
    """
    if stated is not None:
        return _with_stages(calls, stage, Published(published_as(stated, stage.rest_api_id), ()))
    names: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    try:
        names = api_names(calls)
    except AccessDeniedError as error:
        notes = (f"that no other API has the same name could not be checked: {error}",)
    own = names.pop(stage.rest_api_id, None)
    if own is None:
        own = ApiGateway(calls, stage.rest_api_id, stage.name).api_name()
    found = Published(published_as(own, stage.rest_api_id), (), notes)
    same = [id_ for id_, name in names.items() if published_as(name, id_) == found.api_name]
    if not same:
        return _with_stages(calls, stage, found)
    others = f"the API has the same name, {found.api_name!r}, as {', '.join(sorted(same))}"
    twins, unread = _twins(calls, sorted(same), stage.name)
    if not twins:
        return found._replace(notes=(*notes, f"{others}, which have no stage {stage.name}"))
    counts, remedy = (
        ("may count", "allow reading the stages of the other APIs, ") if unread else ("counts", "")
    )
    return found._replace(
        notes=(*notes, *unread),
        suspect=f"{others}, and CloudWatch {counts} the stages {stage.name} of "
        f"{stage.rest_api_id}, {', '.join(twins)} as one; {remedy}rename one of them, "
        "read access logs, or, if its counts are right, state the name: "
        f"CloudWatchMetrics(api_name={found.api_name!r})",
    )


def _with_stages(calls: Calls, stage: StageState, found: Published) -> Published:
    try:
        return found._replace(stages=stage_names(calls, stage.rest_api_id))
    except (AccessDeniedError, NotFoundError) as error:  # not found: by a session of its own
        note = f"the API's total cannot be compared with its stages, which were not found: {error}"
        return found._replace(notes=(*found.notes, note))


def _twins(
    calls: Calls, rest_api_ids: Sequence[str], stage: str
) -> tuple[Sequence[str], Sequence[str]]:
    """Those of the APIs that may have such a stage, and what is not known about them."""
    twins: list[str] = []
    unread: list[str] = []
    for rest_api_id in rest_api_ids:
        try:
            may_have = stage in stage_names(calls, rest_api_id)
        except NotFoundError:
            may_have = False  # deleted a moment ago
        except AccessDeniedError as error:
            may_have = True
            unread.append(f"which stages {rest_api_id} has could not be read: {error}")
        if may_have:
            twins.append(rest_api_id)
    return twins, unread


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
