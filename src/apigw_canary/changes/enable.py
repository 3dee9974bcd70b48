"""Enabling a canary, once however often it is asked for."""

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import attrs

from apigw_canary.aws.apigateway import Deployment, Seen, enable_patch
from apigw_canary.changes.control import Bond, Control, log
from apigw_canary.changes.sending import Condition, listed
from apigw_canary.errors import (
    CanaryAlreadyEnabledError,
    CanaryError,
    NotFoundError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnansweredError,
    WeakenedApiError,
)
from apigw_canary.rollout import inputs
from apigw_canary.rollout.contract import changes
from apigw_canary.rollout.record import NO_RECORD, Begun, Record, check_text
from apigw_canary.rollout.state import ENDINGS, CanaryState, Outcome, StageState, Variables
from apigw_canary.rollout.words import span

_TICK = timedelta(seconds=1)
"""The resolution of the times AWS states."""


_LONG = timedelta(seconds=5)
"""How old a look at the stage may be to enable a canary on it. AWS allows one CreateDeployment in
five seconds, so waiting for it takes longer only where others deploy at the same time."""

_IS_PRODUCTION = {Outcome.PROMOTED}


def _checked_variables(values: Mapping[str, str] | None) -> Variables:
    return Variables(inputs.variables({} if values is None else values))


@attrs.frozen(kw_only=True)
class Wish:
    """The canary that `enable_canary` was asked for."""

    percent: float = attrs.field(converter=inputs.percent)
    release: str | None
    deployment_id: str | None
    variables: Variables = attrs.field(converter=_checked_variables)
    use_stage_cache: bool
    description: str | None
    accept: frozenset[str]
    policy: str | None = None
    """A fingerprint of the policy that the canary is to be observed with."""

    def __attrs_post_init__(self) -> None:
        if self.release is not None:
            inputs.text(self.release, "release")
        if self.deployment_id is not None:
            inputs.identifier(self.deployment_id, "deployment_id")
        inputs.flag(self.use_stage_cache, "use_stage_cache")
        if self.description is not None:
            if self.deployment_id is not None:
                inputs.refuse("description", "left out with deployment_id, which has one", "both")
            check_text(self.description)

    def is_of(self, state: StageState, canary: CanaryState, release: str | None) -> bool:
        """Whether the canary that is running is the one wished for, started earlier."""
        if self.release is not None or release is not None:
            return self.release == release
        return canary.variables == self.variables and (
            canary.deployment_id == self.deployment_id
            if self.deployment_id is not None
            else canary.deployment_id != state.deployment_id or state.canary_is_promoted
        )


def enable(control: Control, wish: Wish, only_if: Condition) -> Bond:
    """A canary as wished for, or the one that is running if it is that.

    Made only on a condition; the one that is running is returned on none.
    """
    seen = control.look()
    state = seen.stage
    if state.canary is not None:
        return _running(control, wish, seen, state.canary)
    only_if(seen)
    deployment, record, begun = _prepared(control, wish, seen)
    if deployment.created_at - seen.at > _LONG:
        # AWS was busy, and somebody else may have been quicker.
        seen = control.look()
        state = seen.stage
        if state.canary is not None:
            return _running(control, wish, seen, state.canary)
    if "weakened_methods" not in wish.accept:
        _check_contract(control, deployment.id, state)
    canary = CanaryState(
        deployment_id=deployment.id,
        percent=wish.percent,
        variables=wish.variables,
        use_stage_cache=wish.use_stage_cache,
    )
    enabled = control.change(
        enable_patch(canary),
        state,
        attrs.evolve(state, canary=canary),
        f"Deployment {deployment.id} was made ready for it. Look at stage.describe(), then run the "
        "same line again, or stage.rollback() to end the canary.",
    )
    bond = Bond(deployment, wish.variables, record, begun.started_at)
    control.verified(bond, enabled.stage)
    return bond


def _check_contract(control: Control, deployment_id: str, state: StageState) -> None:
    """Refuse a deployment that lacks methods of production's, or guards them less.

    Two GetDeployment; none for a canary of the stage's own deployment.
    """
    if deployment_id == state.deployment_id:
        return
    unused = f"Nothing was changed on the stage; deployment {deployment_id} is there, unused."
    accept = 'accept={"weakened_methods"} enables the canary all the same'
    try:
        before = control.gateway.contract(state.deployment_id)
        after = control.gateway.contract(deployment_id)
    except CanaryError as error:
        raise error.within(f"{unused} {state}", f"{accept}, unseen.") from error.__cause__
    _, removed, weakened = changes(before, after)
    lost = [f"{method} is gone" for method in removed] + list(weakened)
    if lost:
        raise WeakenedApiError(
            f"Deployment {deployment_id} takes away what production's, {state.deployment_id}, has: "
            f"{'; '.join(lost)}.",
            deployment_id=deployment_id,
            removed=removed,
            weakened=weakened,
            state=f"{unused} {state}",
            remedy=f"If that is meant, {accept}. Otherwise mend the API and enable a canary of "
            "another release: this deployment stays as it is.",
        )


def _running(control: Control, wish: Wish, seen: Seen, canary: CanaryState) -> Bond:
    """The canary that is running, if it is the one wished for."""
    state = seen.stage
    bond = control.bond(state)
    if not wish.is_of(state, canary, bond.release):
        age = seen.at - state.updated_at
        raise CanaryAlreadyEnabledError(
            f"Another canary is enabled, of release {bond.release or 'unknown'}, last changed "
            f"{span(age)} ago; it was left as it is.",
            deployment_id=canary.deployment_id,
            percent=canary.percent,
            age=age,
            state=str(state),
            remedy="Wait for it to end, or end it with stage.rollback().",
        )
    differences = {}
    if canary.variables != wish.variables:
        differences["canary.variables"] = "other values or names than asked"
    if wish.deployment_id not in {None, canary.deployment_id}:
        differences["canary.deployment_id"] = (
            f"{canary.deployment_id} instead of {wish.deployment_id}"
        )
    if differences:
        raise StageChangedError(
            f"The canary of release {wish.release} is running, and not as asked: "
            f"{listed(differences)}.",
            differences=differences,
            state=str(state),
            remedy="End it with stage.rollback(), and enable what was asked under another release.",
        )
    return bond


def _prepared(control: Control, wish: Wish, seen: Seen) -> tuple[Deployment, Record, Begun]:
    """The deployment that the canary will serve, with the rollout on record."""
    state = seen.stage
    deployments = control.gateway.deployments()
    unused = _of_release(control, wish.release, deployments, state) if wish.release else None
    if unused is not None and wish.deployment_id not in {None, unused.id}:
        unused = None  # made by an earlier try, which asked for another deployment than this one
    begun = Begun.of(
        state,
        at=seen.at,
        rollout_id=os.urandom(8).hex(),
        release=wish.release,
        variables=wish.variables,
        policy=wish.policy,
    )
    chosen = unused or (wish.deployment_id and _chosen(wish.deployment_id, deployments, state))
    if chosen and chosen.id == state.deployment_id and state.carries(wish.variables):
        inputs.refuse(
            "variables",
            "other than the stage's own for a canary of the stage's own deployment",
            list(wish.variables),
        )
    if wish.variables and state.carries(wish.variables):
        inputs.refuse(
            "variables",
            "with a value other than the stage's own: production is served by what the stage names "
            "already, and an alias that is re-used for a release changes production with it (leave "
            "variables out for a canary that differs in its deployment only)",
            list(wish.variables),
        )
    try:
        if not chosen:
            record = NO_RECORD.beginning(begun)
            return _created(control, wish, record, begun.id), record, begun
        earlier = control.records.of(chosen)
        ended = Outcome.REMOVED_OUTSIDE
        if earlier.rollout is not None:
            ending = _ending(earlier, chosen, [], state)
            ended = ended if ending == "unused" else ending
        record = earlier.beginning(begun, ended)
        return control.records.save(chosen, record), record, begun
    except CanaryError as error:
        raise error.within(
            f"Nothing was changed: {state}",
            "Without its record a rollout can be neither resumed nor reverted, so none was begun.",
        ) from error.__cause__


def _created(control: Control, wish: Wish, record: Record, token: str) -> Deployment:
    """A new deployment, once: one whose creation was not answered is found by its record."""
    description = control.records.described(wish.description, record)
    try:
        created = control.gateway.create_deployment(description)
    except UnansweredError:
        twins = [d for d in control.gateway.deployments() if token in (d.description or "")]
        if not twins:
            raise
        created = twins[0]
    if created.description != description:
        raise RecordError(
            f"Deployment {created.id} was created, and AWS keeps another description than was sent."
        )
    return control.records.adopt(created, record)


def _chosen(deployment_id: str, deployments: list[Deployment], state: StageState) -> Deployment:
    for deployment in deployments:
        if deployment.id == deployment_id:
            return deployment
    raise NotFoundError(
        f"The API has no deployment {deployment_id}.",
        state=f"Nothing was changed: {state}",
        remedy=f"It has {', '.join(d.id for d in deployments)}.",
    )


def _of_release(
    control: Control, release: str, deployments: list[Deployment], state: StageState
) -> Deployment | None:
    """The deployment that was made for a release and whose canary was never enabled.

    Raises `RolloutEndedError` for a release that has had its rollout.
    """
    unused = None
    for deployment in deployments:
        outcome = _outcome(control, release, deployment, deployments, state)
        if outcome == "unused":
            if unused is not None:
                log.warning("release %s: deployment %s is left over", release, unused.id)
            unused = deployment
        elif outcome is not None:
            raise RolloutEndedError(
                f"Release {release} has had its rollout: {ENDINGS[outcome]}.",
                release=release,
                outcome=outcome.value,
                state=str(state),
                remedy=("stage.revert() undoes it. " if outcome in _IS_PRODUCTION else "")
                + "To release it again, give it another name, such as "
                f"release={release + '-again'!r}.",
            )
    return unused


def _outcome(
    control: Control,
    release: str,
    deployment: Deployment,
    deployments: list[Deployment],
    state: StageState,
) -> Outcome | Literal["unused"] | None:
    """How the release ended that the deployment was made for; None if it was made for another.

    "unused": its canary was never enabled.
    """
    try:
        record = control.records.of(deployment)
    except RecordError as error:
        if json.dumps(release) in (deployment.description or ""):
            # It may say that this release was rolled back.
            raise error.within(
                f"Nothing was changed: {state}", f"It is of deployment {deployment.id}."
            ) from error.__cause__
        return None
    if record.rollout is None or record.rollout.release != release:
        return record.ended.get(release)
    others = [control.readable(other) for other in deployments if other.id != deployment.id]
    return _ending(record, deployment, others, state)


def _ending(
    record: Record, deployment: Deployment, others: list[Record], state: StageState
) -> Outcome | Literal["unused"]:
    """How the latest rollout of a deployment ended, from its record and the stage."""
    begun, promotion = record.rollout, record.begun_promotion()
    assert begun is not None
    if promotion is not None and promotion.is_done_on(state):
        return Outcome.PROMOTED
    if any(other.reverted_from == deployment.id for other in [record, *others]):
        return Outcome.REVERTED
    if promotion is not None and not promotion.is_undone_on(state):
        return Outcome.PROMOTED  # announced, and production has moved on since
    # Times are whole seconds: a change within the second of the last one would not show.
    untouched = begun.stage_updated_at == state.updated_at
    if untouched and state.updated_at + _TICK < begun.started_at:
        return "unused"
    if state.deployment_id == deployment.id != begun.stage_deployment_id:
        return Outcome.PROMOTED_OUTSIDE
    return Outcome.REMOVED_OUTSIDE
