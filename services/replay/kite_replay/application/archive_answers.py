"""What readers are told while the archive is away, as against all other parts of Kite."""

from collections.abc import Iterator
from contextlib import contextmanager

from kite_common.errors import ApiError, Unavailable


@contextmanager
def archive_answers() -> Iterator[None]:
    """Whatever the archive is asked in here: if it is away, raises ApiError `replay_unavailable`."""
    try:
        yield
    except Unavailable:
        raise ApiError("replay_unavailable", retry_after_s=1) from None
