"""Which Kite a command talks to: the one the environment names, else the local stack that runs, else a clear error.

The log (Kafka, Redis, pepper) is for operators, the API (gateway, team, key) for everybody. Connects to nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from kite_cli.failure import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import FoundStack, find_stack
from kite_cli.local.environment import PARTITIONS
from kite_cli.local.secrets import load_or_draw
from kite_cli.private_file import read_private
from kite_common.config import HttpUrl, KiteSettings, load
from kite_common.crypto import parse_cipher_keys

DEMO_FILE: Final = "demo.json"
_PEPPER: Final = "KITE_API_KEY_PEPPER"
_HOOK_KEY: Final = "KITE_HOOK_SECRET_CIPHER_KEY"


class ApiSettings(BaseSettings):
    """What a user of the API has in the environment, by the names all Kite clients use."""

    model_config = KiteSettings.model_config

    public_url: HttpUrl | None = Field(None, description="origin of the gateway")
    team_id: str | None = Field(None, description="the team")
    api_key: SecretStr | None = Field(None, description="an API key of the team")


@dataclass(frozen=True, slots=True)
class TeamKey:
    """A team and a key of it."""

    team_id: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """A gateway, and who speaks to it."""

    url: str
    team: TeamKey


@dataclass(frozen=True, slots=True)
class LogTarget:
    """A log and the Redis beside it. `pepper` is what keys are hashed under, `hook_cipher_key` what providers' secrets are
    sealed with; None if it is not known here. `prefix` stands before the names of topics where tests share a broker."""

    kafka_bootstrap: str
    redis_url: str = field(repr=False)
    partitions: int
    replication: int
    pepper: str | None = field(repr=False)
    hook_cipher_key: str | None = field(default=None, repr=False)
    prefix: str = ""

    def needed_hook_keys(self) -> tuple[bytes, ...]:
        """What providers' secrets are sealed with, the newest first. Raises CommandFailed if it is not known, ConfigurationError."""
        if self.hook_cipher_key is None:
            advice = "Set it to what the gateway has: it seals providers' secrets."
            raise CommandFailed(f"{_HOOK_KEY} is not set", advice, EXIT_CONFIGURATION)
        return parse_cipher_keys(self.hook_cipher_key)

    def needed_pepper(self) -> bytes:
        """The pepper. Raises CommandFailed if it is not known."""
        if self.pepper is None:
            raise CommandFailed(f"{_PEPPER} is not set", "Set it to what the gateway has: keys are hashed under it.", EXIT_CONFIGURATION)
        return self.pepper.encode()


def find_log(data: Path) -> LogTarget:
    """The log of the environment if it has KITE_KAFKA_BOOTSTRAP, else of the local stack. Raises CommandFailed, ConfigurationError."""
    settings = load(KiteSettings)
    if "kafka_bootstrap" in settings.model_fields_set:
        return log_of_environment(settings)
    stack = find_stack(data)
    if stack is None or not stack.ports:
        raise nothing_found(data, "KITE_KAFKA_BOOTSTRAP and KITE_REDIS_URL")
    secrets = load_or_draw(data / "secrets.json")
    return log_of_stack(stack, secrets[_PEPPER], secrets[_HOOK_KEY])


def is_of_environment() -> bool:
    """Whether the log is the one the environment names. Raises ConfigurationError."""
    return "kafka_bootstrap" in load(KiteSettings).model_fields_set


def find_api(data: Path) -> ApiTarget:
    """Gateway, team and key of the environment where they are set, else of the local stack. Raises CommandFailed, ConfigurationError."""
    return api_target(load(ApiSettings), find_stack(data), read_team(data / DEMO_FILE), data)


def has_own_team() -> bool:
    """Whether the environment names a team. Raises CommandFailed, ConfigurationError."""
    return _own_team(load(ApiSettings)) is not None


def log_of_environment(settings: KiteSettings) -> LogTarget:
    """The log that settings name."""
    pepper, hook_key = settings.api_key_pepper, settings.hook_secret_cipher_key
    return LogTarget(
        settings.kafka_bootstrap, settings.redis_url, settings.partitions, settings.replication,
        None if pepper is None else pepper.get_secret_value(), None if hook_key is None else hook_key.get_secret_value(),
    )  # fmt: skip


def log_of_stack(stack: FoundStack, pepper: str, hook_cipher_key: str | None = None) -> LogTarget:
    """The log of a local stack."""
    return LogTarget(stack.kafka_bootstrap, stack.redis_url, PARTITIONS, 1, pepper, hook_cipher_key)


def api_target(settings: ApiSettings, stack: FoundStack | None, demo: TeamKey | None, data: Path) -> ApiTarget:
    """Decide gateway and team. A key of the local stack is never sent to another gateway. Raises CommandFailed."""
    own = _own_team(settings)
    if settings.public_url is not None:
        if own is None:
            raise CommandFailed(
                "KITE_PUBLIC_URL names a gateway, but no team and key are set", "Set KITE_TEAM_ID and KITE_API_KEY too.", EXIT_CONFIGURATION
            )
        return ApiTarget(settings.public_url, own)
    if stack is None:
        raise nothing_found(data, "KITE_PUBLIC_URL, KITE_TEAM_ID and KITE_API_KEY")
    team = own or demo
    if not stack.gateway or team is None:
        raise CommandFailed(
            f"the local stack in {data} is not up yet", "Wait until `make run` says that it is up; `kitectl status` shows what runs.",
            EXIT_UNAVAILABLE,
        )  # fmt: skip
    return ApiTarget(stack.gateway, team)


def nothing_found(data: Path, variables: str) -> CommandFailed:
    """The error for a command that has nothing to talk to."""
    return CommandFailed(
        f"no Kite found: nothing runs in {data}, and the environment names none",
        f"Start one with `make run` (or `kitectl up`), or set {variables}.", EXIT_UNAVAILABLE,
    )  # fmt: skip


def read_team(path: Path) -> TeamKey | None:
    """The team kept in a file of the data folder, None if there is none."""
    kept = read_private(path) or {}
    team_id, api_key = kept.get("team_id"), kept.get("api_key")
    return TeamKey(team_id, api_key) if isinstance(team_id, str) and isinstance(api_key, str) else None


def _own_team(settings: ApiSettings) -> TeamKey | None:
    if settings.team_id is None and settings.api_key is None:
        return None
    if settings.team_id is None or settings.api_key is None:
        missing = "KITE_TEAM_ID" if settings.team_id is None else "KITE_API_KEY"
        raise CommandFailed(f"{missing} is not set, its twin is", "Set KITE_TEAM_ID and KITE_API_KEY, or neither.", EXIT_CONFIGURATION)
    return TeamKey(settings.team_id, settings.api_key.get_secret_value())
