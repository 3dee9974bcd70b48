"""No text for users has a word that the glossary's terms replace."""

from __future__ import annotations

import pytest

import terms


@pytest.mark.long
@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(lambda: terms.pages(terms.ROOT), id="manual"),
        pytest.param(lambda: terms.sources(terms.ROOT), id="messages"),
        pytest.param(lambda: terms.sources(terms.ROOT, docstrings=True), id="docstrings"),
    ],
)
def test_no_replaced_words(texts: object) -> None:
    """`python tests/terms.py --where` shows each place."""
    found = [each for where, text in texts() for each in terms.find(where, text)]  # type: ignore[operator]
    assert found == []


def test_the_words_are_found() -> None:
    """A text that has some is found, and code in it is left out."""
    assert [each.words for each in terms.find("x", "The arm `looks` sick.")] == ["arms?", "sick"]
