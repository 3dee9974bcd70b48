"""Routes from access logs: what is asked, which rows an answer may lack, whose lines they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from apigw_canary import (
    AccessLogs,
    CloudWatchMetrics,
    Hold,
    Measurements,
    Minute,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Stage,
)
from apigw_canary.aws.insights import MOST_ROWS
from apigw_canary.errors import InvalidInputError, MetricsError
from apigw_canary.testing import Backend, Conditions, rehearsal
from cloud import END, MINUTE, STAGE, START, at

HOUR = timedelta(hours=1)
ENABLED = START + HOUR
FORMAT = {
    "isCanaryRequest": "canary",
    "status": "status",
    "httpMethod": "method",
    "resourcePath": "path",
}
CHECKOUT = Signal.errors_5xx(route="POST /checkout", margin=0.001)
ERRORS = (Signal.errors_5xx(), Signal.errors_4xx())
V2 = {"alias": "v2"}

Cells = dict[str, str]


def row(minute: int, arm: str, route: str, *numbers: int, **cells: object) -> Cells:
    """A row: its route, requests, then known and bad for each signal."""
    method, _, path = route.partition(" ")
    columns = ("requests", "known_0", "bad_0", "known_1", "bad_1")
    return {
        "bin(1m)": f"{at(minute):%Y-%m-%d %H:%M:%S}.000",
        "apigwCanaryArm": arm,
        **({"apigwMethod": method, "apigwPath": path} if route else {}),
        **dict(zip(columns, map(str, numbers), strict=False)),
        **{name: str(value) for name, value in cells.items()},
    }


class Aws:
    """Logs Insights as a plain object: it gives the rows of the time asked for, 10,000 at most."""

    def __init__(self, rows: list[Cells], now: datetime = END + HOUR) -> None:
        self.rows = [(self._at(each), each) for each in rows]
        self.now = now
        self.asked: list[dict[str, Any]] = []
        self.failing: list[int] = []
        self.meta = SimpleNamespace(region_name="eu-central-1")

    @staticmethod
    def _at(cells: Mapping[str, str]) -> float:
        return datetime.fromisoformat(cells["bin(1m)"]).replace(tzinfo=UTC).timestamp()

    def client(self, service_name: str, *, config: Any = None) -> Aws:
        assert service_name in {"apigateway", "logs"}
        return self

    def get_rest_apis(self, **_: Any) -> Any:
        denied: Any = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
        raise ClientError(denied, "GetRestApis")

    get_rest_api = get_rest_apis

    def start_query(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        date = f"{self.now:%a, %d %b %Y %H:%M:%S GMT}"
        metadata = {"HTTPHeaders": {"date": date}}
        return {"queryId": f"q{len(self.asked)}", "ResponseMetadata": metadata}

    def get_query_results(self, queryId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        number = int(queryId[1:])
        asked = self.asked[number - 1]
        cells = [each for t, each in self.rows if asked["startTime"] <= t <= asked["endTime"]]
        found = [
            [{"field": name, "value": value} for name, value in each.items()]
            for each in cells[:MOST_ROWS]
        ]
        status = "Failed" if number in self.failing else "Complete"
        statistics = {"bytesScanned": 400.0 * len(found)}
        return {"status": status, "results": found, "statistics": statistics}

    def spans(self) -> list[int]:
        """How many minutes each query covered."""
        return [(each["endTime"] + 1 - each["startTime"]) // 60 for each in self.asked]


def source(aws: Aws, **options: Any) -> AccessLogs:
    chosen: dict[str, Any] = {"log_group": "access", "format": FORMAT, "routes": True, **options}
    return AccessLogs(session=aws, **chosen)


def read(rows: list[Cells], *signals: Signal, **options: Any) -> Measurements:
    return source(Aws(rows), **options).minutes(STAGE, signals or ERRORS, START, END + HOUR)


class TestRoutes:
    ROWS = (
        row(0, "-", "GET /a", 80, 80, 0, 80, 9),
        row(0, "-", "POST /a", 20, 20, 1, 20, 0),
        row(61, "false", "GET /a", 70, 70, 0, 70, 7),
        row(61, "false", "POST /a", 18, 18, 0, 18, 0),
        row(61, "true", "GET /a", 9, 9, 0, 9, 0),
        row(61, "true", "POST /a", 2, 1, 1, 1, 0),
    )

    def test_the_stage_is_the_sum_of_its_routes(self) -> None:
        """Each line counts once for the stage and once for its route; unknown outcomes stay so."""
        found = read(list(self.ROWS))
        assert dict(found) == {
            "errors_5xx": (Minute(at(0), 100, 1, 0, 0), Minute(at(61), 88, 0, 11, 1, 0, 1)),
            "errors_4xx": (Minute(at(0), 100, 9, 0, 0), Minute(at(61), 88, 7, 11, 0, 0, 1)),
        }
        assert found.routes is not None
        assert found.routes["POST /a"] == {
            "errors_5xx": (Minute(at(0), 20, 1, 0, 0), Minute(at(61), 18, 0, 2, 1, 0, 1)),
            "errors_4xx": (Minute(at(0), 20, 0, 0, 0), Minute(at(61), 18, 0, 2, 0, 0, 1)),
        }
        assert "2 routes are counted from access." in found.notes

    def test_a_route_without_failures_is_one_minute(self) -> None:
        """As with CloudWatch: where the canary had no bad request, more would say no more."""
        routes = read(list(self.ROWS)).routes
        assert routes is not None
        assert routes["GET /a"]["errors_5xx"] == (Minute(at(0), 80, 0, 0, 0),)

    def test_without_routes_none_are_measured(self) -> None:
        """The source does not group by them, and states none."""
        found = read([row(0, "-", "", 80, 80, 0, 80, 9)], routes=False)
        assert found.routes is None
        assert found["errors_5xx"] == (Minute(at(0), 80, 0, 0, 0),)

    def test_only_those_of_a_list(self) -> None:
        """Others count for the stage."""
        found = read(list(self.ROWS), routes=["POST /a", "GET /none"])
        assert found["errors_5xx"][0].baseline_requests == 100
        assert set(found.routes or {}) == {"POST /a"}

    @pytest.mark.parametrize("routes", ["GET /a", ["/a"], ["get /a"]])
    def test_routes_are_checked(self, routes: Any) -> None:
        """A list of methods with their paths."""
        with pytest.raises(InvalidInputError, match="routes"):
            AccessLogs(routes=routes)

    @pytest.mark.parametrize(
        "path", ["/{proxy+}", "/a b", '/a"b', "/a'b", "/{id}/x:y,z", "/a|b # c", "/?x"]
    )
    def test_any_path(self, path: str) -> None:
        """What is in a path means nothing: it is a value that AWS gives back."""
        found = read([row(61, "true", f"ANY {path}", 9, 9, 9, 9, 0)])
        assert set(found.routes or {}) == {f"ANY {path}"}

    def test_a_route_of_one_variant_only(self) -> None:
        """One that only the canary has is given, and cannot be judged against a baseline."""
        found = read(
            [
                row(0, "-", "GET /old", 9, 9, 0, 9, 0),
                row(61, "true", "GET /new", 9, 9, 9, 9, 0),
            ]
        )
        assert found.routes == {
            "GET /old": {name: (Minute(at(0), 9, 0, 0, 0),) for name in found},
            "GET /new": {
                "errors_5xx": (Minute(at(61), 0, 0, 9, 9),),
                "errors_4xx": (Minute(at(61), 0, 0, 9, 0),),
            },
        }

    def test_lines_without_a_route_count_for_the_stage(self) -> None:
        """Those that cannot be read are noted; those that no method of the API takes have none."""
        found = read(
            [
                row(61, "true", "GET /a", 5, 5, 0, 5, 0),
                row(61, "true", "? ?", 3, 3, 3, 3, 0),
                row(61, "true", "GET ?", 1, 1, 1, 1, 0),
                row(61, "false", "GET -", 2, 2, 0, 2, 2),
            ]
        )
        assert found["errors_5xx"] == (Minute(at(61), 2, 0, 9, 4),)
        assert set(found.routes or {}) == {"GET /a"}
        assert any("4 lines have no route" in note for note in found.notes)

    def test_a_row_that_comes_twice_is_refused(self) -> None:
        """Of the same minute, variant and route; two routes of one variant are two rows."""
        with pytest.raises(MetricsError, match="had returned before"):
            read([*self.ROWS, self.ROWS[-1]])

    @pytest.mark.parametrize("lacking", ["apigwMethod", "apigwPath"])
    def test_a_row_without_its_route_is_refused(self, lacking: str) -> None:
        """Its requests would be those of no route, and its failures nobody's."""
        cells = dict(self.ROWS[-1])
        del cells[lacking]
        with pytest.raises(MetricsError, match="that lacks a column"):
            read([*self.ROWS[:-1], cells])

    def test_the_query(self) -> None:
        """Method and path are columns to group by, read from the raw line where it is no JSON."""
        aws = Aws([])
        source(aws).minutes(STAGE, ERRORS[:1], START, END)
        assert aws.asked[0]["queryString"] == (
            r'parse @message /"canary"\s*:\s*"?(?<apigwRawArm>true|false|-)/ | '
            r'parse @message /"status"\s*:\s*"?(?<apigwRawStatus>[1-5][0-9][0-9])/ | '
            r'parse @message /"method"\s*:\s*"(?<apigwRawMethod>[A-Z]+|-)"/ | '
            r'parse @message /"path"\s*:\s*"(?<apigwRawPath>\/[^"\\]*|-)"/ | '
            'fields coalesce(`canary`, apigwRawArm, "?") as apigwCanaryArm, '
            "coalesce(`status`, apigwRawStatus) as apigwStatus, "
            'coalesce(`method`, apigwRawMethod, "?") as apigwMethod, '
            'coalesce(`path`, apigwRawPath, "?") as apigwPath | '
            "stats count(*) as requests, count(apigwStatus) as known_0, "
            "sum(apigwStatus >= 500 and apigwStatus < 600) as bad_0 "
            "by bin(1m), apigwCanaryArm, apigwMethod, apigwPath"
        )

    @pytest.mark.parametrize("options", [{"routes": True}, {"routes": False}])
    @pytest.mark.parametrize("lacking", ["httpMethod", "resourcePath"])
    def test_a_format_without_routes(self, options: Any, lacking: str) -> None:
        """What is missing in it is named, with what to add; the stage alone needs neither."""
        line = {name: field for name, field in FORMAT.items() if name != lacking}
        signals = (*ERRORS, CHECKOUT)
        with pytest.raises(InvalidInputError, match=rf"\$context\.{lacking}") as raised:
            read([], *signals, format=line, **options)
        assert f'"{lacking}": "$context.{lacking}"' in str(raised.value)
        assert dict(read([], format=line, routes=False))


def minutes_of_routes(routes: int, minutes: range) -> Iterator[Cells]:
    for minute in minutes:
        for number in range(routes):
            for arm in ("false", "true") if minute > 60 else ("-",):
                yield row(minute, arm, f"GET /{number}", 9, 9, number % 2, 9, 0)


class TestRows:
    """Logs Insights gives 10,000 rows at most, and does not say that there are more."""

    @pytest.mark.long
    @pytest.mark.parametrize("routes", [1, 400, 3000])
    def test_no_row_is_missing(self, routes: int) -> None:
        """Each minute has the requests of each route, however many queries that takes."""
        aws = Aws(list(minutes_of_routes(routes, range(57, 65))), now=at(200))
        found = source(aws).minutes(STAGE, ERRORS[:1], START, at(65))
        assert [each.baseline_requests for each in found["errors_5xx"]] == [9 * routes] * 8
        assert [each.canary_requests for each in found["errors_5xx"]] == [0] * 4 + [9 * routes] * 4
        assert len(found.routes or {}) == routes
        assert sum(aws.spans()) >= 65

    @pytest.mark.long
    def test_the_next_look_knows_how_many_there_are(self) -> None:
        """Queries grow to what fits, and one that was cut is asked again in halves."""
        aws = Aws(list(minutes_of_routes(400, range(120))), now=at(118))
        logs = source(aws)
        logs.minutes(STAGE, ERRORS[:1], START, at(118))
        # 400 rows a minute before the canary, 800 with it: 8,000 rows are 20 or 10 minutes.
        assert aws.spans() == [5, 20, 20, 20, 10, 10, 10, 10, 10, 3]
        first = len(aws.asked)
        logs.minutes(STAGE, ERRORS[:1], START, at(119))
        assert aws.spans()[first:] == [10, 6]

    @pytest.mark.long
    def test_a_cut_answer_is_asked_again(self) -> None:
        """More rows than fit, all of a sudden: in half the time there may be all."""
        rows = [*minutes_of_routes(10, range(20)), *minutes_of_routes(4000, range(20, 30))]
        aws = Aws(rows, now=at(200))
        found = source(aws).minutes(STAGE, ERRORS[:1], START, at(30))
        assert sum(each.baseline_requests for each in found["errors_5xx"]) == 9 * 40_200
        assert aws.spans() == [5, 20, 10, 15, 7, 2, 2, 2, 2]

    @pytest.mark.traced
    @pytest.mark.long
    def test_a_minute_with_too_many(self) -> None:
        """What cannot be read whole is an error, and no minute without requests."""
        aws = Aws(list(minutes_of_routes(10_001, range(3))), now=at(200))
        with pytest.raises(MetricsError, match=r"minute from 2026-01-05 09:00 UTC.*too many"):
            source(aws).minutes(STAGE, ERRORS[:1], START, at(3))
        assert aws.spans() == [3, 1]

    @pytest.mark.long
    def test_what_was_read_is_kept(self) -> None:
        """A query that fails does not make the next look begin anew."""
        aws = Aws(list(minutes_of_routes(400, range(60))), now=at(200))
        aws.failing = [3]
        logs = source(aws)
        with pytest.raises(MetricsError, match="Failed"):
            logs.minutes(STAGE, ERRORS[:1], START, at(60))
        found = logs.minutes(STAGE, ERRORS[:1], START, at(60))
        assert aws.spans() == [5, 20, 20, 20, 15]
        assert len(found["errors_5xx"]) == 60

    @pytest.mark.long
    def test_rows_without_routes_are_never_cut(self) -> None:
        """Two weeks of a stage are asked for in spans that fit; a cut answer is an error."""
        aws = Aws([row(0, "-", "", 1, 1, 0) for _ in range(MOST_ROWS)])
        with pytest.raises(MetricsError, match="more than 10,000 rows"):
            source(aws, routes=False).minutes(STAGE, ERRORS[:1], START, END)


def own(minute: int, arm: str, requests: int, known: int, bad: int) -> Cells:
    """A row of the signal of a route: a hundred lines, and those of the route."""
    numbers = {"requests_0": requests, "known_0": known, "bad_0": bad}
    return row(minute, arm, "", 100, **numbers)


class TestSignalOfARoute:
    def test_the_query(self) -> None:
        """One query as ever: sums over the lines of the route, and of those that may be its."""
        aws = Aws([])
        signals = [CHECKOUT, Signal.custom("refused", route="GET /a"), ERRORS[0]]
        source(aws, routes=False, bad={"refused": "e = 'X'"}).minutes(STAGE, signals, START, END)
        ((_, stats),) = [each["queryString"].split(" | stats ") for each in aws.asked]
        checkout = 'apigwMethod = "POST" and apigwPath = "/checkout"'
        of_a = 'apigwMethod = "GET" and apigwPath = "/a"'
        assert stats == (
            "count(*) as requests, "
            'sum((apigwMethod = "POST" or apigwMethod = "?") and '
            '(apigwPath = "/checkout" or apigwPath = "?")) as requests_0, '
            f"sum({checkout} and ispresent(apigwStatus)) as known_0, "
            f"sum({checkout} and (apigwStatus >= 500 and apigwStatus < 600)) as bad_0, "
            'sum((apigwMethod = "GET" or apigwMethod = "?") and '
            '(apigwPath = "/a" or apigwPath = "?")) as requests_1, '
            f"sum({of_a} and ispresent(`status`)) as known_1, sum({of_a} and (e = 'X')) as bad_1, "
            "count(apigwStatus) as known_2, sum(apigwStatus >= 500 and apigwStatus < 600) as bad_2 "
            "by bin(1m), apigwCanaryArm"
        )

    def test_minutes_are_of_the_route_alone(self) -> None:
        """Its own requests and failures; a minute in which it had none is none of its minutes."""
        rows = [own(0, "-", 9, 9, 1), own(1, "-", 0, 0, 0), own(61, "true", 5, 4, 2)]
        found = read(rows, CHECKOUT, routes=False)
        assert dict(found) == {
            CHECKOUT.name: (Minute(at(0), 9, 1, 0, 0), Minute(at(61), 0, 0, 5, 2, 0, 1))
        }
        assert found.not_observed == {}
        assert any(note.startswith("1 lines of access do not give") for note in found.notes)

    def test_a_route_without_lines_is_not_observed(self) -> None:
        """It has no minutes, rather than minutes without requests; the stage has its own."""
        cells = row(0, "-", "", 9, requests_0=0, known_0=0, bad_0=0, known_1=9, bad_1=0)
        found = read([cells], CHECKOUT, ERRORS[0], routes=False)
        assert set(found) == {"errors_5xx"}
        assert found.not_observed == {
            CHECKOUT.name: "access has no line of POST /checkout: correct the route"
        }

    @pytest.mark.parametrize(
        "numbers", [(101, 5, 0), (5, 6, 0), (5, 5, 6)], ids=["lines", "known", "bad"]
    )
    def test_contradictions_are_refused(self, numbers: tuple[int, int, int]) -> None:
        """More requests of a route than lines cannot be."""
        with pytest.raises(MetricsError):
            read([own(0, "true", *numbers)], CHECKOUT, routes=False)

    @pytest.mark.parametrize("route", ['GET /a"b', "GET /a\\b"])
    def test_what_cannot_be_written_into_a_query(self, route: str) -> None:
        """How a quote is written there is not documented, so it is refused, and not tried."""
        with pytest.raises(InvalidInputError, match="without"):
            read([], Signal.errors_5xx(route=route))

    @pytest.mark.parametrize("lines, is_suspect", [(0, False), (1, True)])
    def test_lines_without_a_variant_that_may_be_of_the_route(
        self, lines: int, is_suspect: bool
    ) -> None:
        """Few for the stage may be many for a route: they make the counts suspect, and do not
        count as the canary's.
        """
        cells = row(61, "true", "", 9000, requests_0=100, known_0=100, bad_0=0, known_1=9000)
        rows = [
            {**cells, "bad_1": "0"},
            row(61, "?", "", 1, requests_0=lines, known_0=0, bad_0=0, known_1=1, bad_1=0),
        ]
        found = read(rows, CHECKOUT, ERRORS[0], routes=False)
        assert found[CHECKOUT.name] == (Minute(at(61), lines, 0, 100, 0, lines, 0),)
        assert found["errors_5xx"] == (Minute(at(61), 1, 0, 9001, 0, 1, 1),)
        if is_suspect:
            assert "which has 100 lines of POST /checkout" in str(found.suspect)
        else:
            assert found.suspect is None

    def test_one_that_decides_nothing_makes_nothing_suspect(self) -> None:
        """A signal that is not critical needs no promotion to be held for it."""
        rows = [own(61, "true", 100, 100, 0), own(61, "?", 1, 0, 0)]
        signal = Signal.errors_4xx(route="POST /checkout")
        assert "of POST" not in str(read([*rows], signal, routes=False).suspect)


def policy(*signals: Signal, percent: float = 20, bake: int = 20) -> RolloutPolicy:
    return RolloutPolicy.canary(percent, bake * MINUTE, signals=signals or [ERRORS[0]])


def rolled_out(canary: Any, plan: RolloutPolicy, aws: Any, *, minutes: int = 120) -> Any:
    until = aws.now() + minutes * MINUTE
    while True:
        aws.sleep(600)
        decision = plan.decide(canary.observe(plan))
        if decision.final or aws.now() >= until:
            return decision


ROUTES = {"POST /checkout": 0.02, "GET /orders/{id}": 0.9, "ANY /{proxy+}": 0.08}


def failing(route: str, rate: float) -> Any:
    def fares(conditions: Conditions) -> Backend:
        return Backend(errors_4xx=0, errors_5xx=rate if conditions.method == route else 0.0)

    return fares


DETAILED = {"methodSettings": {"*/*": {"metricsEnabled": True}}}


class TestRehearsed:
    @pytest.mark.long
    @pytest.mark.parametrize("routes", [False, True])
    def test_a_route_that_fails_is_found(self, routes: bool) -> None:
        """A fiftieth of the requests fails entirely on the canary; the reason names the route."""
        bad = failing("POST /checkout", 0.08)
        with rehearsal(requests_per_minute=1000, routes=ROUTES, backends={"alias=v2": bad}) as aws:
            stage = Stage(
                aws.rest_api_id,
                "prod",
                session=aws.session,
                metrics=AccessLogs(routes=routes),
                sleep=aws.sleep,
            )
            plan = policy()
            canary = stage.enable_canary(20, variables=V2, policy=plan)
            decision = rolled_out(canary, plan, aws)
            if routes:
                assert isinstance(decision, Rollback)
                assert "errors_5xx of POST /checkout" in decision.reason
            else:  # the stage alone tolerates 0.5 %
                assert isinstance(decision, Promote)

    @pytest.mark.long
    def test_healthy_routes_are_promoted(self) -> None:
        """With routes as without."""
        with rehearsal(requests_per_minute=500, routes=ROUTES) as aws:
            logs = AccessLogs(routes=True)
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=logs, sleep=aws.sleep
            )
            canary = stage.enable_canary(20, variables=V2, policy=policy())
            assert isinstance(rolled_out(canary, policy(), aws), Promote)
            seen = canary.observe(policy())
            assert set(seen.routes or {}) == set(ROUTES)

    @pytest.mark.long
    @pytest.mark.no_cover
    @pytest.mark.parametrize("metrics", [AccessLogs(), None], ids=["logs", "cloudwatch"])
    @pytest.mark.parametrize("rate", [0.0, 0.02])
    def test_a_tolerance_of_its_own(self, metrics: AccessLogs | None, rate: float) -> None:
        """2 % of a fiftieth of the requests is within the stage's margin, and not the route's."""
        bad = failing("POST /checkout", rate)
        plan = policy(Signal.errors_5xx(), CHECKOUT, percent=50)
        with rehearsal(
            requests_per_minute=5000,
            routes=ROUTES,
            backends={"alias=v2": bad},
            settings=DETAILED,
        ) as aws:
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=metrics, sleep=aws.sleep
            )
            canary = stage.enable_canary(50, variables=V2, policy=plan)
            decision = rolled_out(canary, plan, aws, minutes=240)
            assert isinstance(decision, Rollback if rate else Promote)
            seen = canary.observe(plan)
            (served,) = {
                sum(m.canary_requests for m in seen.minutes[CHECKOUT.name] if m.at < each)
                / sum(m.canary_requests for m in seen.minutes["errors_5xx"] if m.at < each)
                for each in [seen.at - 5 * MINUTE]
            }
            assert served == pytest.approx(0.02, abs=0.003)
            if rate:
                assert "errors_5xx of POST /checkout" in decision.reason

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize(
        "metrics, why",
        [
            (AccessLogs(), "access-logs has no line of POST /chekout: correct the route"),
            (None, "CloudWatch has no requests of POST /chekout: correct the route, or turn on"),
        ],
    )
    def test_a_route_that_the_source_never_gives(
        self, metrics: AccessLogs | None, why: str
    ) -> None:
        """Refused before anything is changed; named by the preflight, and by a Hold."""
        plan = policy(Signal.errors_5xx(), Signal.errors_5xx(route="POST /chekout"))
        with rehearsal(requests_per_minute=1000, routes=ROUTES) as aws:
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=metrics, sleep=aws.sleep
            )
            with pytest.raises(MetricsError, match="given no minute of") as raised:
                stage.enable_canary(20, variables=V2, policy=plan)
            assert why in str(raised.value)
            assert stage.describe().canary is None
            problems = stage.check(percent=20, variables=V2, policy=plan).problems
            named = [each for each in problems if "POST /chekout" in each.what]
            error, spends = named  # the latter is on its part of the evidence
            assert (error.severity, spends.severity) == ("error", "warning")
            assert "of the evidence for rolling back" in spends.what
            assert "no minute of errors_5xx of POST /chekout" in error.what
            assert why in error.what
            assert error.remedy == "Correct the route, or take the signal out of the policy."
            assert error.remedy in str(raised.value)
            canary = stage.enable_canary(20, variables=V2)
            decision = rolled_out(canary, plan, aws, minutes=40)
            assert isinstance(decision, Hold)
            assert "has given no minute of errors_5xx of POST /chekout" in decision.reason
            assert why in decision.reason

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize(
        "metrics, settings, why",
        [
            (AccessLogs, {}, "access-logs has no line of it: correct the list"),
            (CloudWatchMetrics, DETAILED, "CloudWatch has no requests of it: correct the list"),
            (CloudWatchMetrics, {}, "turn on detailed metrics for the stage if they are off"),
        ],
    )
    def test_a_route_of_the_list_that_the_source_never_gives(
        self, metrics: Any, settings: Any, why: str
    ) -> None:
        """Refused before anything is changed; an error of the preflight; named by a Hold."""
        plan = policy(Signal.errors_5xx())
        with rehearsal(requests_per_minute=1000, routes=ROUTES, settings=settings) as aws:
            source = metrics(routes=["GET /orders", "POST /chekout"])
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=source, sleep=aws.sleep
            )
            no_data = r"a list of routes, but no data of .*POST /chekout"
            with pytest.raises(MetricsError, match=no_data) as raised:
                stage.enable_canary(20, variables=V2, policy=plan)
            assert why in str(raised.value)
            assert "Correct the route, or take it out of the list." in str(raised.value)
            assert stage.describe().canary is None
            problems = stage.check(percent=20, variables=V2, policy=plan).problems
            (error,) = [each for each in problems if "POST /chekout" in each.what]
            assert error.severity == "error"
            assert re.search(no_data, error.what)
            canary = stage.enable_canary(20, variables=V2)
            decision = rolled_out(canary, plan, aws, minutes=40)
            assert isinstance(decision, Hold)
            assert re.search(no_data, decision.reason)
            assert "POST /chekout is not observed: " in decision.reason
            assert why in decision.reason

    @pytest.mark.long
    @pytest.mark.parametrize("metrics", [AccessLogs, CloudWatchMetrics])
    def test_a_list_of_routes_without_a_mistake(self, metrics: Any) -> None:
        """Nothing is refused, and the canary is promoted."""
        plan = policy(Signal.errors_5xx())
        with rehearsal(requests_per_minute=1000, routes=ROUTES, settings=DETAILED) as aws:
            source = metrics(routes=["POST /checkout"])
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=source, sleep=aws.sleep
            )
            assert stage.check(percent=20, variables=V2, policy=plan).ok
            canary = stage.enable_canary(20, variables=V2, policy=plan)
            assert isinstance(rolled_out(canary, plan, aws), Promote)

    def test_a_route_that_is_not_critical(self) -> None:
        """It need not be observed: the reason states that it is not."""
        plan = policy(Signal.errors_5xx(), Signal.errors_4xx(route="POST /chekout"))
        with rehearsal(requests_per_minute=500, routes=ROUTES) as aws:
            canary = aws.stage.enable_canary(20, variables=V2, policy=plan)
            decision = rolled_out(canary, plan, aws)
            assert isinstance(decision, Promote)
            assert "errors_4xx of POST /chekout is not observed" in decision.reason

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_what_the_signal_of_a_route_may_spend(self) -> None:
        """The policy and the preflight state its part of the risk."""
        plan = RolloutPolicy.canary(20, 20 * MINUTE, signals=[*policy_defaults(), CHECKOUT])
        part = "errors_5xx of POST /checkout has 41.7 % of the evidence for rolling back"
        assert f"{part}, and alone rolls back at most 2.1 % of healthy canaries" in str(plan)
        alone = RolloutPolicy.canary(20, 20 * MINUTE, signals=[CHECKOUT])
        assert "errors_5xx of POST /checkout has 100 % of the evidence" in str(alone)
        with rehearsal(requests_per_minute=500, routes=ROUTES, settings=DETAILED) as aws:
            for metrics, said in (
                (None, part),
                (AccessLogs(routes=True), part.replace("41.7", "31.2")),
            ):
                stage = Stage(
                    aws.rest_api_id, "prod", session=aws.session, metrics=metrics, sleep=aws.sleep
                )
                problems = stage.check(percent=20, variables=V2, policy=plan).problems
                (found,) = [each for each in problems if each.what.startswith(said)]
                assert found.severity == "warning"

    @pytest.mark.traced
    @pytest.mark.long
    def test_missing_lines_may_be_those_of_the_route(self) -> None:
        """Lines that never come are few for the stage, and could be all failures of a route."""
        bad = failing("POST /checkout", 0.3)
        plan = policy(Signal.errors_5xx(), CHECKOUT, percent=50)
        with rehearsal(
            requests_per_minute=5000,
            routes={"POST /checkout": 0.002, "GET /orders": 0.998},
            backends={"alias=v2": bad},
            late_failures=timedelta(hours=5),
        ) as aws:
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=AccessLogs(), sleep=aws.sleep
            )
            canary = stage.enable_canary(50, variables=V2, policy=plan)
            decision = rolled_out(canary, plan, aws)
            assert not isinstance(decision, Promote)
            assert re.search(
                r"have no line in .* each of them may be one of POST /checkout", decision.reason
            )

    @pytest.mark.long
    def test_a_signal_of_a_route_at_one_request_a_minute(self) -> None:
        """Too few requests are no verdict, in whichever direction."""
        plan = policy(Signal.errors_5xx(), CHECKOUT)
        with rehearsal(requests_per_minute=50, routes=ROUTES) as aws:
            stage = Stage(
                aws.rest_api_id, "prod", session=aws.session, metrics=AccessLogs(), sleep=aws.sleep
            )
            canary = stage.enable_canary(20, variables=V2)
            decision = rolled_out(canary, plan, aws)
            assert isinstance(decision, Hold)


def policy_defaults() -> tuple[Signal, ...]:
    return RolloutPolicy.canary(5, MINUTE).signals
