"""The one error a benchmark ends with."""


class BenchFailed(Exception):
    """A run could not be made, or what it counted afterwards is not what was put in: its figures would mean nothing."""
