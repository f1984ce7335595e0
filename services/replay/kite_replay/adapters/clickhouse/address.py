"""KITE_CLICKHOUSE_URL -> how to reach ClickHouse: a server over HTTP, or the engine in this process (chDB). Opens nothing."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from kite_common.errors import ConfigurationError

DEFAULT_DATABASE: Final = "kite"
_PORTS: Final = {"http": 8123, "https": 8443}
_NAME: Final = "KITE_CLICKHOUSE_URL"


@dataclass(frozen=True, slots=True)
class InProcess:
    """chDB on a folder. One engine per process, and one process per folder."""

    path: str
    database: str = DEFAULT_DATABASE


@dataclass(frozen=True, slots=True, repr=False)
class Server:
    """A ClickHouse server. repr() hides all of it, because of the password."""

    host: str
    port: int
    secure: bool
    username: str
    password: str
    database: str = DEFAULT_DATABASE


Address = InProcess | Server


def parse_address(url: str) -> Address:
    """`chdb:///abs/path` or `http(s)://user:password@host:8123/database`. Raises ConfigurationError without quoting the text."""
    parts = urlsplit(url)
    if parts.scheme == "chdb":
        if parts.netloc or not parts.path.startswith("/"):
            raise ConfigurationError([f"{_NAME}: chdb needs an absolute path, as in chdb:///var/lib/kite/chdb"])
        return InProcess(unquote(parts.path))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigurationError([f"{_NAME}: must be chdb:///path or http(s)://user:password@host:8123/database"])
    return Server(
        host=parts.hostname,
        port=_port(parts.port, parts.scheme),
        secure=parts.scheme == "https",
        username=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or DEFAULT_DATABASE,
    )


def name_of(address: Address) -> str:
    """What people call it, without secrets."""
    return address.path if isinstance(address, InProcess) else f"database {address.database}"


def _port(given: int | None, scheme: str) -> int:
    return _PORTS[scheme] if given is None else given
