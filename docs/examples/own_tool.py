"""A tool that embeds the library with metrics and a store of its own.

Its metrics count refunds by the variant that served them. Its store, with compare-and-set, is a
true lock: of two tools that change the same stage at once, one is refused before it sends anything.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from apigw_canary import Minute, RolloutPolicy, Signal, Stage, StageState

POLICY = RolloutPolicy.canary(
    20, bake=timedelta(minutes=10), signals=[Signal.custom("refunds", margin=0.01, critical=True)]
)


class Warehouse:
    """Metrics of our own: refunds a minute, by the release that served them."""

    def __init__(self, rows: Sequence[Minute]) -> None:
        self.rows = rows

    def minutes(
        self, stage: StageState, signals: Sequence[Signal], start: datetime, end: datetime
    ) -> Mapping[str, Sequence[Minute]]:
        """The minutes of each signal in [start, end)."""
        del stage
        return {
            signal.name: [row for row in self.rows if start <= row.at < end] for signal in signals
        }


class Table:
    """A store of our own; DynamoDB would compare and set with a condition expression."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def load(self, key: str) -> str | None:
        """The text under the key."""
        return self.texts.get(key)

    def save(self, key: str, text: str, *, expected: str | None) -> None:
        """Replace the text if it is still the expected one."""
        if self.texts.get(key) != expected:
            raise RuntimeError("another process wrote first")
        self.texts[key] = text


if __name__ == "__main__":
    from apigw_canary.testing import rehearsal

    with rehearsal() as aws:
        began, table = aws.now(), Table()
        refunds = Warehouse(
            [Minute(began + timedelta(minutes=i), 800, 8, 200, 9) for i in range(60)]
        )
        stage = Stage(
            aws.rest_api_id,
            "prod",
            session=aws.session,
            sleep=aws.sleep,
            metrics=refunds,
            records=table,
        )
        canary = stage.enable_canary(20, release="2026-11-23.1", variables={"alias": "v2"})
        while True:
            observation = canary.observe(POLICY)
            decision = POLICY.decide(observation)
            canary.apply(decision)
            print(decision)
            if decision.final:
                break
            if observation.at - observation.started_at > POLICY.effective_deadline + timedelta(
                hours=1
            ):
                raise SystemExit("An operator has to decide.")
            aws.sleep(decision.wait.total_seconds())
        print(f"in the store: {', '.join(table.texts)}")
        print(f"production serves {dict(stage.describe().variables)}")
