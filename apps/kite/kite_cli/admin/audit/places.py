"""Where the archive and the chain of a Kite are, or in plain words why they are not looked at. Connects to nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings

from kite_cli.admin.payments_audit import PaidAt, find_paid_at
from kite_cli.failure import CommandFailed
from kite_cli.found import find_stack
from kite_cli.local.environment import clickhouse_url
from kite_common.config import ClickHouseUrl, KiteSettings, load
from kite_common.errors import ConfigurationError
from kite_replay.adapters.clickhouse.address import parse_address
from kite_replay.adapters.clickhouse.generations import generations_of, last_known

_REPLAY: Final = "replay"
_SERVER: Final = "clickhouse"


class ArchiveSettings(BaseSettings):
    """Where the environment says the archive is."""

    model_config = KiteSettings.model_config

    clickhouse_url: ClickHouseUrl | None = Field(None, repr=False, description="ClickHouse: chdb:///abs/path or http(s)://...")


@dataclass(frozen=True, slots=True, repr=False)
class ArchiveAt:
    """`url` None: it cannot be looked at, and `why`."""

    url: str | None
    why: str = ""


def find_archive(data: Path, of_environment: bool) -> ArchiveAt:
    """The archive of KITE_CLICKHOUSE_URL, or of the local stack. Raises ConfigurationError."""
    if of_environment:
        url = load(ArchiveSettings).clickhouse_url
        return ArchiveAt(url) if url is not None else ArchiveAt(None, "not checked: KITE_CLICKHOUSE_URL is not set")
    stack, folder = find_stack(data), data / "clickhouse"
    if stack is not None and _SERVER in stack.pids:
        return ArchiveAt(f"{stack.listens_on(_SERVER)}/kite")
    if stack is not None and _REPLAY in stack.pids:
        return ArchiveAt(
            None, "not checked: the archive is open inside the replay process, which nobody else can read; stop replay and audit again"
        )
    # After a rebuild the first folder may have been removed: the list of generations tells where the archive is.
    if folder.is_dir() or last_known(generations_of(parse_address(clickhouse_url(data)))) is not None:
        return ArchiveAt(clickhouse_url(data))
    return ArchiveAt(None, "not checked: there is no archive yet")


def find_chain(data: Path, of_environment: bool) -> PaidAt | None:
    """The chain payments are made on; None if there are none."""
    try:
        return find_paid_at(data, not of_environment)
    except (CommandFailed, ConfigurationError):
        return None
