"""What was seen of late, so that a record the log has twice is taken once."""

from collections import OrderedDict
from collections.abc import Hashable


class Recently:
    """The last `most` ids that were added."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: OrderedDict[Hashable, None] = OrderedDict()

    def add(self, one: Hashable) -> bool:
        """Remember it; False if it is remembered already."""
        if one in self._ids:
            return False
        self._ids[one] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return True
