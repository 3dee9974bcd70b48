"""What a whole rollout says: its looks, one after the other, and the policy they were judged by."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from apigw_canary.judge.findings import Analysis
from apigw_canary.judge.observation import Observation, Phase
from apigw_canary.judge.paths import paths
from apigw_canary.model.comparison import Comparison
from apigw_canary.policy import RolloutPolicy
from apigw_canary.report import comparison, pictures
from apigw_canary.report.document import (
    Document,
    Facts,
    Mark,
    Paragraph,
    Section,
    Shape,
    Table,
)
from apigw_canary.report.explain import headline, sentence, signals, tone
from apigw_canary.rollout.decisions import Decided, Promote, Rollback, Shift
from apigw_canary.values.formatting import clock, moment, span
from apigw_canary.values.rendering import Tone

_ENDS: Mapping[Phase, tuple[str, Tone]] = {
    "promoted": ("Promoted", "good"),
    "promoted_outside": ("Promoted outside", "open"),
    "reverted": ("Promotion undone", "bad"),
    "disabled": ("Disabled", "open"),
    "rolled_back": ("Rolled back", "bad"),
    "removed_outside": ("Removed outside", "open"),
    "replaced": ("Replaced by another canary", "open"),
}


class _Stretch(NamedTuple):
    """Looks at a canary that kept its share, and what was decided at the last of them."""

    looks: Sequence[Observation]
    decision: Decided


def history(
    observations: Iterable[Observation], policy: RolloutPolicy, compared: Comparison | None = None
) -> Document:
    """The document of a rollout."""
    looks = sorted(observations, key=lambda look: look.at)
    # Deciding takes the longer the longer the rollout is: once a share is enough.
    stretches = [
        _Stretch(group, policy.decide(group[-1]))
        for _, same in groupby(looks, key=lambda look: (look.percent, look.phase))
        for group in [list(same)]
    ]
    decision = stretches[-1].decision
    # What has ended has no numbers any more, and a source may have failed.
    watched = next((look for look in reversed(looks) if look.minutes), looks[-1])
    analysis = policy.analyze(watched)
    title, outcome = _ENDS.get(looks[-1].phase, (headline(decision), tone(decision)))
    basis = looks[-1].basis
    marks = [mark for stretch in stretches for mark in _marks(stretch)]
    return Document(
        about="Rollout" if basis is None else f"Rollout on stage {basis.stage}",
        title=title,
        tone=outcome,
        lead=sentence(decision.reason),
        facts=_facts(looks, analysis),
        sections=[
            signals(analysis),
            Section(
                "Evidence by minute",
                pictures.charts(looks, policy, paths(policy, watched), marks),
            ),
            *([] if compared is None else comparison.sections(compared)),
            Section("Decisions", [_decisions(stretches)]),
            *_remarks(looks, watched),
        ],
        data={
            "policy": policy.to_dict(),
            "decisions": [stretch.decision.to_dict() for stretch in stretches],
            "observation": watched.to_dict(),
            **({} if compared is None else {"comparison": comparison.data(compared)}),
        },
    )


def _facts(looks: Sequence[Observation], analysis: Analysis) -> Facts:
    first, last = looks[0], looks[-1]
    running = [look.percent for look in looks if look.phase == "running"]
    shares = [f"{percent:g} %" for percent, _ in groupby(running)]
    requests = max((finding.canary_requests for finding in analysis.findings), default=0.0)
    pairs = [
        ("Started", moment(first.started_at)),
        ("Last observation", moment(last.at)),
        ("Duration", span(last.at - first.started_at)),
        ("Observations", f"{len(looks):,}"),
        ("Traffic percentage", " → ".join(shares) or "ended"),
        ("Canary requests compared", f"{requests:,.0f}"),
    ]
    if last.basis is not None:
        pairs.append(("API", f"{last.basis.rest_api_id} in {last.basis.region}"))
        pairs.append(("Canary's deployment", last.basis.deployment_id))
    return Facts(pairs)


def _marks(stretch: _Stretch) -> Iterator[Mark]:
    """Where on the picture of the share a decision is drawn: where it leads to."""
    shapes: dict[type[Decided], tuple[Shape, float]] = {
        Shift: ("shift", stretch.decision.percent),
        Promote: ("promote", 100.0),
        Rollback: ("rollback", 0.0),
    }
    if type(stretch.decision) in shapes:
        shape, value = shapes[type(stretch.decision)]
        yield Mark(headline(stretch.decision), shape, stretch.decision.at, value)


def _decisions(stretches: Sequence[_Stretch]) -> Table:
    return Table(
        "The last decision at each traffic percentage",
        ("At (UTC)", "Percent", "Observations", "Decision", "Reason"),
        [
            (
                clock(stretch.decision.at),
                _share(stretch.looks[-1]),
                f"{len(stretch.looks):,}",
                headline(stretch.decision),
                sentence(stretch.decision.reason),
            )
            for stretch in stretches
        ],
    )


def _share(look: Observation) -> str:
    return f"{look.percent:g} %" if look.phase == "running" else look.phase.replace("_", " ")


def _remarks(looks: Sequence[Observation], watched: Observation) -> Iterator[Section]:
    """What the source said, what could not be seen, and what somebody else did."""
    said = [
        *(sentence(note) for note in watched.notes),
        *_counted("The metrics were suspect", [look.suspect for look in looks]),
        *_counted("The metrics could not be read", [look.failure for look in looks]),
        *_counted(
            "The stage was changed outside this rollout",
            ["; ".join(f"{name}: {how}" for name, how in look.changed.items()) for look in looks],
        ),
    ]
    if said:
        yield Section("Remarks", [Paragraph(each) for each in said])


def _counted(what: str, texts: Iterable[str | None]) -> Iterator[str]:
    said = [text for text in texts if text]
    for text in dict.fromkeys(said):
        count = said.count(text)
        yield sentence(f"{what}{f' ({count:,} looks)' if count > 1 else ''}: {text}")
