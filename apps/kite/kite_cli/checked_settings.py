"""Settings of services: read as the services read them, shown masked, every problem at once. Starts nothing, connects to nothing."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kite_cli.failure import CommandFailed
from kite_cli.found import FoundStack, find_stack
from kite_cli.local.clickhouse.node import CLICKHOUSE
from kite_cli.local.environment import FACILITATOR, Addresses, clickhouse_url, service_environment
from kite_cli.local.secrets import load_or_draw
from kite_cli.services import ALWAYS, SERVICES, settings_of
from kite_common.config import KiteSettings, SettingRow, load, load_catalog, masked
from kite_common.errors import ConfigurationError
from kite_common.x402_settings import X402Settings, payment_problems


class _FacilitatorKey(BaseSettings):
    """Whether there is one."""

    model_config = KiteSettings.model_config

    key: SecretStr | None = Field(None, validation_alias="X402_FACILITATOR_EVM_PRIVATE_KEY")


@dataclass(frozen=True, slots=True)
class Checked:
    """One service: its settings if they can be used, else what is wrong."""

    service: str
    rows: Sequence[SettingRow]
    problems: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The whole, as `kitectl config check --json` prints it."""
        rows = [{"name": row.name, "value": row.value, "source": row.source, "doc": row.doc} for row in self.rows]
        return {"service": self.service, "settings": rows, "problems": list(self.problems)}


def check_services(wanted: Sequence[str], data: Path) -> list[Checked]:
    """Check these services, all if none is named. Raises CommandFailed for a name that is none."""
    unknown = [name for name in wanted if name not in SERVICES]
    if unknown:
        raise CommandFailed(f"there is no service {', '.join(unknown)}", f"There are {', '.join(SERVICES)}.")
    stack = None if "KITE_KAFKA_BOOTSTRAP" in os.environ or "KITE_ENV_FILE" in os.environ else find_stack(data)
    return [_checked_in(service, stack) for service in wanted or _usual(stack)]


def _usual(stack: FoundStack | None) -> Sequence[str]:
    """The services that are there: the facilitator only where it has its key."""
    has_facilitator = FACILITATOR in stack.pids if stack is not None else _has_key()
    return SERVICES if has_facilitator else ALWAYS


def _has_key() -> bool:
    try:
        return load(_FacilitatorKey).key is not None
    except ConfigurationError:
        # A file that is not there: each service says so.
        return False


def check_settings(service: str, settings_type: type[KiteSettings]) -> Checked:
    """Check one service in the environment of this process."""
    try:
        settings = load(settings_type)
        load_catalog(settings)
        problems = _payment_problems(service, settings)
        if problems:
            return Checked(service, (), problems)
    except ConfigurationError as error:
        return Checked(service, (), error.problems)
    return Checked(service, masked(settings), ())


def _payment_problems(service: str, settings: KiteSettings) -> Sequence[str]:
    """What is missing to take payments, where they are on; the facilitator says itself what it needs."""
    if not isinstance(settings, X402Settings) or not settings.x402_enabled or service == FACILITATOR:
        return ()
    return payment_problems(settings)


def settings_report(checked: Sequence[Checked]) -> list[RenderableType]:
    """Tables of settings, and lines of problems."""
    report: list[RenderableType] = []
    for one in checked:
        if one.problems:
            report += [Text(f"{one.service}: {problem}", style="red") for problem in one.problems]
            continue
        report.append(_table(one))
    return report


def _checked_in(service: str, stack: FoundStack | None) -> Checked:
    settings_type = settings_of(service)
    # The folder remembers the ports of an earlier run, also that of a facilitator this one is without.
    if stack is None or service not in stack.ports or service not in _usual(stack):
        return check_settings(service, settings_type)
    with _environment(_of_stack(service, stack)):
        return check_settings(service, settings_type)


def _of_stack(service: str, stack: FoundStack) -> Mapping[str, str]:
    ports = {name: port for name, port in stack.ports.items() if name in _usual(stack)}
    archive = clickhouse_url(stack.data, stack.ports[CLICKHOUSE] if CLICKHOUSE in stack.pids else None)
    addresses = Addresses(stack.kafka_bootstrap, stack.redis_url, archive, ports, stack.chain)
    return service_environment(service, addresses, load_or_draw(stack.data / "secrets.json"))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Settings are read from the environment of the process and nowhere else: so it is that one that changes for a moment."""
    former = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(former)


def _table(checked: Checked) -> Table:
    table = Table(title=checked.service)
    # Names and values are what one copies from here: they are never cut.
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", min_width=12)
    table.add_column("from")
    table.add_column("what it does", ratio=1)
    for row in checked.rows:
        table.add_row(row.name, Text(row.value), row.source, Text(row.doc))
    return table
