"""Minutes from access logs: what is asked, what is made of the answers, what is not believed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from acting import V2, fresh, sent
from apigw_canary import (
    AccessLogs,
    CloudWatchMetrics,
    Decision,
    Hold,
    Measurements,
    MetricSource,
    Minute,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Stage,
)
from apigw_canary.aws.insights import MOST_ROWS, field, text
from apigw_canary.errors import (
    AccessDeniedError,
    InvalidInputError,
    MetricsError,
    NotFoundError,
    ThrottledError,
    UnansweredError,
)
from apigw_canary.metrics.logcounts import with_missing, without_line
from apigw_canary.metrics.logformat import _UNSAID, parsed
from apigw_canary.testing import Backend, Fault, Rehearsal, RehearsalError, rehearsal
from apigw_canary.testing.logs import ACCESS_LOG_FORMAT
from cloud import END, MINUTE, STAGE, START, at

ERRORS = (Signal.errors_5xx(), Signal.errors_4xx())
FORMAT = {"isCanaryRequest": "canary", "status": "status", "responseLatency": "ms"}
COLUMNS = ("requests", "known_0", "bad_0", "known_1", "bad_1")

Cells = dict[str, str]


def row(minute: int, arm: str, *numbers: object, **cells: str) -> Cells:
    """A row as Logs Insights gives it: requests, then known and bad for each signal."""
    said = {"bin(1m)": f"{at(minute):%Y-%m-%d %H:%M:%S}.000", "apigwCanaryArm": arm}
    return said | dict(zip(COLUMNS, map(str, numbers), strict=False)) | cells


class Aws:
    """AWS as far as it is asked here, a plain object: rows, a stage, and statuses in turn."""

    def __init__(
        self,
        rows: Sequence[Cells] = (),
        *,
        statuses: Sequence[str] = ("Complete",),
        trouble: Mapping[str, BaseException] | None = None,
        settings: Mapping[str, str] | None = None,
        now: datetime = END + timedelta(hours=1),
        **answer: Any,
    ) -> None:
        self.rows = list(rows)
        self.statuses = list(statuses)
        self.trouble = dict(trouble or {})
        self.settings = settings
        self.now = now
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.stages = 0
        self.queries_have_ids = True
        self.meta = SimpleNamespace(region_name="eu-central-1")

    def client(self, service_name: Any, *, config: Any = None) -> Aws:
        assert service_name in {"apigateway", "cloudwatch", "logs"}
        return self

    def _check(self, operation: str) -> dict[str, Any]:
        if operation in self.trouble:
            raise self.trouble.pop(operation)
        date = f"{self.now:%a, %d %b %Y %H:%M:%S GMT}"
        return {"ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    def get_stage(self, **_: Any) -> dict[str, Any]:
        self.stages += 1
        stage = self._check("GetStage")
        stage |= {"stageName": "prod", "deploymentId": "old111", "lastUpdatedDate": START}
        return stage | ({"accessLogSettings": self.settings} if self.settings is not None else {})

    def get_rest_apis(self, **_: Any) -> Any:
        raise refusal("GetRestApis", "AccessDeniedException")

    def get_rest_api(self, **_: Any) -> Any:
        raise refusal("GetRestApi", "AccessDeniedException")

    def start_query(self, **request: Any) -> dict[str, Any]:
        answer = self._check("StartQuery")
        self.asked.append(request)
        return answer | {"queryId": f"q{len(self.asked)}" if self.queries_have_ids else ""}

    def get_query_results(self, queryId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        answer = self._check("GetQueryResults")
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        asked = self.asked[-1]
        found = [
            each
            for each in self.rows
            if "bin(1m)" not in each
            or not each["bin(1m)"].startswith("2026")
            or asked["startTime"]
            <= datetime.fromisoformat(each["bin(1m)"]).replace(tzinfo=UTC).timestamp()
            <= asked["endTime"]
        ]
        results = [[{"field": k, "value": v} for k, v in each.items()] for each in found]
        answer |= {"status": status, "results": results, "statistics": {"bytesScanned": 2e9}}
        return answer | self.answer

    def stop_query(self, queryId: str) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.stopped.append(queryId)
        return self._check("StopQuery") | {"success": True}


def source(aws: Aws, **options: Any) -> AccessLogs:
    chosen: dict[str, Any] = {"log_group": "access", "format": FORMAT, **options}
    return AccessLogs(session=aws, **chosen)


def read(
    aws: Aws,
    signals: Sequence[Signal] = ERRORS,
    start: datetime = START,
    end: datetime = END,
    **options: Any,
) -> Measurements:
    return source(aws, **options).minutes(STAGE, signals, start, end)


class TestMinutes:
    def test_both_arms_of_each_signal(self) -> None:
        """Each signal gets the requests of both arms and its own bad ones, in order of time."""
        aws = Aws(
            [
                row(1, "false", 80, 80, 1, 80, 4),
                row(0, "true", 10, 10, 1, 10, 2),
                row(0, "false", 90, 90, 3, 90, 9),
            ]
        )
        found = read(aws)
        assert dict(found) == {
            "errors_5xx": (Minute(at(0), 90, 3, 10, 1), Minute(at(1), 80, 1, 0, 0)),
            "errors_4xx": (Minute(at(0), 90, 9, 10, 2), Minute(at(1), 80, 4, 0, 0)),
        }
        assert (len(found), found.overlap) == (2, "excluded")

    @pytest.mark.parametrize("true, false", [("true", "false"), ("1", "0")])
    def test_before_and_after_the_canary_was_enabled(self, true: str, false: str) -> None:
        """A line that does not say is the baseline's; a JSON boolean is as good as a text."""
        aws = Aws([row(0, "-", 50, 50, 1), row(0, false, 30, 30, 0), row(0, true, 9, 9, 0)])
        assert read(aws, ERRORS[:1])["errors_5xx"] == (Minute(at(0), 80, 1, 9, 0),)

    def test_minutes_without_lines_are_unknown(self) -> None:
        """Nothing logged is nothing known: no minute says that there were no requests."""
        assert dict(read(Aws())) == {"errors_5xx": (), "errors_4xx": ()}

    def test_lines_without_a_status_are_unknown_outcomes(self) -> None:
        """Lines that cannot be read might be failures: they are requests of their variant, neither
        good nor bad ones. No minute is left out for them.
        """
        aws = Aws(
            [
                row(0, "-", 2, 0),
                row(0, "false", 90, 90, 1),
                row(0, "true", 10, 7, 2),
                row(1, "true", 5, 0),
            ]
        )
        found = read(aws, ERRORS[:1])
        assert found["errors_5xx"] == (
            Minute(at(0), 92, 1, 10, 2, 2, 3),
            Minute(at(1), 0, 0, 5, 0, 0, 5),
        )
        assert found.notes[0].startswith("10 lines of access do not give an outcome")
        assert found.suspect is None

    @pytest.mark.parametrize("lines, suspect", [(2, False), (3, True)])
    def test_lines_without_a_variant(self, lines: int, suspect: bool) -> None:
        """They are no evidence for either variant: requests of unknown outcome of both. So many
        that they could hide half of the margin make the counts suspect; then the canary, which
        they would drown, is not taken to be unobserved for them.
        """
        aws = Aws(
            [
                row(-50, "?", 7, 7, 7),
                row(0, "false", 9000, 9000, 0),
                row(0, "true", 1000, 1000, 1),
                row(0, "?", lines, lines, lines),
            ]
        )
        found = read(aws, ERRORS[:1], START - timedelta(hours=1))
        before, after = found["errors_5xx"]
        assert before == Minute(at(-50), 7, 0, 0, 0, 7, 0)
        own = 0 if suspect else lines
        assert after == Minute(at(0), 9000 + lines, 0, 1000 + own, 1, lines, own)
        assert (found.suspect is not None) == suspect
        if suspect:
            assert f"{lines} lines of access since 2026-01-05 09:00 UTC" in (found.suspect or "")

    def test_a_minute_of_lines_without_a_variant_after_many_good_ones(self) -> None:
        """Ten good hours do not make up for ten minutes in which nothing can be assigned."""
        rows = [row(n, arm, 1000, 1000, 0) for n in range(60) for arm in ("false", "true")]
        aws = Aws([*rows, row(59, "?", 20, 0)])
        found = read(aws, ERRORS[:1], START - timedelta(hours=1), at(60))
        assert found.suspect is None
        aws.rows.append(row(58, "?", 20, 0))
        assert read(aws, ERRORS[:1], START - timedelta(hours=1), at(60)).suspect is not None

    def test_says_what_it_cost(self) -> None:
        """The bytes scanned, and what they cost, are in the notes."""
        (note, other) = read(Aws(), usd_per_gb=0.01).notes
        assert "neither apiId nor stage" in note
        assert "2e+03 MB of access" in other
        assert "about 0.02 USD" in other

    @pytest.mark.parametrize(
        "rows",
        [
            [row(0, "true", 5, 5, 6)],  # more bad than requests
            [row(0, "true", 5, 6, 0)],  # more known than requests
            [row(0, "true", 5, 5)],  # no number of bad ones
            [row(0, "true", "many", 5, 0)],
            [row(0, "true", "nan", 5, 0)],
            [row(0, "true", -1, -1, 0)],
            [row(0, "true")],
            [row(0, "true", 5, 5, 0), row(0, "true", 5, 5, 0)],  # twice
            [row(0, "maybe", 5, 5, 0)],
            [{"bin(1m)": "2026-01-05 09:00:00.000", "requests": "5", "known_0": "5", "bad_0": "0"}],
            [row(0, "true", 5, 5, 0) | {"bin(1m)": "yesterday"}],
            [row(0, "true", 5, 5, 0) | {"bin(1m)": "1999-01-05 09:00:00.000"}],
            [{"requests": "5", "apigwCanaryArm": "true"}],
        ],
    )
    def test_contradictions_are_refused(self, rows: list[Cells]) -> None:
        """What Logs Insights cannot have counted is an error, and never a healthy minute."""
        with pytest.raises(MetricsError):
            read(Aws(rows), ERRORS[:1])

    def test_unknown_columns_and_empty_cells_do_no_harm(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A column that was not asked for is passed over, a cell without a value is none."""
        aws = Aws([row(0, "true", 5, 5, 1, **{"@ptr": "x"})])
        cells = aws.get_query_results

        def with_empty(**asked: Any) -> dict[str, Any]:
            answer = cells(**asked)
            answer["results"] = [[*found, {"field": "x"}, {}] for found in answer["results"]]
            return answer

        monkeypatch.setattr(aws, "get_query_results", with_empty)
        assert read(aws, ERRORS[:1])["errors_5xx"] == (Minute(at(0), 0, 0, 5, 1),)

    def test_young_minutes_are_left_out(self) -> None:
        """A minute whose lines may still be on the way is not known yet."""
        aws = Aws([row(n, "false", 5, 5, 0) for n in range(10)], now=END)
        assert [each.at for each in read(aws, ERRORS[:1])["errors_5xx"]] == [
            at(n) for n in range(8)
        ]


class TestQuery:
    def test_is_what_aws_takes(self) -> None:
        """One group, whole minutes with both ends inclusive, and a limit; all signals at once."""
        aws = Aws()
        slow = Signal(name="slow", over=250)
        refused = Signal.custom("refused")
        read(
            aws,
            [*ERRORS, slow, refused],
            START + timedelta(seconds=20),
            bad={"refused": "errorType = 'X'"},
        )
        (asked,) = aws.asked
        query = asked.pop("queryString")
        assert asked == {
            "logGroupName": "access",
            "startTime": int(at(1).timestamp()),
            "endTime": int(END.timestamp()) - 1,
            "limit": 10_000,
        }
        assert query == (
            r'parse @message /"canary"\s*:\s*"?(?<apigwRawArm>true|false|-)/ | '
            r'parse @message /"status"\s*:\s*"?(?<apigwRawStatus>[1-5][0-9][0-9])/ | '
            r'parse @message /"ms"\s*:\s*"?(?<apigwRawLatency>[0-9]+)/ | '
            'fields coalesce(`canary`, apigwRawArm, "?") as apigwCanaryArm, '
            "coalesce(`status`, apigwRawStatus) as apigwStatus, "
            "coalesce(`ms`, apigwRawLatency) as apigwLatency | stats count(*) as requests, "
            "count(apigwStatus) as known_0, "
            "sum(apigwStatus >= 500 and apigwStatus < 600) as bad_0, "
            "count(apigwStatus) as known_1, "
            "sum(apigwStatus >= 400 and apigwStatus < 500) as bad_1, "
            "count(apigwLatency) as known_2, sum(apigwLatency > 250) as bad_2, "
            "count(`status`) as known_3, sum(errorType = 'X') as bad_3 "
            "by bin(1m), apigwCanaryArm"
        )

    def test_matches_the_service_description(self) -> None:
        """Requests and answers have the shapes of botocore's description of the service."""
        logs = boto3.client(
            "logs", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        date = {"HTTPHeaders": {"date": f"{END:%a, %d %b %Y %H:%M:%S GMT}"}}
        results = [[{"field": k, "value": v} for k, v in row(0, "true", 5, 5, 1).items()]]
        with Stubber(logs) as stub:
            stub.add_response("start_query", {"queryId": "q", "ResponseMetadata": date})
            stub.add_response("get_query_results", {"status": "Running"}, {"queryId": "q"})
            stub.add_response(
                "get_query_results",
                {
                    "status": "Complete",
                    "results": results,
                    "statistics": {"bytesScanned": 5.0},
                },
                {"queryId": "q"},
            )
            session = SimpleNamespace(client=lambda *_, **__: logs)
            stage = Stage("a1b2c3d4e5", "prod", session=session, sleep=lambda _: None)
            bound = AccessLogs("access", format=FORMAT).using(stage._calls)
            minutes = bound.minutes(STAGE, ERRORS[:1], START, END)
            stub.assert_no_pending_responses()
        assert minutes["errors_5xx"] == (Minute(at(0), 0, 0, 5, 1),)

    def test_lines_of_other_stages_are_left_out(self) -> None:
        """Where the format says whose a line is, other stages' lines in the group do not count;
        a line that does not say is not passed over, as it may be one of ours that is broken.
        """
        aws = Aws()
        found = read(aws, format={**FORMAT, "apiId": "api", "stage": "at"})
        query = aws.asked[0]["queryString"]
        assert r'| parse @message /"api"\s*:\s*"?(?<apigwRawApi>[\w-]+)/ | ' in query
        assert "coalesce(`api`, apigwRawApi) as apigwApi, coalesce(`at`, apigwRawStage)" in query
        assert '| filter (not ispresent(apigwApi) or apigwApi in ["a1b2c3d4e5"])' in query
        assert 'ispresent(apigwStage) or apigwStage in ["prod", "prod/Canary"])' in query
        assert len(found.notes) == 1

    @given(st.text(max_size=20))
    def test_any_name_of_a_field(self, name: str) -> None:
        """A name goes into the query as one name, or is refused before anything is sent."""
        try:
            quoted = field(name)
        except InvalidInputError:
            return
        assert re.fullmatch(r"`[^`\\\n]+`", quoted)
        assert quoted[1:-1] == name

    @given(st.text(max_size=20))
    def test_any_text(self, value: str) -> None:
        """A text goes into the query as one text, or is refused before anything is sent."""
        try:
            quoted = text(value)
        except InvalidInputError:
            return
        assert re.fullmatch(r'"[^"\\\n]+"', quoted)
        assert quoted[1:-1] == value

    @pytest.mark.parametrize("name", ["", "a`b", "a\\", "a\nb", " a", "a` | fields @message | #"])
    def test_hostile_names_are_refused(self, name: str) -> None:
        """A name that could end its quotes is refused when it is given."""
        with pytest.raises(InvalidInputError):
            AccessLogs("access", format={**FORMAT, "status": name})

    @pytest.mark.parametrize(
        "options",
        [
            {"log_group": "arn:aws:logs:eu-central-1:1:log-group:x"},
            {"log_group": ""},
            {"lag": timedelta(hours=2)},
            {"timeout": timedelta(hours=2)},
            {"usd_per_gb": -1},
            {"bad": {"x": "a\nb"}},
        ],
    )
    def test_options_are_checked(self, options: Any) -> None:
        """What cannot be meant is refused when it is given."""
        with pytest.raises(InvalidInputError):
            AccessLogs(**options)

    def test_signals_without_an_expression_are_refused(self) -> None:
        """A signal that the logs cannot tell is refused by name, before anything is asked."""
        aws = Aws()
        with pytest.raises(InvalidInputError, match=r"errors_5xx, errors_4xx, refused.*'refunds'"):
            read(aws, [Signal.custom("refunds")], bad={"refused": "x = 1"})
        assert aws.asked == []

    def test_own_expression_wins(self) -> None:
        """Throttled requests, say, can be taken out of the 4xx by an expression of one's own."""
        aws = Aws([row(0, "true", 5, 5, 1)])
        expression = "status >= 400 and status < 500 and status != 429"
        read(aws, [Signal.errors_4xx()], bad={"errors_4xx": expression})
        assert f"sum({expression}) as bad_0" in aws.asked[0]["queryString"]

    def test_own_expression_that_no_line_answers_counts_none(self) -> None:
        """Where no line has the field, the sum may be missing: none of them is bad."""
        aws = Aws([row(0, "true", 5, 5)])
        found = read(aws, [Signal.custom("x")], bad={"x": "no = 'X'"})
        assert found["x"] == (Minute(at(0), 0, 0, 5, 0),)

    @pytest.mark.parametrize("window", [(datetime(2026, 1, 5), END), (START, datetime(2026, 1, 6))])
    def test_naive_times_are_refused(self, window: tuple[datetime, datetime]) -> None:
        """A time without a zone would be read as the machine's."""
        with pytest.raises(InvalidInputError):
            read(Aws(), ERRORS, *window)


ARN = "arn:aws:logs:eu-central-1:123456789012:log-group:/api/access"


class TestFormat:
    @pytest.mark.parametrize(
        "line",
        [
            '{"c": "$context.isCanaryRequest", "s": "$context.status", "p": "$context.path"}',
            '{ "c":"$context.isCanaryRequest","s":$context.status,\n"p": $context.path }',
        ],
    )
    @pytest.mark.parametrize("arn", [ARN, f"{ARN}:*"])
    def test_is_found_out(self, line: str, arn: str) -> None:
        """Group and fields are what the stage's settings say; they are read once."""
        aws = Aws(settings={"destinationArn": arn, "format": line})
        logs = AccessLogs(session=aws)
        for _ in range(2):
            logs.minutes(STAGE, ERRORS[:1], START, END)
        assert aws.stages == 1
        assert aws.asked[0]["logGroupName"] == "/api/access"
        assert "coalesce(`c`" in aws.asked[0]["queryString"]
        assert "coalesce(`s`" in aws.asked[0]["queryString"]

    def test_fields_may_be_nested_and_mixed(self) -> None:
        """A field in an object has a dotted name; a field with more than a variable holds none."""
        line = json.dumps(
            {
                "canary": {"is": "$context.isCanaryRequest"},
                "http": {"status": "$context.status", "n": 1},
                "what": "$context.httpMethod $context.resourcePath",
            }
        )
        aws = Aws(settings={"destinationArn": ARN, "format": line})
        AccessLogs(session=aws).minutes(STAGE, ERRORS[:1], START, END)
        assert "`canary.is`" in aws.asked[0]["queryString"]
        assert "`http.status`" in aws.asked[0]["queryString"]

    @pytest.mark.parametrize("line", ["$context.requestId $context.status", "[1]", "{", ""])
    def test_other_than_json_is_refused(self, line: str) -> None:
        """Logs Insights finds no fields in it, so nothing could be counted."""
        aws = Aws(settings={"destinationArn": ARN, "format": line})
        with pytest.raises(InvalidInputError, match="JSON"):
            AccessLogs(session=aws).minutes(STAGE, ERRORS, START, END)
        assert aws.asked == []

    @pytest.mark.parametrize(
        "line, expected",
        [
            ("$context.status", "be one JSON object on one line, not '$context.status'."),
            (
                '{"id": "$context.apiId"}',
                (
                    "be one with $context.isCanaryRequest and $context.status, not one with "
                    'apiId. Add to it: "isCanaryRequest": "$context.isCanaryRequest", '
                    '"status": "$context.status".'
                ),
            ),
        ],
    )
    def test_what_is_wrong_with_a_format(self, line: str, expected: str) -> None:
        """The message has the format, or all that it lacks."""
        aws = Aws(settings={"destinationArn": ARN, "format": line})
        with pytest.raises(InvalidInputError) as raised:
            AccessLogs(session=aws).minutes(STAGE, ERRORS, START, END)
        assert f"The access logs' format must {expected}".lower() in str(raised.value).lower()

    @pytest.mark.parametrize("variable", ["isCanaryRequest", "status"])
    def test_what_is_needed_is_told(self, variable: str) -> None:
        """A format that cannot tell the arms cannot be judged: the error has the line to add."""
        lines = {name: f"$context.{name}" for name in ("isCanaryRequest", "status", "apiId")}
        del lines[variable]
        aws = Aws(settings={"destinationArn": ARN, "format": json.dumps(lines)})
        with pytest.raises(InvalidInputError) as raised:
            AccessLogs(session=aws).minutes(STAGE, ERRORS, START, END)
        assert f'"{variable}": "$context.{variable}"' in raised.value.remedy
        assert aws.asked == []

    def test_latency_is_needed_for_slow_ones(self) -> None:
        """A signal about latency needs a format with latency."""
        line = {"isCanaryRequest": "c", "status": "s"}
        with pytest.raises(InvalidInputError, match=r"\$context.responseLatency"):
            read(Aws(), [Signal(name="slow", over=5)], format=line)

    @pytest.mark.parametrize(
        "settings, why",
        [
            (None, "no access logs"),
            ({}, "no access logs"),
            (
                {
                    "destinationArn": "arn:aws:firehose:eu-central-1:1:deliverystream/x",
                    "format": "{}",
                },
                "its access logs to the Firehose stream x, which cannot be queried",
            ),
        ],
    )
    def test_without_access_logs(self, settings: Any, why: str) -> None:
        """A stage whose access logs are not in CloudWatch Logs: the error says what to do."""
        with pytest.raises(InvalidInputError, match="Let the stage write access logs") as raised:
            AccessLogs(session=Aws(settings=settings)).minutes(STAGE, ERRORS, START, END)
        assert str(raised.value).startswith(
            f"log_group must be the name of a log group, since stage {STAGE.name} writes {why}, "
            "not None."
        )
        assert raised.value.field == "log_group"

    def test_another_group_is_taken_to_have_the_variables_names(self) -> None:
        """Of a group that the stage's settings do not name, nothing is known but what is said."""
        line = json.dumps({"c": "$context.isCanaryRequest", "s": "$context.status"})
        aws = Aws(settings={"destinationArn": ARN, "format": line})
        AccessLogs("copied/by/us", session=aws).minutes(STAGE, ERRORS, START, END)
        assert aws.asked[0]["logGroupName"] == "copied/by/us"
        assert "`isCanaryRequest`" in aws.asked[0]["queryString"]

    def test_what_is_told_is_not_asked(self) -> None:
        """With group and format given, API Gateway is not asked."""
        aws = Aws()
        read(aws)
        assert aws.stages == 0


def refusal(operation: str, code: str) -> ClientError:
    error: Any = {"Error": {"Code": code, "Message": "no"}}
    return ClientError(error, operation)


class TestWaiting:
    def bound(self, aws: Aws, slept: list[float], **options: Any) -> Callable[[], Measurements]:
        stage = Stage("a1b2c3d4e5", "prod", session=aws, sleep=slept.append)
        logs = source(aws, **options)
        logs._session = None
        logs = logs.using(stage._calls)
        return lambda: logs.minutes(STAGE, ERRORS[:1], START, END)

    def test_until_it_is_complete(self) -> None:
        """A query that waits or runs is asked again, after pauses that grow."""
        aws = Aws(
            [row(0, "true", 5, 5, 1)], statuses=["Scheduled", "Running", "Running", "Complete"]
        )
        slept: list[float] = []
        assert self.bound(aws, slept)()["errors_5xx"] == (Minute(at(0), 0, 0, 5, 1),)
        assert slept == [0.5, 1, 2]
        assert aws.stopped == []

    def test_a_query_without_an_id(self) -> None:
        """An empty id cannot be asked for."""
        aws = Aws()
        aws.queries_have_ids = False
        with pytest.raises(UnansweredError, match="its queryId is empty"):
            read(aws)

    @pytest.mark.parametrize("status", ["Failed", "Cancelled", "Timeout", "Unknown", "New"])
    def test_other_ends_are_errors(self, status: str) -> None:
        """A query that ended otherwise has half an answer: it is an error that names the status."""
        aws = Aws([row(0, "true", 5, 5, 0)], statuses=["Running", status])
        with pytest.raises(MetricsError, match=status):
            self.bound(aws, [])()
        assert aws.stopped == []

    def test_a_query_that_takes_too_long_is_stopped(self) -> None:
        """After `timeout` the query is given up, and stopped, as AWS bills what it scans."""
        aws, slept = Aws(statuses=["Running"]), list[float]()
        with pytest.raises(MetricsError, match="still Running after"):
            self.bound(aws, slept, timeout=timedelta(seconds=20))()
        assert 20 <= sum(slept) < 25
        assert aws.stopped == ["q1"]

    @pytest.mark.parametrize(
        "trouble, raised",
        [
            (refusal("GetQueryResults", "AccessDeniedException"), AccessDeniedError),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
    )
    @pytest.mark.parametrize("stop", [None, refusal("StopQuery", "InvalidParameterException")])
    def test_an_abandoned_query_is_stopped(
        self, trouble: BaseException, raised: type[BaseException], stop: BaseException | None
    ) -> None:
        """Whatever ends the waiting, the query is stopped; that this fails hides nothing."""
        troubles = {"GetQueryResults": trouble} | ({"StopQuery": stop} if stop else {})
        aws = Aws(trouble=troubles)
        with pytest.raises(raised):
            self.bound(aws, [])()
        assert aws.stopped == ["q1"]

    def test_too_many_queries_at_once(self) -> None:
        """A hundred queries run in the account: that passes, so it is tried again."""
        aws = Aws(trouble={"StartQuery": refusal("StartQuery", "LimitExceededException")})
        slept: list[float] = []
        self.bound(aws, slept)()
        assert len(slept) == 1

    def test_too_many_queries_for_long(self) -> None:
        """Where it does not pass, the error says that AWS kept refusing."""

        class Busy(Aws):
            def start_query(self, **_: Any) -> Any:
                raise refusal("StartQuery", "LimitExceededException")

        with pytest.raises(ThrottledError):
            self.bound(Busy(), [])()

    @pytest.mark.parametrize("answer", [{"nextToken": "more"}, {"results": [[]] * MOST_ROWS}])
    def test_more_rows_than_fit_are_an_error(self, answer: Any) -> None:
        """An answer that was cut off is half an answer."""
        with pytest.raises(MetricsError, match="more than 10,000 rows"):
            read(Aws(**answer))


class TestKept:
    def test_old_minutes_are_not_scanned_again(self) -> None:
        """What is older than a quarter of an hour is kept; younger minutes are read anew."""
        rows = [row(n, "false", 9, 9, 0) for n in range(60)]
        aws = Aws(rows, now=at(60))
        logs = source(aws)
        first = logs.minutes(STAGE, ERRORS[:1], START, at(60))
        aws.rows[50] = row(50, "false", 10, 10, 1)
        aws.rows[10] = row(10, "false", 10, 10, 1)  # cannot be, and is not looked at
        aws.now = at(61)
        second = logs.minutes(STAGE, ERRORS[:1], START, at(61))
        assert [each["startTime"] for each in aws.asked] == [
            int(START.timestamp()),
            int(at(45).timestamp()),
        ]
        assert len(first["errors_5xx"]) == 58
        assert len(second["errors_5xx"]) == 59
        assert [each.at for each in second["errors_5xx"] if each.baseline_bad] == [at(50)]

    @pytest.mark.parametrize("start, end", [(-1, 60), (70, 80)])
    def test_another_window_is_read_anew(self, start: int, end: int) -> None:
        """Minutes that were not read are not taken for minutes without requests."""
        aws = Aws([row(n, "false", 9, 9, 0) for n in range(100)], now=at(120))
        logs = source(aws)
        logs.minutes(STAGE, ERRORS[:1], START, at(60))
        found = logs.minutes(STAGE, ERRORS[:1], at(start), at(end))["errors_5xx"]
        assert len(found) == end - max(start, 0)
        assert aws.asked[-1]["startTime"] == int(at(start).timestamp())

    def test_a_part_of_what_is_kept(self) -> None:
        """A shorter window needs no query, and what lies outside stays known."""
        aws = Aws([row(n, "false", 9, 9, 0) for n in range(60)], now=at(120))
        logs = source(aws)
        logs.minutes(STAGE, ERRORS[:1], START, at(60))
        assert len(logs.minutes(STAGE, ERRORS[:1], at(10), at(20))["errors_5xx"]) == 10
        assert len(logs.minutes(STAGE, ERRORS[:1], at(10), at(60))["errors_5xx"]) == 50
        assert len(aws.asked) == 1

    def test_other_signals_are_another_query(self) -> None:
        """What was counted for one signal says nothing of another."""
        aws = Aws([row(0, "true", 5, 5, 1)], now=at(120))
        logs = source(aws)
        logs.minutes(STAGE, ERRORS[:1], START, END)
        logs.minutes(STAGE, ERRORS[1:], START, END)
        assert len(aws.asked) == 2

    @pytest.mark.long
    def test_more_minutes_than_fit_into_an_answer(self) -> None:
        """Two weeks are several queries, end to end, each with less rows than AWS gives."""
        end = START + timedelta(days=14)
        every = range(0, 14 * 24 * 60, 7)
        aws = Aws([row(n, arm, 9, 9, 0) for n in every for arm in ("false", "true")], now=end)
        logs = source(aws)
        found = logs.minutes(STAGE, ERRORS[:1], START, end)
        assert len(found["errors_5xx"]) == len(every)
        spans = [(each["startTime"], each["endTime"] + 1) for each in aws.asked]
        assert spans[0][0] == START.timestamp()
        assert spans[-1][1] == end.timestamp()
        assert all(one[1] == other[0] for one, other in pairwise(spans))
        assert all(3 * (end - start) / 60 < MOST_ROWS for start, end in spans)
        logs.minutes(STAGE, ERRORS[:1], START, end)
        assert len(aws.asked) == len(spans) + 1  # the last quarter of an hour

    def test_what_is_still_to_come_is_not_kept(self) -> None:
        """Minutes ahead of now are no minutes without requests, however many are asked for."""
        aws = Aws([row(n, "false", 9, 9, 0) for n in range(60)], now=at(60))
        logs = source(aws)
        logs.minutes(STAGE, ERRORS[:1], START, START + timedelta(days=3))
        logs.minutes(STAGE, ERRORS[:1], START, at(61))
        assert aws.asked[-1]["startTime"] == int(at(45).timestamp())


class TestQuantile:
    SLOW = Signal(name="slow", quantile=0.99)

    def test_the_limit_is_found_once(self) -> None:
        """One query of the baseline's first hour; later looks ask with the same limit."""
        aws = Aws([{"requests": "100", "high": "312.5"}])
        logs = source(aws)
        with pytest.raises(MetricsError, match=r"not asked for|neither"):  # a row without a minute
            logs.minutes(STAGE, [self.SLOW], START, at(120))
        aws.rows = []
        found = logs.minutes(STAGE, [self.SLOW], START, at(121))
        limits, *rest = (each["queryString"] for each in aws.asked)
        assert 'filter apigwCanaryArm not in ["true", "1"]' in limits
        assert limits.endswith("stats count(`ms`) as requests, pct(`ms`, 99) as high")
        assert aws.asked[0]["endTime"] == int(at(60).timestamp()) - 1
        assert all("sum(apigwLatency > 312.5)" in query for query in rest)
        assert "more than 312.5 ms" in found.notes[0]

    def test_without_a_baseline_there_is_no_limit(self) -> None:
        """Where the first hour has no requests, latency is not observed; it is looked for again."""
        aws = Aws([])
        logs = source(aws)
        for n in (2, 3):  # the minutes that are kept are not asked for again
            found = logs.minutes(STAGE, [*ERRORS, self.SLOW], START, END)
            assert found.not_observed == {
                "slow": "access has no requests of the baseline in the hour from "
                "2026-01-05 09:00 UTC, which would set its limit"
            }
            assert "slow" not in found
            assert "errors_5xx" in found
            assert len(aws.asked) == n

    @pytest.mark.parametrize("rows", [[{"requests": "9"}], [{"requests": "9", "high": "-"}]])
    def test_half_a_limit_is_an_error(self, rows: list[Cells]) -> None:
        """Requests without a quantile are no answer, each time."""
        aws = Aws(rows)
        logs = source(aws)
        for n in (1, 2):
            with pytest.raises(MetricsError):
                logs.minutes(STAGE, [self.SLOW], START, END)
            assert len(aws.asked) == n

    def test_a_format_without_latency(self) -> None:
        """Latency is not observed then, unless a promotion needs it: that is an error."""
        line = {"isCanaryRequest": "canary", "status": "status"}
        found = read(Aws([]), [*ERRORS, Signal.latency()], format=line)
        assert found.not_observed == {"latency_p99": "the format of access has no responseLatency"}
        with pytest.raises(InvalidInputError, match="responseLatency"):
            read(Aws([]), [*ERRORS, Signal.latency(critical=True)], format=line)


SICK = Backend(errors_5xx=0.1, errors_4xx=0.2, latency_ms=200)
SLOW = Signal(name="slow", over=300)
REFUSED = Signal.custom("refused")
BAD = {"refused": "errorType = 'BAD_REQUEST_BODY' or (errorType in ['X'] and not status = 1)"}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_minutes_are_the_truth(seed: int) -> None:
    """Settled minutes have what was really served, by arm, whatever the group holds twice."""
    with rehearsal(requests_per_minute=60, backends={"alias=v2": SICK}, seed=seed) as aws:
        aws.sleep(40)
        aws.stage.enable_canary(30, variables=V2)
        aws.sleep(900)
        aws.stage.rollback()
        aws.sleep(305)
        start, end = aws.now() - timedelta(hours=1), aws.now()
        logs = AccessLogs(session=aws.session, bad=BAD)
        logs = logs.using(aws.stage._calls)
        found = logs.minutes(aws.stage.describe(), [*ERRORS, SLOW, REFUSED], start, end)
        settled, served = aws.now() - 3 * MINUTE, aws.served
        slow = [
            sum(
                ms > 300 for each in aws._traffic.segments(row.at, [arm]) for ms in each.latencies()
            )
            for row in found["slow"]
            for arm in ("baseline", "canary")
        ]

    true: dict[str, dict[datetime, list[int]]] = {"errors_5xx": {}, "errors_4xx": {}}
    for row in served:
        if start <= row.at <= settled:
            for name, rows in true.items():
                sums = rows.setdefault(row.at, [0, 0, 0, 0])
                sums[0 if row.arm == "baseline" else 2] += row.requests
                sums[1 if row.arm == "baseline" else 3] += getattr(row, name)
    for name, rows in true.items():
        assert sum(sums[3] for sums in rows.values()) > 10
        assert list(found[name]) == [Minute(each, *sums) for each, sums in sorted(rows.items())]
    assert found["refused"] == found["errors_4xx"]
    bad = [n for row in found["slow"] for n in (row.baseline_bad, row.canary_bad)]
    assert bad == pytest.approx(slow, abs=1)  # logs have whole milliseconds
    assert sum(slow) > 50


@pytest.mark.long
@pytest.mark.parametrize("lag", [timedelta(0), timedelta(seconds=60), timedelta(seconds=120)])
def test_no_minute_is_half_there(lag: timedelta) -> None:
    """As long as lines come within `lag`, each look's minutes are final, failures included."""
    with rehearsal(
        requests_per_minute=60, backends={"alias=v2": SICK}, log_lag=lag, history=10 * MINUTE
    ) as aws:
        stage = fresh(aws, metrics=AccessLogs())
        canary = stage.enable_canary(30, variables=V2)
        policy = RolloutPolicy.canary(30, 10 * MINUTE)
        seen: dict[datetime, Minute] = {}
        for _ in range(12):
            for each in canary.observe(policy).minutes["errors_5xx"]:
                assert seen.setdefault(each.at, each) == each
            aws.sleep(45)
    assert len(seen) > 12


Source = Literal["included", "excluded", "logs"]


@pytest.mark.no_cover
@pytest.mark.long
@pytest.mark.parametrize("backend", [Backend(), Backend(errors_5xx=0.02), Backend(errors_4xx=0.1)])
def test_same_verdict_from_every_source(backend: Backend) -> None:
    """The same requests give the same evidence, read from CloudWatch either way or from logs."""
    policy = RolloutPolicy.canary(25, 10 * MINUTE)
    verdicts: dict[tuple[Source, str], list[object]] = {}
    for overlap in ("included", "excluded"):
        with rehearsal(backends={"alias=v2": backend}, overlap=overlap) as aws:
            aws.stage.enable_canary(25, variables=V2)
            sources: dict[Source, MetricSource] = {
                overlap: CloudWatchMetrics(overlap=overlap),
                "logs": AccessLogs(),
            }
            canaries = {
                name: fresh(aws, metrics=metrics).canary() for name, metrics in sources.items()
            }
            for minute in range(3, 25, 3):
                aws.sleep(60 * minute - (aws.now() - START).total_seconds())
                for name, canary in canaries.items():
                    assert canary is not None
                    found = canary.analyze(policy)
                    seen = verdicts.setdefault((name, overlap), [])
                    seen += [
                        found.verdict,
                        *((each.signal, each.verdict) for each in found.findings),
                        # CloudWatch has percentile ranks of latencies, and a log each latency.
                        *(
                            (each.worse_evidence, each.not_worse_evidence)
                            for each in found.findings
                            if not each.signal.startswith("latency")
                        ),
                    ]
    assert verdicts["included", "included"] == verdicts["excluded", "excluded"]
    assert verdicts["logs", "included"] == verdicts["excluded", "excluded"]
    assert verdicts["logs", "excluded"] == verdicts["excluded", "excluded"]


class TestRollout:
    @pytest.mark.long
    @pytest.mark.parametrize(
        "backend, last", [(Backend(), Promote), (Backend(errors_5xx=0.05), Rollback)]
    )
    def test_with_access_logs_only(self, backend: Backend, last: type) -> None:
        """A whole rollout on access logs: a good release is promoted, a bad one rolled back."""
        policy = RolloutPolicy.canary(
            50,
            10 * MINUTE,
            signals=[
                Signal.errors_5xx(),
                Signal(name="slow", quantile=0.99, critical=False),
                REFUSED,
            ],
        )
        with rehearsal(requests_per_minute=200, backends={"alias=v2": backend}) as aws:
            stage = fresh(aws, metrics=AccessLogs(bad=BAD))
            canary = stage.enable_canary(50, release="r1", variables=V2)
            while True:
                observation = canary.observe(policy)
                assert observation.failure is None
                decision = policy.decide(observation)
                canary.apply(decision)
                if decision.final:
                    break
                aws.sleep(decision.wait.total_seconds())
            assert isinstance(decision, last)
            counts = [
                query["MetricStat"]["Metric"]
                for call in aws.calls
                if call.operation == "GetMetricData"
                for query in call.parameters["MetricDataQueries"]  # type: ignore[attr-defined]
            ]
            assert {metric["MetricName"] for metric in counts} <= {"Count"}
            groups = {
                call.parameters["logGroupName"]
                for call in aws.calls
                if call.operation == "StartQuery"
            }
            assert groups == {"rehearsal-access-logs"}  # the canary's own would count it twice

    def test_a_failing_query_is_in_the_observation(self) -> None:
        """A look at logs that cannot be read does not raise, and the next one reads them."""
        policy = RolloutPolicy.canary(25, 10 * MINUTE)
        with rehearsal(requests_per_minute=10) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(25, variables=V2)
            aws.fail("GetQueryResults", Fault.ACCESS_DENIED, skip=1)
            failed = canary.observe(policy)
            assert failed.failure is not None
            assert "logs:GetQueryResults" in failed.failure
            assert "StopQuery" in sent(aws)
            aws.fail("StartQuery", Fault.THROTTLED)
            assert canary.observe(policy).failure is None

    def test_a_session_of_its_own_is_used(self) -> None:
        """Logs in another account are read with the session that was given for them."""
        other = Aws([row(0, "false", 7, 7, 0, 7, 0)], now=at(20))
        with rehearsal(requests_per_minute=10) as aws:
            stage = fresh(aws, metrics=AccessLogs("access", format=FORMAT, session=other))
            canary = stage.enable_canary(25, variables=V2)
            aws.sleep(600)
            seen = canary.observe(RolloutPolicy.canary(25, 10 * MINUTE))
            assert not any(call.service == "logs" for call in aws.calls)
        assert seen.minutes["errors_5xx"] == (Minute(at(0), 7, 0, 0, 0),)


QUOTES = json.dumps(
    {
        "isCanaryRequest": "$context.isCanaryRequest",
        "error": "$context.error.messageString",
        "status": "$context.status",
    }
)
"""`messageString` brings quotes of its own: the line of each failed request is no JSON."""
LINEAR = RolloutPolicy.linear(10, 40, 10 * MINUTE)


def rolled_out(aws: Rehearsal, stage: Stage, hours: float = 3, pause: float = 60) -> Decision:
    """The last decision of a rollout, looked at for so long."""
    canary = stage.enable_canary(10, release="r1", variables=V2)
    end = aws.now() + timedelta(hours=hours)
    while True:
        decision = LINEAR.decide(canary.observe(LINEAR))
        canary.apply(decision)
        if decision.final or aws.now() > end:
            return decision
        aws.sleep(pause)


@pytest.mark.long
class TestLateLines:
    """Lines of failures that come a quarter of an hour after the others."""

    LATE: ClassVar[Any] = {"late_failures": 15 * MINUTE, "requests_per_minute": 500}

    @pytest.mark.long
    def test_a_canary_whose_failures_are_late_is_not_promoted(self) -> None:
        """Fewer lines than CloudWatch counts requests are no good news: it is held until the
        failures are there, and then rolled back.
        """
        with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.02)}, **self.LATE) as aws:
            logs = AccessLogs()
            stage = fresh(aws, metrics=logs)
            canary = stage.enable_canary(50, release="r1", variables=V2)
            policy = RolloutPolicy.canary(50, 10 * MINUTE)
            seen: list[str] = []
            while True:
                observation = canary.observe(policy)
                decision = policy.decide(observation)
                canary.apply(decision)
                seen += [observation.suspect or ""]
                if decision.final:
                    break
                aws.sleep(60)
            assert isinstance(decision, Rollback)
            assert any("lines of the canary's" in each for each in seen)

    @pytest.mark.traced
    @pytest.mark.long
    def test_where_count_cannot_be_read(self) -> None:
        """A note says so, and the logs are judged by themselves."""
        for fault in (Fault.ACCESS_DENIED, None):
            with rehearsal(requests_per_minute=50, lag={"Count": timedelta(days=9)}) as aws:
                canary = fresh(aws, metrics=AccessLogs()).enable_canary(50, variables=V2)
                aws.sleep(900)
                if fault:
                    aws.fail("GetMetricData", fault)
                seen = canary.observe(LINEAR)
                assert (seen.failure, seen.suspect) == (None, None)
                assert any("Whether lines are late is not known" in note for note in seen.notes)

    @pytest.mark.traced
    @pytest.mark.long
    @pytest.mark.parametrize("rpm, rate", [(50, 0.05), (20, 0.1)])
    def test_lines_of_failures_that_never_come(self, rpm: int, rate: float) -> None:
        """At low traffic one request or two a look have no line: each is of unknown outcome, in
        whatever minute, and the canary is not promoted as one that has no failures.
        """
        bad = {"alias=v2": Backend(errors_5xx=rate, errors_4xx=0)}
        late = timedelta(days=9)
        with rehearsal(requests_per_minute=rpm, late_failures=late, backends=bad, seed=2) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(20, variables=V2)
            policy = RolloutPolicy.canary(20, 30 * MINUTE, signals=ERRORS[:1])
            looks = 0
            while True:
                aws.sleep(1200)
                observation = canary.observe(policy)
                decision = policy.decide(observation)
                assert not isinstance(decision, Promote)
                looks += 1
                if decision.final or looks == 10:
                    break
            rows = observation.minutes["errors_5xx"]
            counted = sum(row.canary_requests for row in rows)
            assert sum(row.canary_unknown for row in rows) > rate / 3 * counted
            assert sum(row.canary_bad for row in rows) == 0

    @pytest.mark.long
    def test_a_late_line_counts_once_it_is_there(self) -> None:
        """A failure whose line comes after 25 minutes is unknown before, and bad then."""
        bad = {"alias=v2": Backend(errors_5xx=0.1, errors_4xx=0)}
        with rehearsal(backends=bad, late_failures=25 * MINUTE, seed=2) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(20, variables=V2)
            aws.sleep(1500)
            before = canary.observe(LINEAR).minutes["errors_5xx"]
            aws.sleep(1500)
            after = {row.at: row for row in canary.observe(LINEAR).minutes["errors_5xx"]}
        unknown = [row for row in before if row.canary_unknown]
        assert len(unknown) > 10
        for row in unknown:
            assert after[row.at].canary_bad == row.canary_unknown
            assert after[row.at].canary_unknown == 0


class TestWithoutLine:
    """Requests that CloudWatch counts and the logs do not have."""

    def test_a_line_in_a_neighboring_minute(self) -> None:
        """A request at the turn of a minute is not missing."""
        assert without_line({at(0): 9, at(1): 11}, {at(0): 10, at(1): 10}) == {}
        assert without_line({at(0): 11, at(1): 9}, {at(0): 10, at(1): 10}) == {}
        assert without_line({at(1): 11}, {at(0): 1, at(1): 10}) == {}
        assert without_line({at(0): 11, at(1): 9}, {at(0): 9, at(1): 10}) == {at(0): 1}

    def test_lines_far_away_make_up_for_nothing(self) -> None:
        """Nor do those after the last minute that is counted."""
        assert without_line({at(0): 9, at(9): 11}, {at(0): 10, at(9): 10}) == {at(9): 1}
        assert without_line({at(0): 11}, {at(0): 10, at(1): 10}) == {at(0): 1}

    @given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.integers(0, 3))))
    def test_no_missing_request_is_lost(self, served: list[tuple[int, int, int]]) -> None:
        """Of requests whose lines never come, while others are counted a minute later, none is
        overlooked in total.
        """
        counts = {at(i): float(n) for i, (n, _, _) in enumerate(served)} | {at(99): 0.0}
        lines = {at(i): n for i, (n, _, _) in enumerate(served)}
        lost = 0
        for i, (n, turned, never) in enumerate(served):
            moved = min(n, turned)
            counts[at(i)] -= moved
            counts[at(i + 1)] = counts.get(at(i + 1), 0.0) + moved
            lines[at(i)] -= min(lines[at(i)], never)
            lost += min(n, never)
        assert sum(without_line(counts, lines).values()) >= lost

    def test_a_minute_without_any_line(self) -> None:
        """It is one of requests of unknown outcome only."""
        assert with_missing([Minute(at(0), 9, 1, 5, 1)], {at(0): 1, at(1): 2}) == (
            Minute(at(0), 9, 1, 6, 1, 0, 1),
            Minute(at(1), 0, 0, 2, 0, 0, 2),
        )

    def test_a_line_without_its_variant_is_not_counted_twice(self) -> None:
        """It is one of unknown outcome of the canary, and the request that `Count` has."""
        with rehearsal(
            requests_per_minute=5000, cut_lines=lambda *_: 0.0005, access_logs=QUOTES_LAST
        ) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(50, variables=V2)
            aws.sleep(1200)
            rows = canary.observe(LINEAR).minutes["errors_5xx"]
        assert (
            0 < sum(row.canary_unknown for row in rows) <= sum(row.baseline_unknown for row in rows)
        )


@pytest.mark.long
class TestBrokenLines:
    """Lines that are no JSON, most of all those of failed requests."""

    @pytest.mark.traced
    def test_what_is_in_the_raw_line_counts(self) -> None:
        """A canary whose failures break their own lines is found worse all the same."""
        sick = Backend(errors_5xx=0.02)
        with rehearsal(access_logs=QUOTES, backends={"alias=v2": sick}) as aws:
            decision = rolled_out(aws, fresh(aws, metrics=AccessLogs()))
            assert isinstance(decision, Rollback)
            assert "the canary is worse" in decision.reason

    @pytest.mark.long
    @pytest.mark.no_cover
    @pytest.mark.parametrize("rate, last", [(0.01, None), (1.0, Rollback)])
    def test_what_cannot_be_read_is_never_good_news(self, rate: float, last: type | None) -> None:
        """A canary of which each failure leaves a line without a status is not promoted; one that
        fails always is rolled back, as it is not observed.
        """
        sick = Backend(errors_5xx=rate, errors_4xx=0)
        with rehearsal(
            requests_per_minute=200,
            backends={"alias=v2": sick},
            cut_lines=lambda arm, status: float(arm == "canary" and status == 502),
        ) as aws:
            decision = rolled_out(aws, fresh(aws, metrics=AccessLogs()))
            assert not isinstance(decision, Promote)
            assert last is None or isinstance(decision, last)
            percent = aws.stage.describe().canary
            assert percent is None or percent.percent == 10

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_a_healthy_canary_with_a_few_broken_lines_is_promoted(self) -> None:
        """One line in two thousand, of either variant, stops no rollout."""
        with rehearsal(requests_per_minute=2000, cut_lines=lambda *_: 0.0005) as aws:
            stage = fresh(aws, metrics=AccessLogs())
            assert isinstance(rolled_out(aws, stage, pause=120), Promote)

    @pytest.mark.long
    @pytest.mark.no_cover
    def test_a_healthy_canary_with_many_is_not_rolled_back(self) -> None:
        """Like parts of both variants, also without their variant, are Hold, whatever time."""
        for log_format in (ACCESS_LOG_FORMAT, QUOTES_LAST):
            with rehearsal(access_logs=log_format, cut_lines=lambda *_: 0.02) as aws:
                decision = rolled_out(aws, fresh(aws, metrics=AccessLogs()), hours=2, pause=180)
                assert isinstance(decision, Hold)

    def test_failures_without_a_status_are_shown(self) -> None:
        """What cannot be read is counted among the failures, and not passed over."""
        with rehearsal(
            backends={"alias=v2": Backend(errors_5xx=1, errors_4xx=0)},
            cut_lines=lambda arm, status: 0.5,
        ) as aws:
            canary = fresh(aws, metrics=AccessLogs()).enable_canary(10, variables=V2)
            aws.sleep(600)
            kinds = {failure.status: failure for failure in canary.failures()}
        assert kinds.keys() == {0, 502}
        assert "a status that cannot be read" in str(kinds[0])

    @pytest.mark.long
    def test_a_signal_of_ones_own_does_not_take_broken_lines_for_good(self) -> None:
        """An expression is about fields, and a line that is no JSON has none."""
        with rehearsal(
            access_logs=QUOTES, backends={"alias=v2": Backend(errors_5xx=1, errors_4xx=0)}
        ) as aws:
            logs = AccessLogs(bad={"refused": "error = 'X'"}, session=aws.session)
            aws.stage.enable_canary(50, variables=V2)
            aws.sleep(600)
            found = logs.minutes(aws.stage.describe(), [REFUSED], aws.now() - 5 * MINUTE, aws.now())
        assert all(row.canary_unknown == row.canary_requests > 0 for row in found["refused"])
        assert all(row.baseline_unknown < row.baseline_requests / 9 for row in found["refused"])


QUOTES_LAST = json.dumps({"s": "$context.status", "c": "$context.isCanaryRequest"})


def test_the_manual_shows_the_format() -> None:
    """The recommended format has all that is used, and the rehearsal's stage logs it."""
    page = Path(__file__).parent.parent / "docs" / "access-logs.md"
    assert ACCESS_LOG_FORMAT in page.read_text(encoding="utf-8")
    assert set(_UNSAID) < set(parsed(ACCESS_LOG_FORMAT))


class TestRehearsal:
    """The rehearsal's Logs Insights, asked by somebody else."""

    QUERY = "stats count(*) as n"

    def ask(self, aws: Rehearsal, query: str, group: str = "rehearsal-access-logs") -> Any:
        logs = aws.session.client("logs")
        query_id = logs.start_query(
            logGroupName=group,
            startTime=int((aws.now() - timedelta(hours=2)).timestamp()),
            endTime=int(aws.now().timestamp()),
            queryString=query,
        )["queryId"]
        assert logs.get_query_results(queryId=query_id)["status"] == "Running"
        answer = logs.get_query_results(queryId=query_id)
        assert answer["status"] == "Complete"
        return [{cell["field"]: cell["value"] for cell in found} for found in answer["results"]]

    def test_canary_requests_are_in_both_groups(self) -> None:
        """As on AWS: whoever queries both groups counts the canary twice."""
        with rehearsal(requests_per_minute=50, history=MINUTE) as aws:
            aws.stage.enable_canary(50, variables=V2)
            aws.sleep(600)
            (both,) = self.ask(aws, self.QUERY)
            (alone,) = self.ask(aws, self.QUERY, "rehearsal-access-logs/Canary")
            rows = self.ask(aws, "stats count(*) as n by isCanaryRequest")
            by_arm = {row["isCanaryRequest"]: float(row["n"]) for row in rows}
        assert float(alone["n"]) == by_arm["true"] > 0
        assert float(both["n"]) == by_arm["true"] + by_arm["false"] + by_arm["-"]

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "fields @message | limit 5",
            "parse @message /(/ | stats count(*) as n",
            "parse @message /a/ | stats count(*) as n",
            "parse status /(?<a>b)/ | stats count(*) as n",
            "parse @message '*' as x",
            "stats max(status) as n",
            "stats count(*) as n by bin(5m)",
            "stats count(*) as n | stats count(*) as m | stats count(*) as o",
            "filter status like /5../ | stats count(*) as n",
            "stats sum(status) | #",
            "stats sum(status > 'a') as n",
            "stats sum(errorType > 5) as n",
            "stats sum(requestTime = 'x') as n",
            "filter ) | stats count(*) as n",
        ],
    )
    def test_other_queries_are_refused(self, query: str) -> None:
        """What the rehearsal does not know of the language it does not guess."""
        with (
            rehearsal(requests_per_minute=10, history=10 * MINUTE) as aws,
            pytest.raises(RehearsalError),
        ):
            self.ask(aws, query or "stats")

    def test_more_rows_than_the_limit_are_cut(self) -> None:
        """As on AWS, where nothing but their number tells that there are more."""
        with rehearsal(requests_per_minute=10) as aws:
            logs = aws.session.client("logs")
            query = logs.start_query(
                logGroupName="rehearsal-access-logs",
                startTime=int((aws.now() - timedelta(hours=1)).timestamp()),
                endTime=int(aws.now().timestamp()),
                queryString="stats count(*) as n by bin(1m)",
                limit=5,
            )["queryId"]
            logs.get_query_results(queryId=query)
            answer = logs.get_query_results(queryId=query)
        assert (answer["status"], len(answer["results"])) == ("Complete", 5)

    def test_nothing_found_has_no_sums(self) -> None:
        """A sum or percentile of nothing has no cell; a count has 0."""
        stats = "stats count(no) as n, sum(no > 1) as s, pct(no, 50) as p"
        for rate in (0, 10):
            with rehearsal(requests_per_minute=rate) as aws:
                assert self.ask(aws, stats) == [{"n": "0"}]
                assert self.ask(aws, f"filter ispresent(no) | {stats}") == [{"n": "0"}]

    def test_queries_can_be_stopped_while_they_run(self) -> None:
        """A query that is done is not stopped any more; one that is not known is moto's."""
        with rehearsal(requests_per_minute=10) as aws:
            logs = aws.session.client("logs")
            asked: dict[str, Any] = {
                "logGroupName": "rehearsal-access-logs",
                "startTime": int(aws.now().timestamp()) - 60,
                "endTime": int(aws.now().timestamp()),
                "queryString": self.QUERY,
            }
            query_id = logs.start_query(**asked)["queryId"]
            assert logs.stop_query(queryId=query_id)["success"]
            query_id = logs.start_query(**asked)["queryId"]
            for _ in range(2):
                logs.get_query_results(queryId=query_id)
            with pytest.raises(ClientError, match="not running"):
                logs.stop_query(queryId=query_id)
            with pytest.raises(ClientError, match="before start"):
                logs.start_query(**{**asked, "endTime": 1})
            with pytest.raises(ClientError, match="ResourceNotFound"):
                logs.start_query(**{**asked, "logGroupName": "others"})

    def test_a_stage_without_access_logs(self) -> None:
        """Access logs can be left out, and then CloudWatch Logs is moto's."""
        with rehearsal(requests_per_minute=10, access_logs=None) as aws:
            stage, policy = fresh(aws, metrics=AccessLogs()), RolloutPolicy.canary(5, MINUTE)
            with pytest.raises(InvalidInputError, match="log_group"):
                stage.enable_canary(5, variables=V2, policy=policy)
            assert any("log_group" in problem.what for problem in stage.check(policy=policy))
            assert aws.session.client("logs").describe_log_groups()["logGroups"] == []


def test_a_group_that_is_not_there_is_named() -> None:
    """AWS's own words do not say which group was asked for."""
    with rehearsal() as aws:
        source = AccessLogs("orders-access")
        stage = Stage(aws.rest_api_id, "prod", session=aws.session, metrics=source)
        policy = RolloutPolicy.canary(25, 10 * MINUTE)
        with pytest.raises(NotFoundError, match="The request was for log group orders-access"):
            stage.enable_canary(25, variables=V2, policy=policy)
        assert any(
            "log group orders-access" in problem.remedy for problem in stage.check(policy=policy)
        )


@pytest.mark.parametrize(
    "line, names",
    [
        (ACCESS_LOG_FORMAT, []),
        (QUOTES, ["error.messageString"]),
        ('{"e":$context.error.messageString,"s":"$context.status"}', []),
        ('{"e":"at $context.path: $context.error.messageString"}', ["error.messageString"]),
        (
            '{"i":$context.integrationLatency,"a":$context.authorizer.sub,"w":$context.wafStatus}',
            ["integrationLatency", "authorizer.sub", "wafStatus"],
        ),
        ('{"i":"$context.integrationLatency","a":"$context.authorizer.sub"}', []),
    ],
)
def test_preflight_names_what_breaks_lines(line: str, names: list[str]) -> None:
    """A format that is JSON by itself may still make lines that are not: a warning names why."""
    with rehearsal(requests_per_minute=10, access_logs=line) as aws:
        said = [p.what for p in aws.stage.check().problems if "not valid JSON" in p.what]
    assert len(said) == bool(names)
    assert all(name in said[0] for name in names)
