"""A roll-out: another process of the service is up and ready before the one whose place it takes is told to end (SIGTERM)."""

from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite


async def roll(kite: ChaosKite, planned: Planned) -> None:
    """Over when the former one has ended. Raises StepFailed if its successor cannot be had, or it has to be forced."""
    await kite.renew(planned.target)
