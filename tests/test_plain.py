"""Value classes as plain JSON: out, stored anywhere, and strictly in again."""

from __future__ import annotations

import json
import math
import pickle
import typing
from collections.abc import Iterable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from enum import Enum
from random import Random
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st

import apigw_canary
from apigw_canary import (
    Basis,
    CanaryState,
    CloudWatchRatio,
    Decision,
    Hold,
    Measurements,
    Minute,
    Observation,
    Promote,
    Promotion,
    Rollback,
    RolloutPolicy,
    Shift,
    Signal,
    StageState,
    Step,
    decision_from_dict,
)
from apigw_canary.errors import InvalidInputError
from apigw_canary.values.serialization import FrozenMapping
from strategies import PUBLIC_VALUES, decisions, measurements, ratios

T = TypeVar("T")
Json = Any
Key = str | int

DECISIONS: tuple[type[Decision], ...] = (Hold, Shift, Promote, Rollback)
AT = "2026-01-05T09:00:00+00:00"
NOW = datetime.fromisoformat(AT)
MINUTE: Json = {
    "at": AT,
    "baseline_requests": 100,
    "baseline_bad": 1,
    "canary_requests": 10,
    "canary_bad": 0,
}
SIGNAL: Json = {"name": "errors_5xx"}
POLICY: Json = {"steps": [{"percent": 5, "bake": 600}], "signals": [SIGNAL]}
OBSERVATION: Json = {
    "at": AT,
    "started_at": AT,
    "step_started_at": AT,
    "percent": 5.0,
    "minutes": {"errors_5xx": [MINUTE]},
}
PROMOTION: Json = {
    "region": "eu-central-1",
    "rest_api_id": "a1b2c3d4e5",
    "stage": "prod",
    "deployment_before": "old111",
    "deployment_after": "new222",
    "variables_before": {"alias": "v1", "token": None},
    "variables_after": {"alias": "v2", "token": "t"},
    "begun_at": AT,
}
STAGE: Json = {
    "region": "eu-central-1",
    "rest_api_id": "a1b2c3d4e5",
    "name": "prod",
    "deployment_id": "old111",
    "variables": {"alias": "v1"},
    "canary": {"deployment_id": "new222", "percent": 5.0, "variables": {"alias": "v2"}},
    "updated_at": AT,
    "rollout": {"started_at": AT, "step_started_at": AT, "outcome": "promoted"},
}

ANY_ONE = settings(derandomize=True, phases=[Phase.generate])

every_class = pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.__name__) for kind in PUBLIC_VALUES]
)


def through_json(value: object) -> Json:
    return json.loads(json.dumps(value, allow_nan=False))


def plainly(value: Any) -> Json:
    return through_json(value.to_dict())


def refused(kind: Any, data: object) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as raised:
        kind.from_dict(data)
    return raised.value


def places(data: Json, path: str, keys: tuple[Key, ...] = ()) -> Iterator[tuple[str, Any, Json]]:
    """Every value in plain data, with the path an error would name and the keys that lead to it."""
    yield path, keys, data
    if isinstance(data, dict):
        for name, value in data.items():
            yield from places(value, f"{path}.{name}", (*keys, name))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from places(value, f"{path}[{i}]", (*keys, i))


def some(found: Iterable[T], rng: Random) -> list[T]:
    """Up to four of them."""
    found = list(found)
    return rng.sample(found, min(4, len(found)))


def replaced(data: Json, keys: tuple[Key, ...], value: Json) -> Json:
    """A copy with the value at one place replaced."""
    if not keys:
        return value
    copy = data.copy()
    copy[keys[0]] = replaced(data[keys[0]], keys[1:], value)
    return copy


def wrong(value: Json) -> list[Json]:
    """JSON values of other types than this one's, fit for no field that takes this one."""
    match value:
        case None:
            return [[True]]
        case bool():
            return [1, 0, "true", None]
        case int() | float():
            return ["5", True, False, [5], {}, math.nan, math.inf]
        case str():
            return [5, 5.0, True, ["a"], {}]
        case list():
            return [{}, "ab", 5, True, None]
        case _:
            return [[], "ab", 5, True]


def required(kind: type[Any]) -> list[str]:
    return [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]


_EXAMPLES: dict[type[Any], Any] = {}


def example(kind: type[Any]) -> Any:
    if kind not in _EXAMPLES:
        _EXAMPLES[kind] = find(PUBLIC_VALUES[kind], lambda _: True, settings=ANY_ONE)
    return _EXAMPLES[kind]


_VALUES: dict[type[Any], list[Any]] = {}


def values(kind: type[Any]) -> list[Any]:
    """Values of a class, which the tests of the class share: it takes long to draw them."""
    if kind not in _VALUES:
        _VALUES[kind] = []

        # Fewer than usual, because most of what is asked of the classes is the same code.
        @settings(max_examples=settings().max_examples // 3, phases=[Phase.generate])
        @given(FROZEN[kind])
        def drawn(value: Any) -> None:
            _VALUES[kind].append(value)

        drawn()
    return _VALUES[kind]


def test_every_public_value_class_is_tested() -> None:
    """Whatever public class can be made plain is among those generated here."""
    plain = {
        value
        for name in apigw_canary.__all__
        if isinstance(value := getattr(apigw_canary, name), type) and hasattr(value, "to_dict")
    }
    assert plain == set(PUBLIC_VALUES)


@pytest.mark.long
@every_class
def test_round_trip(kind: type[Any]) -> None:
    """What was written as JSON is read as an equal value of the same class."""
    for value in values(kind):
        again = kind.from_dict(through_json(value.to_dict()))

        assert type(again) is kind
        assert again == value
        assert again.to_dict() == value.to_dict()


def mutable(value: Any, path: str) -> Iterator[str]:
    """Where in a value something can be changed: a dict, a list, a set, a class not frozen."""
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(value, fields[0].name, None)
        for field in fields:
            yield from mutable(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from mutable(item, f"{path}[{i}]")
    elif isinstance(value, FrozenMapping):
        for name, item in value.items():
            yield from mutable(item, f"{path}[{name!r}]")
    elif not isinstance(value, str | int | float | datetime | timedelta | Enum | None):
        yield f"{path} is a {type(value).__name__}"


FROZEN: dict[type[Any], Any] = {
    **PUBLIC_VALUES,
    Measurements: measurements,
    CloudWatchRatio: ratios,
}


def test_every_public_attrs_class_is_frozen_and_tested() -> None:
    """Whatever public attrs class there is, is among those looked into here."""
    public = {
        value
        for name in apigw_canary.__all__
        if attrs.has(value := getattr(apigw_canary, name)) and not issubclass(value, Exception)
    }
    assert public == set(FROZEN)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in FROZEN])
def test_is_immutable_and_hashable(kind: type[Any]) -> None:
    """A value holds nothing that can be changed; its equal, copy or pickle has its hash."""
    for value in values(kind):
        assert list(mutable(value, kind.__name__)) == []
        for again in (attrs.evolve(value), deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert again == value
            assert hash(again) == hash(value)


def test_what_was_given_can_be_changed_later() -> None:
    """A value keeps a copy of the mappings that it is made of."""
    minutes, changed = (
        {"errors_5xx": (Minute(NOW, 1, 0, 1, 0),)},
        {"canary.percent": "5 instead of 10"},
    )
    observation = Observation(
        at=NOW, started_at=NOW, step_started_at=NOW, percent=5, minutes=minutes, changed=changed
    )
    kept = hash(observation)
    minutes.clear()
    changed.clear()

    assert hash(observation) == kept
    assert observation.minutes.keys() == {"errors_5xx"}
    assert repr(observation.changed) == "{'canary.percent': '5 instead of 10'}"


@every_class
def test_wrong_type_anywhere(kind: type[Any]) -> None:
    """A value of another JSON type, at any depth, is refused with the path to it: no coercion."""
    rng = Random(kind.__name__)
    for plain in map(plainly, values(kind)):
        for path, keys, value in some(places(plain, kind.__name__), rng):
            bad = rng.choice(wrong(value))
            assert refused(kind, replaced(plain, keys, bad)).field == path, bad


@every_class
def test_unknown_key_anywhere(kind: type[Any]) -> None:
    """A key that no class knows, such as a misspelt one, is refused with the path and the key."""
    rng = Random(kind.__name__)
    for plain in map(plainly, values(kind)):
        objects = [
            (path, keys, value)
            for path, keys, value in places(plain, kind.__name__)
            if isinstance(value, dict) and not path.endswith(("variables", "minutes", "changed"))
            if not path.endswith("not_observed")
            if not path.endswith(("variables_before", "variables_after", "bad_rates", "headers"))
            if path.endswith("]") or ".routes" not in path
        ]
        for path, keys, value in some(objects, rng):
            error = refused(kind, replaced(plain, keys, {**value, "percnet": 5}))

            assert error.field == f"a key of {path}"
            assert "'percnet'" in str(error)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind.__name__) for kind in PUBLIC_VALUES if required(kind)]
)
def test_missing_key(kind: type[Any]) -> None:
    """A field without a default must be there; the error names class and key."""
    for plain in map(plainly, values(kind)):
        for name in required(kind):
            error = refused(kind, {key: plain[key] for key in plain if key != name})

            assert error.field == kind.__name__
            assert f"the key {name!r}" in str(error)


@every_class
def test_optional_keys_may_be_left_out(kind: type[Any]) -> None:
    """A field with a default may be missing: an older or shorter text can still be read."""
    plain = through_json(example(kind).to_dict())
    optional = [field for field in attrs.fields(kind) if field.default is not attrs.NOTHING]
    for field in optional:
        plain.pop(field.name, None)
    read = kind.from_dict(plain)

    for field in attrs.fields(kind):
        if field not in optional:
            assert getattr(read, field.name) == getattr(example(kind), field.name)


@every_class
@pytest.mark.parametrize("data", [None, [], "{}", 5, True, [["a", 1]]], ids=repr)
def test_takes_objects_only(kind: type[Any], data: object) -> None:
    """Something that is no object at all is refused, with the class's name."""
    assert refused(kind, data).field.startswith(kind.__name__)


def time_fields(kind: type[Any]) -> list[str]:
    hints = typing.get_type_hints(kind)
    return [
        field.name
        for field in attrs.fields(kind)
        if datetime in (hints[field.name], *typing.get_args(hints[field.name]))
    ]


every_time = pytest.mark.parametrize(
    "kind, name",
    [
        pytest.param(kind, name, id=f"{kind.__name__}.{name}")
        for kind in PUBLIC_VALUES
        for name in time_fields(kind)
    ],
)


@every_time
def test_naive_time_is_not_read(kind: type[Any], name: str) -> None:
    """A time without a zone, or a text that is no time, is refused with the path."""
    plain = through_json(example(kind).to_dict())
    for text in ("2026-01-05T09:00:00", "2026-01-05", "yesterday", "", "1767603600"):
        error = refused(kind, {**plain, name: text})
        assert error.field == f"{kind.__name__}.{name}"
        assert repr(text) in str(error) or "datetime.datetime(2026, 1, 5" in str(error)


@every_time
def test_naive_time_is_not_kept(kind: type[Any], name: str) -> None:
    """A time without a zone is a ValueError when the value is made, not when it is read again."""
    with pytest.raises(ValueError, match="a datetime with a time zone") as raised:
        attrs.evolve(example(kind), **{name: datetime(2026, 1, 5, 9)})
    assert isinstance(raised.value, InvalidInputError)
    assert raised.value.field == name


@pytest.mark.parametrize("bad", ["Included", "", None, 1], ids=repr)
@pytest.mark.parametrize("name", ["overlap", "phase"])
def test_choices_are_checked_when_made(name: str, bad: Any) -> None:
    """A misspelt choice, as from a caller's own metrics, is refused by name before it is judged."""
    with pytest.raises(InvalidInputError) as raised:
        attrs.evolve(example(Observation), **{name: bad})
    assert raised.value.field == name


@pytest.mark.parametrize(
    "kind, name, bad",
    [
        (CanaryState, "percent", math.nan),
        (CanaryState, "percent", math.inf),
        (Basis, "percent", -math.inf),
        (Hold, "percent", math.nan),
    ],
)
def test_nan_is_not_written(kind: type[Any], name: str, bad: float) -> None:
    """NaN and infinity, which JSON does not have, are refused on the way out."""
    with pytest.raises(InvalidInputError, match="finite"):
        attrs.evolve(example(kind), **{name: bad}).to_dict()


@pytest.mark.parametrize(
    "kind, data, path",
    [
        (Observation, {**OBSERVATION, "overlap": "partly"}, "Observation.overlap"),
        (Observation, {**OBSERVATION, "phase": "Running"}, "Observation.phase"),
        (
            RolloutPolicy,
            {**POLICY, "on_inconclusive": "promote"},
            "RolloutPolicy.on_inconclusive",
        ),
        (
            StageState,
            {**STAGE, "rollout": {**STAGE["rollout"], "outcome": "PROMOTED"}},
            "StageState.rollout.outcome",
        ),
        (
            Observation,
            {**OBSERVATION, "minutes": {"errors_5xx": [MINUTE, {**MINUTE, "at": "09:01"}]}},
            "Observation.minutes.errors_5xx[1].at",
        ),
        (
            StageState,
            {**STAGE, "canary": {**STAGE["canary"], "percent": "5"}},
            "StageState.canary.percent",
        ),
        (
            RolloutPolicy,
            {**POLICY, "steps": [{"percent": 5, "bake": "600"}]},
            "RolloutPolicy.steps[0].bake",
        ),
        (
            RolloutPolicy,
            {**POLICY, "signals": [{**SIGNAL, "critical": 1}]},
            "RolloutPolicy.signals[0].critical",
        ),
    ],
)
def test_path(kind: Any, data: Json, path: str) -> None:
    """The error names the path to what is wrong, as one would write it in Python."""
    error = refused(kind, data)
    assert error.field == path
    assert str(error).startswith(f"{path} must be ")


@pytest.mark.parametrize(
    "kind, data, name",
    [
        (Step, {"percent": 0, "bake": 60}, "percent"),
        (Step, {"percent": 101, "bake": 60}, "percent"),
        (Step, {"percent": 5, "bake": -1}, "bake"),
        (Step, {"percent": 5, "bake": 1e12}, "bake"),
        (Signal, {"name": "x", "ratio": 0.5}, "ratio"),
        (RolloutPolicy, {**POLICY, "deadline": 599}, "deadline"),
        (Minute, {**MINUTE, "canary_bad": 11}, "canary_bad"),
        (Minute, {**MINUTE, "at": "2026-01-05T09:00:30+00:00"}, "at"),
        (Promotion, {**PROMOTION, "rest_api_id": "../x"}, "rest_api_id"),
        (Promotion, {**PROMOTION, "deployment_before": ""}, "deployment_before"),
        (Promotion, {**PROMOTION, "variables_before": {}}, "variables_before"),
        (Promotion, {**PROMOTION, "variables_after": {"a b": "c"}}, "variables_after"),
    ],
)
def test_ranges_hold_on_the_way_in(kind: Any, data: Json, name: str) -> None:
    """What could not be made by hand cannot be read either."""
    assert name in refused(kind, data).field


def test_lists_are_read_as_tuples() -> None:
    """JSON's lists become the tuples that the classes keep."""
    policy = RolloutPolicy.from_dict(POLICY)
    assert policy.steps == (Step(5, timedelta(minutes=10)),)
    assert policy.signals == (Signal.errors_5xx(),)


def test_times_and_durations_are_plain() -> None:
    """Times are ISO 8601 texts, durations seconds, and any offset is the same instant."""
    step = Step(5, timedelta(minutes=1, milliseconds=500)).to_dict()
    assert step == {"percent": 5.0, "bake": 60.5}

    minute = Minute.from_dict({**MINUTE, "at": "2026-01-05T10:00:00+01:00"})
    assert minute.at == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert Minute.from_dict({**MINUTE, "at": "2026-01-05T09:00:00Z"}) == minute


@pytest.mark.parametrize(
    "kind, data",
    [
        (Promotion, {**PROMOTION, "variables_after": {"token": 5318008531800}}),
        (Promotion, {**PROMOTION, "variables_before": {"token": 5318008531800}}),
        (Promotion, {**PROMOTION, "variables_after": "token=5318008531800"}),
        (Promotion, {**PROMOTION, "variables_after": {"5318008531800:": "token"}}),
        (Promotion, {**PROMOTION, "variables_before": {"5318008531800:": "token"}}),
        (StageState, {**STAGE, "variables": {"token": ["5318008531800"]}}),
        (StageState, {**STAGE, "canary": {"variables": {"token": 5318008531800}}}),
        (CanaryState, {**STAGE["canary"], "variables": [["token", "5318008531800"]]}),
    ],
)
def test_refused_variables_stay_secret(kind: Any, data: Json) -> None:
    """An error about a stage variable never shows what may be its value, swapped or not."""
    assert "5318008531800" not in str(refused(kind, data))


def test_names_of_variables_are_texts() -> None:
    """A key that is no text, as Python's own data may have, is refused with the path."""
    error = refused(StageState, {**STAGE, "variables": {5: "v"}})
    assert error.field == "a key of StageState.variables"


class TestDecisions:
    @given(decisions)
    def test_is_read_by_its_kind(self, decision: Decision) -> None:
        """`decision_from_dict` gives back the very decision, whichever it is."""
        again = decision_from_dict(through_json(decision.to_dict()))
        assert type(again) is type(decision)
        assert again == decision

    @pytest.mark.long
    @given(decisions, st.sampled_from(DECISIONS))
    def test_one_class_does_not_read_another(self, decision: Decision, kind: Any) -> None:
        """A decision is read by its own class only: a Hold never turns into a Promote."""
        assume(kind is not type(decision))
        assert refused(kind, decision.to_dict()).field == f"{kind.__name__}.kind"

    @settings(max_examples=20)
    @given(decisions, st.sampled_from([None, "", "HOLD", "explode", 5, True, [], {}, ["hold"]]))
    def test_kind_must_be_known(self, decision: Decision, kind: Json) -> None:
        """An unknown kind, or something that is no kind at all, is refused by name."""
        with pytest.raises(InvalidInputError) as raised:
            decision_from_dict({**decision.to_dict(), "kind": kind})
        assert raised.value.field == "kind"
        assert "hold, shift, promote, rollback" in str(raised.value)

    @settings(max_examples=20)
    @given(decisions)
    def test_kind_must_be_there(self, decision: Decision) -> None:
        """Without its kind a decision cannot be read."""
        plain = decision.to_dict()
        del plain["kind"]
        with pytest.raises(InvalidInputError, match="kind must be one of"):
            decision_from_dict(plain)
        assert refused(type(decision), plain).field == f"{type(decision).__name__}.kind"

    @pytest.mark.parametrize("data", [None, [], "hold", 5, [["kind", "hold"]]], ids=repr)
    def test_takes_objects_only(self, data: Any) -> None:
        """Whatever was stored in a decision's place, the refusal is an InvalidInputError."""
        with pytest.raises(InvalidInputError):
            decision_from_dict(data)

    @settings(max_examples=20)
    @given(decisions)
    def test_reading_leaves_the_data_alone(self, decision: Decision) -> None:
        """The same data can be read twice."""
        plain = decision.to_dict()
        decision_from_dict(plain)
        assert plain == decision.to_dict()
