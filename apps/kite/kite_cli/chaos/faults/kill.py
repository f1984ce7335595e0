"""A process dies in the middle of whatever it does (SIGKILL): a service, the broker, Valkey."""

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def kill(kite: ChaosKite, planned: Planned) -> None:
    """Over at once: its supervisor starts it again."""
    await kite.child(planned.target).kill9(restart=True)
