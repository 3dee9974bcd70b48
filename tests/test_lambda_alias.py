"""Weighted aliases: whole rollouts, races that are lost, and what is refused before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any

import attrs
import pytest

from acting import Store, finished, sent
from apigw_canary import (
    AccessLogs,
    AliasCanary,
    CanaryError,
    CloudWatchMetrics,
    Hold,
    LambdaAlias,
    LambdaMetrics,
    Minute,
    Promote,
    Promotion,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    StageState,
)
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CallerError,
    CanaryAlreadyEnabledError,
    CannotTellError,
    DecisionExpiredError,
    InvalidInputError,
    NoCanaryError,
    NotFoundError,
    NothingToRevertError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    ThrottledError,
    UnansweredError,
    UnconfirmedChangeError,
)
from apigw_canary.testing import Backend, Fault, ProcessDeath, Rehearsal, rehearsal

GOOD = Backend()
BAD = Backend(errors_5xx=0.05)
POLICY = RolloutPolicy.linear(10, 40, timedelta(minutes=10))
LIVE = {"alias": "live"}


@contextmanager
def quiet(versions: int = 3, **options: Any) -> Iterator[Rehearsal]:
    """A function with next to no invocations, where they do not matter."""
    options = {"requests_per_minute": 1, "history": timedelta(0), "variables": LIVE, **options}
    with rehearsal(versions=[GOOD] * versions, **options) as aws:
        yield aws


class Shared:
    """The rehearsal's session; making a client takes longer than most calls."""

    def __init__(self, aws: Rehearsal) -> None:
        self._session: Any = aws.session
        self._made: dict[str, Any] = {}

    def client(self, service_name: Any, *, config: Any = None) -> Any:
        if service_name not in self._made:
            self._made[service_name] = self._session.client(service_name, config=config)
        return self._made[service_name]


@lru_cache(maxsize=1)
def shared(aws: Rehearsal) -> Shared:
    return Shared(aws)


def client(aws: Rehearsal) -> Any:
    return shared(aws).client("lambda")


def route(aws: Rehearsal, version: str = "1", text: str | None = None, **weights: float) -> None:
    """What somebody else makes of the alias: `route(aws, "1", _2=0.5)`."""
    named = {name.removeprefix("_"): weight for name, weight in weights.items()}
    more: dict[str, Any] = {} if text is None else {"Description": text}
    client(aws).update_alias(
        FunctionName="orders",
        Name="live",
        FunctionVersion=version,
        RoutingConfig={"AdditionalVersionWeights": named},
        **more,
    )


def invoked(aws: Rehearsal) -> tuple[str, Mapping[str, float]]:
    """What the alias invokes: its version, and weights of others."""
    alias = described(aws)
    routing = alias.get("RoutingConfig", {})
    return alias["FunctionVersion"], routing.get("AdditionalVersionWeights", {})


def described(aws: Rehearsal) -> Any:
    alias = client(aws).get_alias(FunctionName="orders", Name="live")
    aws.calls.pop()
    return alias


RECORDS: list[Store] = []
"""The store of the test that runs, where it has one."""


@pytest.fixture(params=["in the description", "in a store"])
def records(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "in a store":
        RECORDS.append(Store())
    yield
    RECORDS.clear()


wherever_recorded = pytest.mark.usefixtures("records")


def fresh(aws: Rehearsal, **options: Any) -> LambdaAlias:
    """The alias as another process sees it."""
    options.setdefault("records", RECORDS[0] if RECORDS else None)
    return LambdaAlias("orders", "live", session=shared(aws), sleep=aws.sleep, **options)


def enabled(aws: Rehearsal, **options: Any) -> AliasCanary:
    return fresh(aws).enable_canary(10, **{"version": "2", "release": "r1", **options})


def changes(aws: Rehearsal) -> int:
    return sent(aws).count("UpdateAlias")


@pytest.mark.long
@wherever_recorded
@pytest.mark.parametrize("afresh", [False, True], ids=["one process", "a process for each look"])
@pytest.mark.parametrize("backend", [GOOD, BAD], ids=["good", "bad"])
def test_whole_rollouts(backend: Backend, afresh: bool) -> None:
    """A good version is promoted, a bad one rolled back, whoever looks."""
    with rehearsal(versions=[GOOD, backend], variables=LIVE) as aws:
        canary = enabled(aws)
        decision = finished(aws, POLICY, lambda: enabled(aws) if afresh else canary)
        good = backend is GOOD
        assert isinstance(decision, Promote if good else Rollback)
        assert invoked(aws) == ("2" if good else "1", {})
        assert changes(aws) == (4 if good else 2)
        with pytest.raises(RolloutEndedError) as ended:
            enabled(aws)
        assert ended.value.outcome == ("promoted" if good else "rolled_back")
        if good:
            fresh(aws).revert()
            assert invoked(aws) == ("1", {})


def test_each_change_is_one_guarded_call() -> None:
    """Version, weight and record go together, on condition that nobody changed the alias."""
    with quiet() as aws:
        canary = enabled(aws)
        canary.shift(33.33)
        canary.promote()
        updates = [call.parameters for call in aws.calls if call.operation == "UpdateAlias"]
        assert [update["RoutingConfig"] for update in updates] == [
            {"AdditionalVersionWeights": weights} for weights in ({"2": 0.1}, {"2": 0.3333}, {})
        ]
        assert all(update["RevisionId"] and update["Description"] for update in updates)


def test_the_state_in_the_form_of_a_stage() -> None:
    """Function, alias and versions stand where API, stage and deployments do."""
    with quiet() as aws:
        alias = aws.alias("live")
        before = alias.describe()
        assert (before.rest_api_id, before.name, before.deployment_id) == ("orders", "live", "1")
        assert (alias.function, alias.alias, alias.region) == ("orders", "live", "eu-central-1")
        assert before.canary is None
        assert before.rollout is None
        start = aws.now()
        canary = alias.enable_canary(10, version="2", release="r1")
        aws.sleep(60)
        canary.shift(20)
        aws.sleep(60)
        state = canary.describe()
        assert state.canary is not None
        assert (state.canary.deployment_id, state.canary.percent) == ("2", 20.0)
        assert state.rollout is not None
        assert state.rollout.release == canary.release == "r1"
        assert state.rollout.started_at == start
        assert state.rollout.step_started_at == state.updated_at == start + timedelta(minutes=1)
        assert state.rollout.outcome is None
        assert "version 1 and version 2 at 20 %" in str(state)
        assert "release r1" in f"of release {canary!r}".replace("<AliasCanary of ", "")
        assert repr(alias) == "LambdaAlias('orders', 'live')"
        assert StageState.from_dict(state.to_dict()).deployment_id == "1"


@wherever_recorded
def test_the_same_line_again() -> None:
    """The running canary of a release, or of a version without one, is returned as it is."""
    with quiet() as aws:
        enabled(aws).shift(30)
        assert enabled(aws).version == "2"
        assert invoked(aws) == ("1", {"2": 0.3})
        fresh(aws).rollback()
        enabled(aws, release=None, version="3")
        assert enabled(aws, release=None, version="3").release is None
        assert changes(aws) == 4


@wherever_recorded
def test_another_canary_is_in_the_way() -> None:
    """An alias routes to two versions at most; the error names the second, and is no change."""
    with quiet() as aws:
        enabled(aws)
        aws.sleep(60)
        for request in ({"release": "r2"}, {"release": None}, {"release": "r2", "version": "3"}):
            with pytest.raises(CanaryAlreadyEnabledError, match="10 % to version 2") as caught:
                enabled(aws, **request)
            assert (caught.value.deployment_id, caught.value.percent) == ("2", 10.0)
            assert caught.value.age == timedelta(minutes=1)
        with pytest.raises(StageChangedError, match="2 instead of 3"):
            enabled(aws, version="3")
        assert changes(aws) == 1
        fresh(aws).rollback()
        route(aws, _2=0.5)
        with pytest.raises(CanaryAlreadyEnabledError, match=r"50 % to version 2.*unknown"):
            enabled(aws, release="r2")


@pytest.mark.parametrize("version", ["$LATEST", "live", "", "1.0", 2, None])
def test_only_published_versions(version: Any) -> None:
    """What is no version's number is refused before anything is sent."""
    with quiet() as aws:
        with pytest.raises(InvalidInputError, match="published version"):
            enabled(aws, version=version)
        assert sent(aws) == []


def test_what_cannot_be_a_canary() -> None:
    """A missing version, the alias's own, one that cannot run: nothing is changed."""
    with quiet() as aws:
        with pytest.raises(NotFoundError, match="Publish the version first"):
            enabled(aws, version="9")
        with pytest.raises(InvalidInputError, match="another version than the alias's own"):
            enabled(aws, version="1")
        with pytest.raises(InvalidInputError, match="percent"):
            fresh(aws).enable_canary(101, version="2")
        with pytest.raises(InvalidInputError, match="apigw-canary"):
            enabled(aws, description="[apigw-canary:2 forged]")
        with pytest.raises(InvalidInputError, match="apigw-canary"):
            enabled(aws, release="[apigw-canary:2 forged]")
        client(aws).update_alias(FunctionName="orders", Name="live", FunctionVersion="$LATEST")
        with pytest.raises(CallerError, match=r"\$LATEST"):
            enabled(aws)
        assert changes(aws) == 1


def test_a_version_that_is_not_ready() -> None:
    """A version that Lambda is still preparing, or gave up on, gets no invocations."""
    with quiet() as aws:
        answers = stubbed(aws, "GetFunctionConfiguration", {"State": "Pending"})
        with pytest.raises(NotFoundError, match="it is Pending"):
            LambdaAlias("orders", "live", session=answers).enable_canary(5, version="2")
        assert changes(aws) == 0


def test_provisioned_concurrency_is_told_before() -> None:
    """AWS takes no weights on such an alias: said before anything is sent, with the way out."""
    with quiet() as aws:
        provision(aws)
        with pytest.raises(CallerError, match=r"concurrency \(4\).*Provision the versions"):
            enabled(aws)
        assert changes(aws) == 0


def provision(aws: Rehearsal) -> None:
    client(aws).put_provisioned_concurrency_config(
        FunctionName="orders", Qualifier="live", ProvisionedConcurrentExecutions=4
    )


def test_provisioned_meanwhile() -> None:
    """What AWS refuses at the last moment is told with the state; nothing is half done."""
    with quiet() as aws:
        aws.meanwhile("UpdateAlias", lambda: provision(aws))
        with pytest.raises(AwsError, match=r"Alias with weights.*Alias live.*did not change it"):
            enabled(aws)
        assert invoked(aws) == ("1", {})


def test_names_are_checked() -> None:
    """An ARN, or a version for an alias, is refused where it is given."""
    for function, alias in (("a:b", "live"), ("orders", "12"), ("orders", "$LATEST")):
        with pytest.raises(InvalidInputError):
            LambdaAlias(function, alias)
    with quiet() as aws:
        with pytest.raises(NotFoundError, match="alias live of function other"):
            LambdaAlias("other", "live", session=aws.session).describe()
        with pytest.raises(InvalidInputError, match="promotion"):
            fresh(aws).revert("r1")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [CloudWatchMetrics, AccessLogs])
def test_sources_of_a_stage_are_refused(source: Any) -> None:
    """What measures API Gateway knows nothing of an alias: said before any traffic moves."""
    with pytest.raises(InvalidInputError, match=r"metrics must be LambdaMetrics\(\)"):
        LambdaAlias("orders", "live", metrics=source())


def test_the_text_of_the_user_stays() -> None:
    """The record stands behind the alias's own text, or behind the one that is given."""
    with quiet() as aws:
        route(aws, text="Orders, live.")
        enabled(aws).promote()
        fresh(aws).revert()
        assert described(aws)["Description"].startswith("Orders, live. [apigw-canary:2 ")
        enabled(aws, release="r2", description="New text")
        fresh(aws).rollback()
        assert described(aws)["Description"].startswith("New text [apigw-canary:2 ")


def test_no_room_for_a_record() -> None:
    """A text that is too long is refused before anything is changed, and never cut."""
    with quiet() as aws:
        route(aws, text="x" * 250)
        with pytest.raises(RecordError, match=r"did not change it.*shorter description="):
            enabled(aws)
        enabled(aws, description="short")
        route(aws, _2=0.1, text="x" * 250)
        fresh(aws).rollback()
        assert invoked(aws) == ("1", {})


def test_a_rollback_waits_for_no_record() -> None:
    """Where the record is damaged, or somebody else removed it, the canary is ended without it."""
    with quiet() as aws:
        canary = enabled(aws)
        record = described(aws)["Description"]
        route(aws, _2=0.1, text=record.replace("[apigw-canary:2 ", "[apigw-canary:2 x"))
        assert canary.describe().rollout is None
        with pytest.raises(RecordError, match=r"Alias live.*did not change it.*delete it"):
            canary.promote()
        with pytest.raises(RecordError, match="cannot be read"):
            canary.shift(50)
        canary.rollback()
        assert invoked(aws) == ("1", {})
        with pytest.raises(RecordError, match="cannot be read"):
            enabled(aws)
        route(aws, _2=0.1, text=record)
        aws.meanwhile("UpdateAlias", lambda: route(aws, text=""))
        fresh(aws).rollback()
        assert invoked(aws) == ("1", {})


@wherever_recorded
def test_a_canary_of_somebody_else() -> None:
    """One enabled in the console is found, taken over by the first change, and can be undone."""
    with quiet() as aws:
        assert fresh(aws).canary() is None
        route(aws, _2=0.05)
        canary = fresh(aws).canary()
        assert canary is not None
        assert canary.release is None
        canary.shift(5)
        assert changes(aws) == 1
        canary.shift(20)
        rollout = fresh(aws).describe().rollout
        assert rollout is not None
        assert rollout.release is None
        receipt = canary.promote()
        assert (receipt.deployment_before, receipt.deployment_after) == ("1", "2")
        fresh(aws).revert(receipt)
        assert invoked(aws) == ("1", {})


@wherever_recorded
def test_a_canary_beside_an_older_record() -> None:
    """The record of a rollout that is over is not taken for that of the next canary."""
    with quiet() as aws:
        old = enabled(aws)
        old.rollback()
        route(aws, _3=0.05)
        canary = fresh(aws).canary()
        assert canary is not None
        assert canary.release is None
        assert old.observe(POLICY).phase == "replaced"
        canary.promote()
        with pytest.raises(RolloutEndedError):
            enabled(aws)  # remembered through the other one's record


PHASES: list[tuple[str, Callable[[Rehearsal, AliasCanary], object]]] = [
    ("running", lambda aws, canary: None),
    ("promoted", lambda aws, canary: canary.promote()),
    ("rolled_back", lambda aws, canary: canary.rollback()),
    ("disabled", lambda aws, canary: canary.disable()),
    ("rolled_back", lambda aws, canary: fresh(aws).rollback()),
    ("removed_outside", lambda aws, canary: route(aws)),
    ("promoted", lambda aws, canary: same(aws).promote()),
    ("promoted_outside", lambda aws, canary: route(aws, "2")),
    ("reverted", lambda aws, canary: promoted_and_reverted(aws)),
    ("removed_outside", lambda aws, canary: route(aws, "3")),
    ("replaced", lambda aws, canary: route(aws, _3=0.1)),
    ("replaced", lambda aws, canary: another_release(aws)),
    ("replaced", lambda aws, canary: again_by_hand(aws)),
]


def promoted_and_reverted(aws: Rehearsal) -> None:
    same(aws).promote()
    fresh(aws).revert()


def another_release(aws: Rehearsal) -> None:
    route(aws)
    enabled(aws, release="r2")


def again_by_hand(aws: Rehearsal) -> None:
    same(aws).rollback()
    route(aws, _2=0.1)


def same(aws: Rehearsal) -> AliasCanary:
    canary = fresh(aws).canary()
    assert canary is not None
    return canary


@wherever_recorded
@pytest.mark.parametrize("phase, act", PHASES)
def test_how_it_ended(phase: str, act: Callable[[Rehearsal, AliasCanary], object]) -> None:
    """An observation says whether the canary runs or who ended it how; ended is final."""
    with quiet() as aws:
        canary = enabled(aws)
        act(aws, canary)
        observation = canary.observe(POLICY)
        assert observation.phase == phase
        decision = POLICY.decide(observation)
        assert isinstance(decision, Hold)
        assert decision.final == (phase != "running")


@wherever_recorded
def test_gone_is_gone() -> None:
    """What has ended is neither shifted nor promoted; ending it again is success."""
    with quiet() as aws:
        canary = enabled(aws)
        route(aws)
        with pytest.raises(NoCanaryError, match="it was ended"):
            canary.shift(20)
        with pytest.raises(NoCanaryError, match="it was ended"):
            canary.promote()
        canary.rollback()
        canary.disable()
        fresh(aws).rollback()
        route(aws, "2")
        with pytest.raises(NoCanaryError, match="it was promoted"):
            canary.shift(20)
        with pytest.raises(RolloutEndedError, match="promoted outside this library"):
            canary.promote()
        with pytest.raises(RolloutEndedError, match=r"alias.revert\(\)"):
            canary.rollback()


@wherever_recorded
def test_a_promotion_that_is_finished() -> None:
    """Promoting again, here or elsewhere, gives the same receipt and changes nothing."""
    with quiet() as aws:
        canary, other = enabled(aws), same(aws)
        receipt = canary.promote()
        assert other.promote() == canary.promote() == receipt
        assert Promotion.from_dict(receipt.to_dict()) == receipt
        assert changes(aws) == 2


@wherever_recorded
def test_production_changed_under_its_feet() -> None:
    """Another version beside the canary: not shifted, not promoted, said; but ended."""
    with quiet() as aws:
        canary = enabled(aws)
        route(aws, "3", _2=0.1)
        assert canary.observe(POLICY).changed == {"deployment_id": "3 instead of 1"}
        with pytest.raises(StageChangedError, match="3 instead of 1"):
            canary.shift(50)
        with pytest.raises(StageChangedError, match="3 instead of 1"):
            canary.promote()
        canary.rollback()
        assert invoked(aws) == ("3", {})


@wherever_recorded
def test_another_canary_has_taken_the_place() -> None:
    """One of another rollout is neither changed nor ended, be it of the same version."""
    with quiet() as aws:
        canary = enabled(aws)
        fresh(aws).rollback()
        enabled(aws, release="r2")
        with pytest.raises(StageChangedError, match="another one, of the same version"):
            canary.shift(50)
        route(aws, _3=0.1)
        with pytest.raises(StageChangedError, match="3 instead of 2"):
            canary.rollback()
        assert invoked(aws) == ("1", {"3": 0.1})


@wherever_recorded
def test_a_share_that_others_set() -> None:
    """Its step starts when it is first seen; `shift` to the same share takes it over."""
    with quiet() as aws:
        canary = enabled(aws)
        aws.sleep(300)
        route(aws, _2=0.5)
        seen = canary.observe(POLICY)
        assert (seen.percent, seen.step_started_at) == (50.0, aws.now())
        assert seen.changed == {"canary.percent": "50 instead of 10"}
        aws.sleep(60)
        later = canary.observe(POLICY)
        assert later.step_started_at == seen.step_started_at
        assert later.changed == {}
        assert same(aws).observe(POLICY).step_started_at == aws.now()
        canary.shift(50)
        aws.sleep(60)
        assert same(aws).observe(POLICY).step_started_at == aws.now() - timedelta(minutes=1)


def verbs() -> list[tuple[Callable[[AliasCanary], object], tuple[str, Mapping[str, float]]]]:
    return [
        (lambda canary: canary.shift(50), ("1", {"2": 0.5})),
        (lambda canary: canary.promote(), ("2", {})),
        (lambda canary: canary.rollback(), ("1", {})),
    ]


@wherever_recorded
@pytest.mark.parametrize("verb, asked", verbs(), ids=["shift", "promote", "rollback"])
def test_a_race_that_is_lost(
    verb: Callable[[AliasCanary], object], asked: tuple[str, Mapping[str, float]]
) -> None:
    """Who is changed meanwhile sends nothing over it; only a rollback of the same insists."""
    with quiet() as aws:
        canary = enabled(aws)
        aws.meanwhile("UpdateAlias", lambda: route(aws, _2=0.2))
        if asked == ("1", {}):
            verb(canary)
            assert invoked(aws) == asked
        else:
            with pytest.raises(StageChangedError, match=r"at 20 %.*did not change it"):
                verb(canary)
            assert invoked(aws) == ("1", {"2": 0.2})


@wherever_recorded
def test_a_race_that_a_rollback_does_not_win() -> None:
    """Three times is enough; and another canary is not ended for the one that was judged."""
    with quiet() as aws:
        canary = enabled(aws)
        for skip, weight in enumerate((0.2, 0.3, 0.4)):
            # Each of the others' writes is a call too.
            aws.meanwhile("UpdateAlias", partial(route, aws, _2=weight), skip=2 * skip)
        with pytest.raises(StageChangedError, match="at 40 %"):
            canary.rollback()
        aws.meanwhile("UpdateAlias", lambda: route(aws, _3=0.2))
        with pytest.raises(StageChangedError, match="3 instead of 2"):
            canary.rollback()
        assert invoked(aws) == ("1", {"3": 0.2})


@wherever_recorded
def test_two_who_do_the_same() -> None:
    """Who loses a race against the same change has what was asked for, and its record."""
    with quiet() as aws:
        canary, other = enabled(aws), same(aws)
        aws.meanwhile("UpdateAlias", lambda: aws.sleep(2))
        aws.meanwhile("UpdateAlias", other.promote)
        assert canary.promote().deployment_before == "1"
        fresh(aws).revert()
        canary = enabled(aws, release="r2")
        aws.meanwhile("UpdateAlias", same(aws).rollback)
        canary.rollback()
        assert invoked(aws) == ("1", {})


def test_the_same_by_hand() -> None:
    """A promotion that somebody made at the same moment without a record: no way back is known."""
    with quiet() as aws:
        canary = enabled(aws)
        aws.meanwhile("UpdateAlias", lambda: route(aws, "2", text=""))
        with pytest.raises(RecordError, match="not on record") as told:
            canary.promote()
        assert "version 2 and no other" in str(told.value.state)


@wherever_recorded
def test_a_race_to_enable() -> None:
    """Whoever is second sees the other's canary, and both have one record."""
    with quiet() as aws:
        aws.meanwhile("UpdateAlias", lambda: enabled(aws, version="3", release="r0"))
        with pytest.raises(StageChangedError, match="version 3 at 10 %"):
            enabled(aws)
        assert fresh(aws).describe().rollout is not None
        assert invoked(aws) == ("1", {"3": 0.1})


LINES: dict[str, tuple[Callable[[Rehearsal], object], Callable[[Rehearsal], object], Any]] = {
    "enable": (lambda aws: None, enabled, ("1", {"2": 0.1})),
    "shift": (enabled, lambda aws: same(aws).shift(50), ("1", {"2": 0.5})),
    "promote": (enabled, lambda aws: fresh(aws).canary() and same(aws).promote(), ("2", {})),
    "rollback": (enabled, lambda aws: fresh(aws).rollback(), ("1", {})),
    "revert": (
        lambda aws: enabled(aws).promote(),
        lambda aws: fresh(aws).revert(),
        ("1", {}),
    ),
}
FAULTS = [
    *((fault, False) for fault in Fault),
    *((fault, True) for fault in (Fault.TIMEOUT, Fault.INTERNAL_ERROR, Fault.DEATH)),
]


@pytest.mark.long
@pytest.mark.no_cover
@wherever_recorded
@pytest.mark.parametrize("name", LINES)
def test_every_fault_at_every_call(name: str) -> None:
    """A line succeeds, or its error tells the state; run again it ends as asked."""
    prepare, line, asked = LINES[name]
    with quiet() as aws:
        prepare(aws)
        start = len(aws.calls)
        line(aws)
        operations = sent(aws)[start:]
        for place, operation in enumerate(operations):
            for fault, after in FAULTS:
                case = (operation, fault, after)
                route(aws, text="")
                for store in RECORDS:
                    store.texts.clear()
                prepare(aws)
                before = invoked(aws)
                aws.fail(operation, fault, skip=operations[:place].count(operation), after=after)
                told = outcome(lambda: line(aws))
                assert invoked(aws) in ((asked,) if told is None else (before, asked)), case
                assert told is None or operation != "UpdateAlias" or "Alias live" in told, case
                line(aws)
                assert invoked(aws) == asked, case


def outcome(line: Callable[[], object]) -> str | None:
    """What the error says; None if there is none. A dead process says what is asked of it."""
    try:
        line()
    except CanaryError as error:
        return str(error)
    except ProcessDeath:
        return "Alias live"
    return None


@wherever_recorded
def test_a_lost_answer_is_settled_by_reading() -> None:
    """What was carried out is not sent again; what was not is, three times at most."""
    with quiet() as aws:
        aws.fail("UpdateAlias", Fault.TIMEOUT, after=True)
        enabled(aws)
        assert changes(aws) == 1
        for skip in range(3):
            aws.fail("UpdateAlias", Fault.TIMEOUT, skip=skip)
        with pytest.raises(UnansweredError, match=r"Alias live.*not known whether"):
            same(aws).shift(50)
        assert changes(aws) == 4


def test_errors_say_the_state() -> None:
    """Refusals say what the alias was like when it was seen last."""
    with quiet() as aws:
        canary = enabled(aws)
        aws.fail("GetAlias", Fault.ACCESS_DENIED)
        with pytest.raises(
            AccessDeniedError, match=r"lambda:GetAlias.*As read last.*version 2 at 10"
        ):
            canary.observe(POLICY)
        aws.fail("UpdateAlias", Fault.ACCESS_DENIED)
        with pytest.raises(AccessDeniedError, match=r"Alias live.*did not change it"):
            canary.promote()
        aws.fail("GetProvisionedConcurrencyConfig", Fault.ACCESS_DENIED)
        canary.rollback()
        with pytest.raises(AccessDeniedError, match="lambda:GetProvisionedConcurrencyConfig"):
            enabled(aws, release="r2")
        impatient = fresh(aws, retry_for=timedelta(0))
        aws.fail("UpdateAlias", Fault.THROTTLED)
        with pytest.raises(ThrottledError, match="did not change it"):
            impatient.enable_canary(10, version="2", release="r2")


def stubbed(aws: Rehearsal, operation: str, change: Mapping[str, Any]) -> Any:
    """The session, with something of one operation's answers replaced."""

    class Session:
        def client(self, service_name: Any, *, config: Any = None) -> Any:
            session: Any = aws.session
            made = session.client(service_name, config=config)

            def replace(parsed: dict[str, Any], **_: Any) -> None:
                parsed.update(change)

            made.meta.events.register(f"after-call.{service_name}.{operation}", replace)
            return made

    return Session()


def test_each_change_is_compared_with_its_answer() -> None:
    """An alias that is not as asked afterwards is an error; so is a record that is not kept."""
    with quiet() as aws:
        other = {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.09}}}
        alias = LambdaAlias("orders", "live", session=stubbed(aws, "UpdateAlias", other))
        with pytest.raises(UnconfirmedChangeError, match="9 instead of 10"):
            alias.enable_canary(10, version="2", release="r1")
        alias = LambdaAlias(
            "orders", "live", session=stubbed(aws, "UpdateAlias", {"Description": ""})
        )
        with pytest.raises(RecordError, match="not on record"):
            same_of(alias).shift(20)
        same_of(alias).rollback()
        assert invoked(aws) == ("1", {})


def same_of(alias: LambdaAlias) -> AliasCanary:
    canary = alias.canary()
    assert canary is not None
    return canary


def test_answers_that_are_not_of_aws() -> None:
    """An answer without the essential, or with three versions, is not worked with."""
    with quiet() as aws:
        many = {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}}}
        with pytest.raises(CannotTellError, match="2, 3"):
            LambdaAlias("orders", "live", session=stubbed(aws, "GetAlias", many)).describe()

        class Forgetful:
            def client(self, service_name: Any, *, config: Any = None) -> Any:
                session: Any = aws.session
                made = session.client(service_name, config=config)

                def forget(parsed: dict[str, Any], **_: Any) -> None:
                    parsed.pop("RevisionId", None)

                made.meta.events.register(f"after-call.{service_name}.GetAlias", forget)
                return made

        with pytest.raises(UnansweredError, match="RevisionId"):
            LambdaAlias("orders", "live", session=Forgetful()).describe()


@pytest.mark.traced
@pytest.mark.long
@wherever_recorded
def test_decisions_are_applied_to_what_they_are_about() -> None:
    """A decision about another alias, an old one, one on another share: nothing is sent."""
    with rehearsal(versions=[GOOD, GOOD], variables=LIVE) as aws:
        canary = enabled(aws)
        aws.sleep(600)
        shift = POLICY.decide(canary.observe(POLICY))
        assert isinstance(shift, Shift)
        assert shift.basis is not None
        elsewhere = attrs.evolve(shift, basis=attrs.evolve(shift.basis, stage="test"))
        with pytest.raises(StageChangedError, match="live instead of test"):
            canary.apply(elsewhere)
        canary.shift(20)
        with pytest.raises(StageChangedError, match="20 instead of 10"):
            canary.apply(shift)
        canary.shift(10)
        aws.sleep(660)
        with pytest.raises(DecisionExpiredError):
            same(aws).apply(shift)
        assert invoked(aws) == ("1", {"2": 0.1})


@wherever_recorded
def test_reverting() -> None:
    """By the record or by a receipt, once; what was changed since is left alone."""
    with quiet() as aws:
        alias = fresh(aws)
        with pytest.raises(NothingToRevertError):
            alias.revert()
        first = enabled(aws).promote()
        second = enabled(aws, version="3", release="r2").promote()
        with pytest.raises(StageChangedError, match="3 instead of 2"):
            alias.revert(first)
        running = enabled(aws, version="2", release="r3")
        with pytest.raises(CanaryAlreadyEnabledError, match="cannot be undone"):
            alias.revert()
        running.rollback()
        found = alias.revert(dry_run=True)  # behind the release that was rolled back
        assert (found.deployment_before, found.deployment_after) == ("2", "3")
        assert invoked(aws) == ("3", {})
        assert alias.revert() == found
        assert invoked(aws) == ("2", {})
        alias.revert(second)
        alias.revert(second)
        alias.revert()
        alias.revert(first)
        assert invoked(aws) == ("1", {})
        with pytest.raises(InvalidInputError, match="of alias eu-central-1/orders/live"):
            alias.revert(attrs.evolve(first, stage="test"))


@wherever_recorded
def test_reverting_to_a_version_that_is_gone() -> None:
    """A version that was deleted cannot come back: said before anything is changed."""
    with quiet() as aws:
        enabled(aws).promote()
        client(aws).delete_function(FunctionName="orders", Qualifier="1")
        with pytest.raises(NotFoundError, match="did not change it"):
            fresh(aws).revert()
        assert invoked(aws) == ("2", {})


def test_a_receipt_without_a_record() -> None:
    """The receipt alone is enough, also where somebody emptied the description."""
    with quiet() as aws:
        receipt = enabled(aws).promote()
        route(aws, "2", text="")
        with pytest.raises(NothingToRevertError):
            fresh(aws).revert()
        fresh(aws).revert(receipt)
        assert invoked(aws) == ("1", {})
        with pytest.raises(RolloutEndedError):
            enabled(aws)


class Counted:
    """A source of the caller's own."""

    def minutes(self, stage: StageState, signals: Any, start: Any, end: Any) -> Any:
        assert stage.rest_api_id == "orders"
        return {signal.name: [Minute(start, 5, 0, 0, 0)] for signal in signals}


def test_any_source() -> None:
    """Minutes may come from anywhere; or from LambdaMetrics in a session of its own."""
    with quiet() as aws:
        enabled(aws)
        canary = same_of(fresh(aws, metrics=Counted()))
        assert canary.observe(POLICY).minutes["errors_4xx"][0].baseline_requests == 5
        canary = same_of(fresh(aws, metrics=LambdaMetrics(session=aws.session)))
        policy = RolloutPolicy.canary(5, timedelta(0), signals=[Signal.errors_5xx()])
        assert canary.analyze(policy).findings[0].signal == "errors_5xx"


def test_alarms_speak_for_aliases_too() -> None:
    """An alarm that begins to fire during the rollout ends it."""
    policy = RolloutPolicy.canary(10, timedelta(minutes=10), alarms=["orders-broken"])
    with quiet() as aws:
        aws.alarm("orders-broken")
        canary = enabled(aws)
        aws.sleep(120)
        aws.alarm("orders-broken", "ALARM")
        decision = policy.decide(canary.observe(policy))
        assert isinstance(decision, Rollback)
        canary.apply(decision)
        assert invoked(aws) == ("1", {})


@pytest.mark.long
def test_a_release_that_has_ended_needs_no_metrics() -> None:
    """A line that is run again after a rollback says how it ended, also while metrics are gone."""
    policy = RolloutPolicy.canary(5, timedelta(minutes=10))
    with rehearsal(versions=[Backend(), Backend()], variables={"alias": "live"}) as aws:
        alias = aws.alias("live")
        alias.enable_canary(5, version="2", release="r1", policy=policy).rollback()
        aws.fail("GetMetricData", Fault.ACCESS_DENIED)
        before = len(aws.calls)
        with pytest.raises(RolloutEndedError):
            alias.enable_canary(5, version="2", release="r1", policy=policy)
        with pytest.raises(AccessDeniedError):
            alias.enable_canary(5, version="2", release="r2", policy=policy)
        assert "UpdateAlias" not in {call.operation for call in aws.calls[before:]}
