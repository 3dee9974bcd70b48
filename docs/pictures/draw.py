"""The manual's pictures, and the table of the decisions: made by the library's own code.

`make pictures` writes them; a test fails where they are not what this writes.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from random import Random
from statistics import NormalDist

from apigw_canary import Signal
from apigw_canary.judge import evidence
from apigw_canary.judge.evidence import Row
from apigw_canary.rollout import rules

HERE = Path(__file__).parent
PAGE = HERE.parent / "decision-rules.md"
TABLE = re.compile(r"(?<=<!-- drawn from the code -->\n\n).*?(?=\n<!-- end of it -->)", re.DOTALL)

STYLE = """\
.page{fill:#fff}text{font:14px system-ui,sans-serif;fill:#1b1f24}.small{font-size:12px}
.title{font-weight:600}
.box{fill:#f3f4f6;stroke:#8a929c}.line{stroke:#59636e;fill:none}.grid{stroke:#d5d9de}
.pill text{font-weight:600;fill:#fff}.a{stroke:#0063b1;fill:none}.b{stroke:#b3400a;fill:none}
.at{fill:#0063b1}.bt{fill:#b3400a}.limit{stroke:#1b1f24;stroke-dasharray:6 4}
@media (prefers-color-scheme:dark){.page{fill:#15191e}text{fill:#e6e9ec}
.box{fill:#232930;stroke:#6d7681}.line{stroke:#9aa4af}.grid{stroke:#39414a}.limit{stroke:#e6e9ec}
.a{stroke:#6cb6ff}.b{stroke:#ff9a5c}.at{fill:#6cb6ff}.bt{fill:#ff9a5c}}"""
COLORS = {"Rollback": "#a8201a", "Promote": "#1a6b33", "Shift": "#0b5cad"}
OTHER = "#59636e"

VERBS = {"hold": "Hold", "shift": "Shift", "promote": "Promote", "roll_back": "Rollback"}


def order() -> list[tuple[str, list[str]]]:
    """When each rule holds, in its own words, and what it can decide: in the order of `RULES`."""
    tree = ast.parse(inspect.getsource(rules))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return [
        (" ".join((rule.__doc__ or "").split()), _decided(functions, rule.__name__))
        for rule in rules.RULES
    ]


def _decided(functions: dict[str, ast.FunctionDef], name: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(functions[name]):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="view"), attr=verb)) if (
                verb in VERBS
            ):
                final = any(keyword.arg == "final" for keyword in node.keywords)
                found.append("final Hold" if final else VERBS[verb])
            case ast.Call(func=ast.Name(id=called)) if called in functions:
                found += _decided(functions, called)
            case _:
                pass
    return sorted(set(found), key=["Promote", "Shift", "Rollback", "final Hold", "Hold"].index)


def table() -> str:
    """The order as Markdown."""
    blocks = [name for name, block in rules.BLOCKS.items() for _ in block]
    rows = [
        f"| {i} | {block} | {asks} | {' or '.join(decided)} |"
        for i, (block, (asks, decided)) in enumerate(zip(blocks, order(), strict=True), start=1)
    ]
    head = ["| | Block | The rule holds if | Decision |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def order_picture() -> str:
    """The order as a ladder."""
    parts, y = [], 12
    steps = order()
    for i, (asks, decided) in enumerate(steps, start=1):
        lines = textwrap.wrap(f"{i}. {asks.split('. ')[0].rstrip('.')}", 52)
        height = 18 * len(lines) + 14
        middle = y + height / 2
        parts.append(f'<rect class="box" x="12" y="{y}" width="410" height="{height}" rx="5"/>')
        parts += [
            f'<text x="24" y="{y + 20 + 18 * j}">{escape(line)}</text>'
            for j, line in enumerate(lines)
        ]
        parts.append(f'<path class="line" d="M422 {middle:g}h40m-7 -4l7 4l-7 4"/>')
        x = 468
        for verb in decided:
            width = 8 * len(verb) + 24
            color = COLORS.get(verb, OTHER)
            parts.append(
                f'<g class="pill"><rect x="{x}" y="{middle - 13:g}" width="{width}" height="26" '
                f'rx="13" fill="{color}"/><text x="{x + width / 2:g}" y="{middle + 5:g}" '
                f'text-anchor="middle">{verb}</text></g>'
            )
            x += width + 8
        y += height
        if i < len(steps):
            parts.append(f'<path class="line" d="M60 {y}v16m-4 -7l4 7l4 -7"/>')
            parts.append(f'<text class="small" x="70" y="{y + 13}">no</text>')
        y += 18
    return _svg(
        760,
        y,
        "The order of the decisions: the first rule that holds is taken",
        " ".join(
            f"{i}. {asks} {' or '.join(decided)}." for i, (asks, decided) in enumerate(steps, 1)
        ),
        parts,
    )


MINUTES = 60
SIGNAL = Signal.errors_5xx()
ALPHA = 0.05


def rollout(seed: int, minutes: int, baseline: float, canary: float) -> list[Row]:
    """A rollout at 10 % of 500 requests a minute, with an hour of the baseline before it."""
    random = Random(seed)  # noqa: S311 - traffic, not secrets

    def bad(requests: int, rate: float) -> int:
        return sum(random.random() < rate for _ in range(requests))

    before = [Row(500, bad(500, baseline), 0, 0) for _ in range(60)]
    return before + [Row(450, bad(450, baseline), 50, bad(50, canary)) for _ in range(minutes)]


def worse(rows: Sequence[Row]) -> list[float]:
    """The log of the evidence for "worse" after each minute with a canary."""
    path = evidence.worse(
        rows, ratio=SIGNAL.ratio, slack=SIGNAL.slack, noise=SIGNAL.noise, alpha=ALPHA
    )
    return path[60:]


def evidence_picture() -> str:
    """The evidence against twenty healthy canaries and five bad ones."""
    chart = _Chart(minutes=MINUTES, low=math.log10(0.02), high=2)
    ticks = {0.1: "0.1", 1: "1", 20: "20", 100: "100"}
    parts = [*chart.axes({math.log10(at): text for at, text in ticks.items()})]
    parts.append(chart.level(math.log10(1 / ALPHA), "rolled back at 20 to 1"))
    parts += [
        chart.curve("a", _log10(worse(rollout(seed, MINUTES, 0.001, 0.001)))) for seed in range(20)
    ]
    for seed in range(5):
        path = worse(rollout(100 + seed, MINUTES, 0.001, 0.02))
        until = next((i + 1 for i, log in enumerate(path) if log >= -math.log(ALPHA)), len(path))
        parts.append(chart.curve("b", _log10(path[:until])))
    parts.append(chart.key("a", 0, "20 canaries that fail as rarely as the baseline, in 0.1 %"))
    parts.append(chart.key("b", 1, "5 canaries that fail in 2 %"))
    return chart.svg(
        "The evidence for “worse”, as odds, minute by minute",
        "The odds on a logarithmic scale, over an hour. The lines of the healthy canaries wander "
        "below 1, those of the bad ones rise to 20 within minutes, where they end: rolled back.",
        parts,
    )


def looks_picture() -> str:
    """How many healthy canaries have been rolled back after so many looks."""
    minutes, count = 120, 100
    judged, tested = [0] * minutes, [0] * minutes
    for seed in range(count):
        rows = rollout(seed, minutes, 0.01, 0.01)
        _add_first(judged, (log >= -math.log(ALPHA) for log in worse(rows)))
        _add_first(tested, _p_below(rows[60:], ALPHA))
    chart = _Chart(minutes=minutes, low=0, high=50)
    parts = [*chart.axes({0: "0 %", 10: "10 %", 20: "20 %", 30: "30 %", 40: "40 %"})]
    parts.append(chart.level(100 * ALPHA, "promised: at most 5 %"))
    parts.append(chart.curve("b", [100 * n / count for n in tested], width=2))
    parts.append(chart.curve("a", [100 * n / count for n in judged], width=2))
    parts.append(chart.key("b", 0, "rolled back by “p below 0.05”, looked at every minute"))
    parts.append(chart.key("a", 1, "rolled back by the judge, looked at every minute"))
    return chart.svg(
        f"{count} healthy canaries: how many are rolled back?",
        f"Two lines over two hours. By p below 0.05, {tested[29]} have been rolled back after half "
        f"an hour and {tested[-1]} after two; by the judge {judged[-1]}, of 5 % promised.",
        parts,
    )


def _add_first(counts: list[int], fires: Iterable[bool]) -> None:
    """Count a rollout from the first minute that fires."""
    first = next((i for i, fired in enumerate(fires) if fired), len(counts))
    for i in range(first, len(counts)):
        counts[i] += 1


def _p_below(rows: Sequence[Row], alpha: float) -> Iterator[bool]:
    """The textbook's one-sided test of two proportions, done at each look."""
    critical = NormalDist().inv_cdf(1 - alpha)
    n_b = x_b = n_c = x_c = 0.0
    for row in rows:
        n_b, x_b, n_c, x_c = n_b + row[0], x_b + row[1], n_c + row[2], x_c + row[3]
        pooled = (x_b + x_c) / (n_b + n_c)
        spread = math.sqrt(pooled * (1 - pooled) * (1 / n_b + 1 / n_c))
        yield spread > 0 and (x_c / n_c - x_b / n_b) / spread > critical


def _log10(path: Sequence[float]) -> list[float]:
    return [log / math.log(10) for log in path]


class _Chart:
    """Minutes to the right, values up."""

    left, right, top, bottom = 64, 724, 40, 330

    def __init__(self, *, minutes: int, low: float, high: float) -> None:
        self.minutes, self.low, self.high = minutes, low, high

    def at(self, minute: float, value: float) -> str:
        up = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        x = self.left + (self.right - self.left) * minute / self.minutes
        return f"{x:.0f} {self.bottom - up * (self.bottom - self.top):.0f}"

    def axes(self, ticks: dict[float, str]) -> Iterator[str]:
        for value, text in ticks.items():
            y = self.at(0, value).split()[1]
            yield f'<path class="grid" d="M{self.left} {y}H{self.right}"/>'
            yield f'<text class="small" x="58" y="{int(y) + 4}" text-anchor="end">{text}</text>'
        for minute in range(0, self.minutes + 1, self.minutes // 6):
            x = self.at(minute, self.low).split()[0]
            yield f'<text class="small" x="{x}" y="348" text-anchor="middle">{minute} min</text>'

    def level(self, value: float, text: str) -> str:
        y = self.at(0, value).split()[1]
        return (
            f'<path class="limit" d="M{self.left} {y}H{self.right}"/>'
            f'<text class="small" x="{self.right}" y="{int(y) - 6}" text-anchor="end">{text}</text>'
        )

    def curve(self, kind: str, values: Sequence[float], *, width: int = 1) -> str:
        points = "L".join(self.at(i, value) for i, value in enumerate(values, start=1))
        return f'<path class="{kind}" stroke-width="{width}" d="M{points}"/>'

    def key(self, kind: str, row: int, text: str) -> str:
        y = 372 + 20 * row
        return (
            f'<path class="{kind}" stroke-width="3" d="M{self.left} {y - 5}h28"/>'
            f'<text class="{kind}t" x="{self.left + 36}" y="{y}">{escape(text)}</text>'
        )

    def svg(self, title: str, told: str, parts: Iterable[str]) -> str:
        heading = f'<text x="12" class="title" y="22">{escape(title)}</text>'
        return _svg(760, 404, title, told, [heading, *parts])


def _svg(width: int, height: int, title: str, told: str, parts: Iterable[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' role="img" aria-labelledby="title told">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="told">{escape(told)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def drawn() -> dict[Path, str]:
    """Every file that is made here, and what it has to say."""
    page = TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"))
    return {
        PAGE: page,
        HERE / "order.svg": order_picture(),
        HERE / "evidence.svg": evidence_picture(),
        HERE / "looks.svg": looks_picture(),
    }


if __name__ == "__main__":
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(HERE.parent.parent))
