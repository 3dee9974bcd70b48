"""Checks of a stage before a rollout: its facts are read, and each check judges them by itself."""
