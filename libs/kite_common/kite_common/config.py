"""Settings: typed, explained, read once, checked all at once, shown masked. The only reader of the environment.

Every service subclasses `KiteSettings` in its own `settings.py`; only its `main` sees the result. No secret has a default, and
no secret's value is ever in an error text or in `masked()`.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from kite_common.errors import ConfigurationError, KiteError
from kite_common.plans import Catalog, parse_catalog, shipped_catalog

_ENV_PREFIX: Final = "KITE_"
_ENV_FILE: Final = "KITE_ENV_FILE"
_MASK: Final = "****"


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _url_of(*schemes: str) -> AfterValidator:
    """A check that a text is a URL of one of these schemes. Its error names the schemes, never the text."""

    def check(text: str) -> str:
        if urlsplit(text).scheme not in schemes or "://" not in text:
            raise ValueError("must be a URL that starts with " + " or ".join(scheme + "://" for scheme in schemes))
        return text

    return AfterValidator(check)


class KeyedUrl(str):
    """A URL whose path or query may be a key, as providers of chain nodes have it: `masked()` shows scheme and host only."""

    __slots__ = ()


def checked_by(parse: Callable[[str], object]) -> AfterValidator:
    """A check for text and secret fields by a parser of ours: `Annotated[SecretStr, checked_by(parse_cipher_keys)]`.

    A KiteError of the parser becomes one of the listed problems; the value stays the text that was given.
    """

    def check(value: SecretStr | str | None) -> SecretStr | str | None:
        if value is not None:
            try:
                parse(value.get_secret_value() if isinstance(value, SecretStr) else value)
            except KiteError as error:
                raise ValueError(str(error)) from None
        return value

    return AfterValidator(check)


# A comma-separated list in one variable.
CommaList = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
# URLs that may carry a password: `masked()` cuts it out; declare such a field with repr=False.
RedisUrl = Annotated[str, _url_of("redis", "rediss", "unix")]
ClickHouseUrl = Annotated[str, _url_of("chdb", "http", "https")]
NodeUrl = Annotated[str, _url_of("http", "https"), AfterValidator(KeyedUrl)]
HttpUrl = Annotated[str, _url_of("http", "https"), AfterValidator(lambda url: url.rstrip("/"))]


class KiteSettings(BaseSettings):
    """What services have in common. Variable names are the field names in capitals after `KITE_`, but for those that are a standard's."""

    model_config = SettingsConfigDict(
        env_prefix=_ENV_PREFIX, frozen=True, extra="ignore", enable_decoding=False, hide_input_in_errors=True, env_ignore_empty=True,
        populate_by_name=True,
    )  # fmt: skip

    kafka_bootstrap: str = Field("127.0.0.1:9092", min_length=1, description="Kafka brokers, host:port, comma-separated")
    redis_url: RedisUrl = Field("redis://127.0.0.1:6379/0", repr=False, description="Redis or Valkey, redis://[user:password@]host:port/db")
    clickhouse_url: ClickHouseUrl | None = Field(
        None, repr=False, description="ClickHouse: chdb:///abs/path or http(s)://user:password@host:8123/db"
    )
    partitions: int = Field(8, ge=1, le=1024, description="partitions of every team topic; fixed once the topics exist")
    replication: int = Field(1, ge=1, le=9, description="copies of every topic; 3 in production")
    instance: str = Field(
        default_factory=socket.gethostname, min_length=1, max_length=200,
        description="name of this process in its consumer group; the same after a restart, unlike that of any other replica",
    )  # fmt: skip
    host: str = Field("0.0.0.0", description="address to listen on")  # noqa: S104 - a server in a container listens everywhere
    port: int = Field(0, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    trusted_proxies: CommaList = Field((), description="addresses whose X-Forwarded-For is believed, comma-separated")
    public_url: HttpUrl = Field("http://127.0.0.1:7700", description="origin that clients see; never taken from the Host header")
    replay_url: HttpUrl | None = Field(None, description="where the gateway sends replay paths; unset when an ingress does it")
    allow_private_targets: bool = Field(False, description="webhooks to loopback and private addresses")
    api_key_pepper: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None, description="key under which API keys and hook tokens are hashed, at least 16 characters; changing it ends all of them"
    )
    api_key_retired_pepper: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None, description="the pepper before: what was issued under it stays good, and is good for nothing once this is taken away"
    )
    webhook_secret_cipher_key: SecretStr | None = Field(
        None, description="seals webhook secrets: 32 bytes as 64 hex digits, base64 or 32 ASCII characters; several: newest first, by comma"
    )
    hook_secret_cipher_key: SecretStr | None = Field(
        None, description="seals providers' secrets of hook endpoints; written like webhook_secret_cipher_key"
    )
    team_rate_limit: Annotated[int, Field(ge=1)] | None = Field(None, description="requests per minute of every team, over the plan's")
    retention_days: int = Field(90, ge=1, le=3650, description="how long events and deliveries can be replayed")
    cors_origins: CommaList = Field((), description="origins that browsers may call from, comma-separated")
    plans_file: Path | None = Field(None, description="a plans.toml instead of the plans that come with Kite")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe line that is written")
    log_format: Literal["json", "console"] = Field("json", description="one JSON object a line, or text for people")
    drain_timeout_s: float = Field(20.0, gt=0, le=600, description="seconds to finish work in after SIGTERM")
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where traces are sent, OTLP over HTTP, such as http://collector:4318; unset: there are none",
    )  # fmt: skip
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, validation_alias="OTEL_EXPORTER_OTLP_HEADERS", description="headers sent along with traces: name=value, comma-separated"
    )
    trace_ratio: float = Field(
        0.01, ge=0, le=1, description="part of the traces beginning here that is recorded; a caller's decision (traceparent) stands"
    )

    def problems(self) -> list[str]:
        """What is wrong with the settings together, each of them being usable by itself: "VARIABLE: text", without values."""
        return []


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as people may see it: variable name, masked value, where it came from, what it does."""

    name: str
    value: str
    source: Literal["environment", "default"]
    doc: str


def load(settings_type: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment and, below it, from the file that `KITE_ENV_FILE` names (lines NAME=value).

    Raises ConfigurationError that names every problem with its variable and what is expected, without values of secrets.
    """
    env_file = os.environ.get(_ENV_FILE) or None
    if env_file and not Path(env_file).is_file():
        raise ConfigurationError([f"{_ENV_FILE}: no such file"])
    try:
        settings = settings_type(_env_file=env_file)
    except ValidationError as error:
        raise ConfigurationError(_problems(settings_type, error)) from None
    except SettingsError as error:
        raise ConfigurationError([f"settings: {error}"]) from None
    together = settings.problems() if isinstance(settings, KiteSettings) else []
    if together:
        raise ConfigurationError(together)
    return settings


def masked(settings: BaseSettings) -> list[SettingRow]:
    """Every setting in the order it is declared, secrets and passwords replaced."""
    return [
        SettingRow(
            name=env_name(type(settings), field_name),
            value=_shown(getattr(settings, field_name)),
            source="environment" if field_name in settings.model_fields_set else "default",
            doc=field.description or "",
        )
        for field_name, field in type(settings).model_fields.items()
    ]


def env_name(settings_type: type[BaseSettings], field_name: str) -> str:
    """The variable that sets a field: its alias if it has one, else the prefix and its name in capitals."""
    alias = settings_type.model_fields[field_name].validation_alias
    if isinstance(alias, str):
        return alias.upper()
    return (settings_type.model_config.get("env_prefix", "") + field_name).upper()


def load_catalog(settings: KiteSettings) -> Catalog:
    """The plans of `plans_file`, or those that come with Kite. Raises ConfigurationError if they cannot be used."""
    if settings.plans_file is None:
        return shipped_catalog()
    try:
        return parse_catalog(settings.plans_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"KITE_PLANS_FILE: {settings.plans_file} cannot be read: {type(error).__name__}"]) from None


def peppers_of(settings: KiteSettings) -> tuple[bytes, bytes | None]:
    """The pepper of API keys and hook tokens, and the one before it if there still is one. Raises ConfigurationError without a pepper."""
    current, retired = settings.api_key_pepper, settings.api_key_retired_pepper
    if current is None:
        raise ConfigurationError(["KITE_API_KEY_PEPPER: is required"])
    return current.get_secret_value().encode(), None if retired is None else retired.get_secret_value().encode()


def _problems(settings_type: type[BaseSettings], error: ValidationError) -> list[str]:
    fields = _fields_by_location(settings_type)
    found = error.errors(include_url=False, include_input=False, include_context=False)
    # A union reports once per member: keep the first text of each variable.
    problems: dict[str, str] = {}
    for one in found:
        location = str(one["loc"][0]) if one["loc"] else "settings"
        name, field = fields.get(location.lower(), (location, None))
        problems.setdefault(name, f"{name}: {_problem(one['type'], one['msg'], field)}")
    return list(problems.values())


def _fields_by_location(settings_type: type[BaseSettings]) -> Mapping[str, tuple[str, FieldInfo]]:
    """Both names an error may use for a field, in lower case: the field's own and its alias."""
    by_location: dict[str, tuple[str, FieldInfo]] = {}
    for field_name, field in settings_type.model_fields.items():
        name = env_name(settings_type, field_name)
        by_location |= {field_name.lower(): (name, field), name.lower(): (name, field)}
    return by_location


def _problem(kind: str, text: str, field: FieldInfo | None) -> str:
    expected = f" ({field.description})" if field is not None and field.description else ""
    if kind == "missing":
        return f"is required{expected}"
    if field is not None and _holds(field.annotation, SecretStr):
        # Texts of checks may quote what they were given: for secrets only what is expected is said.
        return f"is not usable{expected}"
    return text.removeprefix("Value error, ") + expected


def _holds(annotation: Any, wanted: type) -> bool:
    return annotation is wanted or any(_holds(argument, wanted) for argument in get_args(annotation))


def _shown(value: object) -> str:
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    text = str(value)
    head, scheme, rest = text.partition("://")
    user_info, at, place = rest.rpartition("@")
    if isinstance(value, KeyedUrl):
        host, slash, hidden = place.partition("/")
        return f"{head}{scheme}{host}{slash}{_MASK if hidden else ''}"
    return f"{head}{scheme}{_MASK}@{place}" if at and user_info else text
