"""What a policy will do, before it does it: forecasts and backtests.

Simulates rollouts and decides them with the rules of `rollout`. Seeded randomness is allowed here,
and nowhere else.
"""
