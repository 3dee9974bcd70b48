"""Minutes from Lambda's metrics: which series are the arms, and what cannot be seen in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from botocore.exceptions import ClientError

from acting import finished
from apigw_canary import (
    LambdaMetrics,
    Measurements,
    Minute,
    Promote,
    Rollback,
    RolloutPolicy,
    Signal,
    Stage,
    StageState,
)
from apigw_canary.errors import InvalidInputError, MetricsError
from apigw_canary.model.state import AliasState, CanaryState
from apigw_canary.testing import Backend, Rehearsal, RehearsalError, rehearsal
from cloud import END, MINUTE, START

GOOD = Backend()
BAD = Backend(errors_5xx=0.05)
ERRORS = (Signal.errors_5xx(),)
POLICY = RolloutPolicy.linear(10, 40, timedelta(minutes=10))
ALIAS = AliasState(
    region="eu-central-1",
    rest_api_id="orders",
    name="live",
    deployment_id="7",
    canary=CanaryState(deployment_id="8", percent=5.0),
    updated_at=START,
)


def stage(baseline: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> StageState:
    canary = CanaryState(deployment_id="b", percent=5.0, variables=overrides or {})
    return StageState(
        region="eu-central-1",
        rest_api_id="a1b2c3d4e5",
        name="prod",
        deployment_id="a",
        variables=baseline,
        canary=canary if overrides is not None else None,
        updated_at=START,
    )


class Aws:
    """CloudWatch as far as it is asked here: series by metric and dimensions."""

    def __init__(self, values: Mapping[tuple[str, ...], float], status: str = "Complete") -> None:
        self._values = values
        self._status = status
        self.asked: list[dict[str, str]] = []

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        return self

    def get_metric_data(self, **parameters: Any) -> Any:
        results = []
        for query in parameters["MetricDataQueries"]:
            metric = query["MetricStat"]["Metric"]
            dimensions = {each["Name"]: each["Value"] for each in metric["Dimensions"]}
            assert metric["Namespace"] == "AWS/Lambda"
            assert query["MetricStat"]["Stat"] == "Sum"
            self.asked.append({"metric": metric["MetricName"], **dimensions})
            own = dimensions.get("ExecutedVersion", dimensions["Resource"])
            value = self._values.get((metric["MetricName"], own))
            results.append(
                {
                    "Id": query["Id"],
                    "Timestamps": [] if value is None else [START],
                    "Values": [] if value is None else [value],
                    "StatusCode": self._status,
                }
            )
        return {"MetricDataResults": results}


def read(aws: Aws, state: StageState, signals: Sequence[Signal] = ERRORS) -> Measurements:
    return LambdaMetrics(session=aws).minutes(state, signals, START, END)


def test_a_weighted_alias() -> None:
    """The arms are the two versions as the alias executes them; an error is a 5xx."""
    aws = Aws(
        {
            ("Invocations", "7"): 95,
            ("Errors", "7"): 1,
            ("Invocations", "8"): 5,
            ("Errors", "8"): 2,
        }
    )
    found = read(aws, ALIAS)
    (minute,) = found["errors_5xx"]
    assert (minute.at, minute.baseline_requests, minute.baseline_bad) == (START, 95, 1)
    assert (minute.canary_requests, minute.canary_bad) == (5, 2)
    assert found.overlap == "excluded"
    assert found.notes == ()
    assert {(each["Resource"], each["ExecutedVersion"]) for each in aws.asked} == {
        ("orders:live", "7"),
        ("orders:live", "8"),
    }


def test_two_aliases_behind_a_stage_variable() -> None:
    """The stage variable says which aliases the arms call; what is given beside it wins."""
    aws = Aws({("Invocations", "orders:v1"): 9, ("Invocations", "orders:v2"): 3})
    state = stage({"alias": "v1", "table": "t"}, {"alias": "v2"})
    source = LambdaMetrics("orders", variable="alias", session=aws)
    (minute,) = source.minutes(state, ERRORS, START, END)["errors_5xx"]
    assert (minute.baseline_requests, minute.canary_requests) == (9, 3)
    assert {each["Resource"] for each in aws.asked} == {"orders:v1", "orders:v2"}
    assert not any("ExecutedVersion" in each for each in aws.asked)
    given = LambdaMetrics("orders", baseline="blue", canary="green", session=aws)
    assert given.minutes(stage({}), ERRORS, START, END)["errors_5xx"] == ()
    assert {each["Resource"] for each in aws.asked[6:]} == {"orders:blue", "orders:green"}


@pytest.mark.parametrize("overrides", [{}, {"other": "x"}, {"alias": "hush"}])
def test_one_alias_for_both_arms(overrides: Mapping[str, str]) -> None:
    """An alias that production calls is not to be changed for a canary: refused, no value shown."""
    source = LambdaMetrics("orders", variable="alias", session=Aws({}))
    with pytest.raises(InvalidInputError, match="also changes production") as refused:
        source.minutes(stage({"alias": "hush"}, overrides), ERRORS, START, END)
    assert "hush" not in str(refused.value)


def test_without_a_canary() -> None:
    """There is production alone, to be watched after a promotion, say."""
    aws = Aws({("Invocations", "7"): 9, ("Invocations", "orders:v1"): 8})
    (minute,) = read(aws, attrs.evolve(ALIAS, canary=None))["errors_5xx"]
    assert (minute.baseline_requests, minute.canary_requests) == (9, 0)
    source = LambdaMetrics("orders", variable="alias", session=aws)
    (minute,) = source.minutes(stage({"alias": "v1"}), ERRORS, START, END)["errors_5xx"]
    assert (minute.baseline_requests, minute.canary_requests) == (8, 0)


def test_a_variable_that_is_not_there() -> None:
    """A stage without the variable is named as the mistake it is."""
    source = LambdaMetrics("orders", variable="alias", session=Aws({}))
    with pytest.raises(InvalidInputError, match="one that the baseline has"):
        source.minutes(stage({}, {"alias": "v2"}), ERRORS, START, END)


def test_for_what_it_is_made() -> None:
    """Without arguments it is for weighted aliases, with a function for stages."""
    with pytest.raises(InvalidInputError, match="variable"):
        LambdaMetrics("orders")
    with pytest.raises(InvalidInputError, match="variable"):
        LambdaMetrics("orders", baseline="v1")
    with pytest.raises(InvalidInputError, match="function"):
        LambdaMetrics("arn:aws:lambda:x", variable="alias")
    with pytest.raises(InvalidInputError, match="for a stage"):
        LambdaMetrics(session=Aws({})).minutes(stage({}, {}), ERRORS, START, END)
    with pytest.raises(InvalidInputError, match="for a weighted alias"):
        LambdaMetrics("orders", variable="a", session=Aws({})).minutes(ALIAS, ERRORS, START, END)


def test_what_lambda_does_not_publish() -> None:
    """A signal that cannot be seen has no minutes and a note; a critical one is refused."""
    found = read(Aws({}), ALIAS, signals=(*ERRORS, Signal.errors_4xx()))
    assert set(found) == {"errors_5xx"}
    assert found.not_observed == {"errors_4xx": "Lambda publishes no metric of it"}
    with pytest.raises(InvalidInputError, match="not critical"):
        read(Aws({}), ALIAS, signals=(Signal.errors_4xx(critical=True),))


def test_throttled_invocations_are_told() -> None:
    """They are neither requests nor errors in Lambda's counts, and said, by arm."""
    found = read(Aws({("Throttles", "8"): 1200, ("Throttles", "7"): 0}), ALIAS)
    (note,) = found.notes
    assert note.startswith("1,200 invocations of the canary were throttled")
    assert found["errors_5xx"] == ()


@pytest.mark.parametrize(
    "canary, expected",
    [
        ({"Throttles": 4}, (4, 4)),  # none was let through
        ({"Throttles": 4, "Invocations": 6, "Errors": 1}, (10, 5)),
        ({"Throttles": 0, "Invocations": 6, "Errors": 1}, (6, 1)),
        ({"Throttles": 4, "Invocations": 6}, (10, 0)),  # the errors of the others are not known
    ],
)
def test_throttled_requests_of_a_stage_have_failed(
    canary: Mapping[str, float], expected: tuple[float, float]
) -> None:
    """Whoever called the API got an error: a canary without capacity is no healthy one."""
    production = {"Invocations": 90.0, "Errors": 0.0}
    arms = {"orders:v1": production, "orders:v2": canary}
    aws = Aws({(metric, arm): n for arm, of in arms.items() for metric, n in of.items()})
    source = LambdaMetrics("orders", variable="alias", session=aws)
    found = source.minutes(stage({"alias": "v1"}, {"alias": "v2"}), ERRORS, START, END)
    counted = [(row.canary_requests, row.canary_bad) for row in found["errors_5xx"]]
    assert counted == [expected]
    (row,) = found["errors_5xx"]
    assert row.canary_unknown == (0 if canary.get("Errors") or expected == (4, 4) else 10)
    assert [note.split(" ")[0] for note in found.notes] == (["4"] if canary["Throttles"] else [])


def test_throttled_requests_that_are_missing() -> None:
    """Where Lambda has published that none was throttled, a minute that lacks it is unknown."""

    class Later(Aws):
        def get_metric_data(self, **parameters: Any) -> Any:
            answer = super().get_metric_data(**parameters)
            for result in answer["MetricDataResults"]:
                if result["Values"] and "throttles" not in result["Id"]:
                    result["Timestamps"].append(START + MINUTE)
                    result["Values"] *= 2
            return answer

    counts = {"Invocations": 90.0, "Errors": 0.0, "Throttles": 0.0}
    aws = Later({(metric, f"orders:v{n}"): c for n in (1, 2) for metric, c in counts.items()})
    source = LambdaMetrics("orders", variable="alias", session=aws)
    found = source.minutes(stage({"alias": "v1"}, {"alias": "v2"}), ERRORS, START, END)
    assert found["errors_5xx"] == (
        Minute(START, 90, 0, 90, 0),
        Minute(START + MINUTE, 90, 0, 90, 0, 90, 90),
    )


def test_half_an_answer() -> None:
    """What CloudWatch could not give is not taken for minutes without errors."""
    with pytest.raises(MetricsError, match="InternalError"):
        read(Aws({}, status="InternalError"), ALIAS)
    with pytest.raises(InvalidInputError, match="time zone"):
        LambdaMetrics(session=Aws({})).minutes(ALIAS, ERRORS, START.replace(tzinfo=None), END)


def blue_green(aws: Rehearsal) -> Stage:
    aws.session.client("lambda").create_alias(FunctionName="orders", Name="v2", FunctionVersion="2")
    aws.stage.allow_invocation({"alias": "v2"})
    return Stage(
        aws.rest_api_id,
        "prod",
        session=aws.session,
        sleep=aws.sleep,
        metrics=LambdaMetrics("orders", variable="alias"),
    )


@pytest.mark.long
@pytest.mark.parametrize("backend", [GOOD, BAD], ids=["good", "bad"])
def test_whole_rollouts_of_an_api(backend: Backend) -> None:
    """A canary of an API that calls another alias, watched by what that alias does."""
    with rehearsal(versions=[GOOD, backend]) as aws:
        stage = blue_green(aws)
        canary = stage.enable_canary(10, release="r1", variables={"alias": "v2"})
        decision = finished(aws, POLICY, lambda: canary)
        assert isinstance(decision, Promote if backend is GOOD else Rollback)
        now = stage.describe()
        assert now.variables["alias"] == ("v2" if backend is GOOD else "v1")
        assert now.canary is None


@pytest.mark.long
def test_the_counts_are_those_of_the_arms() -> None:
    """What the source counts is what the aliases served, to the request."""
    with rehearsal(versions=[GOOD, BAD]) as aws:
        stage = blue_green(aws)
        canary = stage.enable_canary(30, release="r1", variables={"alias": "v2"})
        aws.sleep(900)
        rows = canary.observe(POLICY).minutes["errors_5xx"]
        served = {(row.at, row.arm): row for row in aws.served}
        assert len(rows) > 60
        for row in rows[-10:]:
            baseline, own = served[row.at, "baseline"], served[row.at, "canary"]
            assert (row.baseline_requests, row.baseline_bad) == (
                baseline.requests,
                baseline.errors_5xx,
            )
            assert (row.canary_requests, row.canary_bad) == (own.requests, own.errors_5xx)


@pytest.mark.long
def test_both_levers_at_once() -> None:
    """A weighted alias behind an API: its versions are told apart, whatever the API does."""
    with rehearsal(versions=[GOOD, BAD], variables={"alias": "live"}) as aws:
        aws.alias("live").enable_canary(20, version="2", release="code")
        canary = aws.stage.enable_canary(
            10, release="contract", variables={"flag": "on"}, accept={"unused_variables"}
        )
        aws.sleep(900)
        assert canary.observe(POLICY).minutes["errors_5xx"]
        code = aws.alias("live").canary()
        assert code is not None
        rows = code.observe(POLICY).minutes["errors_5xx"][-8:]
        share = sum(row.canary_requests for row in rows) / sum(
            row.canary_requests + row.baseline_requests for row in rows
        )
        assert 0.15 < share < 0.25


def update(aws: Rehearsal, **options: Any) -> Any:
    return aws.session.client("lambda").update_alias(FunctionName="orders", Name="v1", **options)


def weights(**named: float) -> Any:
    return {"AdditionalVersionWeights": {name.removeprefix("_"): named[name] for name in named}}


@pytest.mark.parametrize(
    "options",
    [
        {"RoutingConfig": {}},
        {"RoutingConfig": weights(_2=1.5)},
        {"RoutingConfig": weights(_2=0.1, _3=0.1)},
        {"RoutingConfig": weights(_2=0.1), "FunctionVersion": "$LATEST"},
    ],
)
def test_the_rehearsal_does_not_guess(options: Any) -> None:
    """What AWS answers to that is not known, so it is no answer."""
    with (
        rehearsal(versions=[GOOD] * 3, history=timedelta(0)) as aws,
        pytest.raises(RehearsalError, match="unknown"),
    ):
        update(aws, **options)


@pytest.mark.parametrize(
    "code, options",
    [
        ("ResourceNotFoundException", {"FunctionVersion": "9"}),
        ("PreconditionFailedException", {"RevisionId": "stale"}),
        ("ValidationException", {"Description": "x" * 257}),
        ("InvalidParameterValueException", {"RoutingConfig": weights(_1=0.1)}),
    ],
)
def test_the_rehearsal_refuses_as_lambda_does(code: str, options: Any) -> None:
    """A call that is refused changes nothing."""
    with rehearsal(versions=[GOOD, GOOD], history=timedelta(0)) as aws:
        update(aws, RoutingConfig=weights(_2=0.5))
        before = update(aws)
        with pytest.raises(ClientError) as refused:
            update(aws, **options)
        assert refused.value.response["Error"]["Code"] == code
        after = aws.session.client("lambda").get_alias(FunctionName="orders", Name="v1")
        assert after["RevisionId"] == before["RevisionId"]
        assert after["RoutingConfig"] == weights(_2=0.5)


def test_weights_and_provisioned_concurrency_exclude_each_other() -> None:
    """Whichever came first is in the way of the other, as users of other tools have found."""
    provisioned = {"FunctionName": "orders", "Qualifier": "v1"}
    with rehearsal(versions=[GOOD, GOOD], history=timedelta(0)) as aws:
        lambda_ = aws.session.client("lambda")
        update(aws, RoutingConfig=weights(_2=0.5))
        with pytest.raises(ClientError, match="Alias with weights"):
            lambda_.put_provisioned_concurrency_config(
                **provisioned, ProvisionedConcurrentExecutions=1
            )
        update(aws, RoutingConfig=weights())
        lambda_.put_provisioned_concurrency_config(**provisioned, ProvisionedConcurrentExecutions=1)
        with pytest.raises(ClientError, match="Alias with weights"):
            update(aws, RoutingConfig=weights(_2=0.5))


def test_what_the_rehearsal_leaves_to_others() -> None:
    """Other functions are moto's; of what was not said or is not simulated it says so."""
    with rehearsal(versions=[GOOD], history=timedelta(0)) as aws:
        lambda_, cloudwatch = aws.session.client("lambda"), aws.session.client("cloudwatch")
        with pytest.raises(ClientError, match="Function not found"):
            lambda_.get_alias(FunctionName="other", Name="v1")
        with pytest.raises(RehearsalError, match="ListMetrics"):
            cloudwatch.list_metrics(Namespace="AWS/Lambda")
        metric: Any = {
            "Metric": {
                "Namespace": "AWS/Lambda",
                "MetricName": "Invocations",
                "Dimensions": [{"Name": "Alias", "Value": "v1"}],
            },
            "Period": 60,
            "Stat": "Sum",
        }
        with pytest.raises(RehearsalError, match="dimensions"):
            cloudwatch.get_metric_data(
                StartTime=aws.now() - timedelta(minutes=5),
                EndTime=aws.now(),
                MetricDataQueries=[{"Id": "a", "MetricStat": metric}],
            )
        update(aws, FunctionVersion="$LATEST")
        with pytest.raises(RehearsalError, match=r"version \$LATEST has no behavior"):
            aws.sleep(60)


def test_another_alias_than_the_one_asked_for() -> None:
    """The series of one alias do not count what another one served."""
    with rehearsal(versions=[GOOD, GOOD]) as aws:
        blue_green(aws)
        aws.sleep(300)
        source = LambdaMetrics("orders", baseline="v1", canary="v2", session=aws.session)
        rows = source.minutes(aws.stage.describe(), ERRORS, aws.now() - 9 * MINUTE, aws.now())
        assert all(row.baseline_requests and not row.canary_requests for row in rows["errors_5xx"])
        with pytest.raises(InvalidInputError, match="time zone"):
            source.minutes(aws.stage.describe(), ERRORS, datetime(2026, 1, 1), aws.now())


def test_an_alias_that_is_missing() -> None:
    """API Gateway answers 500 to each request that would call it, and Lambda sees none."""
    with rehearsal(versions=[GOOD], history=timedelta(0)) as aws:
        aws.stage.enable_canary(50, variables={"alias": "nowhere"})
        aws.sleep(120)
        canary = [row for row in aws.served if row.arm == "canary"]
        assert canary
        assert all(row.errors_5xx == row.requests for row in canary)
        aws.sleep(120)
        source = LambdaMetrics("orders", baseline="v1", canary="nowhere", session=aws.session)
        rows = source.minutes(aws.stage.describe(), ERRORS, aws.now() - 4 * MINUTE, aws.now())
        assert rows["errors_5xx"]
        assert not any(row.canary_requests for row in rows["errors_5xx"])
