"""Words that the project replaces by the terms of the glossary: where texts still have them.

`python tests/terms.py` counts them in the manual, the public docstrings and the messages of `src`;
`python tests/terms.py SITE` in the pages that mkdocs built into SITE, and in the messages.
`--where` also prints each place.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
REPLACED = {
    # words: what to write instead
    r"arms?": "baseline, canary; variant for either",
    r"mend(?:s|ed|ing)?": "fix",
    r"sick": "unhealthy",
    r"voices?": "rollback trigger, signal",
    r"doubt(?:s|ed|ful)?|belie(?:f|ve|ves|ved)|misread": "suspect metrics, trusted",
    r"(?<!light )dark(?! color)|lit|unseen|unwatched": "no data, has data, unobserved",
    r"look(?:s|ed|ing)?": "observation, poll; observe, read",
    r"(?:go|goes|going|went) up": "is shifted up, promotion step",
    r"bonds?|wish(?:es)?|standing": "canary handle, canary request, rollout progress",
    r"tells?|told|says?|said|speaks?": "reports, states, is evidence for",
    r"to be had|(?:is|are|was|were) gone|(?:is|are|was|were) there(?! enough)": "available, exists",
    r"(?<!times the )odds(?! ratio| of being bad| that a | or a )": "evidence, threshold",
    r"settl(?:e|es|ed|ing)": "complete, metric delay",
    r"clothes|plain(?:ly)?(?! text)|in words": "formatting, formats, serializable",
    r"gather(?:s|ed|ing)?|readings|(?:a|each|one|the|stated) reading": "evidence, interpretations",
    r"stakes?|games?|boost(?:s|ed)?|quiet": "bets, test process, overshoot correction",
    r"pagers?|paged": "on-call, incident",
    r"foresight": "forecasts and backtests",
    r"(?<!all )(?<!any )(?<!no )(?<!if )(?<!the )others": "concurrent change",
    r"somebody|someone|nobody|anybody|everybody|whoever": "you, an operator, every client",
    r"cannot tell yet": "inconclusive so far",
    r"shares?": "percent, traffic percentage",
    r"house|rooms?|guests?": "package, layer, dependency",
}
"""Not counted: other uses of a word, such as a verb or a standard term, where it is certain."""
PATTERNS = {words: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for words in REPLACED}
CODE = re.compile(r"```.*?```|`[^`\n]*`|<!--.*?-->|\]\([^)]*\)|https?://\S+", re.DOTALL)


class Found(NamedTuple):
    words: str
    where: str
    context: str


def find(where: str, text: str) -> Iterator[Found]:
    """Each of the replaced words in a text, code left out."""
    text = CODE.sub(lambda code: " " * len(code[0]), text)
    for words, pattern in PATTERNS.items():
        if words == "arms?" and "/judge/" in where:
            continue  # the word of the statistics
        for hit in pattern.finditer(text):
            around = text[max(0, hit.start() - 40) : hit.end() + 40]
            yield Found(words, where, " ".join(around.split()))


class _Article(HTMLParser):
    """The text of a built page, without code."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in {"article", "code", "pre", "script", "style"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data if self._open == ["article"] else " ")


def built(site: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(site.rglob("index.html")):
        page = _Article()
        page.feed(path.read_text(encoding="utf-8"))
        yield path.relative_to(site).as_posix(), "".join(page.text)


def pages(root: Path) -> Iterator[tuple[str, str]]:
    for path in [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]:
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def _strings(path: Path, *, docstrings: bool) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and (id(node) in docs) is docstrings
            and " " in node.value.strip()
        ):
            yield node.lineno, node.value


def sources(root: Path, *, docstrings: bool = False) -> Iterator[tuple[str, str]]:
    """The string constants of the library that have a space: its messages; or its docstrings."""
    for path in sorted((root / "src").rglob("*.py")):
        for line, text in _strings(path, docstrings=docstrings):
            yield f"{path.relative_to(root).as_posix()}:{line}", text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", nargs="?", type=Path)
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--where", action="store_true")
    given = parser.parse_args()
    groups = {
        "manual": built(given.site) if given.site else pages(given.root),
        "messages": sources(given.root),
        "docstrings": sources(given.root, docstrings=True),
    }
    counts: dict[str, Counter[str]] = {}
    for group, texts in groups.items():
        counts[group] = Counter()
        for where, text in texts:
            for found in find(where, text):
                counts[group][found.words] += 1
                if given.where:
                    print(f"{found.where}: …{found.context}…")
    for words in REPLACED:
        print(f"{words:<70}", *(f"{counts[group][words]:>6}" for group in groups))
    print(f"{'all':<70}", *(f"{sum(counts[group].values()):>6}" for group in groups))


if __name__ == "__main__":
    main()
