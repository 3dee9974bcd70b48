"""Whatever README.md, the manual and the docstrings show is run.

On a page, the ```python blocks run in order, in one namespace. HTML comments say more:

- `<!-- setup: rehearsal -->`, anywhere: the page's blocks run inside a rehearsal. A session that
  is not given is the rehearsal's, and `time.sleep` is its sleep.
- `<!-- setup: rehearsal of a function -->`: the same, with a Lambda function of two versions and
  an alias `live` behind the API.
- `<!-- not run: why -->` directly above a block: it does not run.
- `<!-- output of: docs/examples/demo.py -->` directly above a ```text or ```console block: it is
  what that script prints. With `lines of` the block has some of its lines.

In a docstring each ```python block runs by itself, inside a rehearsal.
"""

from __future__ import annotations

import ast
import fcntl
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import boto3
import pytest

import apigw_canary
from apigw_canary.planning import forecast
from apigw_canary.testing import Backend, rehearsal
from forked_scripts import forked_scripts

pytestmark = pytest.mark.long

# Loaded before time.sleep is patched, which is what some of them have as a default.
PUBLIC = [getattr(apigw_canary, name) for name in apigw_canary.__all__]
PACKAGE = Path(apigw_canary.__file__).parent
ROOT = Path(__file__).parent.parent
SCENE = forecast._Scene  # what simulates the rollouts of a forecast
API_ID = "a1b2c3d4e5"  # the one that pages use
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "docs" / "examples").glob("*.py"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SETUPS: dict[str, dict[str, Any]] = {
    "rehearsal": {"execution_logs": "INFO"},
    "rehearsal of a function": {"versions": [Backend()] * 2, "variables": {"alias": "live"}},
}
BLOCK = re.compile(
    r"^(?: *<!-- *(?P<key>[a-z ]+): *(?P<said>(?:(?!-->).)*?) *-->\n\s*^)?"
    r"(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    info: str  # the words after ```
    key: str  # the comment above it, split at the colon
    said: str
    body: str
    line: int  # the number of body's first line


def _blocks(text: str) -> list[Block]:
    return [
        Block(
            found["info"].strip(),
            found["key"] or "",
            found["said"] or "",
            re.sub(rf"^{found['indent']}", "", found["body"], flags=re.MULTILINE),
            text.count("\n", 0, found.start("body")) + 1,
        )
        for found in BLOCK.finditer(text)
    ]


Output = Callable[[Path], str]
"""What a script prints; its failure is the test's."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Output]:
    """Each script is run once, whichever test and worker asks for it first."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    with ExitStack() as stack:
        run = cache(lambda: stack.enter_context(forked_scripts(ROOT)))

        def output(script: Path) -> str:
            printed = shared / f"{script.stem}.printed"
            with (shared / f"{script.stem}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not printed.exists():
                    text = run()(script)  # where it fails, the next test runs it again
                    printed.write_text(text, encoding="utf-8")
            return printed.read_text(encoding="utf-8")

        yield output


def _rehearse(stack: ExitStack, options: dict[str, Any]) -> str:
    """Until the stack closes, AWS and time are a rehearsal's; returns the id of its API."""
    rehearsed = stack.enter_context(rehearsal(**options))
    session_class = boto3.Session

    def session(*args: Any, **options: Any) -> boto3.Session:
        return session_class(*args, **options) if args or options else rehearsed.session

    stack.enter_context(mock.patch("boto3.DEFAULT_SESSION", rehearsed.session))
    stack.enter_context(mock.patch("boto3.Session", session))
    stack.enter_context(mock.patch("boto3.session.Session", session))
    stack.enter_context(mock.patch.object(time, "sleep", rehearsed.sleep))
    # A Stage that is made without `sleep` took time.sleep when its class was made.
    defaults = "apigw_canary.rollouts.AnyPlace.__init__.__kwdefaults__"
    stack.enter_context(mock.patch.dict(defaults, sleep=rehearsed.sleep))
    return rehearsed.rest_api_id


def _named(paths: list[Path], below: Path) -> list[Any]:
    return [pytest.param(path, id=path.relative_to(below).as_posix()) for path in paths]


every_page = pytest.mark.parametrize("page", _named(PAGES, ROOT))


def _few_rollouts(**of_forecast: Any) -> Any:
    return SCENE(**{**of_forecast, "rollouts": min(of_forecast["rollouts"], 2)})


@pytest.mark.no_cover
@every_page
def test_page_runs(page: Path) -> None:
    """A reader who copies a page's blocks one after the other meets no error."""
    blocks = [
        b
        for b in _blocks(page.read_text(encoding="utf-8"))
        if b.info == "python" and b.key != "not run"
    ]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    api_id = API_ID
    with ExitStack() as stack:
        # No page depends on how exact a forecast is, and one of many rollouts takes ten seconds.
        stack.enter_context(mock.patch.object(forecast, "_Scene", _few_rollouts))
        for setup, options in SETUPS.items():
            if blocks and f"<!-- setup: {setup} -->" in page.read_text(encoding="utf-8"):
                api_id = _rehearse(stack, options)
        for block in blocks:
            source = "\n" * (block.line - 1)  # so that errors name the page's line
            source += block.body.replace(API_ID, api_id)
            exec(compile(source, page, "exec", dont_inherit=True), namespace)


@pytest.mark.no_cover
def test_readme_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop that README shows may be started again after its end: the release stays as it is."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    loop = next(b.body for b in _blocks(readme) if "canary.observe" in b.body)
    with ExitStack() as stack:
        api_id = _rehearse(stack, {})
        for _ in range(2):
            exec(compile(loop.replace(API_ID, api_id), "README.md", "exec", dont_inherit=True), {})
    assert (
        "The rollout of release 2026-11-23.1 has ended: it was promoted." in capsys.readouterr().out
    )


@every_page
def test_page_marks_its_blocks(page: Path) -> None:
    """A block that is not run says why, and none is left out by a misspelling."""
    blocks = _blocks(page.read_text(encoding="utf-8"))
    fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(blocks), f"{page}: a block is not closed, or opened strangely"
    for block in blocks:
        where = f"{page}:{block.line}"
        if block.info.lower().startswith("py"):
            assert block.info == "python", f"{where}: ```{block.info}"
        if block.key == "not run":
            assert block.said, f"{where}: needs a reason"
        assert block.key in {"", "not run", "output of", "lines of", "setup"}, (
            f"{where}: {block.key!r}"
        )


@every_page
def test_page_shows_real_output(page: Path, output: Output) -> None:
    """The output a page shows is what the script prints today."""
    for block in _blocks(page.read_text(encoding="utf-8")):
        if block.key == "output of":
            shown = block.body.rstrip()
            assert output(ROOT / block.said).rstrip() == shown, f"line {block.line}: make outputs"
        if block.key == "lines of":
            printed = iter(output(ROOT / block.said).splitlines())
            left_out = [line for line in block.body.splitlines() if line not in printed]
            assert left_out == [], f"{page}:{block.line}: choose lines that are printed"


@pytest.mark.parametrize("script", _named(SCRIPTS, ROOT))
def test_script_runs(script: Path, output: Output) -> None:
    """An example runs as it is, offline, and has something to show."""
    assert output(script)


def _docstrings(path: Path) -> list[tuple[str, int]]:
    """The docstrings of a module and of what is in it, each with its first line's number."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, kinds)
    ]
    return [(text, n.body[0].lineno) for n in nodes if (text := ast.get_docstring(n))]


def _examples() -> list[Any]:
    """The python blocks of the docstrings."""
    return [
        pytest.param(block.body, id=f"{path.relative_to(PACKAGE).as_posix()}:{line + block.line}")
        for path in SOURCES
        for text, line in _docstrings(path)
        for block in _blocks(text)
        if block.info == "python"
    ]


@pytest.mark.no_cover
@pytest.mark.parametrize("example", _examples())
def test_docstring_runs(example: str) -> None:
    """An example in a docstring can be copied, and runs as it is."""
    setup = "rehearsal of a function" if "LambdaAlias" in example else "rehearsal"
    with ExitStack() as stack:
        api_id = _rehearse(stack, SETUPS[setup])
        exec(compile(example.replace(API_ID, api_id), "an example", "exec", dont_inherit=True), {})


@pytest.mark.parametrize("path", _named(SOURCES, PACKAGE))
def test_docstring_marks_its_blocks(path: Path) -> None:
    """A docstring shows code in a fence and in no other form, so none is left out."""
    for text, line in _docstrings(path):
        assert ">>>" not in text, f"{path}:{line}"
        for block in _blocks(text):
            assert block.info in {"python", "text"}, f"{path}:{line}: ```{block.info}"
        for part in re.split(r"\n\n", BLOCK.sub("", text)):
            assert not part.startswith("    "), f"{path}:{line}: an indented block is not run"


def write_outputs() -> None:
    """Write the outputs of the scripts into the pages that show them: `make outputs`."""
    with forked_scripts(ROOT) as run:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for block in _blocks(text):
                if block.key == "output of":
                    text = text.replace(block.body, run(ROOT / block.said).rstrip() + "\n")
            page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_outputs()
