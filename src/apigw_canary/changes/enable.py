"""Enabling a canary, once however often it is asked for; and its dry run."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

import attrs

from apigw_canary.aws import (
    ApiGateway,
    Deployment,
    DryCalls,
    Sent,
    StageSnapshot,
    enable_patch,
    explained,
    log,
)
from apigw_canary.changes.control import CanaryHandle, Control, half_undone, unrecorded
from apigw_canary.changes.rollback import finished
from apigw_canary.changes.sending import (
    Condition,
    already_enabled,
    had_its_rollout,
    listed,
    without_log,
)
from apigw_canary.errors import (
    CanaryError,
    NotFoundError,
    RecordError,
    RolloutEndedError,
    StageChangedError,
    UnansweredError,
    WeakenedApiError,
)
from apigw_canary.model import (
    NO_RECORD,
    Begun,
    CanaryState,
    Outcome,
    Promotion,
    Record,
    StageState,
    Variables,
    api_changes,
    check_text,
    outcomes,
)
from apigw_canary.values import span, validation


def _checked_variables(values: Mapping[str, str] | None) -> Variables:
    return Variables(validation.variables({} if values is None else values))


@attrs.frozen(kw_only=True)
class CanaryRequest:
    """The canary that `enable_canary` was asked for."""

    percent: float = attrs.field(converter=validation.percent)
    release: str | None = attrs.field(validator=validation.checked(validation.text, or_none=True))
    deployment_id: str | None = attrs.field(
        validator=validation.checked(validation.identifier, or_none=True)
    )
    variables: Variables = attrs.field(converter=_checked_variables)
    use_stage_cache: bool = attrs.field(validator=validation.checked(validation.flag))
    description: str | None
    accept: frozenset[str]
    policy: str | None = None
    """A fingerprint of the policy that the canary is to be observed with."""

    def __attrs_post_init__(self) -> None:
        if self.description is not None:
            if self.deployment_id is not None:
                validation.refuse(
                    "description",
                    "left out if deployment_id is given, which has a description",
                    "both",
                )
            check_text(self.description)

    def is_of(self, state: StageState, canary: CanaryState, release: str | None) -> bool:
        """Whether the canary that is running is the one requested, started earlier."""
        if self.release is not None or release is not None:
            return self.release == release
        return canary.variables == self.variables and (
            canary.deployment_id == self.deployment_id
            if self.deployment_id is not None
            else canary.deployment_id != state.deployment_id or state.canary_is_promoted
        )


def enable(control: Control, request: CanaryRequest, only_if: Condition) -> CanaryHandle:
    """A canary as requested, or the one that is running if it is that.

    Made only on a condition, for a release that has not ended yet; the one that is running is
    returned on none. The stage is read again directly before the change: everything else takes
    time, in which another process may act.
    """
    seen = control.read()
    if seen.stage.canary is not None:
        return _running(control, request, seen, seen.stage.canary)
    deployments = control.gateway.deployments()
    try:
        unused = _of_release(control, request.release, deployments, seen.stage)
    except RolloutEndedError:
        seen = control.settled(seen)
        if seen.stage.canary is None:
            _finish_rollback(control, request, deployments, seen.stage)
            raise
        return _running(control, request, seen, seen.stage.canary)
    unfinished = _half_undone(control, deployments, seen.stage)
    if unfinished is not None and "unfinished_rollback" not in request.accept:
        raise half_undone(unfinished[1].release)
    only_if(seen)
    deployment, record = _prepared(control, request, seen, deployments, unused)
    if "weakened_methods" not in request.accept:
        _check_contract(control, deployment.id, seen.stage)
    before, seen = seen.stage, control.read()
    state = seen.stage
    if state.canary is not None:
        return _running(control, request, seen, state.canary)
    begun = record.rollout
    assert begun is not None
    if changed := begun.production_changes(state, request.variables):
        raise StageChangedError(
            "Production was changed outside this call while the canary was being prepared: "
            f"{listed(changed or state.differences(before))}.",
            differences=changed,
            remedy="Run the same line again: it compares with production as it is now.",
        )
    if unfinished is not None and unfinished[0].id != deployment.id:
        _keep_promoted(control, unfinished[0].id)
    canary = CanaryState(
        deployment_id=deployment.id,
        percent=request.percent,
        variables=request.variables,
        use_stage_cache=request.use_stage_cache,
    )
    enabled = control.change(
        enable_patch(canary),
        state,
        attrs.evolve(state, canary=canary),
        f"enabling a canary of deployment {deployment.id} at {request.percent:g} %",
        f"Deployment {deployment.id} was prepared for the canary. Check stage.describe(), then run "
        "the same line again, or stage.rollback() to end the canary.",
    )
    record = found_enabled(control, deployment, record, enabled.stage.updated_at)
    handle = CanaryHandle(
        deployment,
        request.variables,
        record,
        begun.started_at,
        unrecorded(state, seen.at, request.variables),
    )
    control.verified(handle, enabled.stage)
    return handle


def _finish_rollback(
    control: Control, request: CanaryRequest, deployments: list[Deployment], state: StageState
) -> None:
    """Continues a rollback of the release whose process died; raises how the rollout has ended.

    Where production is to stay as it is, the release counts as promoted instead.
    """
    stays = "unfinished_rollback" in request.accept
    unfinished = _half_undone(control, deployments, state) if stays else None
    if unfinished is not None and unfinished[1].release == request.release:
        _keep_promoted(control, unfinished[0].id)
    elif outcome := finished(control, state, lambda begun: begun.release == request.release):
        raise had_its_rollout("stage", str(request.release), outcome)


def _keep_promoted(control: Control, deployment_id: str) -> None:
    """Record that production's release is promoted, whatever rollback of it was announced."""
    deployment = control.gateway.deployment(deployment_id)
    control.records.save(deployment, control.record(deployment).ending(Outcome.PROMOTED))


def _half_undone(
    control: Control, deployments: list[Deployment], state: StageState
) -> tuple[Deployment, Promotion] | None:
    """Production's deployment where it is to be rolled back, and can be; and its promotion.

    It is no baseline.
    """
    known = {each.id: each for each in deployments}
    if state.deployment_id not in known:
        return None
    deployment = known[state.deployment_id]
    promotion = control.readable(deployment).half_undone(state)
    if promotion is None or promotion.deployment_before not in known:
        return None
    return deployment, promotion


def found_enabled(control: Control, deployment: Deployment, record: Record, at: datetime) -> Record:
    """The record of a canary that was found enabled, written as far as that is possible.

    Without it a canary that is ended outside, in the console, counts as one that never was.
    """
    begun = record.rollout
    if begun is None or begun.enabled_at is not None or begun.outcome is not None:
        return record
    marked = attrs.evolve(record, rollout=attrs.evolve(begun, enabled_at=at))
    try:
        control.records.save(deployment, marked)
    except CanaryError as error:
        log.warning("deployment %s: not recorded as enabled: %s", deployment.id, error)
        return record
    return marked


def _check_contract(control: Control, deployment_id: str, state: StageState) -> None:
    """Refuse a deployment that lacks methods of production's, or guards them less.

    Two GetDeployment; none for a canary of the stage's own deployment.
    """
    if deployment_id == state.deployment_id:
        return
    unused = f"No stage serves deployment {deployment_id}."
    accept = 'accept={"weakened_methods"} enables the canary anyway'
    with explained(CanaryError, unused, f"{accept}, without this check."):
        before = control.gateway.contract(state.deployment_id)
        after = control.gateway.contract(deployment_id)
    _, removed, weakened = api_changes(before, after)
    lost = [f"{method} was removed" for method in removed] + list(weakened)
    if lost:
        raise WeakenedApiError(
            f"Compared with production's deployment {state.deployment_id}, deployment "
            f"{deployment_id} weakens the API: {'; '.join(lost)}. {unused}",
            deployment_id=deployment_id,
            removed=removed,
            weakened=weakened,
            remedy=f"If that is intended, {accept}. Otherwise fix the API and use another release "
            "name, because this deployment cannot be changed.",
        )


def _running(
    control: Control, request: CanaryRequest, seen: StageSnapshot, canary: CanaryState
) -> CanaryHandle:
    """The canary that is running, if it is the one requested."""
    state = seen.stage
    handle = control.handle(seen)
    recorded = control.readable(handle.deployment).rollout
    release = recorded.release if recorded is not None and recorded.outcome is None else None
    if not request.is_of(state, canary, release):
        age = seen.at - state.updated_at
        happened = (
            f"Another canary is enabled, of release {release or 'unknown'}, last changed "
            f"{span(age)} ago. It was not changed."
        )
        raise already_enabled("stage", happened, canary, age)
    differences = {}
    if canary.variables != request.variables:
        differences["canary.variables"] = "other values or names than requested"
    if request.deployment_id not in {None, canary.deployment_id}:
        differences["canary.deployment_id"] = (
            f"{canary.deployment_id} instead of {request.deployment_id}"
        )
    if differences:
        raise StageChangedError(
            f"The canary of release {request.release} is running, but it is not as requested: "
            f"{listed(differences)}.",
            differences=differences,
            remedy="End it with stage.rollback(), then enable the canary with another release "
            "name.",
        )
    record = found_enabled(control, handle.deployment, handle.record, state.updated_at)
    return handle._replace(record=record)


def _prepared(
    control: Control,
    request: CanaryRequest,
    seen: StageSnapshot,
    deployments: list[Deployment],
    unused: Deployment | None,
) -> tuple[Deployment, Record]:
    """The deployment that the canary will serve, with the rollout on record."""
    state = seen.stage
    if unused is not None and request.deployment_id not in {None, unused.id}:
        unused = None  # made by an earlier try, which asked for another deployment than this one
    chosen = unused or (request.deployment_id and _chosen(request.deployment_id, deployments))
    if chosen and chosen.id == state.deployment_id and state.carries(request.variables):
        validation.refuse(
            "variables",
            "different from the stage's own for a canary of the stage's own deployment",
            list(request.variables),
        )
    if request.variables and state.carries(request.variables):
        validation.refuse(
            "variables",
            "different from the stage's own: production already uses these values, and if a "
            "release re-uses a Lambda alias, production changes with it (leave variables out if "
            "only the deployment differs)",
            list(request.variables),
        )
    with explained(
        CanaryError,
        "",
        "A rollout without a record can be neither resumed nor reverted, so none was begun.",
    ):
        earlier = control.record(chosen) if chosen else NO_RECORD
        # Of a deployment that another run of this release has made ready the rollout is the same.
        same = unused and earlier.rollout and earlier.rollout.id
        begun = Begun.of(
            state,
            at=seen.at,
            rollout_id=same or control.new_id(),
            release=request.release,
            variables=request.variables,
            policy=request.policy,
        )
        if not chosen:
            record = NO_RECORD.beginning(begun)
            return _created(control, request, record, begun.id), record
        records = {each.id: control.readable(each) for each in deployments}
        ended = outcomes.ending(chosen.id, records, state) if earlier.rollout else None
        record = earlier.beginning(begun, ended.outcome if ended else Outcome.NEVER_STARTED)
        return control.records.save(chosen, record), record


def _created(control: Control, request: CanaryRequest, record: Record, token: str) -> Deployment:
    """A new deployment, once: one whose creation was not answered is found by its record."""
    description = control.records.described(request.description, record)
    try:
        created = control.gateway.create_deployment(description)
    except UnansweredError:
        twins = [d for d in control.gateway.deployments() if token in (d.description or "")]
        if not twins:
            raise
        created = twins[0]
    if created.description != description:
        raise RecordError(
            f"Deployment {created.id} was created, but AWS stored another description than the one "
            "that was sent."
        )
    return control.records.adopt(created, record)


def _chosen(deployment_id: str, deployments: list[Deployment]) -> Deployment:
    for deployment in deployments:
        if deployment.id == deployment_id:
            return deployment
    raise NotFoundError(
        f"The API has no deployment {deployment_id}.",
        remedy=f"It has {', '.join(d.id for d in deployments)}.",
    )


def _of_release(
    control: Control, release: str | None, deployments: list[Deployment], state: StageState
) -> Deployment | None:
    """The deployment that was made for a release and whose canary was never enabled.

    Raises `RolloutEndedError` for a release that has had its rollout, with its outcome.
    """
    if release is None:
        return None
    records: dict[str, Record] = {}
    for deployment in deployments:
        try:
            records[deployment.id] = control.record(deployment)
        except RecordError as error:
            if json.dumps(release) in (deployment.description or ""):
                # It may say that this release was rolled back.
                raise error.within(f"It is of deployment {deployment.id}.") from error.__cause__
            records[deployment.id] = NO_RECORD
    ended = outcomes.of_release(release, records, state)
    if ended is not None and ended.outcome is not Outcome.NEVER_STARTED:
        raise had_its_rollout("stage", release, ended.outcome)
    unused = [
        deployment
        for deployment in deployments
        if (begun := records[deployment.id].rollout) is not None and begun.release == release
    ]
    for deployment in unused[1:]:
        log.warning("release %s: deployment %s is left over", release, deployment.id)
    return unused[0] if unused else None


class DryRun(NamedTuple):
    """What enabling a canary would come to."""

    sent: list[Sent]
    error: CanaryError | None
    """What it would raise."""


def dry_run(
    control: Control, request: CanaryRequest, only_if: Callable[[ApiGateway], Condition]
) -> DryRun:
    """Enables the canary with reads alone; `only_if` gives the condition for a gateway."""
    calls = DryCalls(control.gateway.calls)
    gateway = ApiGateway(calls, control.gateway.rest_api_id, control.gateway.stage_name)
    try:
        with without_log():
            enable(control.dry(gateway), request, only_if(gateway))
    except CanaryError as error:
        return DryRun(calls.sent, error)
    return DryRun(calls.sent, None)
