"""What changes between two deployments, and what `enable_canary` refuses of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acting import V2, new_deployment, sent, serving
from apigw_canary.errors import (
    AccessDeniedError,
    CannotTellError,
    InvalidInputError,
    WeakenedApiError,
)
from apigw_canary.model.api_surface import ANY, OPEN, Contract, Guard, Route, api_changes
from apigw_canary.testing import Fault, Method, rehearsal

IAM = Guard("AWS_IAM", api_key=False)
NONE = Guard(OPEN, api_key=False)

verbs = st.sampled_from(["GET", "POST", ANY])
segments = st.sampled_from(["orders", "items", "{id}", "{name}"])
paths = st.builds(
    lambda parts, rest: "/" + "/".join([*parts, *rest]),
    st.lists(segments, max_size=3),
    st.just([]) | st.just(["{proxy+}"]),
)
routes = st.builds(Route, verbs, paths)
guards = st.builds(
    Guard, st.sampled_from([OPEN, "AWS_IAM", "CUSTOM", "COGNITO_USER_POOLS"]), st.booleans()
)
contracts = st.dictionaries(routes, guards, max_size=8)


class TestChanges:
    @given(contract=contracts)
    def test_to_itself(self, contract: Contract) -> None:
        """Nothing changes from a contract to itself."""
        assert api_changes(contract, contract) == ((), (), ())

    @pytest.mark.long
    @given(before=contracts, after=contracts)
    def test_added_and_removed(self, before: Contract, after: Contract) -> None:
        """What was added on the way is what is removed on the way back."""
        there, back = api_changes(before, after), api_changes(after, before)
        assert there.added == back.removed
        assert {*there.added, *map(str, before)} >= set(map(str, after))

    @pytest.mark.long
    @given(before=contracts, after=contracts)
    def test_kept_methods(self, before: Contract, after: Contract) -> None:
        """A method that is kept is weakened exactly if it asks less, or something else."""
        weakened = api_changes(before, after).weakened
        for route in before.keys() & after.keys():
            old, new = before[route], after[route]
            less = old.authorization not in {OPEN, new.authorization} or (
                old.api_key and not new.api_key
            )
            assert less == any(text.startswith(f"{route}: ") for text in weakened)

    @given(contract=contracts, route=routes)
    def test_a_new_open_method(self, contract: Contract, route: Route) -> None:
        """An API in which every method is guarded cannot get an open one in the place of a guarded
        one unnoticed; and where nothing answered before, nothing is weakened."""
        guarded = dict.fromkeys(contract, IAM)
        weakened = api_changes(guarded, {**guarded, route: NONE}).weakened
        assert (route in guarded) <= bool(weakened)
        assert len(weakened) <= 1

    @pytest.mark.parametrize(
        "earlier, new",
        [
            (Route(ANY, "/orders"), Route("GET", "/orders")),
            (Route(ANY, "/{proxy+}"), Route("GET", "/health/live")),
            (Route("GET", "/orders/{id}"), Route("GET", "/orders/{number}")),
            (Route("GET", "/{proxy+}"), Route("GET", "/{proxy+}")),
        ],
    )
    def test_carved_out(self, earlier: Route, new: Route) -> None:
        """A new method that takes over requests of a guarded one is weakened."""
        (weakened,) = api_changes({earlier: IAM}, {new: NONE}).weakened
        assert weakened.startswith(f"{new}: had authorization AWS_IAM, now NONE")

    @pytest.mark.parametrize(
        "before, new",
        [
            ({Route("POST", "/orders"): IAM}, Route("GET", "/orders")),
            ({Route(ANY, "/orders/{id}"): IAM}, Route("GET", "/orders")),
            ({Route(ANY, "/a/{proxy+}"): IAM}, Route("GET", "/a")),
            (
                {Route(ANY, "/{proxy+}"): IAM, Route(ANY, "/health/{part}"): NONE},
                Route("GET", "/health/live"),
            ),
        ],
    )
    def test_answered_elsewhere(self, before: Contract, new: Route) -> None:
        """A new method is none the weaker for guards of requests that it does not get."""
        assert api_changes(before, {**before, new: NONE}).weakened == ()


GUARDED = {"GET /orders": Method(authorization="AWS_IAM"), "POST /orders": Method(api_key=True)}


class TestEnable:
    @pytest.mark.parametrize(
        "edit, removed, weakened",
        [
            ({"GET /orders": None}, ("GET /orders",), ()),
            (
                {"GET /orders": Method()},
                (),
                ("GET /orders: had authorization AWS_IAM, now NONE",),
            ),
            (
                {"GET /orders": Method(authorization="CUSTOM")},
                (),
                ("GET /orders: had authorization AWS_IAM, now CUSTOM",),
            ),
            ({"POST /orders": Method()}, (), ("POST /orders: had an API key, now none",)),
        ],
    )
    def test_refused(self, edit: Any, removed: Any, weakened: Any) -> None:
        """Removed methods and weakened authorization are refused, with each method named, before
        the stage is changed; told to accept them, the same line enables the canary."""
        with rehearsal(methods=GUARDED) as aws:
            before = serving(aws)
            aws.edit(methods=edit)

            with pytest.raises(WeakenedApiError) as raised:
                aws.stage.enable_canary(5, release="r1", variables=V2)

            error = raised.value
            assert error.removed == removed
            assert error.weakened == weakened
            for method in (*removed, *weakened):
                assert method in error.happened
            assert f"No stage serves deployment {error.deployment_id}." in error.happened
            assert 'accept={"weakened_methods"}' in error.remedy
            assert serving(aws) == before
            assert "UpdateStage" not in sent(aws)

            canary = aws.stage.enable_canary(
                5, release="r1", variables=V2, accept={"weakened_methods"}
            )
            assert canary.deployment_id == error.deployment_id

    def test_additions(self) -> None:
        """New methods, and stronger guards, are nobody's loss."""
        with rehearsal() as aws:
            aws.edit(
                methods={
                    "DELETE /orders/{id}": Method(authorization="AWS_IAM"),
                    "GET /orders": Method(authorization="AWS_IAM", api_key=True),
                }
            )
            assert aws.stage.enable_canary(5).describe().canary is not None

    def test_given_deployment(self) -> None:
        """A deployment of the caller's choice is compared as well."""
        with rehearsal() as aws:
            aws.edit(methods={"GET /orders": None})
            chosen = new_deployment(aws)
            with pytest.raises(WeakenedApiError, match="GET /orders was removed"):
                aws.stage.enable_canary(5, deployment_id=chosen)

    @pytest.mark.parametrize("skip", [0, 1])
    def test_unreadable(self, skip: int) -> None:
        """Where either deployment cannot be read, nothing is enabled unseen, and the error says
        how to do without."""
        with rehearsal() as aws:
            before = serving(aws)
            aws.fail("GetDeployment", Fault.ACCESS_DENIED, skip=skip)
            with pytest.raises(AccessDeniedError, match="weakened_methods") as raised:
                aws.stage.enable_canary(5, variables=V2)
            assert "No stage serves deployment" in raised.value.happened
            assert serving(aws) == before

    def test_no_summary(self) -> None:
        """A deployment without a summary is not taken for one without methods."""
        with rehearsal(methods=GUARDED) as aws:
            aws.edit(methods=dict.fromkeys(GUARDED))
            with pytest.raises(CannotTellError, match="no summary of the methods"):
                aws.stage.enable_canary(5)

    def test_reused_alias(self) -> None:
        """A canary whose variables are all production's is refused with the reason: what they name
        serves production already."""
        with rehearsal() as aws:
            before = serving(aws)
            with pytest.raises(InvalidInputError, match="production changes with it"):
                aws.stage.enable_canary(5, variables={"alias": "v1"})
            assert serving(aws) == before
            assert "CreateDeployment" not in sent(aws)
