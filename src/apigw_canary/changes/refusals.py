"""The refusals that a stage and an alias share, each written once."""

from collections.abc import Mapping
from datetime import timedelta

from apigw_canary.changes.sending import listed
from apigw_canary.errors import (
    CanaryAlreadyEnabledError,
    NoCanaryError,
    RolloutEndedError,
    StageChangedError,
)
from apigw_canary.model import ENDINGS, CanaryState, Outcome, Promotion
from apigw_canary.values import validation


def check_production(changes: Mapping[str, str]) -> None:
    """Refuse to shift or promote beside changes of production that were not accepted."""
    if changes:
        raise StageChangedError(
            f"Production was changed outside this rollout: {listed(changes)}.",
            differences=changes,
            remedy="If that change is intended, call canary.accept_production_changes(), then "
            "observe and decide again, or run the same line again. Otherwise canary.rollback() "
            "ends the canary.",
        )


def changed_outside(place: str, differences: Mapping[str, str]) -> StageChangedError:
    """The error for a `place`, "stage" or "alias", that is not as the change expects it."""
    return StageChangedError(
        f"The {place} was changed outside this rollout: {listed(differences)}.",
        differences=differences,
        remedy=f"Check {place}.describe(); {place}.canary() is what is running now, and "
        f"{place}.rollback() ends it.",
    )


def no_canary(place: str, *, promoted: bool) -> NoCanaryError:
    """The error for a canary that has ended."""
    return NoCanaryError(
        f"The canary does not exist any more: it was {'promoted' if promoted else 'ended'}.",
        remedy=f"{place}.enable_canary(...) starts a new one, under another release's name.",
    )


def already_enabled(
    place: str, happened: str, canary: CanaryState, age: timedelta
) -> CanaryAlreadyEnabledError:
    """The error for another canary, which is in the way."""
    return CanaryAlreadyEnabledError(
        happened,
        deployment_id=canary.deployment_id,
        percent=canary.percent,
        age=age,
        remedy=f"Wait for it to end, or end it with {place}.rollback().",
    )


def had_its_rollout(place: str, release: str, outcome: Outcome) -> RolloutEndedError:
    """The error for a release that is not started again."""
    undo = f"Nothing is left to do; {place}.revert() would undo it. "
    return RolloutEndedError(
        f"Release {release} has had its rollout: {ENDINGS[outcome]}.",
        release=release,
        outcome=outcome.value,
        remedy=(undo if outcome is Outcome.PROMOTED else "")
        + f"To release it again, give it another name, such as release={release + '-again'!r}.",
    )


def is_promoted(place: str, release: str | None, outcome: Outcome) -> RolloutEndedError:
    """The error for ending a canary that was promoted."""
    return RolloutEndedError(
        "The canary has been promoted; there is none to end.",
        release=release or "unknown",
        outcome=outcome.value,
        remedy=f"{place}.revert() undoes the promotion.",
    )


def promoted_outside(release: str | None) -> RolloutEndedError:
    """The error for a finished promotion of which no receipt is known."""
    return RolloutEndedError(
        "The canary was promoted outside this library; what production served before is not "
        "recorded.",
        release=release or "unknown",
        outcome=Outcome.PROMOTED_OUTSIDE.value,
        remedy="There is nothing left to promote.",
    )


def check_place(promotion: Promotion, place: str, ours: tuple[str, str, str]) -> None:
    """Refuse a receipt of another stage or alias; `ours` is region, API or function, and name."""
    theirs = (promotion.region, promotion.rest_api_id, promotion.stage)
    if ours != theirs:
        validation.refuse("promotion", f"of {place} {'/'.join(ours)}", "/".join(theirs))
