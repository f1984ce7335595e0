"""For tests only: fakes of the ports we own, and a receiver of webhooks that can misbehave."""

from kite_delivery.testing.fakes import (
    SECRET,
    FakeEndpoints,
    FakeLog,
    FakeSender,
    SilentObserver,
    a_delivery,
    an_endpoint,
)  # fmt: skip
from kite_delivery.testing.receiver import Received, Receiver, answer, endless, hang, hang_up, slow_body

__all__ = [
    "SECRET", "FakeEndpoints", "FakeLog", "FakeSender", "Received", "Receiver", "SilentObserver", "a_delivery", "an_endpoint", "answer",
    "endless", "hang", "hang_up", "slow_body",
]  # fmt: skip
