"""Looks at a stage before a rollout: facts are gathered, and each check judges them by itself."""
