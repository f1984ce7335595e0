"""Which event types an endpoint wants. Knows no config and no team."""

from collections.abc import Sequence


def wants(event_types: Sequence[str], event_type: str) -> bool:
    """Whether `event_type` passes the filter: entries are exact, or end in `.*` and match what starts with the rest.

    `com.github.*` matches every type starting with `com.github.`, not `com.github` itself; no entries match everything
    (wire contract, 10.3).
    """
    return not event_types or any(_matches(entry, event_type) for entry in event_types)


def _matches(entry: str, event_type: str) -> bool:
    if entry.endswith(".*"):
        return event_type.startswith(entry[:-1])
    return entry == event_type
