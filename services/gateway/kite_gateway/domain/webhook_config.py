"""What a PUT of the webhook config may say, and what becomes of the team's one config (wire contract, section 3 and 10.3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from kite_common.crypto import validate_webhook_secret
from kite_common.errors import Malformed
from kite_common.events.webhooks import DeliveryMode, SealedSecret, SignatureScheme, WebhookConfigured
from kite_common.ids import TeamId, WebhookConfigId
from kite_gateway.domain.target import is_private_host

MAX_URL_CHARS: Final = 2_048
MAX_EVENT_TYPES: Final = 100
MAX_EVENT_TYPE_CHARS: Final = 128
MAX_OVERLAP_S: Final = 604_800
DEFAULT_OVERLAP_S: Final = 86_400
MAX_BATCH_EVENTS: Final = 100
DEFAULT_BATCH_EVENTS: Final = 16
MAX_BATCH_WAIT_MS: Final = 1_000
DEFAULT_BATCH_WAIT_MS: Final = 200

UrlReason = Literal["missing", "syntax", "scheme", "private_address"]
# RFC 3986 allows visible ASCII only, and none of these among it; names in other scripts come as punycode.
_URL_TEXT: Final = re.compile(r"[!-~]+")
_NO_URL_CHARS: Final = re.compile(r'[\\"<>^`{|}]')
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_EVENT_TYPE: Final = re.compile(r"[!-)+-~]+")


@dataclass(frozen=True, slots=True)
class WantedConfig:
    """A config as it was asked for, checked. The secret is plain text here and is hidden in repr()."""

    url: str
    secret: str = field(repr=False)
    event_types: tuple[str, ...]
    signature: SignatureScheme = "v1"
    mode: DeliveryMode = "structured"
    batch_max_events: int = DEFAULT_BATCH_EVENTS
    batch_max_wait_ms: int = DEFAULT_BATCH_WAIT_MS


@dataclass(frozen=True, slots=True)
class WantedRotation:
    """A rotation as it was asked for, checked. `secret` None: the server makes one. The former secret lives for `overlap_s` more."""

    secret: str | None = field(repr=False)
    overlap_s: int = DEFAULT_OVERLAP_S


@dataclass(frozen=True, slots=True)
class InvalidConfig:
    """What is wrong: a public error code, prose that quotes no secret, and for URLs the reason."""

    code: Literal["invalid_url", "invalid_secret", "invalid_event_types", "invalid_signature_scheme", "invalid_batch", "invalid_overlap"]
    message: str
    reason: UrlReason | None = None


def read_config(body: Mapping[str, Any], *, allow_private: bool, has_keys: bool = False) -> WantedConfig | InvalidConfig:
    """The config a JSON object asks for, or the first thing that is wrong with it. Unknown fields are ignored.

    `has_keys`: the server can sign with Ed25519.
    """
    url, secret, signature = body.get("url"), body.get("secret"), body.get("signature")
    problem = (
        _url_problem(url, allow_private=allow_private) or _secret_problem(secret) or _types_problem(body.get("event_types"))
        or _scheme_problem(signature, has_keys=has_keys) or _batch_problem(body)
    )  # fmt: skip
    if problem is not None:
        return problem
    return WantedConfig(
        str(url), str(secret), tuple(body.get("event_types") or ()),
        signature="v1a" if signature == "v1a" else "v1",
        mode="batch" if body.get("mode") == "batch" else "structured",
        batch_max_events=_or_default(body.get("batch_max_events"), DEFAULT_BATCH_EVENTS),
        batch_max_wait_ms=_or_default(body.get("batch_max_wait_ms"), DEFAULT_BATCH_WAIT_MS),
    )  # fmt: skip


def read_rotation(body: Mapping[str, Any]) -> WantedRotation | InvalidConfig:
    """The rotation a JSON object asks for, or the first thing that is wrong with it; null stands for what is left out."""
    secret, overlap_s = body.get("secret"), body.get("overlap_secs")
    problem = _secret_problem(secret) if secret is not None else None
    if problem is not None:
        return problem
    if overlap_s is None:
        return WantedRotation(secret)
    if isinstance(overlap_s, bool) or not isinstance(overlap_s, int) or not 0 <= overlap_s <= MAX_OVERLAP_S:
        return InvalidConfig("invalid_overlap", f"overlap_secs must be an integer from 0 to {MAX_OVERLAP_S}.")
    return WantedRotation(secret, overlap_s)


def configured(
    current: WebhookConfigured | None, wanted: WantedConfig, team_id: TeamId, new_id: WebhookConfigId, sealed: str, now_ms: int
) -> WebhookConfigured:
    """The team's config after a PUT. An active one keeps id and creation time; a new secret holds at once, without overlap.

    `sealed` is the secret sealed for the id that the result has: `identity(current, new_id)`.
    """
    active = current is not None and current.active
    return WebhookConfigured(
        team_id=team_id,
        id=identity(current, new_id),
        url=wanted.url,
        event_types=wanted.event_types,
        secrets=(SealedSecret(sealed=sealed),),
        signature=wanted.signature,
        mode=wanted.mode,
        batch_max_events=wanted.batch_max_events,
        batch_max_wait_ms=wanted.batch_max_wait_ms,
        active=True,
        created_at=current.created_at if active and current is not None else now_ms,
        updated_at=_later(current, now_ms) if active else now_ms,
    )


def rotated(current: WebhookConfigured, sealed: str, overlap_s: int, now_ms: int) -> WebhookConfigured:
    """The config with a new secret, sealed. Beside it only the newest one so far lives on, for the overlap; an older one ends at once."""
    former = current.secrets[0].model_copy(update={"expires_at": now_ms + overlap_s * 1000})
    return current.model_copy(update={"secrets": (SealedSecret(sealed=sealed), former), "updated_at": _later(current, now_ms)})


def rotated_again(current: WebhookConfigured, overlap_s: int, now_ms: int) -> WebhookConfigured:
    """The config after a rotation to the secret that is its newest one already: the same, also after many repeats.

    The former secret's end is never put off by a repeat, but a shorter overlap brings it forward.
    """
    ends_ms = previous_ends_ms(current)
    if ends_ms is None or ends_ms <= now_ms + overlap_s * 1000:
        return current
    sooner = current.secrets[1].model_copy(update={"expires_at": now_ms + overlap_s * 1000})
    return current.model_copy(update={"secrets": (current.secrets[0], sooner), "updated_at": _later(current, now_ms)})


def previous_ends_ms(config: WebhookConfigured) -> int | None:
    """When the secret before the newest one ends or has ended, None if there is none."""
    return config.secrets[1].expires_at if len(config.secrets) > 1 else None


def identity(current: WebhookConfigured | None, new_id: WebhookConfigId) -> WebhookConfigId:
    """The id a config has after a PUT: that of the active one, or a new one."""
    return WebhookConfigId(current.id) if current is not None and current.active else new_id


def deactivated(current: WebhookConfigured, now_ms: int) -> WebhookConfigured:
    """The config after DELETE: inactive, and without the secrets nobody needs any more."""
    return current.model_copy(update={"active": False, "secrets": (), "updated_at": _later(current, now_ms)})


def _later(current: WebhookConfigured | None, now_ms: int) -> int:
    """A stamp of its own for every change, also within a millisecond and where clocks differ: two writers tell by it what they saw."""
    return now_ms if current is None else max(now_ms, current.updated_at + 1)


def _url_problem(url: object, *, allow_private: bool) -> InvalidConfig | None:
    if url is None or url == "":
        return InvalidConfig("invalid_url", "url is required.", "missing")
    if not isinstance(url, str) or len(url) > MAX_URL_CHARS or not _URL_TEXT.fullmatch(url) or _NO_URL_CHARS.search(url):
        return _bad_syntax(f"url must be an absolute URL of at most {MAX_URL_CHARS} visible ASCII characters.")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port_is_usable = parts.port != 0
    except ValueError:
        return _bad_syntax("url is not a valid URL.")
    if not parts.scheme:
        return _bad_syntax("url must be absolute.")
    if parts.scheme not in ("http", "https"):
        return InvalidConfig("invalid_url", "url must begin with http:// or https://.", "scheme")
    if "@" in parts.netloc or "#" in url:
        return _bad_syntax("url must have neither user info nor a fragment.")
    if not port_is_usable or not _is_host(host, parts):
        return _bad_syntax("url must name a host.")
    if is_private_host(host) and not allow_private:
        return InvalidConfig("invalid_url", "url must not point to a private or loopback address.", "private_address")
    return None


def _is_host(host: str, parts: SplitResult) -> bool:
    # urlsplit has checked what stands in brackets: an IPv6 address, or a form of the future that has no colon before its dot.
    return ":" in host and "%" not in host if parts.netloc.startswith("[") else _HOST_NAME.fullmatch(host) is not None


def _bad_syntax(message: str) -> InvalidConfig:
    return InvalidConfig("invalid_url", message, "syntax")


def _secret_problem(secret: object) -> InvalidConfig | None:
    if not isinstance(secret, str):
        return InvalidConfig("invalid_secret", "secret is required and must be a string.")
    try:
        validate_webhook_secret(secret)
    except Malformed as error:
        return InvalidConfig("invalid_secret", str(error))
    return None


def _scheme_problem(signature: object, *, has_keys: bool) -> InvalidConfig | None:
    if signature is None or signature == "v1" or (signature == "v1a" and has_keys):
        return None
    schemes = "v1 or v1a" if has_keys else "v1; this server has no key for v1a"
    return InvalidConfig("invalid_signature_scheme", f"signature must be {schemes}.")


def _batch_problem(body: Mapping[str, Any]) -> InvalidConfig | None:
    if body.get("mode") not in (None, "structured", "batch"):
        return InvalidConfig("invalid_batch", "mode must be structured or batch.")
    for name, least, most in (("batch_max_events", 1, MAX_BATCH_EVENTS), ("batch_max_wait_ms", 0, MAX_BATCH_WAIT_MS)):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            return InvalidConfig("invalid_batch", f"{name} must be an integer from {least} to {most}.")
    return None


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def _types_problem(types: object) -> InvalidConfig | None:
    if types is None:
        return None
    if not isinstance(types, list) or len(types) > MAX_EVENT_TYPES:
        return InvalidConfig("invalid_event_types", f"event_types must be a list of at most {MAX_EVENT_TYPES} strings.")
    if not all(isinstance(entry, str) and _is_event_type(entry) for entry in types):
        expected = f"an exact type or a prefix that ends in '.*', at most {MAX_EVENT_TYPE_CHARS} characters, without other '*'"
        return InvalidConfig("invalid_event_types", f"Each entry of event_types must be {expected}.")
    return None


def _is_event_type(entry: str) -> bool:
    return len(entry) <= MAX_EVENT_TYPE_CHARS and _EVENT_TYPE.fullmatch(entry.removesuffix(".*")) is not None
