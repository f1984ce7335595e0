"""Which function does which kind of fault. Decides nothing."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from kite_cli.chaos.faults.away import away
from kite_cli.chaos.faults.disk import disk
from kite_cli.chaos.faults.flush import flush
from kite_cli.chaos.faults.kill import kill
from kite_cli.chaos.faults.roll import roll
from kite_cli.chaos.faults.skew import skew
from kite_cli.chaos.faults.stop import stop
from kite_cli.chaos.faults.term import term
from kite_cli.chaos.schedule import Planned
from kite_cli.chaos.stack import ChaosKite

FAULTS: Final[Mapping[str, Callable[[ChaosKite, Planned], Awaitable[None]]]] = {
    "kill": kill, "term": term, "stop": stop, "roll": roll, "broker-kill": kill, "broker-restart": term, "redis-kill": kill,
    "redis-restart": term, "redis-flush": flush, "clickhouse": away, "facilitator": away, "skew": skew, "disk": disk,
}  # fmt: skip
