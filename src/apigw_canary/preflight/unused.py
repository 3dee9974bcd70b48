"""Refuses variables that nothing would read: a canary with a misspelled one is production again."""

import logging

from apigw_canary.aws.apigateway import ApiGateway
from apigw_canary.errors import AwsError, CannotTellError, InvalidInputError, NotFoundError
from apigw_canary.model.state import StageState, Variables

log: logging.Logger = logging.getLogger("apigw_canary")


def require_used(
    gateway: ApiGateway, state: StageState, overrides: Variables, deployment_id: str | None
) -> None:
    """Raise `InvalidInputError` where neither the stage nor the API uses one of the variables.

    Nothing is called where the stage has all of them. Where it cannot be told, because the API
    cannot be read or the canary is to serve an earlier deployment, a warning is logged.
    """
    new = sorted(overrides.keys() - state.variables.keys())
    if not new:
        return
    listed = ", ".join(new)
    if deployment_id is not None:
        log.warning(
            "stage %s has no variable %s; AWS does not show whether deployment %s uses it",
            state.name,
            listed,
            deployment_id,
        )
        return
    try:
        unused = gateway.unused_of(new, gateway.methods())
    except (AwsError, CannotTellError, NotFoundError) as error:
        log.warning(
            "stage %s has no variable %s; whether the API uses it could not be read: %s",
            state.name,
            listed,
            error.happened,
        )
        return
    if unused:
        raise InvalidInputError(
            "variables", "ones that the stage has or the API uses", ", ".join(unused)
        ).within(
            f"Nothing was changed. {state} Its variables: {', '.join(state.variables) or 'none'}.",
            "Correct the name: no integration, template, parameter or authorizer of the API has "
            "it. Is it read only by Lambda code, or by a gateway response? Then give "
            'accept={"unused_variables"}.',
        )
