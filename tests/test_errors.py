"""What an error tells, and what it survives."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apigw_canary import StageState, errors
from apigw_canary.errors import CanaryError, InvalidInputError, KnownState

CLASSES: list[type[CanaryError]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, CanaryError)
]
FACTS: dict[str, Any] = {
    "happened": "This happened.",
    "remedy": "Do this.",
    "field": "percent",
    "expected": "a number from 0 to 100",
    "got": "101",
    "candidates": ("a1b2c3", "d4e5f6"),
    "deployment_id": "dep123",
    "percent": 12.5,
    "age": timedelta(minutes=3),
    "release": "2026-11-23.1",
    "removed": ("GET /orders",),
    "weakened": ("POST /orders: had an API key, now none",),
    "outcome": "rolled_back",
    "operation": "UpdateStage",
    "code": "BadRequestException",
    "action": "apigateway:PATCH",
    "differences": {"deployment_id": "a instead of b"},
}

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
STAGE = StageState(
    region="eu-central-1",
    rest_api_id="a1b2c3d4e5",
    name="prod",
    deployment_id="old111",
    updated_at=AT,
)
KNOWN = KnownState(stage=STAGE, read_at=AT, sent=(), made=(), read_by_call=True)

every_class = pytest.mark.parametrize("kind", CLASSES)


def made(kind: type[CanaryError], **facts: Any) -> CanaryError:
    """An error of that class, with every argument it takes."""
    return kind(
        **{name: facts.get(name, FACTS[name]) for name in inspect.signature(kind).parameters}
    )


def annotated(kind: type[CanaryError]) -> set[str]:
    """The facts that the class and those above it document."""
    return {
        name
        for above in kind.__mro__
        if issubclass(above, CanaryError)
        for name in inspect.get_annotations(above)
    }


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """The tree of the module docstring: a class, its parent, and the built-in beside it."""
    block = re.search(r"```text\n(.*?)```", inspect.getdoc(errors) or "", re.DOTALL)
    assert block is not None
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: list[str] = []
    for line in block[1].splitlines():
        found = re.match(r"([│├└─ ]*)(\w+) *(?:\((\w+)\))?", line)
        assert found is not None
        depth, rest = divmod(len(found[1]), 4)
        assert rest == 0
        assert depth <= len(above), line
        above[depth:] = [found[2]]
        tree[found[2]] = (above[depth - 1] if depth else None, found[3])
    return tree


def test_the_drawing_is_the_tree() -> None:
    """The drawing in the docstring has every class, below its parent, with its built-in base."""
    classes: dict[str, tuple[str | None, str | None]] = {}
    for kind in CLASSES:
        ours = [base.__name__ for base in kind.__bases__ if base in CLASSES]
        builtin = [base.__name__ for base in kind.__bases__ if base not in CLASSES]
        classes[kind.__name__] = (
            ours[0] if ours else None,
            builtin[0] if builtin and kind is not CanaryError else None,
        )
        assert len(ours) <= 1
        assert len(builtin) <= 1
    assert drawn() == classes


@every_class
def test_built_ins_catch_it(kind: type[CanaryError]) -> None:
    """`except` with the built-in that the drawing names, or with CanaryError, catches the error."""
    _, builtin = drawn()[kind.__name__]
    error = made(kind)

    for caught in (CanaryError, getattr(__import__("builtins"), builtin or "Exception")):
        with pytest.raises(caught) as raised:
            raise error
        assert raised.value is error


@every_class
def test_carries_what_it_documents(kind: type[CanaryError]) -> None:
    """Every documented attribute is there, with the value it was made with."""
    error = made(kind)

    assert set(annotated(kind)) - {"state"} <= set(vars(error))
    assert error.state is None
    for name, value in vars(error).items():
        if name != "happened" and name in inspect.signature(kind).parameters:
            assert value == FACTS[name]


@every_class
def test_says_what_is_so_and_what_to_do(kind: type[CanaryError]) -> None:
    """The text is what happened, the state and the remedy, where there are such."""
    error = made(kind)

    assert str(error) == " ".join(filter(None, [error.happened, error.remedy]))
    parts = [error.happened, str(KNOWN), error.remedy]
    assert error.located(KNOWN) is error
    assert error.state is KNOWN
    assert str(error) == " ".join(filter(None, parts))
    assert error.args == (str(error),)
    assert error.happened
    parameters = inspect.signature(kind).parameters
    assert error.remedy == (FACTS["remedy"] if "remedy" in parameters else "")


COPIES = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "pickle 0": lambda error: pickle.loads(pickle.dumps(error, protocol=0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("copied", [pytest.param(how, id=name) for name, how in COPIES.items()])
@every_class
def test_survives_copying(kind: type[CanaryError], copied: Any) -> None:
    """A copied or pickled error has the class, the text, the notes and all attributes."""
    error = made(kind)
    error.add_note("while releasing 2026-11-23.1")

    again = copied(error)

    assert type(again) is kind
    assert again is not error
    assert str(again) == str(error)
    assert repr(again) == repr(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert again.__notes__ == ["while releasing 2026-11-23.1"]


@given(st.text(min_size=1), st.text(), st.text())
def test_survives_pickling_with_any_text(happened: str, context: str, remedy: str) -> None:
    """Whatever the texts are, they come through, and so does what is known of the stage."""
    error = CanaryError(happened, remedy=remedy).within(context).located(KNOWN)
    again = pickle.loads(pickle.dumps(error))

    assert vars(again) == vars(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({}, f"{STAGE} This call did not change it."),
        ({"made": ("a", "b")}, f"{STAGE} This call made these changes: a; b."),
        (
            {"read_by_call": False},
            f"As read last, at 09:00:00 UTC: {STAGE} This call did not change it.",
        ),
        (
            {"sent": ("a",)},
            f"As read last, at 09:00:00 UTC: {STAGE} It is not known whether AWS carried out: a.",
        ),
        (
            {"stage": None, "read_at": None, "made": ("a",), "sent": ("b",)},
            (
                "The state is not known. This call made these changes: a. It is not known whether "
                "AWS carried out: b."
            ),
        ),
    ],
)
def test_claims_no_more_than_was_read(changes: dict[str, Any], says: str) -> None:
    """What was sent and not read back is not known; an earlier call's read is not the state now."""
    assert str(KNOWN._replace(**changes)) == says


@every_class
def test_within_adds_to_what_happened(kind: type[CanaryError]) -> None:
    """`within` adds a sentence and a remedy, and changes nothing else: the first ones stay."""
    error = made(kind)
    happened, remedy = error.happened, error.remedy
    before = {name: getattr(error, name) for name in annotated(kind) - {"happened", "remedy"}}

    assert error.within("So did that.", "Try again.") is error
    assert error.happened == f"{happened} So did that."
    assert error.remedy == f"{remedy} Try again.".strip()
    assert str(error) == f"{error.happened} {error.remedy}"
    assert {name: getattr(error, name) for name in before} == before


@pytest.mark.parametrize(
    "remedies, together",
    [
        (("", "", ""), ""),
        (("Wait.", "", ""), "Wait."),
        (("", "Run.", ""), "Run."),
        (("", "", "Hide."), "Hide."),
        (("Wait.", "Run.", "Hide."), "Wait. Run. Hide."),
    ],
)
def test_within_joins_remedies(remedies: tuple[str, str, str], together: str) -> None:
    """Each `within` adds its remedy behind those before, with a space only between two of them."""
    first, second, third = remedies
    error = CanaryError("It happened.", remedy=first).within("", second).within("", third)

    assert error.state is None
    assert error.remedy == together
    assert str(error) == f"It happened. {together}".rstrip()


def test_within_survives_pickling() -> None:
    """What `within` has added is in the copy as well."""
    error = made(errors.ThrottledError, remedy="").within("So did that.", "Wait.")
    again = pickle.loads(pickle.dumps(error))

    assert again.happened == "This happened. So did that."
    assert str(again) == str(error)


def test_differences_are_the_errors_own() -> None:
    """Who changes the mapping an error was made from does not change the error."""
    found = {"deployment_id": "a instead of b"}
    error = errors.StageChangedError("It moved.", differences=found, remedy="")
    found.clear()

    assert error.differences == {"deployment_id": "a instead of b"}


def test_invalid_input_names_field_range_and_value() -> None:
    """The message of a refused value is one sentence with all three."""
    error = InvalidInputError("percent", "a number from 0 to 100", "101")

    assert str(error) == "percent must be a number from 0 to 100, not 101."
    assert error.field == "percent"
    assert error.expected == "a number from 0 to 100"


@every_class
def test_causes_stay(kind: type[CanaryError]) -> None:
    """`raise ... from` keeps the cause, OSError's descendants included."""
    cause = RuntimeError("the wire")
    with pytest.raises(kind) as raised:
        raise made(kind) from cause

    assert raised.value.__cause__ is cause
