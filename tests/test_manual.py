"""What the manual says of the code is what the code says."""

from __future__ import annotations

import ast
import inspect
import json
import re
import runpy
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import apigw_canary
from apigw_canary import RolloutPolicy, Stage, errors, testing
from apigw_canary.judge import observation
from apigw_canary.rollout import rules, view
from apigw_canary.testing import Rehearsal

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, errors.CanaryError)
}


@pytest.fixture(scope="module")
def draw() -> Any:
    return runpy.run_path(str(DOCS / "pictures" / "draw.py"))


@pytest.fixture(scope="module")
def hooks() -> Any:
    return runpy.run_path(str(DOCS / "hooks.py"))


@pytest.mark.long
def test_pictures_are_what_the_code_draws(draw: Any) -> None:
    """A picture or the table of the decisions that is stale fails the build."""
    for path, text in draw["drawn"]().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale; run: make pictures"


def test_the_order_tells_every_rule_and_what_it_decides(draw: Any) -> None:
    """Each rule has a sentence, and at least one decision; the last one is always Hold."""
    order = draw["order"]()
    assert len(order) == len(rules.RULES)
    assert all(asks.endswith(".") and decided for asks, decided in order)
    assert {verb for _, decided in order for verb in decided} == {
        "Hold",
        "final Hold",
        "Shift",
        "Promote",
        "Rollback",
    }
    assert order[-1] == ("None of these: inconclusive so far.", ["Hold"])


def test_pictures_are_told_to_those_who_do_not_see_them() -> None:
    """Each picture has a title and a description of its own, and a text where it is shown."""
    for path in sorted((DOCS / "pictures").glob("*.svg")):
        svg = path.read_text(encoding="utf-8")
        assert re.search(r"<title id=.title.>[^<]{20,}</title>", svg), path
        assert re.search(r"<desc id=.told.>[^<]{50,}</desc>", svg), path
        assert "prefers-color-scheme:dark" in svg
        assert any(
            re.search(rf"!\[[^]]{{20,}}]\(pictures/{path.name}\)", p) for p in PAGES.values()
        )


def _entries() -> dict[str, str]:
    """The page of errors by its headings."""
    parts = re.split(r"^### (\w+)\n", PAGES["errors"], flags=re.MULTILINE)
    names = parts[1::2]
    assert len(names) == len(set(names)), "an error has two entries"
    return {name: part.partition("\n## ")[0] for name, part in zip(names, parts[2::2], strict=True)}


def test_each_error_has_an_entry() -> None:
    """Each public class of errors is on the page, each with cause and remedy, and no other."""
    entries = _entries()
    assert sorted(entries) == sorted(ERRORS)
    for name, kind in ERRORS.items():
        raised = not any(kind in other.__bases__ for other in ERRORS.values())
        assert ("*Cause*:" in entries[name]) is raised, name
        assert ("*Remedy*:" in entries[name]) is raised, name


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_has_the_facts_that_its_entry_names(name: str) -> None:
    """`error.field` and its like are attributes of that class."""
    facts = {fact for base in ERRORS[name].__mro__ for fact in inspect.get_annotations(base)}
    assert set(re.findall(r"`error\.(\w+)`", _entries()[name])) <= facts


# What the manual calls these names, and what may be asked of them.
NAMES: Mapping[str, Sequence[type]] = {
    "stage": [Stage],
    "canary": [apigw_canary.Canary, apigw_canary.AliasCanary],
    "alias": [apigw_canary.LambdaAlias],
    "policy": [RolloutPolicy],
    "observation": [apigw_canary.Observation],
    "forecast": [apigw_canary.Forecast],
    "aws": [Rehearsal],
    **{
        name: [kind]
        for name in (*apigw_canary.__all__, *testing.__all__)
        if isinstance(kind := getattr(testing, name, None) or getattr(apigw_canary, name), type)
    },
}


def _said() -> list[tuple[str, str, str]]:
    """Every `name.member` in the manual, as page, name and member."""
    return [
        (page, name, member)
        for page, text in [*PAGES.items(), ("README", README)]
        for code in re.findall(r"`([^`\n]+)`", text)
        for name, member in re.findall(r"(?<![\w./])(\w+)\.(\w+)", code)
        if name in NAMES
    ]


def test_what_the_manual_names_is_there() -> None:
    """A method or field that the prose speaks of exists: nothing has been renamed behind it."""
    said = _said()
    unknown = [
        f"{page}: {name}.{member}"
        for page, name, member in said
        if not any(
            hasattr(kind, member) or member in inspect.get_annotations(kind) for kind in NAMES[name]
        )
    ]
    assert len(said) > 100
    assert unknown == []


def test_make_targets_exist() -> None:
    """`make bench` and its like can be typed."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = {
        target
        for text in [*PAGES.values(), README]
        for target in re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE)
    }
    assert said
    assert said <= targets


def test_reference_has_each_public_name_once(hooks: Any) -> None:
    """No public name is missing in docs/reference/ or on the page of errors, and none is twice."""
    listed = Counter(
        f"apigw_canary.{name}" for _, _, names in hooks["references"]() for name in names
    )
    listed.subtract(hooks["public_names"]().values())
    wrong = {name: "is missing" if n < 0 else "is there twice" for name, n in listed.items() if n}
    assert wrong == {}, "add `::: name` to a page in docs/reference/"


def test_guides_link_names(hooks: Any) -> None:
    """Code in the prose of a page that names something public leads to its entry."""
    link = hooks["link_names"]
    assert 'identifier="apigw_canary.Stage.rollback"' in link("Call `stage.rollback()`.")
    assert 'identifier="apigw_canary.errors.RecordError"' in link("`RecordError` is raised.")
    for text in ("## `Stage`", "[`Stage`](x.md)", "`stage`", "```python\nStage\n```", "`staged.x`"):
        assert link(text) == text


def test_the_pager_knows_what_decisions_say() -> None:
    """What a stuck canary is said to say is what `decide` says."""
    table = PAGES["incident-runbook"].partition("| The reason contains |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    said = [text for row in rows for text in re.findall("`([^`]+)`", row)]
    reasons = [text for module in (rules, view, observation) for text in _texts(module)]
    assert len(said) >= 10
    assert [text for text in said if not any(text in reason for reason in reasons)] == []


def _texts(module: ModuleType) -> Iterator[str]:
    """The texts in the code of a module, each in one piece however it is broken into lines."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_columns_of_the_benchmark_are_explained() -> None:
    """The page explains the columns that `make bench` printed, and no other."""
    evidence = (DOCS / "evidence" / "judges.md").read_text(encoding="utf-8")
    heading = next(line for line in evidence.splitlines() if line.startswith("judge "))
    printed = set(re.split(r" {2,}", heading)) - {"judge", "time"}
    rows = re.findall(r"^\| (`.*?) \|", PAGES["benchmarks"], re.MULTILINE)
    assert {name for row in rows for name in re.findall("`([^`]+)`", row)} == printed


def test_exit_codes_are_as_told() -> None:
    """The table of the CI job's exit codes has those of the script."""
    job = runpy.run_path(str(DOCS / "examples" / "ci_job.py"), run_name="ci_job")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGES["ci"], re.MULTILINE)
    assert {outcome: int(code) for code, outcome in rows} == job["EXIT_CODES"]


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_pipelines_know_the_job(name: str) -> None:
    """The pipelines run the job as it is called, and ask for outcomes that it has."""
    job = runpy.run_path(str(DOCS / "examples" / "ci_job.py"), run_name="ci_job")
    text = (DOCS / "examples" / name).read_text(encoding="utf-8")
    assert yaml.safe_load(text)
    commands = re.findall(r"python ci_job\.py (.+)", text)
    called = [shlex.split(command) for command in commands]
    assert [(words[0], len(words)) for words in called] == [("decide", 3), ("apply", 2)]
    assert called[0][-1] == called[1][-1] == "decision.json"
    asked = re.findall(r"outcome(?:\"|) *=+ *'?(\w+)", text)
    assert asked
    assert set(asked) <= job["EXIT_CODES"].keys()


def test_the_state_machine_knows_the_errors() -> None:
    """What it does not try again are errors that exist."""
    machine = json.loads((DOCS / "examples" / "rollout.asl.json").read_text(encoding="utf-8"))
    given_up = machine["States"]["Look"]["Retry"][0]
    assert given_up["MaxAttempts"] == 0
    assert set(given_up["ErrorEquals"]) < set(ERRORS)
