"""The pages that `make evidence` writes: a sample of each is measured again."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
FIGURES = (
    "guards",
    "production",
    "unknown",
    "overlap",
    "low-traffic",
    "latency",
    "sharpness",
    "log-routes",
    "judges",
)


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that writes the pages."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield import_module("evidence")
    for name in [name for name, each in sys.modules.items() if _is_benchmark(each)]:
        del sys.modules[name]


def _is_benchmark(module: Any) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(BENCHMARKS)


@pytest.mark.long
@pytest.mark.no_cover
@pytest.mark.parametrize("name", FIGURES)
def test_a_sample_is_as_recorded(evidence: Any, name: str) -> None:
    """Where a page has a sample, the same command gives it again: `make evidence NAME=...`."""
    (figure,) = [figure for figure in evidence.FIGURES if figure.name == name]
    if not evidence.page(figure).exists():
        pytest.skip(f"not measured yet: make evidence NAME={name}")
    if figure.sample is not None:
        assert figure.sample() == evidence.recorded_sample(figure)


def test_each_figure_is_here(evidence: Any) -> None:
    """And the index names the pages that there are."""
    assert [figure.name for figure in evidence.FIGURES] == list(FIGURES)
    written = evidence.INDEX.read_text(encoding="utf-8").partition(evidence.TABLE)[2]
    assert written.strip() == evidence.index().strip()
