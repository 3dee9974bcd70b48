"""Decides: the ordered rules, and the decisions that they make.

Whatever affects a decision lives here or in `judge`; nothing here knows who carries it out.
"""
