"""The settings a service gets on one machine: addresses, folders, identity. The only place that knows "local"."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kite_cli.local.chain.known import FACILITATOR_KEY, PAY_TO, TOKENS
from kite_cli.local.clickhouse.node import ClickHouseNode
from kite_cli.local.ports import LOOPBACK, reached_at
from kite_cli.local.secrets import FACILITATOR_TOKEN

PARTITIONS = 8
FACILITATOR = "facilitator"

# What the Java and Valkey children see of the caller's environment: nothing that could change how they behave.
_TOOL_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True)
class ChainAddress:
    """The chain of a stack: its JSON-RPC, and its id."""

    rpc_url: str
    chain_id: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a stack are: the third-party ones, and the port of each service by its name. `chain` None: no payments.

    `hosts` are the addresses that services listen on, of those that do not listen on the loopback.
    """

    kafka_bootstrap: str
    redis_url: str
    clickhouse_url: str
    services: Mapping[str, int]
    chain: ChainAddress | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """Return the base URL of a service as one on this machine calls it."""
        return f"http://{reached_at(self.hosts.get(service, LOOPBACK))}:{self.services[service]}"


def clickhouse_url(data: Path, port: int | None = None) -> str:
    """Return the address of the archive: of the server on that port, else of the engine that the replay process opens in itself."""
    return f"chdb://{data / 'clickhouse'}" if port is None else ClickHouseNode(data / "clickhouse", port).url


def tool_environment() -> dict[str, str]:
    """Return the environment of a third-party child."""
    return {name: os.environ[name] for name in _TOOL_VARIABLES if name in os.environ}


def service_environment(
    service: str, addresses: Addresses, secrets: Mapping[str, str], *, host: str = LOOPBACK
) -> dict[str, str]:
    """Return the environment of one service: the caller's, with everything that depends on this stack set over it."""
    settings = {
        "KITE_HOST": host,
        "KITE_PORT": str(addresses.services[service]),
        "KITE_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
        "KITE_REDIS_URL": addresses.redis_url,
        "KITE_CLICKHOUSE_URL": addresses.clickhouse_url,
        "KITE_PARTITIONS": str(PARTITIONS),
        "KITE_INSTANCE": "local-0",
        "KITE_ALLOW_PRIVATE_TARGETS": "true",  # webhooks to one's own machine are the point of a local stack
        "PYTHONUNBUFFERED": "1",
    }
    urls = {"KITE_PUBLIC_URL": "gateway", "KITE_REPLAY_URL": "replay"}
    settings |= {name: addresses.url(other) for name, other in urls.items() if other in addresses.services}
    # Only its owner can take back blocks of a local chain, so large payments wait for no depth there.
    overridable = {"KITE_LOG_FORMAT": "json"} | ({"X402_CONFIRMATIONS_LARGE": "1"} if addresses.chain is not None else {})
    return overridable | os.environ | settings | _payments(service, addresses) | _secrets_for(service, secrets)


def _secrets_for(service: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """The facilitator knows no team and no log: it gets the token it asks for and nothing else, and billing alone has that too."""
    if service == FACILITATOR:
        return {name: value for name, value in secrets.items() if name == FACILITATOR_TOKEN}
    return {name: value for name, value in secrets.items() if name != FACILITATOR_TOKEN or service == "billing"}


def _payments(service: str, addresses: Addresses) -> dict[str, str]:
    """What a service knows of the chain; the key that pays for gas is the facilitator's alone."""
    chain = addresses.chain
    if chain is None:
        return {}
    token = TOKENS[chain.chain_id]
    settings = {
        "X402_ENABLED": "true",
        "X402_NETWORK": f"eip155:{chain.chain_id}",
        "X402_ASSET": token.address,
        "X402_ASSET_NAME": token.name,
        "X402_ASSET_VERSION": token.version,
        "X402_PAY_TO": PAY_TO,
        "X402_RPC_URL": chain.rpc_url,
    }
    if FACILITATOR in addresses.services:
        settings["X402_FACILITATOR_URL"] = addresses.url(FACILITATOR)
    if service == FACILITATOR:
        settings |= {"X402_FACILITATOR_RPC_URL": chain.rpc_url, "X402_FACILITATOR_EVM_PRIVATE_KEY": FACILITATOR_KEY}
    return settings
