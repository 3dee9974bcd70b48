"""Compares the two variants: minutes to evidence, evidence to findings and a verdict.

Nothing in this package, in `rollout` and in `values` and `model` calls a clock, sleeps, draws
random numbers or does I/O; it imports the standard library and attrs only.
"""
