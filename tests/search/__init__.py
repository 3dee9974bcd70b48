"""A search over whole rollouts: drawn at random, decided by the library, checked against the truth.

`make search`; `python -m search --help` with `tests` on the path.
"""
