"""What mkdocs does to the pages of the manual: shared files, links to the reference, indexes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
# What the pages call an object, and its class in the reference.
OBJECTS = {
    "stage": "Stage",
    "canary": "Canary",
    "policy": "RolloutPolicy",
    "alias": "LambdaAlias",
    "aws": "testing.Rehearsal",
}
# Bases whose members the reference does not repeat for each class.
NOT_LISTED = {"Serializable", "Renderable", "Decided", "object"}
NO_LINKS = {"index.md", "changelog.md"}
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
# Code in a line that is neither a heading nor the text of a link.
CODE = re.compile(r"(?m)^#.*$|\[[^\]\n]*`[^\]\n]*\]|<!--.*?-->|`([^`\n]+)`")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Insert shared files and indexes, and link the public names to the reference."""
    path = page.file.src_uri
    markdown = re.sub(r'^--8<-- "(\w+\.md)"$', _file, markdown, flags=re.MULTILINE)
    if path == "errors.md":  # the entries of this page are the reference of the errors
        markdown = re.sub(r"(?m)^### (\w+)$", r"[](){#apigw_canary.errors.\1}\n\n### \1", markdown)
    if path == "reference.md":
        return markdown.replace("<!-- public names -->", _index())
    return markdown if path in NO_LINKS or path.startswith("reference/") else link_names(markdown)


def _file(found: re.Match[str]) -> str:
    """A file of the repository as a page: its links are seen from docs/."""
    text = (ROOT / found[1]).read_text(encoding="utf-8")
    text = re.sub(r'(\]\(|(?:src|href)=")docs/', r"\1", text)
    return re.sub(r"\]\((\w+\.md)", lambda link: f"]({PAGES.get(link[1], link[1])}", text)


def public_names() -> Mapping[str, str]:
    """Every public name, and the path of what it names."""
    errors = importlib.import_module("apigw_canary.errors")
    names = {
        name: f"apigw_canary.errors.{name}"
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.CanaryError)
    }
    for module in ("apigw_canary.testing", "apigw_canary"):
        for name in importlib.import_module(module).__all__:
            names.setdefault(name, f"{module}.{name}")
    return names


def link_names(markdown: str) -> str:
    """The page with each public name in the prose as a link to its entry in the reference."""
    names = public_names()

    def link(found: re.Match[str]) -> str:
        code = found[1]
        target = _target(code, names) if code else None
        if target is None:
            return found[0]
        return f'<autoref optional identifier="{target}"><code>{escape(code)}</code></autoref>'

    parts = []
    end = 0
    for fence in FENCE.finditer(markdown):
        parts += [CODE.sub(link, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, CODE.sub(link, markdown[end:])])


def _target(code: str, names: Mapping[str, str]) -> str | None:
    """The entry of `Stage`, `Stage.find(…)`, `canary.shift(25)` or `Signal.latency(…)`."""
    found = re.match(r"(\w+)(?:\.(\w+))?(?!\w)", code)
    if found is None:
        return None
    name, member = found[1], found[2]
    if name in OBJECTS and member:
        module, _, name = OBJECTS[name].rpartition(".")
        home = f"apigw_canary.{module}".rstrip(".")
        kind, path = getattr(importlib.import_module(home), name), f"{home}.{name}"
    elif name in names:
        path = names[name]
        kind = getattr(importlib.import_module(path.rpartition(".")[0]), name)
    else:
        return None
    listed = (base for base in getattr(kind, "__mro__", ()) if base.__name__ not in NOT_LISTED)
    if member and any(callable(vars(base).get(member)) for base in listed):
        path += f".{member}"
    return path


def references() -> Iterator[tuple[str, str, list[str]]]:
    """The pages of the reference: path, title and the names on it, in the order of the page."""
    for path in sorted((DOCS / "reference").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        yield f"reference/{path.name}", title, re.findall(r"(?m)^::: apigw_canary\.(.+)$", text)
    yield "errors.md", "Errors", [f"errors.{name}" for name in _errors()]


def _errors() -> list[str]:
    return re.findall(r"(?m)^### (\w+)$", (DOCS / "errors.md").read_text(encoding="utf-8"))


def _index() -> str:
    """Every public name, by page, with the first sentence of its docstring."""
    lines = []
    for path, title, names in references():
        lines += [f"## [{title}]({path})", "", "| Name | |", "|---|---|"]
        for full in names:
            module, _, name = full.rpartition(".")
            home = f"apigw_canary.{module}".rstrip(".")
            value = getattr(importlib.import_module(home), name)
            first = " ".join((value.__doc__ or "").partition("\n\n")[0].split())
            cell = first.replace("|", "\\|")
            lines.append(f"| [`{name}`][{home}.{name}] | {cell} |")
        lines.append("")
    return "\n".join(lines)
