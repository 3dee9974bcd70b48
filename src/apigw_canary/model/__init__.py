"""What a stage, a rollout and its record are, as values."""
