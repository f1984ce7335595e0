"""The rules of archiving and reading: values and pure functions only."""
