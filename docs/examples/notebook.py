"""A notebook that only analyzes a canary, whether it is running or has ended."""

from datetime import datetime, timedelta

from apigw_canary import RolloutPolicy, Signal, Stage

POLICY = RolloutPolicy.canary(
    25,
    bake=timedelta(minutes=30),
    signals=[Signal.errors_5xx(margin=0.002), Signal.errors_4xx()],
)


def look_back(stage: Stage, start: datetime, end: datetime) -> None:
    """Print this policy's analysis of a window of the past."""
    observation = stage.observe(POLICY, start=start, end=end)
    analysis = POLICY.analyze(observation)
    print(f"{start:%H:%M} to {end:%H:%M}: {analysis.verdict.value}")
    for finding in analysis.findings:
        print(f"  {finding}")
        print(
            f"    worse:     {finding.worse_evidence:8.2g}, threshold {finding.worse_threshold:.0f}"
        )
        print(
            f"    not worse: {finding.not_worse_evidence:8.2g}, "
            f"threshold {finding.not_worse_threshold:.0f}"
        )


if __name__ == "__main__":
    from apigw_canary.testing import Backend, rehearsal

    with rehearsal(backends={"alias=v2": Backend(errors_5xx=0.006)}) as aws:
        began = aws.now()
        aws.stage.enable_canary(25, variables={"alias": "v2"})
        aws.sleep(3 * 60 * 60)
        aws.stage.rollback()
        for minutes in (15, 30, 60, 180):
            look_back(aws.stage, began, began + timedelta(minutes=minutes))
