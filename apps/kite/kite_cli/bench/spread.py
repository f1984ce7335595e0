"""Percentiles of one run, and the median and bounds of repeated ones. Pure."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (in (0, 1]) of the values do not exceed: nearest rank, always a value that occurred.

    `ordered` must rise. NaN if it is empty. Raises ValueError for another share.
    """
    if not 0 < share <= 1:
        raise ValueError("share must be in (0, 1]")
    if not ordered:
        return math.nan
    return ordered[math.ceil(share * len(ordered)) - 1]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over repeated runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Median, least and greatest. Raises ValueError without any value."""
        known = sorted(values)
        if not known:
            raise ValueError("a spread needs a value")
        return cls(statistics.median(known), known[0], known[-1])
