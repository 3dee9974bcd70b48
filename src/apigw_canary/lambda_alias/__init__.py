"""Weighted aliases of Lambda functions: the same verbs as for a stage."""
