"""When requests are due in an open loop: at times that do not depend on answers, so that waiting is counted. Pure."""

from random import Random


def poisson(rate: float, duration_s: float, rng: Random) -> list[float]:
    """Arrival times in [0, duration_s) of a Poisson process with `rate` arrivals a second, rising.

    Raises ValueError unless both are positive.
    """
    if rate <= 0 or duration_s <= 0:
        raise ValueError("rate and duration must be positive")
    times: list[float] = []
    at = rng.expovariate(rate)
    while at < duration_s:
        times.append(at)
        at += rng.expovariate(rate)
    return times
