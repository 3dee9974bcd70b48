"""The record in an alias's description: 256 characters, written, read, and never trusted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apigw_canary.errors import InvalidInputError, RecordError
from apigw_canary.lambda_alias.record import (
    CODES,
    MAX_DESCRIPTION,
    AliasRecord,
    check_text,
    read,
    text_of,
    written,
)
from apigw_canary.model.state import AliasState, CanaryState, Outcome
from strategies import lines, percents

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
RECORD = AliasRecord(
    id="0123456789abcdef",
    release="2026-11-23.1",
    started_at=AT,
    step_started_at=AT,
    percent=5.0,
    before="7",
    after="8",
)
LINE = "[apigw-canary:2 0123456789abcdef 1767603600 1767603600 005.00 7>8 r - - - 2026-11-23.1]"

texts = st.text(max_size=60).filter(lambda text: "[apigw-canary:" not in text)
versions = st.integers(1, 10**9 - 1).map(str)
moments = st.datetimes(datetime(2002, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)
endings = st.sampled_from([*CODES])
records = st.builds(
    lambda ending, **rest: AliasRecord(outcome=ending[0], ended_by=ending[1], **rest),
    endings,
    id=st.text("0123456789abcdef", min_size=16, max_size=16),
    release=st.none() | lines.filter(lambda text: "[apigw-canary:" not in text),
    started_at=moments,
    step_started_at=moments,
    percent=percents,
    before=versions,
    after=versions,
    hold_since=st.none() | moments,
    held=st.integers(0, 10**8 - 1).map(lambda seconds: timedelta(seconds=seconds)),
)


def state(version: str, canary: str | None = None) -> AliasState:
    return AliasState(
        region="eu-central-1",
        rest_api_id="orders",
        name="live",
        deployment_id=version,
        canary=CanaryState(deployment_id=canary, percent=5.0) if canary else None,
        updated_at=AT,
    )


def test_its_form() -> None:
    """It is one bracket at the end, legible for who looks at the alias in the console."""
    assert written("", RECORD) == LINE
    assert written("Orders, live.", RECORD) == f"Orders, live. {LINE}"


@pytest.mark.long
@given(texts, records)
def test_what_is_written_is_read(text: str, record: AliasRecord) -> None:
    """Record and text come back as they were, whatever the user wrote."""
    try:
        description = written(text, record)
    except RecordError:
        assume(False)
    assert read(description) == record
    assert text_of(description) == text


@given(texts)
def test_a_text_is_no_record(text: str) -> None:
    """A description that the library has not touched has no record, and is the user's."""
    assert read(text) is None
    assert text_of(text) == text


@given(texts, records, endings, percents)
def test_what_fits_once_fits_always(
    text: str, record: AliasRecord, ending: tuple[Outcome | None, Any], percent: float
) -> None:
    """No shift, promotion or rollback fails because the description has become too short."""
    try:
        length = len(written(text, record))
    except RecordError:
        assume(False)
    later = attrs.evolve(record, outcome=ending[0], ended_by=ending[1], percent=percent)
    assert len(written(text, later)) == length <= MAX_DESCRIPTION


def test_too_long() -> None:
    """A text that leaves no room is refused, with by how much, and never cut."""
    room = MAX_DESCRIPTION - len(LINE) - 1
    assert len(written("x" * room, RECORD)) == MAX_DESCRIPTION
    with pytest.raises(RecordError, match="3 too many"):
        written("x" * (room + 3), RECORD)


def test_earlier_releases_are_remembered() -> None:
    """The latest and the four before it, the last outcome counting; the oldest give way first."""
    record = attrs.evolve(RECORD, release="r0", outcome=Outcome.REMOVED_OUTSIDE)
    for i in range(1, 6):
        outcome = Outcome.PROMOTED if i == 4 else Outcome.REMOVED_OUTSIDE
        record = attrs.evolve(record, past=record.remembered(), release=f"r{i}", outcome=outcome)
    record = read(written("", record)) or RECORD
    assert record.ended("r0") is None
    assert [record.ended(f"r{i}") for i in (1, 4, 5)] == [
        "removed_outside",
        "promoted",
        "removed_outside",
    ]
    assert record.ended("another") is None
    again = attrs.evolve(
        record, past=record.remembered(), release="r4", outcome=Outcome.REMOVED_OUTSIDE
    )
    assert again.ended("r4") is Outcome.REMOVED_OUTSIDE
    room = MAX_DESCRIPTION - len(written("", attrs.evolve(record, past=""))) - 1
    squeezed = read(written("x" * (room - 8), record))
    assert squeezed is not None
    assert [squeezed.ended(f"r{i}") for i in (3, 4, 5)] == [None, "promoted", "removed_outside"]


def test_nothing_is_kept_of_what_has_no_name() -> None:
    """A rollout without a release, or one that runs, is not among the ended."""
    assert attrs.evolve(RECORD, release=None, outcome=Outcome.REMOVED_OUTSIDE).remembered() == ""
    assert RECORD.remembered() == ""


@pytest.mark.parametrize(
    "outcome, seen, settled",
    [
        (None, state("7", "8"), None),
        (None, state("7"), Outcome.REMOVED_OUTSIDE),
        (None, state("7", "9"), Outcome.REMOVED_OUTSIDE),
        (None, state("8"), Outcome.PROMOTED_OUTSIDE),
        (Outcome.PROMOTED, state("8"), Outcome.PROMOTED),
        (Outcome.PROMOTED, state("9"), Outcome.PROMOTED),
        (Outcome.PROMOTED, state("7"), Outcome.REVERTED),
        (Outcome.REMOVED_OUTSIDE, state("8"), Outcome.REMOVED_OUTSIDE),
    ],
)
def test_what_others_made_of_it(
    outcome: Outcome | None, seen: AliasState, settled: Outcome | None
) -> None:
    """The alias itself shows how a rollout ended that others ended."""
    assert attrs.evolve(RECORD, outcome=outcome).settled_on(seen).outcome is settled


@pytest.mark.parametrize(
    "damage",
    [
        LINE + " more",
        LINE[:-1],
        LINE + LINE,
        LINE.replace(":2 ", ":1 "),
        LINE.replace("7>8", "$LATEST>8"),
        LINE.replace("005.00", "100.01"),
        LINE.replace("005.00", "5"),
        LINE.replace("005.00", "00٣.00"),
        LINE.replace("2026-11-23.1", "a\nb"),
        LINE.replace(" r ", " z "),
        LINE.replace(" - - - ", " - - p12345 "),
        LINE.replace(" - - - ", " h123 - - "),
        LINE.replace(" - - - ", " - 7>8 - "),
        "[apigw-canary:",
    ],
)
def test_damage_is_refused(damage: str) -> None:
    """What is not exactly as it was written is not guessed at, and says what to do."""
    for reading in (read, text_of):
        with pytest.raises(RecordError, match="delete it"):
            reading(damage)


@given(st.text(alphabet=LINE + "\n٣", max_size=100).map(lambda text: "[apigw-canary:2 " + text))
def test_hostile_records(text: str) -> None:
    """Whatever stands there, it is a record that is written the same, or a RecordError."""
    try:
        record = read(text)
    except RecordError:
        return
    assert record is not None
    assert written("", record) == text


def test_a_text_that_would_be_a_record() -> None:
    """Neither release nor description can be mistaken for the record."""
    check_text("ordinary", "release")
    with pytest.raises(InvalidInputError, match="release"):
        check_text("x[apigw-canary:1", "release")
