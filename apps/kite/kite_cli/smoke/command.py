"""`kitectl smoke` as a function: which team, the walk, the figures. Prints nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from kite_cli.demo import SMOKE_FILE, is_used_up, kept_team, new_team
from kite_cli.found import find_stack
from kite_cli.gateway_client import ApiRefused
from kite_cli.launch import cold_start_s
from kite_cli.smoke.journey import Journey
from kite_cli.smoke.stats import Stats, stats_of
from kite_cli.smoke.walk import walk
from kite_cli.target import LogTarget, find_api, find_log, has_own_team


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """The journey, and the figures if they were asked for."""

    journey: Journey
    stats: Stats | None

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl smoke --json` prints it."""
        return self.journey.to_json() | ({} if self.stats is None else {"stats": self.stats.to_json()})

    def shown(self) -> Sequence[RenderableType]:
        """The whole for people."""
        figures = () if self.stats is None else (self.stats.cold_start(), self.stats.table())
        return (self.journey.table(), *figures)


async def run_smoke(data: Path, *, with_stats: bool) -> SmokeResult:
    """Walk one message through. Raises CommandFailed, ConfigurationError."""
    stats = stats_of(find_stack(data), cold_start_s(data)) if with_stats else None
    return SmokeResult(await _journey(data, find_log(data)), stats)


async def _journey(data: Path, log: LogTarget) -> Journey:
    if has_own_team():
        return await walk(find_api(data), log)
    url = find_api(data).url
    team = await kept_team(data, SMOKE_FILE, log, url)
    try:
        return await walk(team.target, log)
    except ApiRefused as error:
        if team.is_new or not is_used_up(error):
            raise
    return await walk((await new_team(data, SMOKE_FILE, log, url)).target, log)
