"""The record in a deployment's description: written, read, and never trusted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from apigw_canary.errors import InvalidInputError, RecordError
from apigw_canary.model.record import (
    KEPT_ENDINGS,
    MAX_LINE,
    NO_RECORD,
    Begun,
    Record,
    check_text,
    fingerprint,
    read_record,
    read_record_line,
    record_line,
    with_record,
)
from apigw_canary.model.state import CanaryState, Outcome, Promotion, StageState
from strategies import (
    begun,
    canary_states,
    identifiers,
    lines,
    outcomes,
    percents,
    promotions,
    records,
    stage_states,
    times,
    variable_names,
    variable_values,
)

MARK = "apigw-canary:2:prod:"
AT = datetime(2026, 1, 5, 9, tzinfo=UTC)
BEGUN = Begun(
    id="0123abcd", release="r1", started_at=AT, stage_updated_at=AT, stage_deployment_id="old111"
)
PROMOTION = Promotion(
    region="eu-central-1",
    rest_api_id="a1b2c3d4e5",
    stage="prod",
    release="r1",
    rollout_id="0123abcd",
    deployment_before="old111",
    deployment_after="new222",
    variables_before={"alias": "v1", "token": None},
    variables_after={"alias": "v2", "token": "hush"},
    begun_at=AT,
)
PLACE: dict[str, Any] = {"region": "eu-central-1", "rest_api_id": "a1b2c3d4e5"}
RECORD = Record(**PLACE, rollout=BEGUN, promotion=PROMOTION, ended={"r0": Outcome.REMOVED_OUTSIDE})

ANNOUNCED = {
    name: value
    for name, value in PROMOTION.to_dict().items()
    if name not in {"region", "rest_api_id", "stage"}
}
"""A promotion as it is written: what it shares with its record is written once."""

texts = st.text() | st.lists(st.text(max_size=8), max_size=5).map("\n".join)
"""What users write into a description, line breaks included."""

users = texts.filter(lambda text: not any(x.startswith("apigw-canary:") for x in text.split("\n")))


def damaged(description: str, stage: str = "prod") -> RecordError:
    with pytest.raises(RecordError) as raised:
        read_record(description, stage)
    return raised.value


def read_or_refused(line: str) -> Record | RecordError:
    """Any other exception fails the test."""
    try:
        return read_record(line, "prod")
    except RecordError as error:
        return error


def line_of(data: object) -> str:
    return MARK + json.dumps(data)


class TestWritten:
    @pytest.mark.long
    @given(st.data(), users, identifiers)
    def test_reads_what_was_written(self, data: st.DataObject, text: str, stage: str) -> None:
        """The record that is read is the record that was written, whatever stands around it."""
        record = data.draw(records(stage))
        assert read_record(with_record(text, stage, record), stage) == record
        assert read_record_line(record_line(record, stage), stage) == record

    @pytest.mark.long
    @given(st.data(), identifiers, identifiers)
    def test_writing_again_replaces(self, data: st.DataObject, stage: str, other: str) -> None:
        """A second record takes the place of the first: one line a stage, the last one counts."""
        assume(stage != other)
        first, second = data.draw(records(stage)), data.draw(records(stage))
        description = with_record(with_record(None, stage, first), other, data.draw(records(other)))
        again = with_record(description, stage, second)

        assert read_record(again, stage) == second
        assert len(again.split("\n")) == 2

    @pytest.mark.long
    @given(st.data(), users)
    def test_user_s_text_is_kept(self, data: st.DataObject, text: str) -> None:
        """The user's text stays byte for byte, above the record, however often it is written."""
        assume(text.strip("\n"))  # line breaks alone are no text
        once = with_record(text, "prod", data.draw(records("prod")))
        twice = with_record(once, "prod", data.draw(records("prod")))

        assert once.startswith(f"{text}\n{MARK}")
        assert twice.startswith(f"{text}\n{MARK}")

    @pytest.mark.long
    @given(st.data(), users, st.lists(identifiers, min_size=2, max_size=4, unique=True))
    def test_other_stages_lines_are_kept(
        self, data: st.DataObject, text: str, stages: list[str]
    ) -> None:
        """Each stage of a deployment has a record of its own, which the others do not touch."""
        kept = {stage: data.draw(records(stage)) for stage in stages}
        description = text
        for stage in [*stages, *reversed(stages)]:
            description = with_record(description, stage, kept[stage])
        assert all(read_record(description, stage) == kept[stage] for stage in stages)

    @pytest.mark.long
    @given(st.text(st.characters(exclude_characters="\n")), st.data())
    def test_other_lines_stay_even_if_unreadable(self, junk: str, data: st.DataObject) -> None:
        """What another version or stage wrote is not this stage's to judge: it stays as it is."""
        other = f"apigw-canary:7:staging:{junk}"
        description = with_record(f"notes\n{other}", "prod", data.draw(records("prod")))
        assert description.startswith(f"notes\n{other}\n{MARK}")

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_without_text_the_record_stands_alone(self, nothing: str | None) -> None:
        """A description that was empty becomes the one line, without an empty one above."""
        assert with_record(nothing, "prod", RECORD) == record_line(RECORD, "prod")

    def test_is_one_ascii_line(self) -> None:
        """Whatever a release is called, its record is one line of printable ASCII."""
        line = record_line(Record(rollout=attrs.evolve(BEGUN, release="größer 🚀")), "prod")
        assert line.isascii()
        assert line.isprintable()
        assert line.startswith(f'{MARK}{{"rollout":{{"id":"0123abcd","release":"gr')

    def test_what_is_too_long_is_not_written(self) -> None:
        """A record that could not be read again is refused, with a way out."""
        many = {f"v{i}": "x" * 512 for i in range(100)}
        huge = attrs.evolve(PROMOTION, variables_before=many, variables_after=many)
        with pytest.raises(RecordError, match=f"more than {MAX_LINE}") as raised:
            record_line(Record(**PLACE, promotion=huge), "prod")
        assert "fewer or shorter stage variables" in raised.value.remedy

    def test_limit_is_the_reader_s(self) -> None:
        """The longest record that is written can be read, and one character more cannot be."""

        def of_length(last: int) -> Record:
            after = {f"v{i:02}": "x" * 512 for i in range(61)} | {"last": "x" * last}
            before = dict.fromkeys(after)
            return Record(
                **PLACE,
                promotion=attrs.evolve(PROMOTION, variables_before=before, variables_after=after),
            )

        last = MAX_LINE - len(record_line(of_length(1), "prod")) + 1
        line = record_line(of_length(last), "prod")

        assert len(line) == MAX_LINE
        assert read_record(line, "prod") == of_length(last)
        assert f"{MAX_LINE + 1} characters" in str(damaged(f"{line} "))
        with pytest.raises(RecordError):
            record_line(of_length(last + 1), "prod")


class TestRead:
    @given(users, identifiers)
    def test_without_a_record_there_is_none(self, text: str, stage: str) -> None:
        """A description that nobody wrote a record into has none: no error, whatever it says."""
        assert read_record(text, stage) == NO_RECORD

    def test_no_description(self) -> None:
        """AWS leaves an empty description out of its answers."""
        assert read_record(None, "prod") == NO_RECORD

    @pytest.mark.long
    @given(st.data(), identifiers, identifiers)
    def test_another_stage_s_is_not_this_one_s(
        self, data: st.DataObject, stage: str, other: str
    ) -> None:
        """A record counts for its own stage only."""
        assume(stage != other)
        assert read_record(with_record("", stage, data.draw(records(stage))), other) == NO_RECORD

    @given(st.text(st.characters(exclude_characters="\n")))
    @example("[" * 30_000)
    @example('{"ended":' * 3_000)
    @example('{"rollout":' + "[" * 900 + "]" * 900 + "}")
    @example("1" * 5_000)
    @example('{"ended":{"r":' + "9" * 5_000 + "}}")
    @example('"\\ud800"')
    @example('{"ended":null}')
    @example("NaN")
    def test_arbitrary_text_is_read_or_refused(self, junk: str) -> None:
        """Whatever stands after the mark is a record or a RecordError, never anything else."""
        record = read_or_refused(MARK + junk)
        if isinstance(record, Record):
            assert isinstance(json.loads(junk), dict)
            assert read_record(with_record("", "prod", record), "prod") == record

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | lines,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["rollout", "promotion", "reverted_from", "ended", "id", "release"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        )
    )
    def test_arbitrary_json_is_read_or_refused(self, data: object) -> None:
        """JSON of any shape is a record or a RecordError, never anything else."""
        record = read_or_refused(line_of(data))
        if isinstance(record, Record):
            assert read_record(with_record("", "prod", record), "prod") == record

    @pytest.mark.long
    @given(st.data())
    def test_truncated(self, data: st.DataObject) -> None:
        """A record that was cut off anywhere after its mark is damaged."""
        line = record_line(data.draw(records("prod")), "prod")
        damaged(line[: data.draw(st.integers(len(MARK), len(line) - 1))])

    @pytest.mark.long
    @given(st.data())
    def test_tampered(self, data: st.DataObject) -> None:
        """With a character exchanged the line is still a record, or a RecordError."""
        line = record_line(data.draw(records("prod")), "prod")
        at = data.draw(st.integers(len(MARK), len(line) - 1))
        put = data.draw(st.sampled_from('"{}[]:,0 \\x\x00é'))
        record = read_or_refused(line[:at] + put + line[at + 1 :])
        if isinstance(record, RecordError):
            assert "record of stage prod" in record.happened
            assert "apigw-canary:" in record.remedy
            assert len(str(record)) < 1500

    def test_doubled(self) -> None:
        """Two records of one stage: nobody knows which one holds."""
        line = record_line(RECORD, "prod")
        assert "there are 2 of them" in str(damaged(f"text\n{line}\n{line}"))
        assert "there are 2 of them" in str(damaged(f"{line}\n{MARK}junk"))

    @pytest.mark.parametrize("version", ["1", "20", "0", "01", "", "x", " 1"])
    def test_other_version(self, version: str) -> None:
        """A record of another version is not guessed at."""
        error = damaged(f"apigw-canary:{version}:prod:{{}}")
        assert "another version than 2" in str(error)

    @pytest.mark.parametrize("line", ["apigw-canary:1:prod", "apigw-canary:2:prod"])
    def test_mark_alone(self, line: str) -> None:
        """A mark that was cut off is no absence of a record."""
        damaged(line)

    @pytest.mark.parametrize(
        "data, says",
        [
            ([], "Record must be an object"),
            ({"rollouts": {}}, "a key of Record"),
            ({"ended": {"r": "won"}}, "Record.ended.r"),
            ({"promotion": {**ANNOUNCED, "stage": "dev"}}, "a key of promotion"),
            ({"promotion": {**ANNOUNCED, "rest_api_id": "a1b2c3d4e5"}}, "a key of promotion"),
            ({"promotion": ANNOUNCED}, "Record.promotion.region"),
            ({**PLACE, "promotion": {**ANNOUNCED, "deployment_after": "../x"}}, "deployment"),
            ({**PLACE, "promotion": {**ANNOUNCED, "variables_after": {}}}, "variables_before"),
            ({**PLACE, "promotion": {**ANNOUNCED, "begun_at": "2026-01-05"}}, "begun_at"),
            ({"reverted_from": "a b"}, "reverted_from"),
            ({"region": "a b"}, "region"),
            ({"rest_api_id": "a/b"}, "rest_api_id"),
            ({"rollout": {**BEGUN.to_dict(), "policy": "x"}}, "rollout.policy"),
            ({"rollout": {**BEGUN.to_dict(), "production": {"a": "x"}}}, "rollout.production.a"),
            ({"rollout": {**BEGUN.to_dict(), "overrides": {"a": "x"}}}, "rollout.overrides.a"),
            ({"rollout": {**BEGUN.to_dict(), "held": -1}}, "rollout.held"),
            ({"rollout": {**BEGUN.to_dict(), "ended_by": "me"}}, "ended_by"),
            ({"rollout": {**BEGUN.to_dict(), "hold": {"reason": ""}}}, "Record.rollout.hold"),
            (
                {
                    "rollout": {
                        **BEGUN.to_dict(),
                        "hold": {"reason": "r" * 121, "since": AT.isoformat()},
                    }
                },
                "reason",
            ),
            ({"rollout": {**BEGUN.to_dict(), "id": "a b"}}, "rollout.id"),
            ({"rollout": {**BEGUN.to_dict(), "stage_deployment_id": "/"}}, "stage_deployment_id"),
            ({"rollout": {**BEGUN.to_dict(), "outcome": "lost"}}, "Record.rollout.outcome"),
            ({"rollout": {**BEGUN.to_dict(), "started_at": "1999-12-31T09:00:00Z"}}, "started_at"),
            ({"rollout": {**BEGUN.to_dict(), "started_at": "3000-01-01T09:00:00Z"}}, "started_at"),
            (
                {**PLACE, "promotion": {**ANNOUNCED, "variables_after": {"alias": ""}}},
                "variables_before",
            ),
        ],
    )
    def test_checked_before_use(self, data: object, says: str) -> None:
        """Ids, names, times and outcomes are checked, and the error says which one it was."""
        error = damaged(line_of(data))
        assert says in str(error)
        assert isinstance(error.__cause__, InvalidInputError)

    @pytest.mark.parametrize("release", ["", "a\nb", "\x1b[2J", "r" * 201, "\ud800", " "])
    def test_release_is_one_line_of_text(self, release: str) -> None:
        """A release from a record is as printable as one from a caller: it ends up in messages."""
        damaged(line_of({"rollout": {**BEGUN.to_dict(), "release": release}}))

    @pytest.mark.parametrize(
        "value", [5318008531800, ["5318008531800"], {"a": "5318008531800"}], ids=repr
    )
    def test_damage_does_not_leak_values(self, value: object) -> None:
        """An error about a damaged record goes into logs: it shows no variable's value."""
        promotion = {**ANNOUNCED, "variables_after": {"token": value}}
        damage = line_of({**PLACE, "promotion": promotion})
        assert "5318008531800" not in str(damaged(damage))

    @pytest.mark.long
    @given(records("prod"), st.data(), st.sampled_from(["text", "list", "object", "key", "longer"]))
    def test_damage_anywhere_does_not_leak_values(
        self, record: Record, data: st.DataObject, kind: str
    ) -> None:
        """Whatever of a record is damaged, the error shows no value, which may be a secret."""
        secret = "5318008531800 \x1b"
        content = json.loads(record_line(record, "prod").removeprefix(MARK))

        def places(value: Any) -> Any:
            pairs = value.items() if isinstance(value, dict) else ()
            for key, each in pairs:
                yield value, key
                yield from places(each)

        found = list(places(content))
        assume(found)
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        match kind:
            case "text":
                holder[key] = secret
            case "list":
                holder[key] = [secret]
            case "object":
                holder[key] = {"a": secret}
            case "key":
                holder[secret] = holder.pop(key)
            case _:
                holder[key] = f"{holder[key]}{secret}"
        answer = read_or_refused(line_of(content))
        if isinstance(answer, RecordError):
            assert "5318008531800" not in str(answer)

    def test_crlf_is_harmless(self) -> None:
        """Line breaks that a console or an editor turned into CRLF do not damage the record."""
        text = with_record("notes", "prod", RECORD).replace("\n", "\r\n") + "\r\n"
        assert read_record(text, "prod") == RECORD


class TestUsersText:
    @given(users)
    def test_ordinary_text_is_taken(self, text: str) -> None:
        """Any text that no line of looks like a record may be a description."""
        check_text(text)

    @given(texts, st.text(st.characters(exclude_characters="\n"), max_size=9), texts)
    def test_looking_like_a_record_is_refused(self, above: str, rest: str, below: str) -> None:
        """A line that begins like a record is refused before it is sent, wherever it stands."""
        with pytest.raises(InvalidInputError) as raised:
            check_text(f"{above}\napigw-canary:{rest}\n{below}")
        assert raised.value.field == "description"

    @given(texts)
    def test_what_passes_has_no_record(self, text: str) -> None:
        """No text that passes the check can be read as a record of any stage."""
        try:
            check_text(text)
        except InvalidInputError:
            assert "apigw-canary:" in text
        else:
            assert read_record(text, "prod") == NO_RECORD

    @pytest.mark.parametrize("text", [None, 5, b"notes", ["notes"]])
    def test_takes_texts_only(self, text: Any) -> None:
        """A description is a string."""
        with pytest.raises(InvalidInputError, match="description must be a text"):
            check_text(text)


def promoted(state: StageState) -> StageState:
    """What a promotion leaves, by AWS's rules: overrides merged, deployment copied, no canary."""
    assert state.canary is not None
    return attrs.evolve(
        state,
        deployment_id=state.canary.deployment_id,
        variables={**state.variables, **state.canary.variables},
        canary=None,
    )


with_canary = stage_states(canary_states)


def promotion_of(state: StageState) -> Promotion:
    return Promotion.of(state, begun_at=AT, release="r1", rollout_id="0123abcd")


class TestPromotion:
    @given(with_canary)
    def test_of_a_stage(self, state: StageState) -> None:
        """The receipt names the stage, both deployments, and the variables that will change."""
        receipt = promotion_of(state)
        assert state.canary is not None

        assert (receipt.region, receipt.rest_api_id, receipt.stage) == (
            state.region,
            state.rest_api_id,
            state.name,
        )
        assert receipt.deployment_before == state.deployment_id
        assert receipt.deployment_after == state.canary.deployment_id
        after = promoted(state).variables
        assert receipt.variables_after == {
            name: value for name, value in after.items() if state.variables.get(name) != value
        }

    @given(with_canary)
    def test_before_and_after(self, state: StageState) -> None:
        """A promotion is undone on the stage before it and done on the stage after it."""
        receipt = promotion_of(state)
        assert receipt.is_undone_on(state)
        assert receipt.is_done_on(promoted(state))

    @given(with_canary)
    def test_never_both(self, state: StageState) -> None:
        """Unless it changes nothing, no stage is before and after it at the same time."""
        receipt = promotion_of(state)
        changes = promoted(state).deployment_id != state.deployment_id or bool(
            receipt.variables_after
        )
        assert receipt.is_done_on(state) is not changes
        assert receipt.is_undone_on(promoted(state)) is not changes

    @given(with_canary, st.data())
    def test_under_way_is_any_mixture(self, state: StageState, data: st.DataObject) -> None:
        """Once a part of a promotion has been carried out, it is under way until its canary ends.

        At whatever share: promoting leaves the canary at none.
        """
        receipt, after = promotion_of(state), promoted(state)
        assert state.canary is not None
        done = {name for name in receipt.variables_after if data.draw(st.booleans())}
        mixed = attrs.evolve(
            state,
            canary=attrs.evolve(state.canary, percent=data.draw(percents)),
            deployment_id=data.draw(st.sampled_from([state.deployment_id, after.deployment_id])),
            variables={
                name: (after if name in done else state).variables[name]
                for name in after.variables
                if name in done or name in state.variables
            },
        )
        traces = bool(done) or mixed.deployment_id != state.deployment_id
        assert receipt.is_under_way_on(mixed) is traces
        assert receipt.is_undone_on(mixed) is not traces
        assert not receipt.is_under_way_on(attrs.evolve(mixed, canary=None))

    @given(with_canary, percents)
    def test_announced_is_not_under_way(self, state: StageState, percent: float) -> None:
        """A promotion that has left no trace on the stage was announced, and is not under way."""
        assert state.canary is not None
        canary = attrs.evolve(state.canary, percent=percent)
        assert not promotion_of(state).is_under_way_on(attrs.evolve(state, canary=canary))

    @pytest.mark.parametrize(
        "deployment, variables, under_way",
        [
            ("old111", {"alias": "v1"}, False),
            ("old111", {"alias": "v1", "other": "x"}, False),
            ("new222", {"alias": "v1"}, True),
            ("old111", {"alias": "v2"}, True),
            ("old111", {"alias": "v1", "token": "hush"}, True),
            ("new222", {"alias": "v2", "token": "hush"}, True),
            ("new222", {"alias": "v3"}, False),
            ("other3", {"alias": "v2", "token": "hush"}, False),
        ],
    )
    def test_under_way_once_there_is_a_trace(
        self, deployment: str, variables: dict[str, str], under_way: bool
    ) -> None:
        """The deployment or one variable is trace enough; what is not the promotion's is none."""
        state = StageState(
            region="eu-central-1",
            rest_api_id="a1b2c3d4e5",
            name="prod",
            deployment_id=deployment,
            variables=variables,
            canary=CanaryState(
                deployment_id="new222", percent=50.0, variables=PROMOTION.variables_after
            ),
            updated_at=AT,
        )
        assert PROMOTION.is_under_way_on(state) is under_way

    @pytest.mark.long
    @given(with_canary, canary_states, st.booleans())
    def test_another_canary_is_not_under_way(
        self, state: StageState, other: CanaryState, same: bool
    ) -> None:
        """A canary of another deployment or with other overrides is another rollout's."""
        receipt = promotion_of(state)
        if same:
            other = attrs.evolve(other, deployment_id=receipt.deployment_after)
        assume(
            other.deployment_id != receipt.deployment_after
            or not receipt.variables_after.items() <= other.variables.items()
        )
        assert not receipt.is_under_way_on(attrs.evolve(state, canary=other))
        later = attrs.evolve(promoted(state), canary=other)
        assert not receipt.is_under_way_on(later)
        half = attrs.evolve(later, variables=state.variables)
        assert not receipt.is_under_way_on(half)

    @given(with_canary, variable_names, variable_values)
    def test_a_later_canary_of_variables_is_not_under_way(
        self, state: StageState, name: str, value: str
    ) -> None:
        """After the promotion, the same deployment with one more variable is a new canary."""
        receipt, after = promotion_of(state), promoted(state)
        assert state.canary is not None
        assume(after.variables.get(name) != value)
        more = attrs.evolve(state.canary, variables={**state.canary.variables, name: value})
        assert not receipt.is_under_way_on(attrs.evolve(after, canary=more))

    @given(with_canary, variable_names, variable_values)
    def test_a_foreign_change_is_neither(self, state: StageState, name: str, value: str) -> None:
        """A deployment or a changed variable that is neither before nor after is somebody else's.

        Variables that the promotion does not touch are nobody's business.
        """
        receipt, after = promotion_of(state), promoted(state)
        foreign = attrs.evolve(after, deployment_id=f"{state.deployment_id}-{after.deployment_id}")
        assert not receipt.is_done_on(foreign)
        assert not receipt.is_undone_on(foreign)
        assert not receipt.is_under_way_on(attrs.evolve(foreign, canary=state.canary))

        altered = attrs.evolve(after, variables={**after.variables, name: value})
        if name not in receipt.variables_after:
            assert receipt.is_done_on(altered)
        elif value != after.variables[name]:
            assert not receipt.is_done_on(altered)
            if value != state.variables.get(name):
                assert not receipt.is_undone_on(altered)
                assert not receipt.is_under_way_on(attrs.evolve(altered, canary=state.canary))

    @given(with_canary)
    def test_undone_is_as_before(self, state: StageState) -> None:
        """Undoing a promotion gives production back what it had."""
        receipt = promotion_of(state)
        back = receipt.undone_on(promoted(state))
        assert back == attrs.evolve(state, canary=None)

    @pytest.mark.long
    @given(promotions(), stage_states())
    def test_undone_on_any_stage(self, receipt: Promotion, state: StageState) -> None:
        """Undoing restores what the promotion changed, nothing else, and is done once for all."""
        back = receipt.undone_on(state)

        assert receipt.is_undone_on(back)
        assert not receipt.is_under_way_on(back)
        assert receipt.undone_on(back) == back
        ours = receipt.variables_before.keys()
        assert {k: v for k, v in back.variables.items() if k not in ours} == {
            k: v for k, v in state.variables.items() if k not in ours
        }
        assert attrs.evolve(
            back, deployment_id=state.deployment_id, variables=state.variables
        ) == attrs.evolve(state)

    @given(promotions())
    def test_repr_shows_no_values(self, receipt: Promotion) -> None:
        """A receipt in a log shows the names of the variables, not what they hold."""
        secret = "5318008-5318008"
        names = list(receipt.variables_after)
        receipt = attrs.evolve(
            receipt,
            variables_before=dict.fromkeys(names, f"{secret}-old"),
            variables_after=dict.fromkeys(names, f"{secret}-new"),
        )
        assert secret not in repr(receipt)
        assert secret not in str(receipt)
        assert all(name in repr(receipt) for name in names)

    def test_repr_of_none(self) -> None:
        """A promotion that changed no variable says so."""
        receipt = attrs.evolve(PROMOTION, variables_before={}, variables_after={})
        assert "<variables: none>" in repr(receipt)

    @pytest.mark.parametrize(
        "changes, field",
        [
            ({"rest_api_id": "a/b"}, "rest_api_id"),
            ({"deployment_before": "a b"}, "deployment_before"),
            ({"deployment_after": ""}, "deployment_after"),
            ({"variables_after": {"alias": 5, "token": "t"}}, "variables_after['alias']"),
            ({"variables_before": {"a/b": "v1", "token": None}}, "a name in variables_before"),
            ({"variables_before": {"alias": "v1"}}, "variables_before"),
        ],
    )
    def test_is_checked_when_made(self, changes: dict[str, Any], field: str) -> None:
        """A receipt that could not be sent to AWS cannot be made."""
        with pytest.raises(InvalidInputError) as raised:
            attrs.evolve(PROMOTION, **changes)
        assert raised.value.field == field

    @given(st.permutations(["a", "b", "c"]), st.permutations(["a", "b", "c"]))
    def test_order_of_variables_is_nothing(self, one: list[str], other: list[str]) -> None:
        """Receipts are equal whatever the order in which their variables were given."""
        first, second = (
            attrs.evolve(
                PROMOTION,
                variables_before=dict.fromkeys(order),
                variables_after=dict.fromkeys(order, "x"),
            )
            for order in (one, other)
        )
        assert first == second
        assert first.to_dict() == second.to_dict()
        assert repr(first) == repr(second)


class TestRecord:
    @pytest.mark.long
    @given(records("prod"), begun, outcomes)
    def test_beginning_keeps_the_one_before(
        self, record: Record, new: Begun, before: Outcome
    ) -> None:
        """A new rollout takes the place of the old one, whose release and outcome are kept."""
        after = record.beginning(new, before)
        assert after.rollout == new
        assert (after.promotion, after.reverted_from) == (record.promotion, record.reverted_from)
        old = record.rollout
        kept = dict(record.ended)
        if old is not None and old.release is not None:
            kept[old.release] = before
        assert after.ended == {r: how for r, how in kept.items() if r != new.release}

    @pytest.mark.long
    @given(records("prod"), begun)
    def test_beginning_takes_the_one_before_for_removed(self, record: Record, new: Begun) -> None:
        """Where nobody says how the old rollout ended, it counts as removed by others."""
        rollout = record.rollout and attrs.evolve(record.rollout, outcome=None)
        record = attrs.evolve(record, rollout=rollout)
        assert record.beginning(new) == record.beginning(new, Outcome.REMOVED_OUTSIDE)

    def test_beginning_again_is_no_ending(self) -> None:
        """A release that is begun once more is running, not ended, whatever is said of before."""
        record = attrs.evolve(RECORD, ended={"r0": Outcome.REMOVED_OUTSIDE, "r1": Outcome.REVERTED})
        again = record.beginning(attrs.evolve(BEGUN, id="another"), Outcome.PROMOTED)
        assert again.ended == {"r0": Outcome.REMOVED_OUTSIDE}

    @given(
        st.lists(
            st.tuples(st.none() | lines | st.sampled_from([f"r{n}" for n in range(12)]), outcomes),
            max_size=30,
        ),
    )
    def test_keeps_eight_endings(self, releases: list[tuple[str | None, Outcome]]) -> None:
        """However many releases a deployment sees, the latest eight of the ended are kept."""
        record, running = NO_RECORD, None
        how: dict[str, Outcome] = {}
        for release, before in releases:
            record = record.beginning(attrs.evolve(BEGUN, release=release), before)
            if running is not None:
                how[running] = before
            running = release
            assert len(record.ended) <= 8 == KEPT_ENDINGS
        last: list[str] = []
        for release, _ in reversed(releases[:-1]):
            if release is not None and release != running and release not in last:
                last.append(release)

        assert [*reversed([*record.ended])] == last[: len(record.ended)]
        assert record.ended == {release: how[release] for release in record.ended}
        assert set(record.ended) >= set(last[:1])
        if all(release is not None for release, _ in releases):
            assert len(record.ended) == min(len(last), 8)

    def test_the_oldest_goes_first(self) -> None:
        """Of nine ended releases the first one is forgotten."""
        record = NO_RECORD
        for n in range(10):
            record = record.beginning(attrs.evolve(BEGUN, release=f"r{n}"))
        assert list(record.ended) == [f"r{n}" for n in range(1, 9)]

    def test_what_is_absent_is_not_written(self) -> None:
        """The record of a rollout that has just begun is short."""
        line = record_line(Record(rollout=BEGUN), "prod")
        assert json.loads(line.removeprefix(MARK)) == {
            "rollout": {
                "id": "0123abcd",
                "release": "r1",
                "started_at": AT.isoformat(),
                "stage_updated_at": AT.isoformat(),
                "stage_deployment_id": "old111",
            }
        }

    @pytest.mark.long
    @given(records("prod"), promotions(st.just("prod")))
    def test_promoting(self, record: Record, receipt: Promotion) -> None:
        """A promotion about to begin is kept, and the mark of an earlier revert goes."""
        receipt = attrs.evolve(receipt, rollout_id=record.rollout.id if record.rollout else None)
        after = record.promoting(receipt)
        assert after.promotion == receipt
        assert after.reverted_from is None
        assert after.ended == record.ended
        if after.rollout is not None and record.rollout is not None:
            production = {**record.rollout.production, **after.rollout.production}
            left = attrs.evolve(record.rollout, production=production)
            if left.ending is not None:  # an ending that was announced before is withdrawn
                left = attrs.evolve(left, ending=None, ended_by=None)
            assert after.rollout == left
            assert after.rollout.production["deployment_id"] == fingerprint(
                after.rollout.id, "deployment_id", receipt.deployment_before
            )

    def test_begun_promotion_is_this_rollout_s(self) -> None:
        """A promotion counts as begun for the rollout that began it only."""
        assert RECORD.begun_promotion() == PROMOTION
        assert NO_RECORD.begun_promotion() is None
        assert Record(rollout=BEGUN).begun_promotion() is None
        later = attrs.evolve(BEGUN, id="another")
        assert RECORD.beginning(later).begun_promotion() is None
        unrecorded = attrs.evolve(PROMOTION, rollout_id=None)
        assert Record(promotion=unrecorded).begun_promotion() == unrecorded

    @pytest.mark.parametrize("field", ["started_at", "stage_updated_at"])
    def test_naive_time_is_not_recorded(self, field: str) -> None:
        """A time without a zone is refused before it is written: nobody could read it again."""
        naive: dict[str, Any] = {field: datetime(2026, 1, 5, 9)}
        with pytest.raises(InvalidInputError) as raised:
            attrs.evolve(BEGUN, **naive)
        assert raised.value.field == field

    @pytest.mark.parametrize(
        "at, taken",
        [
            (datetime.min, False),
            (datetime(1999, 12, 31, 23, 59, 59, 999999), False),
            (datetime(2000, 1, 1), True),
            (datetime(2999, 12, 31, 23, 59, 59, 999999), True),
            (datetime(3000, 1, 1), False),
            (datetime.max, False),
        ],
    )
    def test_started_in_a_year_to_reckon_with(self, at: datetime, taken: bool) -> None:
        """A start is of the years 2000 to 2999: what is reckoned from it cannot overflow."""
        at = at.replace(tzinfo=UTC)
        if taken:
            assert attrs.evolve(BEGUN, started_at=at).started_at == at
            return
        with pytest.raises(InvalidInputError, match="2000 to 2999") as raised:
            attrs.evolve(BEGUN, started_at=at)
        assert raised.value.field == "rollout.started_at"

    @given(times, st.integers(0, 10))
    def test_times_come_back_to_the_microsecond(self, at: datetime, days: int) -> None:
        """Times keep the instant, and are in UTC."""
        record = Record(
            rollout=attrs.evolve(BEGUN, started_at=at, stage_updated_at=at - timedelta(days=days))
        )
        again = read_record(with_record(None, "prod", record), "prod").rollout
        assert again is not None
        assert again.started_at.timestamp() == at.timestamp()
        assert again.started_at.tzinfo is UTC


def test_a_canary_without_overrides_changes_no_variables() -> None:
    """The receipt of a release that is only a new deployment has no variables in it."""
    state = StageState(
        region="eu-central-1",
        rest_api_id="a1b2c3d4e5",
        name="prod",
        deployment_id="old111",
        variables={"alias": "v1"},
        canary=CanaryState(deployment_id="new222", percent=50.0, variables={"alias": "v1"}),
        updated_at=AT,
    )
    receipt = promotion_of(state)
    assert receipt.variables_before == {}
    assert receipt.variables_after == {}
