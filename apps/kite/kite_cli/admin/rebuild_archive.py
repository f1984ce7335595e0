"""Where the archive and its log are, for `kitectl rebuild archive`. The rebuild itself is replay's."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from kite_cli.admin.erasures import erasures_of
from kite_cli.failure import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import find_stack
from kite_cli.local.clickhouse.node import CLICKHOUSE
from kite_cli.local.environment import clickhouse_url
from kite_cli.target import LogTarget, is_of_environment
from kite_common.config import KiteSettings, load
from kite_common.errors import Unavailable
from kite_common.runtime.system import SystemClock
from kite_common.stream.kafka import Kafka
from kite_replay.adapters.clickhouse.address import InProcess, parse_address
from kite_replay.adapters.clickhouse.claim import LAPSES_AFTER_S, Claimed
from kite_replay.adapters.rebuild import Overtaken, Progress, RebuildFailed, RebuiltArchive, rebuild_archive
from kite_replay.domain.retention import Retention
from kite_replay.domain.rows import TABLES

# From the closing on: until every process has seen it and let go; replay drains requests for half of KITE_DRAIN_TIMEOUT_S.
_SEEN_WITHIN_S: Final = 5.0
# What is filled meanwhile has to be opened within a minute, too.
_GRACE_MOST_S: Final = 40.0


def find_archive(data: Path) -> str:
    """KITE_CLICKHOUSE_URL beside KITE_KAFKA_BOOTSTRAP, else that of the local stack. Raises CommandFailed, ConfigurationError."""
    if not is_of_environment():
        stack = find_stack(data)
        return f"{stack.listens_on(CLICKHOUSE)}/kite" if stack is not None and CLICKHOUSE in stack.pids else clickhouse_url(data)
    url = load(KiteSettings).clickhouse_url
    if url is None:
        raise CommandFailed("KITE_CLICKHOUSE_URL is not set", "Set it to what replay has.", EXIT_CONFIGURATION)
    return url


async def rebuild(target: LogTarget, url: str, told: Callable[[Progress], None], closed: Callable[[], None]) -> RebuiltArchive:
    """Rebuild the archive at `url` from the log. Raises CommandFailed, ConfigurationError."""
    settings = load(KiteSettings)
    kept_days, grace_s = Retention(settings.retention_days).kept_days(), grace_for(settings.drain_timeout_s)
    kafka = Kafka(target.kafka_bootstrap, client_id="kitectl")

    async def erased() -> frozenset[str]:
        return frozenset(await erasures_of(target))

    try:
        return await rebuild_archive(
            kafka, parse_address(url), target.partitions, kept_days, SystemClock(), told, erased=erased, grace_s=grace_s, closed=closed
        )
    except Unavailable as error:
        advice = "See `kitectl status`, then repeat the command: it goes on. Until then, or after two minutes, the old one is served."
        raise CommandFailed(str(error), advice, EXIT_UNAVAILABLE) from error
    except Claimed as error:
        raise CommandFailed(str(error), f"Wait for it. If it was killed, repeat the command in {LAPSES_AFTER_S} seconds.") from error
    except Overtaken as error:
        raise CommandFailed(str(error), "Nothing is to be done; what this one filled is not served.") from error
    except RebuildFailed as error:
        raise CommandFailed(str(error), "Repeat it when less is going on.") from error


def grace_for(drain_timeout_s: float) -> float:
    """How long replay's processes may still serve what was closed, seconds. Raises CommandFailed if that leaves no time to take over."""
    grace_s = _SEEN_WITHIN_S + drain_timeout_s / 2
    if grace_s > _GRACE_MOST_S:
        most = round(2 * (_GRACE_MOST_S - _SEEN_WITHIN_S))
        advice = f"Give replay and this command at most {most}, for as long as the rebuild lasts."
        raise CommandFailed("KITE_DRAIN_TIMEOUT_S is too long for an archive that takes over within a minute", advice, EXIT_CONFIGURATION)
    return grace_s


def place_of(rebuilt: RebuiltArchive) -> str:
    """Where the archive of before is, without secrets: what may be removed. The first database has the list of generations, too."""
    if isinstance(rebuilt.kept, InProcess):
        return rebuilt.kept.path
    tables = f"tables {', '.join(table.name for table in TABLES)} in " if rebuilt.before == 0 else ""
    return f"{tables}database {rebuilt.kept.database}"
