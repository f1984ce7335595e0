"""The disk of the archive is full: no file of its process can grow any more, whatever is free on the machine's own.

Done with the limit of a file's size (setrlimit(2)), which needs no rights: the system refuses the write as a full disk does, with another
number of the error.
"""

import asyncio
import resource
from contextlib import suppress

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite

_BYTES = 1_024


async def disk(kite: ChaosKite, planned: Planned) -> None:
    """Over when files may grow again."""
    pid = kite.child(planned.target).pid
    if pid is None:
        return
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_BYTES, hard))
    try:
        await asyncio.sleep(planned.lasts_s)
    finally:
        with suppress(ProcessLookupError):  # it has ended over it: the next one has no limit
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
