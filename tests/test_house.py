"""The rules of the house: what is public, who may import whom, what an import costs."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import apigw_canary

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "apigw_canary"
ROOT = Path(apigw_canary.__file__).parent
SNAPSHOT = Path(__file__).parent / "data" / "signatures.txt"
PUBLIC_MODULES = (PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.testing")

# A package, and those it may import from: itself, and what stands below it. A package is a module
# or package directly in apigw_canary; "" is apigw_canary itself. A new one is entered here.
BELOW: tuple[set[str], ...] = (
    {"texts"},
    {"errors"},
    {"values"},
    {"model"},
    {"judge"},
    {"rollout"},
    {"planning"},
    {"policy"},
    {"aws"},
    {"metrics"},
    {"report", "changes", "preflight"},
    {"rollouts"},
    {"canary", "lambda_alias"},
    {"stage"},
    {""},
    {"testing"},
)
ARROWS = {
    name: set().union(*BELOW[:height]) for height, names in enumerate(BELOW) for name in names
}
INTERFACES = {"values", "model", "judge", "aws"}
PURE = {"values", "model", "judge", "rollout"}
# Installed packages, and the rooms that may import them; attrs is for everybody.
GUESTS = {
    "boto3": {"aws", "testing"},
    "botocore": {"aws", "testing"},
    "tenacity": {"aws", "testing"},
    "moto": {"testing"},
}
EVERYBODY = {"attr", "attrs"}
# What would make a decision depend on more than its observation. `random.Random(seed)` would not.
IMPURE_MODULES = {"os", "random", "secrets", "time", "uuid"}
IMPURE_CALLS = {"now", "today", "utcnow"}


class Import(NamedTuple):
    line: int
    module: str
    names: tuple[str, ...]


class Source(NamedTuple):
    name: str  # "rollout.policy", "stage", or "" for the package itself
    path: Path

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def at_run_time(self) -> list[ast.AST]:
        return _parse(self.path)

    def imports(self) -> Iterator[Import]:
        """What the module imports when it runs, as absolute names, also inside functions."""
        here = [PACKAGE, *self.name.split(".")] if self.name else [PACKAGE]
        if self.path.name != "__init__.py":
            here.pop()
        for node in self.at_run_time:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(node.lineno, alias.name, ())
            elif isinstance(node, ast.ImportFrom):
                above = here[: len(here) - node.level + 1] if node.level else []
                module = ".".join([*above, *filter(None, [node.module])])
                yield Import(node.lineno, module, tuple(alias.name for alias in node.names))


@cache
def _parse(path: Path) -> list[ast.AST]:
    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
                for statement in child.orelse:
                    yield from walk(statement)
            else:
                yield from walk(child)

    return list(walk(ast.parse(path.read_text(encoding="utf-8"))))


def _sources() -> list[Source]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(Source(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def _rooms(found: Import) -> set[str]:
    """The rooms of this package an import leads to."""
    package, _, rest = found.module.partition(".")
    if package != PACKAGE:
        return set()
    if rest:
        return {rest.partition(".")[0]}
    here = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {name if name in here else "" for name in found.names} or {""}


def _modules(found: Import, known: set[str]) -> set[str]:
    """The modules of this package an import leads to."""
    package, _, module = found.module.partition(".")
    if package != PACKAGE:
        return set()
    inside = {f"{module}.{name}".lstrip(".") for name in found.names} & known
    return inside or {module}


every_source = pytest.mark.parametrize(
    "source", [pytest.param(source, id=source.name or PACKAGE) for source in _sources()]
)


def _public(module: ModuleType) -> list[str]:
    """The public names of a module: `__all__`, or what it defines without an underscore."""
    return sorted(
        getattr(module, "__all__", None)
        or (
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        )
    )


def test_all_is_the_public_surface() -> None:
    """`__all__` is sorted, complete and importable, and nothing else is there to be found."""
    listed = list(apigw_canary.__all__)
    assert listed == sorted(set(listed))
    assert [name for name in listed if not hasattr(apigw_canary, name)] == []
    unlisted = {
        name
        for name, value in vars(apigw_canary).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert unlisted - set(listed) == set()


@pytest.mark.long
def test_dir_lists_what_can_be_had() -> None:
    """A REPL completes names that were not imported yet, and each of them is there."""
    listed = _fresh(f"import {PACKAGE}; print(*dir({PACKAGE}))").split()
    modules = {"errors", "testing"}
    assert {*apigw_canary.__all__, *modules, "__version__"} <= set(listed)
    assert listed == sorted(set(listed))
    assert [name for name in listed if not hasattr(apigw_canary, name)] == []
    for name in modules:
        printed = _fresh(f"import {PACKAGE}; print({PACKAGE}.{name}.__name__)")
        assert printed.strip() == f"{PACKAGE}.{name}"


def test_version_is_the_projects() -> None:
    """`__version__` is the version that pyproject.toml states."""
    with (ROOT.parents[1] / "pyproject.toml").open("rb") as file:
        assert apigw_canary.__version__ == tomllib.load(file)["project"]["version"]


def test_unknown_names_are_missing() -> None:
    """A misspelled name is the AttributeError that Python raises of modules."""
    with pytest.raises(AttributeError, match="module 'apigw_canary' has no attribute 'Stagge'"):
        getattr(apigw_canary, "Stagge")  # noqa: B009


INSTALL = "python -m pip install 'apigw-canary[testing]'"


def test_without_moto_a_rehearsal_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, and what to type."""
    monkeypatch.setitem(sys.modules, "moto", None)
    with pytest.raises(ImportError) as raised, apigw_canary.testing.rehearsal():
        pass
    assert raised.value.name == "moto"
    assert str(raised.value).startswith("A rehearsal needs moto, which is not installed.")
    assert INSTALL in str(raised.value)


@pytest.mark.long
def test_without_motos_extra_a_rehearsal_names_the_command() -> None:
    """The same where moto is installed without its extra for API Gateway."""
    printed = _fresh(
        "import sys; sys.modules['openapi_spec_validator'] = None\n"
        f"from {PACKAGE}.testing import rehearsal\n"
        "try:\n    rehearsal().__enter__()\n"
        "except ImportError as error:\n    print(error)"
    )
    assert printed.startswith("A rehearsal needs openapi_spec_validator, which is not installed.")
    assert INSTALL in printed


def test_what_a_prompt_completes() -> None:
    """Each public name, imported or not, the two public modules, and the version."""
    assert {*apigw_canary.__all__, "errors", "testing", "__version__"} <= set(dir(apigw_canary))
    found: Any = vars(apigw_canary)["__getattr__"]
    assert found("errors") is apigw_canary.errors
    assert found("testing") is apigw_canary.testing
    with pytest.raises(AttributeError, match="none_such"):
        found("none_such")


@every_source
def test_arrows(source: Source) -> None:
    """A room imports only from the rooms below it."""
    assert source.room in ARROWS, f"{source.room!r} is not in the table of rooms"
    allowed = ARROWS[source.room] | {source.room}
    against = [
        f"{source.path.relative_to(ROOT)}:{found.line} imports from {room or PACKAGE!r}"
        for found in source.imports()
        for room in _rooms(found)
        if room not in allowed
    ]
    assert against == []


def test_no_circles() -> None:
    """No module imports one that imports it, by whatever way."""
    modules = {source.name: source for source in _sources()}
    below = {
        name: {
            to
            for found in source.imports()
            for to in _modules(found, set(modules))
            if to not in {name, ""}
        }
        for name, source in modules.items()
    }
    while leaves := {name for name, to in below.items() if not to}:
        below = {name: to - leaves for name, to in below.items() if name not in leaves}
    assert below == {}


@every_source
def test_interfaces(source: Source) -> None:
    """Another package imports what the interface of a package names, and no module inside."""
    if source.room not in {"", "testing"}:
        against = [
            f"{source.path.relative_to(ROOT)}:{found.line} imports from {found.module}"
            for found in source.imports()
            for room in INTERFACES - {source.room}
            if found.module.startswith(f"{PACKAGE}.{room}.")
        ]
        assert against == []


@every_source
def test_nothing_is_imported_for_types_only(source: Source) -> None:
    """`TYPE_CHECKING` would hide a circle; it is for packages that are loaded late."""
    if source.room not in {"", "testing"}:
        text = source.path.read_text(encoding="utf-8")
        hidden = [
            statement
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for statement in map(ast.unparse, node.body)
            if PACKAGE in statement
        ]
        assert hidden == []


@every_source
def test_guests(source: Source) -> None:
    """Only aws/ and testing/ know boto3 and tenacity; everybody else knows attrs at most."""
    welcome = {name for name, rooms in GUESTS.items() if source.room in rooms} | EVERYBODY
    against = [
        f"{source.path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for found in source.imports()
        if (package := found.module.partition(".")[0]) not in {PACKAGE, *sys.stdlib_module_names}
        and package not in welcome
    ]
    assert against == []


def _impurities(source: Source) -> Iterator[str]:
    for found in source.imports():
        if found.module.partition(".")[0] in IMPURE_MODULES and (
            (found.module, found.names) != ("random", ("Random",))
        ):
            yield f"{found.line}: imports {found.module}; `from random import Random` is fine"
    for node in source.at_run_time:
        if isinstance(node, ast.Attribute) and node.attr in IMPURE_CALLS:
            yield f"{node.lineno}: {ast.unparse(node)} reads a clock"
        if isinstance(node, ast.Call) and ast.unparse(node) == "Random()":
            yield f"{node.lineno}: Random() without a seed"


@every_source
def test_decisions_are_pure(source: Source) -> None:
    """No clock, no randomness, no environment: same observation, same decision."""
    if source.room in PURE:
        assert list(_impurities(source)) == []


def _fresh(code: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_import_is_light() -> None:
    """Importing the library loads neither boto3 nor anything else of weight."""
    loaded = _fresh(f"import sys, {PACKAGE}; print(*sys.modules)").split()
    assert set(GUESTS) & set(loaded) == set()


@pytest.mark.long
def test_import_is_quick() -> None:
    """Importing the library takes at most half of the time that importing boto3 takes."""
    timed = "from time import perf_counter as t; s = t(); import {}; print(t() - s)"
    times: dict[str, list[float]] = {PACKAGE: [], "boto3": []}
    for _ in range(5):  # in turns, and the least of each: noise only ever adds
        for module, taken in times.items():
            taken.append(float(_fresh(timed.format(module))))
    assert min(times[PACKAGE]) <= min(times["boto3"]) / 2, times


def _plain(text: str) -> str:
    """Without what differs between versions of Python: module names, quotes, addresses."""
    text = re.sub(r"<(?:built-in )?(?:function|method) ([\w.]+)(?: at 0x\w+)?>", r"\1", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    text = re.sub(r"\*<class '([\w.]+)'>", r"Unpack[\1]", text)
    text = re.sub(r"ForwardRef\('([^']*)'[^)]*\)", r"\1", text)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def _annotation(value: object) -> str:
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return _plain(text)


def _signature(value: Any) -> str:
    """The signature, with annotations written the same way whether strings or objects."""
    signature = inspect.signature(value)

    class Written(str):
        __slots__ = ()
        __repr__ = str.__str__

    def written(parameter: inspect.Parameter) -> inspect.Parameter:
        if parameter.annotation is not inspect.Parameter.empty:
            parameter = parameter.replace(annotation=Written(_annotation(parameter.annotation)))
        if parameter.default is not inspect.Parameter.empty:
            parameter = parameter.replace(default=Written(_plain(repr(parameter.default))))
        return parameter

    returned = signature.return_annotation
    if returned is not inspect.Signature.empty:
        returned = Written(_annotation(returned))
    parameters = [written(parameter) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _member(name: str, value: Any) -> str | None:
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{_signature(value.__func__)}"
    if isinstance(value, property | cached_property):
        getter = value.func if isinstance(value, cached_property) else value.fget
        returned = getter.__annotations__.get("return", "?")
        return f"property {name}: {_annotation(returned)}"
    return f"{name}{_signature(value)}" if isinstance(value, FunctionType) else None


def _class(cls: type) -> Iterator[str]:
    """A class's bases and constructor, then its public members, inherited ones included."""
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == PACKAGE]
    bases = ", ".join(base.__name__ for base in cls.__bases__ if not base.__name__.startswith("_"))
    made = any(
        "__init__" in vars(base) for base in ours if not getattr(base, "_is_protocol", False)
    )
    yield f"class {cls.__name__}({bases})"
    if issubclass(cls, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in cls)
    elif made:
        yield f"    {cls.__name__}{_signature(cls)}"
    members: dict[str, str] = {}
    for base in reversed(ours):
        for name, kind in inspect.get_annotations(base).items():
            members[name] = f"{name}: {_annotation(kind)}"
        for name, value in vars(base).items():
            line = _member(name, value)
            if line is not None:
                members[name] = line
    yield from (f"    {line}" for name, line in sorted(members.items()) if not name.startswith("_"))


def signatures() -> str:
    """Every public name with its signature, as text."""
    lines: list[str] = []
    for module_name in PUBLIC_MODULES:
        module = importlib.import_module(module_name)
        lines += ["", f"# {module_name}"]
        for name in _public(module):
            value = getattr(module, name)
            if isinstance(value, type):
                lines += ["", *_class(value)]
            elif callable(value):
                lines += ["", f"def {name}{_signature(value)}"]
            else:
                lines += ["", f"{name} = {_plain(repr(value))}"]
    return "\n".join(lines).strip() + "\n"


@pytest.mark.long
def test_signatures_are_as_recorded() -> None:
    """The public surface changes only on purpose: `make signatures` records it anew."""
    assert signatures().splitlines() == SNAPSHOT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    SNAPSHOT.parent.mkdir(exist_ok=True)
    SNAPSHOT.write_text(signatures(), encoding="utf-8")
