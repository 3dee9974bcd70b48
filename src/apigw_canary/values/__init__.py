"""What values have in common: checks on the way in, JSON forms, words and numbers in sentences."""
