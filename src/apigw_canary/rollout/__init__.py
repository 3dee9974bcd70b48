"""Decides.

Whatever affects a decision lives here; nothing here knows who carries it out.

So nothing in this package calls a clock, sleeps, draws random numbers or does I/O, and it
imports the standard library and attrs only.
"""
