"""Teams the local stack keeps in its data folder, so that commands work without arguments: one to play with, one for `kitectl smoke`."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.admin.teams import TeamOrder, create_team
from kite_cli.failure import CommandFailed
from kite_cli.gateway_client import ApiRefused, gateway_client
from kite_cli.local.readiness import until
from kite_cli.private_file import write_private
from kite_cli.target import ApiTarget, LogTarget, TeamKey, read_team
from kite_common.config import KiteSettings, load, load_catalog

SMOKE_FILE: Final = "smoke.json"
_ORDER: Final = TeamOrder(plan="starter", provider="x402", balance_atomic=1_000_000)
# A new key is in the gateway's memory within a second (wire contract, 2.1); this is for a machine that is busy starting.
_KEY_KNOWN_WITHIN_S: Final = 15.0
_POLL_S: Final = 0.05
_OF_NO_USE: Final = frozenset({"unauthorized", "forbidden", "insufficient_funds", "no_active_subscription", "quota_exceeded"})


@dataclass(frozen=True, slots=True)
class KeptTeam:
    """A team of the data folder; `is_new` if it was opened just now."""

    target: ApiTarget
    is_new: bool


async def kept_team(data: Path, file: str, log: LogTarget, url: str) -> KeptTeam:
    """The team kept in `file`, known to the gateway; opened if there is none. Raises CommandFailed, ConfigurationError."""
    kept = read_team(data / file)
    if kept is not None and await _is_known(ApiTarget(url, kept)):
        return KeptTeam(ApiTarget(url, kept), is_new=False)
    return await new_team(data, file, log, url)


async def new_team(data: Path, file: str, log: LogTarget, url: str) -> KeptTeam:
    """Open a team and keep it in `file`; returns once the gateway knows its key. Raises CommandFailed, ConfigurationError."""
    made = await create_team(log, _ORDER, load_catalog(load(KiteSettings)))
    target = ApiTarget(url, TeamKey(made.team_id, made.key.text))
    write_private(data / file, {"team_id": made.team_id, "api_key": made.key.text, "plan": made.plan})
    try:
        async with asyncio.timeout(_KEY_KNOWN_WITHIN_S):
            await until(lambda: _is_known(target), _POLL_S)
    except TimeoutError:
        raise CommandFailed("the gateway does not see the new key", "Look at the gateway's log: does it read kite.credentials?") from None
    return KeptTeam(target, is_new=True)


def is_used_up(error: ApiRefused) -> bool:
    """Whether a refusal means that another team is needed."""
    return error.error in _OF_NO_USE


async def _is_known(target: ApiTarget) -> bool:
    async with gateway_client(target) as gateway:
        try:
            await gateway.webhook_config()
        except ApiRefused as error:
            if error.error == "unauthorized":
                return False
            raise
        return True
