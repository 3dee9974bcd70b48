"""Before a release: what stands in its way, and the permissions that are missing."""

from collections.abc import Mapping
from datetime import timedelta

from apigw_canary import RolloutPolicy, Stage

POLICY = RolloutPolicy.linear(5, by=20, every=timedelta(minutes=10))


def is_ready(stage: Stage, variables: Mapping[str, str]) -> bool:
    """Whether a canary with these variables would work."""
    found = stage.check(policy=POLICY, variables=variables)
    for problem in found:
        print(f"- {problem}")
    return found.ok


if __name__ == "__main__":
    import io
    import zipfile

    from apigw_canary.testing import Method, rehearsal

    ORDERS = (
        "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:"
        "eu-central-1:123456789012:function:orders:${stageVariables.alias}/invocations"
    )
    METHODS = {"GET /orders/{id}": Method(uri=ORDERS), "POST /orders": Method(uri=ORDERS)}

    with rehearsal(methods=METHODS, requests_per_minute=40) as aws:
        code = io.BytesIO()
        zipfile.ZipFile(code, "w").close()
        role = aws.session.client("iam").create_role(
            RoleName="orders", AssumeRolePolicyDocument="{}"
        )
        functions = aws.session.client("lambda")
        functions.create_function(
            FunctionName="orders", Role=role["Role"]["Arn"], Code={"ZipFile": code.getvalue()}
        )
        version = functions.publish_version(FunctionName="orders")["Version"]
        functions.create_alias(FunctionName="orders", Name="v2", FunctionVersion=version)

        print("Ready:", is_ready(aws.stage, {"alias": "v2"}))
        for permission in aws.stage.allow_invocation({"alias": "v2"}, smoke_test=True):
            print("Added:", permission.source_arn.partition("/")[2], "of", permission.function_arn)
        print("Ready:", is_ready(aws.stage, {"alias": "v2"}))
        print(*aws.stage.smoke_test(["GET /orders/42"], variables={"alias": "v2"}))
