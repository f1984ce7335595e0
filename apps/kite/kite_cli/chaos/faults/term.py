"""A process is told to end (SIGTERM), as a roll-out does: a service, the broker, Valkey."""

import signal

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def term(kite: ChaosKite, planned: Planned) -> None:
    """Over at once: from here on it takes leave, ends and is started again, and whatever stalls meanwhile counts."""
    kite.child(planned.target).signal(signal.SIGTERM)
