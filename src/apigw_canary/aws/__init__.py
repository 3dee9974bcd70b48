"""Knows AWS: one module a service, and `calls` as the one door to all of them.

What is sent and what is understood of the answers is pure functions; clients are made in `calls`.
"""
