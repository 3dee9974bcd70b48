"""CloudWatch alarms: what they decide, how they are read, and what is never taken for OK."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acting import V2, fresh, sent, serving
from apigw_canary import (
    Alarm,
    Decision,
    Hold,
    Minute,
    Observation,
    Promote,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    Step,
)
from apigw_canary.aws.alarms import alarms_now, as_alarm, last_fired, read_alarms
from apigw_canary.aws.calls import Calls
from apigw_canary.errors import (
    AccessDeniedError,
    InvalidInputError,
    MetricsError,
    NotFoundError,
)
from apigw_canary.judge.observation import Phase
from apigw_canary.testing import Backend, Fault, Rehearsal, RehearsalError, rehearsal
from apigw_canary.testing.alarms import Evaluation
from strategies import alarm_states

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BEFORE = START - 3 * MINUTE
DURING = START + 7 * MINUTE
NAME = "checkout-errors"
POLICY = RolloutPolicy.canary(50, 10 * MINUTE, signals=[Signal.errors_5xx()], alarms=[NAME])
UNALARMED = attrs.evolve(POLICY, alarms=())


def rows(canary_bad: float = 0) -> tuple[Minute, ...]:
    """An hour in which both arms have 500 requests a minute."""
    return tuple(Minute(START + i * MINUTE, 500, 0, 500, canary_bad) for i in range(60))


TO_100 = attrs.evolve(POLICY, steps=[*POLICY.steps, Step(100, 10 * MINUTE)])
AT_100: dict[str, Any] = {
    "percent": 100,
    "step_started_at": START + 30 * MINUTE,
    "minutes": {
        "errors_5xx": (
            *rows()[:30],
            *(Minute(START + i * MINUTE, 0, 0, 1000, 0) for i in range(31, 60)),
        )
    },
}


def seen(*alarms: Alarm, **fields: Any) -> Observation:
    """A look at a healthy canary an hour after the start, unless said otherwise."""
    given_ = {
        "at": START + 60 * MINUTE,
        "started_at": START,
        "step_started_at": START,
        "percent": 50,
        "minutes": {"errors_5xx": rows()},
        "alarms": alarms,
        **fields,
    }
    return Observation(**given_)


def decide(*alarms: Alarm, policy: RolloutPolicy = POLICY, **fields: Any) -> Decision:
    return policy.decide(seen(*alarms, **fields))


class TestDecisions:
    """What alarms decide, whoever looked at them."""

    def test_ok_decides_nothing(self) -> None:
        """A healthy canary with an alarm that is OK is promoted, and nothing is said of it."""
        decision = decide(Alarm(NAME, "OK", since=DURING))
        assert isinstance(decision, Promote)
        assert decision == decide(policy=UNALARMED)

    def test_one_that_began_firing_rolls_back(self) -> None:
        """The sentence names the alarm and since when it fires."""
        decision = decide(Alarm(NAME, "ALARM", since=DURING))
        assert str(decision) == (
            "Roll back: during the rollout the alarm checkout-errors began firing at "
            "2026-11-23 12:07 UTC"
        )

    def test_one_that_has_stopped_firing_rolls_back(self) -> None:
        """That it fired between two looks is enough, and what it is now is said."""
        decision = decide(Alarm(NAME, "OK", since=DURING + 2 * MINUTE, fired_at=DURING))
        assert isinstance(decision, Rollback)
        assert "began firing at 2026-11-23 12:07 UTC (OK since" in decision.reason

    def test_several_are_all_named(self) -> None:
        """Who is woken up sees each alarm that fired."""
        policy = attrs.evolve(POLICY, alarms=["a", "b", "c"])
        fired = [Alarm(name, "ALARM", since=DURING) for name in "ab"]
        reason = decide(*fired, Alarm("c", "OK", since=BEFORE), policy=policy).reason
        assert "alarm a began" in reason
        assert "alarm b began" in reason
        assert "alarm c" not in reason

    def test_the_moment_of_the_start_counts(self) -> None:
        """At the start itself the canary had its share already; a second before it had not."""
        assert isinstance(decide(Alarm(NAME, "ALARM", since=START)), Rollback)
        assert isinstance(decide(Alarm(NAME, "ALARM", since=START - SECOND)), Promote)

    def test_one_that_fired_before_is_reported(self) -> None:
        """What fires already does not block its own fix, and nobody can say it was hidden."""
        decision = decide(Alarm(NAME, "ALARM", since=BEFORE))
        assert isinstance(decision, Promote)
        assert "checkout-errors has been firing since 2026-11-23 11:57 UTC, from before" in (
            decision.reason
        )

    @pytest.mark.parametrize(
        "policy, fields",
        [
            pytest.param(POLICY, {}, id="the promotion"),
            pytest.param(TO_100, {}, id="the step to 100 %"),
            pytest.param(TO_100, AT_100, id="the promotion from 100 %"),
        ],
    )
    def test_without_data_it_is_no_ok(self, policy: RolloutPolicy, fields: dict[str, Any]) -> None:
        """Where an alarm that is OK goes up, one without data holds, with state and remedy."""
        up = decide(Alarm(NAME, "OK", since=BEFORE), policy=policy, **fields)
        assert isinstance(up, Shift | Promote)
        decision = decide(Alarm(NAME, "INSUFFICIENT_DATA", since=BEFORE), policy=policy, **fields)
        assert isinstance(decision, Hold)
        assert not decision.final
        assert "correct how checkout-errors treats missing data, or take it out" in decision.reason
        assert "has had INSUFFICIENT_DATA since 2026-11-23 11:57 UTC" in decision.reason

    def test_without_data_it_does_not_block_a_step_below_100(self) -> None:
        """Undecided is enough there, for alarms as for evidence; it is reported."""
        policy = RolloutPolicy.linear(50, 25, 10 * MINUTE, alarms=[NAME])
        decision = decide(Alarm(NAME, "INSUFFICIENT_DATA", since=DURING), policy=policy)
        assert isinstance(decision, Shift)
        assert decision.percent == 75
        assert "INSUFFICIENT_DATA" in decision.reason

    def test_one_that_was_not_looked_at_is_no_ok(self) -> None:
        """An observation made for another policy does not promote."""
        decision = decide()
        assert isinstance(decision, Hold)
        assert "read checkout-errors too" in decision.reason
        assert "checkout-errors is not in the observation" in decision.reason

    def test_only_those_of_the_policy_count(self) -> None:
        """A saved observation replays under a policy that does not name its alarms."""
        assert decide(Alarm(NAME, "ALARM", since=DURING), policy=UNALARMED) == decide(
            policy=UNALARMED
        )

    def test_worse_is_told_first(self) -> None:
        """Evidence against the canary says more than an alarm."""
        decision = decide(Alarm(NAME, "ALARM", since=DURING), minutes={"errors_5xx": rows(50)})
        assert "the canary is worse" in decision.reason

    def test_an_ended_rollout_says_nothing_of_alarms(self) -> None:
        """Nobody looks at them then."""
        assert "alarm" not in decide(phase="removed_outside").reason


looks: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    percent=st.sampled_from([0, 5, 50, 100]),
    minutes=st.sampled_from([{}, {"errors_5xx": rows()}, {"errors_5xx": rows(50)}]),
    failure=st.sampled_from([None, "failed"]),
    at=st.sampled_from([START + 12 * MINUTE, START + 60 * MINUTE, START + timedelta(days=3)]),
)
phases: st.SearchStrategy[Phase] = st.sampled_from(["running", "removed_outside", "promoted"])
times_before = st.timedeltas(timedelta(microseconds=1), timedelta(days=30)).map(lambda d: START - d)
times_during = st.timedeltas(timedelta(0), timedelta(days=3)).map(lambda d: START + d)


@pytest.mark.long
@given(looks, phases, times_during, alarm_states, times_during | times_before)
def test_what_begins_firing_during_the_rollout_always_rolls_back(
    look: dict[str, Any], phase: Phase, began: datetime, state: Any, since: datetime
) -> None:
    """Whatever the evidence, percent, failures and deadline are, as long as the canary runs."""
    alarm = (
        Alarm(NAME, "ALARM", since=began)
        if state == "ALARM"
        else Alarm(NAME, state, since=since, fired_at=began)
    )
    kind = Rollback if phase == "running" else Hold
    assert isinstance(decide(alarm, phase=phase, **look), kind)
    assert isinstance(decide(alarm, phase="promoting", **look), Promote)


@pytest.mark.long
@given(looks, phases, times_before)
def test_what_fires_from_before_decides_nothing_by_itself(
    look: dict[str, Any], phase: Phase, since: datetime
) -> None:
    """The decision is the one without it, and so is its kind where it is reported."""
    without = decide(policy=UNALARMED, phase=phase, **look)
    for alarm in (
        Alarm(NAME, "ALARM", since=since),
        Alarm(NAME, "OK", since=START, fired_at=since),
    ):
        decision = decide(alarm, phase=phase, **look)
        assert attrs.evolve(decision, reason=without.reason) == without


@given(looks, st.booleans(), times_before | times_during)
def test_what_says_nothing_never_promotes(
    look: dict[str, Any], looked_at: bool, since: datetime
) -> None:
    """Without data, or not looked at, an alarm holds where there would be a promotion."""
    alarms = [Alarm(NAME, "INSUFFICIENT_DATA", since=since)] if looked_at else []
    decision = decide(*alarms, **look)
    without = decide(policy=UNALARMED, **look)
    assert not isinstance(decision, Promote | Shift)
    assert isinstance(decision, Hold if isinstance(without, Promote) else type(without))


class TestValues:
    """What policies, observations and alarms accept."""

    @pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00", "x" * 256, 7, None])
    def test_names_that_no_alarm_has(self, name: Any) -> None:
        """A name of CloudWatch's has 1 to 255 characters, and none that controls anything."""
        with pytest.raises(InvalidInputError, match="alarms"):
            RolloutPolicy.canary(5, MINUTE, alarms=[name])
        with pytest.raises(InvalidInputError, match="name"):
            Alarm(name, "OK", since=START)

    @pytest.mark.parametrize("names", ["checkout", ["a", "a"], 7])
    def test_what_is_no_list_of_names(self, names: Any) -> None:
        """One name is no list of them, and each is given once."""
        with pytest.raises(InvalidInputError, match="alarms"):
            RolloutPolicy.canary(5, MINUTE, alarms=names)

    def test_an_alarm_is_seen_once(self) -> None:
        """Two states of one alarm in one look would be a guess."""
        alarm = Alarm(NAME, "OK", since=START)
        with pytest.raises(InvalidInputError, match="different names"):
            seen(alarm, alarm)

    @pytest.mark.parametrize(
        "fields",
        [
            {"state": "ok"},
            {"since": START.replace(tzinfo=None)},
            {"fired_at": START.replace(tzinfo=None)},
        ],
    )
    def test_what_is_no_alarm(self, fields: dict[str, Any]) -> None:
        """States are AWS's own words, times are aware."""
        with pytest.raises(InvalidInputError):
            Alarm(**{"name": NAME, "state": "OK", "since": START, **fields})


def described(name: str = NAME, state: str | None = "OK", **times: Any) -> dict[str, Any]:
    """An entry of DescribeAlarms."""
    return {"AlarmName": name, "StateValue": state, **times}


def item(data: Any, at: datetime | None = DURING) -> dict[str, Any]:
    """An entry of an alarm's history."""
    text = data if isinstance(data, str) else json.dumps(data)
    return {"AlarmName": NAME, "HistoryData": text, **({"Timestamp": at} if at else {})}


def became(state: str, at: datetime = DURING) -> dict[str, Any]:
    return item({"version": "1.0", "newState": {"stateValue": state}}, at)


class TestAnswers:
    """What is made of AWS's answers."""

    def test_since_when(self) -> None:
        """The change of the state, not a later update of the same one."""
        both: dict[str, Any] = {
            "StateTransitionedTimestamp": BEFORE,
            "StateUpdatedTimestamp": DURING,
        }
        assert as_alarm(described(state="ALARM", **both)) == Alarm(NAME, "ALARM", since=BEFORE)

    def test_where_the_change_is_not_told(self) -> None:
        """The last update has to do: it is never earlier, so nothing that fires is missed."""
        found = as_alarm(described(StateUpdatedTimestamp=DURING))
        assert found.since == DURING

    @pytest.mark.parametrize(
        "entry",
        [
            described(),
            described(state=None, StateTransitionedTimestamp=DURING),
            described(state="SLEEPING", StateTransitionedTimestamp=DURING),
            described(StateTransitionedTimestamp=DURING, EvaluationState="a\nb"),
            described(StateTransitionedTimestamp=DURING, EvaluationState=5),
        ],
    )
    def test_half_a_description_is_no_ok(self, entry: Mapping[str, Any]) -> None:
        """A state that is missing or new, or one without a time, is a failure."""
        with pytest.raises(MetricsError, match="not understood"):
            as_alarm(entry)

    def test_the_last_time_counts(self) -> None:
        """In whatever order the history comes."""
        history = [became("OK"), became("ALARM", BEFORE), became("ALARM"), became("OK", BEFORE)]
        assert last_fired(Alarm(NAME, "OK", since=DURING), history) == DURING

    def test_a_history_without_firing(self) -> None:
        """From no data to OK and back is no firing."""
        history = [became("OK"), became("INSUFFICIENT_DATA")]
        assert last_fired(Alarm(NAME, "OK", since=DURING), history) is None

    @pytest.mark.parametrize(
        "entry",
        [
            item("no JSON"),
            item("7"),
            item("null"),
            item([]),
            item({}),
            item({"newState": None}),
            item({"newState": {}}),
            item({"newState": {"stateValue": "SLEEPING"}}),
            item({"newState": {"stateValue": ["ALARM"]}}),
            item({"newState": {"stateValue": "ALARM"}}, at=None),
            {},
        ],
    )
    def test_a_history_that_is_not_understood_is_no_ok(self, entry: Mapping[str, Any]) -> None:
        """Whatever AWS may write there one day."""
        with pytest.raises(MetricsError, match="not understood"):
            last_fired(Alarm(NAME, "OK", since=DURING), [became("OK"), entry])

    def test_a_history_that_lags_is_no_ok(self) -> None:
        """An alarm became OK, and its history does not know: what was before is not known."""
        with pytest.raises(MetricsError, match="has no entry for that"):
            last_fired(Alarm(NAME, "OK", since=DURING), [became("INSUFFICIENT_DATA")])

    def test_an_alarm_that_was_created_without_data_has_no_history(self) -> None:
        """Its first state is no change, and AWS writes none down."""
        assert last_fired(Alarm(NAME, "INSUFFICIENT_DATA", since=DURING), []) is None


class Aws:
    """CloudWatch as a plain object: what it was asked, and answers in their order."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.meta = SimpleNamespace(region_name="eu-central-1")

    def client(self, service_name: Any, *, config: Any = None) -> Aws:
        return self

    def describe_alarms(self, **request: Any) -> Mapping[str, Any]:
        self.asked.append(request)
        return self.answers.pop(0)

    describe_alarm_history = describe_alarms


def ok(name: str) -> dict[str, Any]:
    return described(name, StateTransitionedTimestamp=BEFORE)


class TestReading:
    """What AWS is asked for, and how much of its answer is read."""

    def test_a_hundred_names_at_a_time(self) -> None:
        """More than AWS takes in one call are asked for in several."""
        names = [f"a{i}" for i in range(201)]
        aws = Aws(*({"MetricAlarms": [ok(name) for name in names]} for _ in range(3)))
        assert [alarm.name for alarm in read_alarms(Calls(aws), names, START)] == names
        assert [len(request["AlarmNames"]) for request in aws.asked] == [100, 100, 1]
        assert {type_ for request in aws.asked for type_ in request["AlarmTypes"]} == {
            "MetricAlarm",
            "CompositeAlarm",
            "LogAlarm",
        }

    def test_further_pages(self) -> None:
        """Of the alarms and of a history, also where a page is empty."""
        aws = Aws(
            {"MetricAlarms": [], "NextToken": "1"},
            {"CompositeAlarms": [described(StateTransitionedTimestamp=DURING)]},
            {"AlarmHistoryItems": [became("OK")], "NextToken": "2"},
            {"AlarmHistoryItems": [], "NextToken": "3"},
            {"AlarmHistoryItems": [became("ALARM")]},
        )
        (alarm,) = read_alarms(Calls(aws), [NAME], START)
        assert alarm.fired_at == DURING
        assert [request.get("NextToken") for request in aws.asked] == [None, "1", None, "2", "3"]
        assert aws.asked[2]["StartDate"] <= START

    def test_no_names_no_call(self) -> None:
        """Nothing is asked for nothing."""
        aws = Aws()
        assert read_alarms(Calls(aws), [], START) == ()
        assert aws.asked == []


def calls(aws: Rehearsal) -> Calls:
    return Calls(aws.session, sleep=aws.sleep)


def read(aws: Rehearsal, *names: str, start: datetime) -> tuple[Alarm, ...]:
    return read_alarms(calls(aws), names, start)


class TestRehearsed:
    """Interpretation, against alarms that behave as AWS's."""

    @pytest.mark.long
    def test_between_two_looks(self) -> None:
        """An alarm that fired and stopped while nobody looked did fire."""
        with rehearsal() as aws:
            aws.alarm(NAME)
            aws.sleep(60)
            start = aws.now()
            aws.sleep(60)
            aws.alarm(NAME, "ALARM")
            fired = aws.now()
            aws.sleep(60)
            aws.alarm(NAME)
            stopped = aws.now()
            aws.sleep(60)
            assert read(aws, NAME, start=start) == (
                Alarm(NAME, "OK", since=stopped, fired_at=fired),
            )

    def test_one_that_stops_firing_did_not_begin_to(self) -> None:
        """An alarm from before that the canary mends is not held against it."""
        with rehearsal() as aws:
            aws.alarm(NAME, "ALARM")
            aws.sleep(30)
            start = aws.now()
            aws.sleep(30)
            aws.alarm(NAME)
            (alarm,) = read(aws, NAME, start=start)
            assert not alarm.began_since(start)

    def test_composite_alarms_and_their_history(self) -> None:
        """AWS leaves both out unless asked for them."""
        with rehearsal() as aws:
            start = aws.now()
            states: Sequence[Any] = ("OK", "ALARM", "OK")
            for state in states:
                aws.sleep(60)
                aws.alarm("all", state, kind="CompositeAlarm")
            (alarm,) = read(aws, "all", start=start)
            assert alarm.fired_at == start + 2 * MINUTE

    def test_log_alarms_and_their_history(self) -> None:
        """Log alarms are read as metric alarms are."""
        with rehearsal() as aws:
            start = aws.now()
            states: Sequence[Any] = ("OK", "ALARM", "OK")
            for state in states:
                aws.sleep(60)
                aws.alarm("errors in logs", state, kind="LogAlarm")
            (alarm,) = read(aws, "errors in logs", start=start)
            assert (alarm.state, alarm.fired_at) == ("OK", start + 2 * MINUTE)

    @pytest.mark.parametrize("evaluation", get_args(Evaluation))
    def test_a_state_that_cannot_be_evaluated_is_not_known(self, evaluation: Evaluation) -> None:
        """An OK from before the evaluations failed is INSUFFICIENT_DATA; that it began firing
        during the rollout stays true, and so does what its history has.
        """
        with rehearsal() as aws:
            aws.alarm("ok")
            aws.sleep(60)
            start = aws.now()
            for name in ("firing", "fired"):
                aws.alarm(name, "ALARM")
            aws.sleep(60)
            aws.alarm("fired")
            aws.alarm("ok", "OK", evaluation=evaluation)
            aws.alarm("firing", "ALARM", evaluation=evaluation)
            aws.alarm("fired", "OK", evaluation=evaluation)
            ok, firing, fired = read(aws, "ok", "firing", "fired", start=start)
        for alarm in (ok, firing, fired):
            assert (alarm.state, alarm.evaluation) == ("INSUFFICIENT_DATA", evaluation)
            assert Alarm.from_dict(alarm.to_dict()) == alarm
        assert (ok.fired_at, firing.fired_at, fired.fired_at) == (None, start, start)

    def test_history_is_read_only_where_it_can_tell(self) -> None:
        """Not of an alarm that fires, nor of one that has not changed since the start."""
        with rehearsal() as aws:
            for name in ("old", "firing", "changed"):
                aws.alarm(name)
            aws.sleep(60)
            start = aws.now()
            aws.alarm("firing", "ALARM")
            aws.alarm("changed", "INSUFFICIENT_DATA")
            read(aws, "old", "firing", "changed", start=start)
            assert sent(aws) == ["DescribeAlarms", "DescribeAlarmHistory"]
            assert aws.calls[-1].parameters["AlarmName"] == "changed"

    def test_names_that_aws_does_not_know(self) -> None:
        """AWS does not complain about them; we do, by name."""
        with rehearsal() as aws:
            aws.alarm("known")
            names = ["known", "Known", "checkout"]
            found = alarms_now(calls(aws), names)
            assert [name for name in names if found[name] is None] == ["Known", "checkout"]
            with pytest.raises(NotFoundError, match="'Known', 'checkout'") as caught:
                read(aws, *names, start=aws.now())
            assert "policy's `alarms`" in caught.value.remedy

    def test_many_alarms_and_a_long_history(self) -> None:
        """All pages are read."""
        with rehearsal() as aws:
            start = aws.now()
            names = [f"a{i:03}" for i in range(120)]
            for name in names:
                aws.alarm(name)
            aws.sleep(1)
            aws.alarm("a007", "ALARM")
            fired = aws.now()
            states: Sequence[Any] = ("OK", "INSUFFICIENT_DATA")
            for i in range(121):
                aws.sleep(1)
                aws.alarm("a007", states[i % 2])
            assert all(alarms_now(calls(aws), names).values())
            (alarm,) = read(aws, "a007", start=start)
            assert alarm.fired_at == fired


class TestSimulation:
    """The rehearsal's CloudWatch, as boto3 sees it."""

    def test_the_same_state_again_is_no_change(self) -> None:
        """Since when, and the history, are of changes."""
        with rehearsal() as aws:
            aws.alarm(NAME, "ALARM")
            began = aws.now()
            aws.sleep(60)
            aws.alarm(NAME, "ALARM")
            client = aws.session.client("cloudwatch")
            (found,) = client.describe_alarms()["MetricAlarms"]
            assert (found["StateValue"], found["StateTransitionedTimestamp"]) == ("ALARM", began)
            (change,) = client.describe_alarm_history(
                AlarmName=NAME, HistoryItemType="StateUpdate", EndDate=aws.now()
            )["AlarmHistoryItems"]
            assert change["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM"

    def test_composite_alarms_only_where_asked_for(self) -> None:
        """As on AWS, silently; and so their history."""
        with rehearsal() as aws:
            aws.alarm("all", kind="CompositeAlarm")
            client = aws.session.client("cloudwatch")
            asked: dict[str, Any] = {"AlarmName": "all", "HistoryItemType": "StateUpdate"}
            assert client.describe_alarms(AlarmNames=["all"])["CompositeAlarms"] == []
            assert client.describe_alarm_history(**asked)["AlarmHistoryItems"] == []
            asked |= {"AlarmTypes": ["CompositeAlarm"]}
            assert len(client.describe_alarm_history(**asked)["AlarmHistoryItems"]) == 1

    def test_more_than_a_hundred_names_are_refused(self) -> None:
        """As on AWS."""
        with rehearsal() as aws:
            client = aws.session.client("cloudwatch")
            with pytest.raises(client.exceptions.ClientError, match="greater than 100"):
                client.describe_alarms(AlarmNames=[f"a{i}" for i in range(101)])

    @pytest.mark.parametrize(
        "operation, parameters",
        [
            ("describe_alarms", {"StateValue": "ALARM"}),
            ("describe_alarm_history", {"HistoryItemType": "StateUpdate"}),
            ("describe_alarm_history", {"AlarmName": "a"}),
            ("describe_alarm_history", {"AlarmName": "a", "ScanBy": "TimestampAscending"}),
            ("describe_alarms_for_metric", {"MetricName": "a", "Namespace": "b"}),
        ],
    )
    def test_what_is_not_simulated(self, operation: str, parameters: dict[str, Any]) -> None:
        """Nothing is silently ignored, and moto knows nothing of these alarms."""
        with rehearsal() as aws, pytest.raises(RehearsalError, match="simulate"):
            getattr(aws.session.client("cloudwatch"), operation)(**parameters)

    @pytest.mark.parametrize(
        "name, arguments",
        [
            ("", {}),
            ("a", {"state": "SLEEPING"}),
            ("a", {"kind": "Siren"}),
            ("a", {"evaluation": "NO"}),
            ("a", {"evaluation": "PARTIAL_DATA", "kind": "CompositeAlarm"}),
        ],
    )
    def test_bad_arguments(self, name: str, arguments: Any) -> None:
        """An alarm that cannot be is an error of the test."""
        with rehearsal() as aws, pytest.raises(ValueError, match=r"name|state|kind|evaluation"):
            aws.alarm(name, **arguments)


def test_a_state_beside_a_failed_evaluation_is_refused() -> None:
    """There is one state that such an alarm can have."""
    with pytest.raises(InvalidInputError, match="INSUFFICIENT_DATA with an evaluation"):
        Alarm(NAME, "OK", since=START, evaluation="PARTIAL_DATA")


GOOD: dict[str, Any] = {"requests_per_minute": 2000}
ROLLOUT = RolloutPolicy.canary(20, 10 * MINUTE, alarms=[NAME, "all"])


def prepared(aws: Rehearsal) -> None:
    aws.alarm(NAME)
    aws.alarm("all", kind="CompositeAlarm")
    aws.sleep(60)


def roll_out(aws: Rehearsal, act: Mapping[int, Any]) -> list[Decision]:
    """The loop of the manual; after so many looks somebody acts."""
    canary = aws.stage.enable_canary(20, release="r1", variables=V2)
    decisions: list[Decision] = []
    while True:
        decision = ROLLOUT.decide(canary.observe(ROLLOUT))
        decisions.append(decision)
        canary.apply(decision)
        if decision.final:
            return decisions
        if len(decisions) in act:
            act[len(decisions)]()
        aws.sleep(decision.wait.total_seconds())


class TestRollouts:
    """Whole rollouts, in rehearsals."""

    @pytest.mark.long
    def test_ok_alarms_change_nothing(self) -> None:
        """A good release is promoted."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            assert isinstance(roll_out(aws, {})[-1], Promote)
            assert serving(aws)[1:] == (V2, None)

    @pytest.mark.long
    @pytest.mark.parametrize("name", [NAME, "all"])
    def test_an_alarm_rolls_back_at_the_next_look(self, name: str) -> None:
        """A good release too: that is what alarms are for, and why they are no evidence."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            before = serving(aws)
            decisions = roll_out(aws, {3: lambda: aws.alarm(name, "ALARM")})
            assert [type(decision) for decision in decisions] == [Hold, Hold, Hold, Rollback]
            assert f"the alarm {name} began firing" in decisions[-1].reason
            assert serving(aws) == before

    @pytest.mark.long
    def test_one_that_fires_for_seconds_rolls_back(self) -> None:
        """Between two looks, by the alarm's own history."""

        def flap() -> None:
            aws.sleep(5)
            aws.alarm(NAME, "ALARM")
            aws.sleep(5)
            aws.alarm(NAME)

        with rehearsal(**GOOD) as aws:
            prepared(aws)
            assert isinstance(roll_out(aws, {3: flap})[-1], Rollback)

    @pytest.mark.traced
    @pytest.mark.long
    def test_an_alarm_that_cannot_be_evaluated_is_never_ok(self) -> None:
        """A healthy canary is not promoted on a state of long ago, and the reason says so."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            aws.alarm(NAME, evaluation="EVALUATION_FAILURE")
            decisions = roll_out(aws, {40: lambda: aws.alarm(NAME)})
            assert isinstance(decisions[-1], Promote)
            assert len(decisions) == 41
            assert all(isinstance(each, Hold) for each in decisions[:40])
            assert f"correct what keeps CloudWatch from evaluating {NAME}" in decisions[39].reason
            assert "(EVALUATION_FAILURE), which counts as INSUFFICIENT_DATA" in decisions[39].reason

    @pytest.mark.long
    def test_an_alarm_that_fired_before_its_evaluations_failed_rolls_back(self) -> None:
        """What speaks against the canary is not forgotten with the evaluation."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            fail = partial(aws.alarm, NAME, "ALARM", evaluation="EVALUATION_ERROR")
            assert isinstance(roll_out(aws, {3: fail})[-1], Rollback)

    @pytest.mark.long
    def test_a_fix_is_promoted_while_the_alarm_still_fires(self) -> None:
        """An alarm from before does not stop what may mend it."""
        with rehearsal(api=Backend(errors_5xx=0.01), **GOOD) as aws:
            aws.alarm("all", kind="CompositeAlarm")
            aws.alarm(NAME, "ALARM")
            aws.sleep(60)
            decisions = roll_out(aws, {})
            assert isinstance(decisions[-1], Promote)
            assert all(f"{NAME} has been firing since" in decision.reason for decision in decisions)

    @pytest.mark.long
    def test_no_data_holds_until_there_is_some(self) -> None:
        """Confirmed, and still not promoted; promoted once the alarm says OK."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            aws.alarm(NAME, "INSUFFICIENT_DATA")
            decisions = roll_out(aws, {40: lambda: aws.alarm(NAME)})
            assert isinstance(decisions[-1], Promote)
            assert len(decisions) == 41
            assert "treats missing data" in decisions[39].reason

    @pytest.mark.long
    def test_an_unknown_name_with_a_canary_that_has_traffic(self) -> None:
        """No error, which would leave it with nobody to watch it: it holds, and is rolled back."""
        with rehearsal(**GOOD) as aws:
            aws.alarm(NAME)
            canary = aws.stage.enable_canary(20, variables=V2)
            look = canary.observe(ROLLOUT)
            assert "no alarm called 'all'" in (look.failure or "")
            assert isinstance(ROLLOUT.decide(look), Hold)
            aws.sleep(31 * 60)
            assert isinstance(ROLLOUT.decide(canary.observe(ROLLOUT)), Rollback)

    @pytest.mark.long
    @pytest.mark.parametrize("operation", ["DescribeAlarms", "DescribeAlarmHistory"])
    @pytest.mark.parametrize("fault", [Fault.ACCESS_DENIED, Fault.EXPIRED_CREDENTIALS])
    def test_what_cannot_be_read_is_hold(self, operation: str, fault: Fault) -> None:
        """The failure is in the observation, metrics are judged all the same; nothing goes up."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            canary = aws.stage.enable_canary(20, variables=V2)
            aws.alarm(NAME, "INSUFFICIENT_DATA")
            aws.sleep(1800)
            canary.observe(ROLLOUT)
            aws.sleep(60)
            aws.alarm(NAME)
            aws.fail(operation, fault)
            look = canary.observe(ROLLOUT)
            assert operation in (look.failure or "")
            assert look.alarms == ()
            assert look.minutes["errors_5xx"]
            decision = ROLLOUT.decide(look)
            assert isinstance(decision, Hold)
            assert "could not be read since" in decision.reason
            assert isinstance(ROLLOUT.decide(canary.observe(ROLLOUT)), Promote)

    @pytest.mark.long
    def test_alarms_that_stay_unreadable_end_the_rollout(self) -> None:
        """After `max_unobserved` nobody watches, whatever the metrics show."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            canary = aws.stage.enable_canary(20, variables=V2)
            canary.observe(ROLLOUT)
            aws.sleep(31 * 60)
            aws.fail("DescribeAlarms", Fault.ACCESS_DENIED)
            decision = ROLLOUT.decide(canary.observe(ROLLOUT))
            assert isinstance(decision, Rollback)
            assert "unobserved" in decision.reason

    def test_alarms_speak_while_the_metrics_fail(self) -> None:
        """And an alarm that fires then rolls back at once."""
        with rehearsal(**GOOD) as aws:
            prepared(aws)
            canary = aws.stage.enable_canary(20, variables=V2)
            aws.sleep(60)
            aws.alarm("all", "ALARM")
            aws.fail("GetMetricData", Fault.ACCESS_DENIED)
            look = canary.observe(ROLLOUT)
            assert "GetMetricData" in (look.failure or "")
            assert isinstance(ROLLOUT.decide(look), Rollback)

    def test_both_failures_are_told(self) -> None:
        """One does not hide the other."""
        with rehearsal() as aws:
            prepared(aws)
            canary = aws.stage.enable_canary(20, variables=V2)
            for operation in ("GetMetricData", "DescribeAlarms"):
                aws.fail(operation, Fault.ACCESS_DENIED)
            failure = canary.observe(ROLLOUT).failure or ""
            assert "GetMetricData" in failure
            assert "DescribeAlarms" in failure

    def test_a_begun_promotion_asks_no_alarm(self) -> None:
        """It is finished whatever they say, be it that one was deleted meanwhile."""
        with rehearsal() as aws:
            canary = aws.stage.enable_canary(20, release="r1", variables=V2)
            aws.fail("UpdateStage", Fault.ACCESS_DENIED, skip=1)
            with pytest.raises(PermissionError):
                canary.promote()
            found = fresh(aws).canary()
            assert found is not None
            look = found.observe(ROLLOUT)
            assert (look.phase, look.alarms) == ("promoting", ())
            assert isinstance(ROLLOUT.decide(look), Promote)

    def test_nothing_is_asked_without_alarms(self) -> None:
        """A policy without alarms needs no permission for them."""
        with rehearsal() as aws:
            canary = aws.stage.enable_canary(20, variables=V2)
            canary.observe(attrs.evolve(ROLLOUT, alarms=()))
            assert "DescribeAlarms" not in sent(aws)


def test_an_unknown_name_is_an_error_before_the_start() -> None:
    """Given the policy, nothing is enabled, and no deployment is made."""
    policy = RolloutPolicy.canary(5, 10 * MINUTE, alarms=["errors", "latency"])
    with rehearsal() as aws:
        aws.alarm("errors")
        with pytest.raises(NotFoundError, match="no alarm called 'latency'") as e:
            aws.stage.enable_canary(5, variables={"alias": "v2"}, policy=policy)
        assert "This call did not change it." in str(e.value.state)
        assert [call.operation for call in aws.calls] == [
            "GetStage",
            "GetDeployments",
            "DescribeAlarms",
        ]
        aws.alarm("latency")
        aws.stage.enable_canary(5, variables={"alias": "v2"}, policy=policy)


@pytest.mark.long
def test_an_unknown_name_is_an_error_before_the_start_of_an_alias() -> None:
    """The alias invokes what it did."""
    policy = RolloutPolicy.canary(5, 10 * MINUTE, alarms=["errors"])
    with rehearsal(versions=[Backend(), Backend()]) as aws:
        with pytest.raises(NotFoundError, match="no alarm called 'errors'"):
            aws.alias("v1").enable_canary(5, version="2", policy=policy)
        assert [call.operation for call in aws.calls] == ["GetAlias", "DescribeAlarms"]
        aws.alarm("errors")
        aws.alias("v1").enable_canary(5, version="2", policy=policy)


def test_alarms_that_cannot_be_read_before_the_start() -> None:
    """Without knowing whether they are there nothing is enabled."""
    policy = RolloutPolicy.canary(5, 10 * MINUTE, alarms=["errors"])
    with rehearsal() as aws:
        aws.fail("DescribeAlarms", Fault.ACCESS_DENIED)
        with pytest.raises(AccessDeniedError) as e:
            aws.stage.enable_canary(5, variables={"alias": "v2"}, policy=policy)
        assert "This call did not change it." in str(e.value.state)
        assert aws.stage.canary() is None
