"""Sends requests to the API as it is being edited, with the variables that a canary will have."""

from collections.abc import Callable, Sequence

from apigw_canary.aws import (
    ApiGateway,
    InvocationAnswer,
    Method,
    explained,
    invoke_method,
    variables_in,
)
from apigw_canary.errors import (
    AccessDeniedError,
    AwsError,
    CanaryError,
    CredentialsError,
    NotFoundError,
    ThrottledError,
    UnansweredError,
    UnreachableError,
)
from apigw_canary.model import (
    ANY,
    SAFE_METHODS,
    Route,
    SmokeRequest,
    SmokeResult,
    StageState,
    Variables,
    answering,
)
from apigw_canary.values import validation

_NOT_OF_THE_METHOD = (AccessDeniedError, CredentialsError, ThrottledError, UnreachableError)
"""Refusals that are not about the method: the next request would be refused too."""

_GOOD = range(200, 300)


def smoke_test(
    gateway: ApiGateway,
    read: Callable[[], StageState],
    requests: Sequence[str | SmokeRequest],
    overrides: Variables,
    *,
    unsafe: bool,
) -> tuple[SmokeResult, ...]:
    """What comes of each request, in their order: each is sent once."""
    asked = _checked(requests, unsafe=unsafe)
    stage = read()
    methods = {method.route: method for method in gateway.methods()}
    variables = Variables(stage.variables).merged_with(overrides)
    results: list[SmokeResult] = []
    for request in asked:
        route = answering(methods, Route(request.method, request.path.partition("?")[0]))
        with explained(
            CanaryError, f"{len(results)} of {len(asked)} requests were answered before."
        ):
            results.append(
                _unanswerable(request)
                if route is None
                else _result(gateway, request, methods[route], variables)
            )
    return tuple(results)


def _checked(requests: object, *, unsafe: bool) -> list[SmokeRequest]:
    expected = 'a sequence of texts such as "GET /health", or of SmokeRequest'
    if not isinstance(requests, Sequence) or isinstance(requests, str) or not requests:
        validation.refuse("requests", f"{expected}, at least one", requests)
    checked = []
    each: object
    for each in requests:
        if isinstance(each, str):
            method, _, path = each.partition(" ")
            request = SmokeRequest(method, path)
        elif isinstance(each, SmokeRequest):
            request = each
        else:
            validation.refuse("requests", expected, each)
        if not request.is_safe and not unsafe:
            validation.refuse(
                "requests",
                f"requests of the methods {', '.join(SAFE_METHODS)} unless unsafe=True is given, "
                "because the backends are really called",
                str(request),
            )
        checked.append(request)
    return checked


def _unanswerable(request: SmokeRequest) -> SmokeResult:
    return SmokeResult(
        request=str(request),
        outcome="failed",
        expected=request.expected,
        reason="the API as it is edited now has no method that answers it.",
    )


def _result(
    gateway: ApiGateway, request: SmokeRequest, method: Method, variables: Variables
) -> SmokeResult:
    """What comes of a request that a method of the API answers."""

    def result(
        reason: str, answer: InvocationAnswer | None = None, *, passed: bool | None
    ) -> SmokeResult:
        return SmokeResult(
            request=str(request),
            outcome="not testable" if passed is None else "passed" if passed else "failed",
            expected=request.expected,
            reason=reason,
            route=str(method.route),
            status=answer and answer.status,
            latency=answer and answer.latency,
            log=answer.log if answer else (),
        )

    if unknown := variables_in(method.uri or "") - variables.keys():
        return result(
            f"the integration uses the stage variables {', '.join(sorted(unknown))}, which canary "
            "requests would not have. It was not sent.",
            passed=False,
        )
    verbs = [request.method, ANY] if method.route.method == ANY else [request.method]
    try:
        answer = _first(
            verbs, lambda verb: invoke_method(gateway, method.resource_id, verb, request, variables)
        )
    except _NOT_OF_THE_METHOD:
        raise
    except UnansweredError as error:
        return result(
            f"{error.happened} The backend may have been called.",
            passed=None,
        )
    except (AwsError, NotFoundError):
        # Without AWS's own text, which may repeat what was sent.
        return result("AWS refused to test this method.", passed=None)
    if answer.not_allowed:
        return result(
            "API Gateway may not call the Lambda function for test invocations, or there is no "
            "such function, alias or version. stage.allow_invocation(variables, smoke_test=True) "
            "adds the permission.",
            answer,
            passed=None,
        )
    wrong = _wrong(request, answer)
    answered = f"status {answer.status}"
    if answer.latency is not None:
        answered += f" in {answer.latency.total_seconds() * 1000:.0f} ms"
    return result(f"{answered}{wrong}.", answer, passed=not wrong)


def _wrong(request: SmokeRequest, answer: InvocationAnswer) -> str:
    """How the answer differs from the expected one; empty where it does not."""
    wanted = _GOOD if request.status is None else (request.status,)
    if answer.status not in wanted:
        return f" instead of {request.expected}"
    if request.contains is not None and request.contains not in answer.body:
        return f", without {request.contains!r} in the body"
    return ""


def _first(verbs: Sequence[str], send: Callable[[str], InvocationAnswer]) -> InvocationAnswer:
    """The answer to the first of the verbs that AWS knows the method by.

    How a method `ANY` is addressed is not documented: by the request's own verb, or as ANY.
    """
    *earlier, last = verbs
    for verb in earlier:
        try:
            return send(verb)
        except _NOT_OF_THE_METHOD:
            raise
        except (AwsError, NotFoundError):
            continue
    return send(last)
