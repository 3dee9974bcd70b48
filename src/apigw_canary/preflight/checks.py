"""The checks: each a function from the facts to what is wrong, and their order."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import attrs

from apigw_canary.judge import MOST_PAST, AlarmState, parts
from apigw_canary.metrics.logformat import MESSAGES, breaking
from apigw_canary.model import Route
from apigw_canary.preflight.facts import Facts, Problem, Severity
from apigw_canary.preflight.invocation import Policy, Target
from apigw_canary.preflight.traffic import (
    data_lacking,
    never_given,
    outlook,
    past_rate,
    requests_per_minute,
)
from apigw_canary.rollout.view import guards_at_100
from apigw_canary.values import listed, sentence, span

Check = Callable[[Facts], Iterator[Problem]]

_NOT_COMPARED = (
    "Integrations, authorizers, scopes, issuers and models are not in AWS's summary, and were not "
    "compared."
)
_PRODUCTIONS = "production's deployment {facts.stage.deployment_id}"
_MOST_POWER_AT = 50
"""The traffic percentage at which a difference between the variants is found soonest."""
_AT_THE_DEADLINE = {
    "rollback": "the canary is rolled back",
    "hold": "it waits for an operator",
}
_ANSWERED_500 = "Each canary request there would be answered with a 500."


def check(facts: Facts) -> tuple[Problem, ...]:
    """What every check finds, errors first."""
    found = [*facts.unread, *(problem for each in CHECKS for problem in each(facts))]
    return tuple(sorted(found, key=lambda problem: problem.severity == "warning"))


@attrs.frozen
class _Check:
    """A check that finds at most one problem."""

    severity: Severity
    finds: Callable[[Facts], object]
    """What is wrong: a text, names to be listed, or just True. What is falsy is nothing wrong."""
    what: str
    """The sentence about it, with `{found}` and parts of the `{facts}` filled in."""
    remedy: str
    accepted_by: str = ""
    """What `enable_canary` accepts to make a warning of the error."""

    def __call__(self, facts: Facts) -> Iterator[Problem]:
        """The problem, where there is one."""
        found = self.finds(facts)
        if found:
            severity: Severity = "warning" if self.accepted_by in facts.accepted else self.severity
            shown = (
                listed(found)
                if isinstance(found, Collection) and not isinstance(found, str)
                else found
            )
            yield Problem(severity, self.what.format(found=shown, facts=facts), self.remedy)


def _in_state(facts: Facts, state: AlarmState) -> list[str]:
    """The policy's alarms that are in a state now."""
    return [each.name for each in facts.alarms.values() if each is not None and each.state == state]


def _unknown_variables(facts: Facts) -> Iterator[Problem]:
    names = facts.overrides.keys() - facts.stage.variables.keys()
    if facts.deployment_id is None:
        names -= set(facts.unused or ())
    if names:
        yield Problem(
            "warning",
            f"The stage has no variable {listed(names)} to override; it has "
            f"{listed(facts.stage.variables) or 'none'}.",
            "Check the spelling. If it is new, a promotion will add it.",
        )


def _too_little_traffic(facts: Facts) -> Iterator[Problem]:
    if facts.policy is None or facts.traffic is None:
        return
    per_minute = requests_per_minute(facts.traffic)
    if not per_minute:
        yield Problem(
            "error",
            "The stage had no requests in the past hour according to the metrics: without "
            "requests no canary is promoted.",
            "Check that metrics arrive, or release when there is traffic.",
        )
        return
    policy = facts.policy
    last = [step.percent for step in policy.steps if step.percent < 100][-1]
    larger = f"a larger percentage than {last:g} %, " if last < _MOST_POWER_AT else ""
    pace = f"At {per_minute:,.3g} requests a minute, as in the past hour, "
    found = outlook(policy, facts.traffic)
    if found is None or not found.takes_longer:
        return
    if found.in_time:
        yield Problem(
            "warning",
            f"{pace}{found.said}.",
            f"Accept that, or give {larger}longer bakes, or a wider margin.",
        )
        return
    yield Problem(
        "error",
        f"{pace}{found.said}. Then {_AT_THE_DEADLINE[policy.on_inconclusive]}.",
        f"Give {larger}a wider margin, or a later deadline.",
    )


def _lacking(facts: Facts) -> Iterator[Problem]:
    if facts.policy is not None and facts.traffic is not None:
        for what, remedy in data_lacking(facts.policy, facts.traffic):
            yield Problem("error", what, remedy)


def _not_observed(facts: Facts) -> Iterator[Problem]:
    """Signals without data that are not in an error already."""
    if facts.policy is None or facts.traffic is None:
        return
    missing = never_given(facts.policy, facts.traffic)
    for signal in facts.policy.signals:
        why = facts.traffic.not_observed.get(signal.name)
        if why is None or signal.name in missing:
            continue
        correct = "route" if signal.route is not None else "source"
        remedy = (
            f"The other signals are judged without it. Correct the {correct}, or take the signal "
            "out of the policy"
        )
        if signal.is_latency:
            remedy += "; a limit in milliseconds, Signal.latency(over=…), needs no baseline"
        yield Problem(
            "warning", f"{signal.name} would not be observed: {sentence(why)}", f"{remedy}."
        )


def _own_signals_of_routes(facts: Facts) -> Iterator[Problem]:
    policy = facts.policy
    if policy is None:
        return
    measured = facts.traffic is not None and facts.traffic.routes is not None
    shares = parts(policy, policy.route_weight if measured else 0.0)
    for signal, part in zip(policy.signals, shares, strict=True):
        if signal.route is not None and part:
            yield Problem(
                "warning",
                f"{signal.name} has {100 * part:.3g} % of the evidence for rolling back: alone it "
                f"rolls back at most {100 * part * policy.false_rollback:.2g} % of healthy "
                f"canaries, and all else has {100 * (1 - part):.3g} % of the evidence.",
                "Accept that, or give it less weight.",
            )


def _no_baseline_at_100(facts: Facts) -> Iterator[Problem]:
    policy = facts.policy
    if policy is None or policy.steps[-1].percent < 100:
        return
    if not policy.alarms and all(signal.limit is None for signal in policy.signals):
        yield Problem(
            "warning",
            "The policy bakes at 100 %, where there is no baseline, without a limit or an alarm: "
            f"{guards_at_100(policy)} can roll back there, and nothing else can.",
            "Give a signal a limit, or the policy alarms, or promote from below 100 %.",
        )
    for signal in policy.signals:
        rate = past_rate(facts.traffic, signal.name) if facts.traffic is not None else 0.0
        if signal.rare and not signal.report_only and rate > MOST_PAST:
            yield Problem(
                "warning",
                f"In the past hour {signal.name} were {100 * rate:.2f} %, above "
                f"{100 * MOST_PAST:g} %. That is too much for a comparison with the past, so at "
                "100 % no gross failure is found, and nothing but the latest minutes is checked "
                "before the promotion.",
                "Give the policy alarms, or promote from below 100 %.",
            )


def _no_step(facts: Facts) -> Iterator[Problem]:
    policy, percent = facts.policy, facts.percent
    if policy is None or percent in {0, *(step.percent for step in policy.steps)}:
        return
    steps = ", ".join(f"{step.percent:g} %" for step in policy.steps)
    following = policy.next_step(percent)
    then = f"shifted to {following.percent:g} %" if following is not None else "promoted"
    yield Problem(
        "warning",
        f"{percent:g} % is no step of the policy, whose steps are {steps}. From {percent:g} % the "
        f"canary is {then}"
        + (", and at 100 % there is no baseline to compare it with." if percent == 100 else "."),
        "Give the percent of a step, or none for the first one.",
    )


def _short_steps(facts: Facts) -> Iterator[Problem]:
    if facts.policy is None:
        return
    least = facts.policy.least_step
    short = [f"{step.percent:g} %" for step in facts.policy.steps if step.bake < least]
    if short:
        yield Problem(
            "warning",
            f"The step at {', '.join(short)} bakes for less than {span(least)}. Each step takes "
            "about that long anyway, until one of its minutes is complete and CloudWatch has its "
            "metrics.",
            f"Give bakes of {span(least)} or more, or expect the rollout to take longer.",
        )


def _same_values(facts: Facts) -> Iterator[Problem]:
    same = [
        name for name, value in facts.overrides.items() if facts.stage.variables.get(name) == value
    ]
    if same and not facts.resumes:
        yield Problem(
            "error" if len(same) == len(facts.overrides) else "warning",
            f"Production already has the same value of {listed(same)}: if a release re-uses a "
            "Lambda alias, production changes with it.",
            "Publish a version, and give each release an alias of its own.",
        )


def _unresolved(facts: Facts) -> Iterator[Problem]:
    for target in facts.targets:
        if target.unknown:
            yield Problem(
                "error",
                f"The integration of {target.route} uses the stage variable "
                f"{listed(target.unknown)}, which canary requests would not have. {_ANSWERED_500}",
                "Set it on the stage, or among the canary's variables.",
            )


class _FunctionCheck(NamedTuple):
    """What can be wrong with a function for a method whose requests call it."""

    severity: Severity
    is_wrong: Callable[[Policy, Target], bool]
    what: str
    remedy: str


_FUNCTION_CHECKS = (
    _FunctionCheck(
        "error",
        lambda policy, _: not policy.exists,
        "The function {function}, or its alias or version, does not exist. Canary requests to "
        f"{{methods}} call it. {_ANSWERED_500}",
        "Create it before the canary, or correct the variable.",
    ),
    _FunctionCheck(
        "error",
        lambda policy, target: policy.exists and policy.has_permission(target) is False,
        f"API Gateway may not call function {{function}} for {{methods}}. {_ANSWERED_500}",
        "stage.allow_invocation(variables) adds what is missing. If the permission existed before, "
        "lambda:PutResourcePolicy may have replaced the function's policy.",
    ),
    _FunctionCheck(
        "error",
        lambda policy, target: policy.exists and policy.denies(target) is True,
        "The policy of function {function} denies the call by API Gateway for {methods}, whatever "
        f"else it allows. {_ANSWERED_500}",
        "Remove that Deny statement from the function's policy.",
    ),
    _FunctionCheck(
        "warning",
        lambda policy, target: (
            policy.exists and None in (policy.has_permission(target), policy.denies(target))
        ),
        "Whether API Gateway may call function {function} for {methods} is not known: its policy "
        "has conditions or statements that are not evaluated here.",
        "Check it with a request, or with TestInvokeMethod.",
    ),
)


def _functions(facts: Facts) -> Iterator[Problem]:
    """A problem a function, as the integrations name it, with the methods that it concerns."""
    for severity, is_wrong, what, remedy in _FUNCTION_CHECKS:
        wrong: dict[str, list[Route]] = {}
        for target in facts.targets:
            policy = facts.functions.get(target.function) if target.function else None
            if policy is not None and is_wrong(policy, target):
                wrong.setdefault(target.written, []).append(target.route)
        for written, routes in wrong.items():
            yield Problem(severity, what.format(function=written, methods=listed(routes)), remedy)


def _not_testable(facts: Facts) -> Iterator[Problem]:
    names = set()
    for test in facts.tests:
        policy = facts.functions.get(test.function) if test.function else None
        if policy is None or not policy.exists or policy.allows(test):
            continue
        called_by_canary = [target for target in facts.targets if target.function == test.function]
        if all(policy.allows(target) for target in called_by_canary):  # else that comes first
            names.add(test.written)
    if names:
        yield Problem(
            "warning",
            f"Test invocations may not call function {listed(names)}, so stage.smoke_test cannot "
            "test it. Canary requests are not affected.",
            "stage.allow_invocation(variables, smoke_test=True) adds what is missing.",
        )


CHECKS: tuple[Check, ...] = (
    _Check(
        "error",
        lambda facts: (
            span(facts.at - facts.stage.updated_at)
            if facts.stage.canary is not None and not facts.resumes
            else ""
        ),
        "The stage has {facts.stage.canary}, last changed {found} ago. Another one would be "
        "refused.",
        "Wait for the canary to end, or end it with stage.rollback().",
    ),
    _same_values,
    _Check(
        "warning",
        lambda facts: (
            not facts.stage.carries(facts.overrides)
            and {target.written for target in facts.targets if target.is_productions}
        ),
        "Canary requests call the same function and alias as production's: {found}.",
        "Give each release an alias of its own; changing this one changes production with it.",
    ),
    _Check(
        "error",
        lambda facts: facts.deployment_id is None and facts.unused,
        "Neither the stage nor the API uses the variable {found}: no integration, template, "
        "parameter or authorizer names it, so canary requests would go where production's go.",
        "Correct the name. If only a Lambda function or a gateway response reads it, "
        'enable the canary with accept={"unused_variables"}.',
        accepted_by="unused_variables",
    ),
    _unknown_variables,
    _unresolved,
    _functions,
    _not_testable,
    _Check(
        "warning",
        lambda facts: [
            each.route for each in facts.targets if each.function is None and not each.unknown
        ],
        "Not checked, because it calls no Lambda function of this region: {found}.",
        "Make sure that the targets of these integrations exist.",
    ),
    _Check(
        "warning",
        lambda facts: facts.unintegrated,
        "AWS shows no integration of {found}: where requests lead was not checked, and if there is "
        "none the API cannot be deployed.",
        "Give each method an integration, a mock one at least.",
    ),
    _Check(
        "warning",
        lambda facts: facts.overrides and facts.deployment_id,
        "Integrations were read from the API as it is edited now; AWS does not show those of "
        "deployment {found}.",
        "If the API was changed since, check them yourself.",
    ),
    _Check(
        "error",
        lambda facts: facts.changes and ", ".join(facts.changes.removed),
        f"{{facts.compared}} lacks methods that {_PRODUCTIONS} has: {{found}}. {_NOT_COMPARED}",
        'Restore them, or enable the canary with accept={"weakened_methods"}.',
        accepted_by="weakened_methods",
    ),
    _Check(
        "error",
        lambda facts: facts.changes and "; ".join(facts.changes.weakened),
        f"{{facts.compared}} requires less authorization than {_PRODUCTIONS}: {{found}}. "
        f"{_NOT_COMPARED}",
        'Correct it, or enable the canary with accept={"weakened_methods"}.',
        accepted_by="weakened_methods",
    ),
    _Check(
        "warning",
        lambda facts: facts.changes and ", ".join(facts.changes.added),
        f"{{facts.compared}} has methods that {_PRODUCTIONS} does not have: {{found}}. "
        f"{_NOT_COMPARED}",
        "Check that it is meant to be released.",
    ),
    _Check(
        "warning",
        lambda facts: facts.changes and facts.with_authorizer,
        "An authorizer guards {found}. AWS's summary of a deployment has only its type, so another "
        "authorizer of that type, fewer scopes or another issuer were not noticed.",
        "If authorizers were changed since production's deployment, test them.",
    ),
    _Check(
        "error",
        lambda facts: (
            facts.traffic is not None and facts.traffic.suspect and sentence(facts.traffic.suspect)
        ),
        "The metrics may not be those of the two variants: {found}",
        "Until that is corrected no canary is promoted.",
    ),
    _lacking,
    _not_observed,
    _own_signals_of_routes,
    _too_little_traffic,
    _Check(
        "error",
        lambda facts: [name for name, alarm in facts.alarms.items() if alarm is None],
        "CloudWatch has no alarm {found}.",
        "Correct the policy's alarms, or create them in the stage's account and region; "
        "AWS shows composite alarms only to identities that may call DescribeAlarms on *.",
    ),
    _Check(
        "warning",
        lambda facts: _in_state(facts, "INSUFFICIENT_DATA"),
        "An alarm without data does not count as OK: {found}. Until it has data no canary is "
        "promoted.",
        "Let the alarm treat missing data as good (not breaching) if that is right, or take it out "
        "of the policy.",
    ),
    _Check(
        "warning",
        lambda facts: _in_state(facts, "ALARM"),
        "Already in ALARM: {found}. An alarm that was in ALARM before the rollout is ignored "
        "during the rollout.",
        "Fix its cause first, unless the release is the fix.",
    ),
    _no_baseline_at_100,
    _no_step,
    _short_steps,
    _Check(
        "warning",
        lambda facts: (
            facts.settings.cache_enabled
            and facts.stage.canary is not None
            and facts.stage.canary.use_stage_cache
        ),
        "The canary uses the stage's cache: responses of one variant are served to callers of the "
        "other one, and hide its errors.",
        "Enable the canary with use_stage_cache=False.",
    ),
    _Check(
        "warning",
        lambda facts: facts.settings.cache_enabled,
        "The stage has a cache: after a promotion it is empty for the promoted deployment.",
        "Expect more load on the backends right after it.",
    ),
    _Check(
        "warning",
        lambda facts: not facts.settings.metrics_enabled,
        "Detailed metrics are off: CloudWatch counts for the whole stage, not for each method.",
        "Enable detailed CloudWatch metrics on the stage; they are billed as custom metrics.",
    ),
    _Check(
        "warning",
        lambda facts: facts.settings.access_log_stream,
        "Access logs go to the Firehose stream {found}: AccessLogs and canary.failures() cannot "
        "read them there.",
        "Write them to a log group of CloudWatch Logs to count or list requests.",
    ),
    _Check(
        "warning",
        lambda facts: facts.settings.access_log_format is None,
        "Access logs are off: the requests of each variant cannot be counted exactly.",
        "Enable them in JSON, with isCanaryRequest.",
    ),
    _Check(
        "warning",
        lambda facts: (
            facts.settings.access_log_format is not None
            and "$context.isCanaryRequest" not in facts.settings.access_log_format
        ),
        "The format of the access logs has no isCanaryRequest: the variants cannot be "
        "distinguished.",
        'Add "isCanaryRequest":"$context.isCanaryRequest" to it.',
    ),
    _Check(
        "warning",
        lambda facts: breaking(facts.settings.access_log_format or ""),
        "Lines of the access logs are not valid JSON if one of these variables has no value or "
        "contains quotes, mostly for failed requests: {found}.",
        f"Put them in quotes, except {MESSAGES[1]}, which needs none. What AccessLogs cannot "
        "read of such a line is an unknown outcome.",
    ),
    _Check(
        "warning",
        lambda facts: facts.settings.logging_level == "OFF",
        "Execution logs are off: the reasons why canary requests fail are not recorded.",
        "Set the stage's log level to ERROR.",
    ),
)
"""The checks, the most severe first."""
