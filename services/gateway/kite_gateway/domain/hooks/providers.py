"""What a provider calls its events: type, source, summary, delivery id (wire contract, 5.3, 9.3, 9.4). Checks no signature.

All of it is read from headers and bodies that may hold anything: whatever is not of the expected kind counts as missing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_NOT_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_MAX_TYPE_CHARS: Final = 128
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,10}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request to the endpoint `slug` as far as names go. `body` is the payload as JSON values, None if it is no JSON."""

    slug: str
    head: Mapping[str, str]
    body: Any

    def header(self, name: str) -> str:
        """A header's text without spaces around it, empty if it is missing."""
        return self.head.get(name, "").strip()

    def text(self, *path: str) -> str:
        """The string at this place of the body, empty if there is none."""
        found = self.body
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, str) else ""


def event_type(delivery: Delivery) -> str:
    """`com.{slug}.{name of the event}`, at most 128 characters of `[A-Za-z0-9._-]`; the name is `event` where the provider gives none."""
    provider = _PROVIDERS.get(delivery.slug)
    name = provider.name(delivery) if provider else ""
    return f"com.{delivery.slug}.{_NOT_NAME.sub('_', name) or 'event'}"[:_MAX_TYPE_CHARS]


def event_source(delivery: Delivery) -> str:
    """Where the event comes from: a URL."""
    provider = _PROVIDERS.get(delivery.slug)
    return provider.source(delivery) if provider else f"https://{delivery.slug}"


def summary(delivery: Delivery) -> str | None:
    """A line about what happened, None where there is nothing to say but type and slug. May hold any character."""
    if delivery.slug != "github":
        return None
    event, repository = delivery.header("x-github-event"), delivery.text("repository", "full_name")
    user = delivery.text("sender", "login") or delivery.text("pusher", "name")
    if not (event and repository and user):
        return None
    commits, ref = delivery.body.get("commits"), delivery.text("ref")
    if event == "push" and isinstance(commits, list) and ref:
        branch = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return f"{user} pushed {len(commits)} commits to {branch} in {repository}"
    action = delivery.text("action")
    return f"{user} {action + ' ' if action else ''}{event} in {repository}"


def delivery_id(delivery: Delivery, *, verified: bool) -> str | None:
    """The provider's id of this delivery, the same when it delivers again; None if it gives none.

    An id in the body counts only if a signature was checked and right: else anybody with the token could use a later one up.
    """
    provider = _PROVIDERS.get(delivery.slug)
    if provider is None:
        return None
    if provider.id_header is not None:
        return delivery.header(provider.id_header) or None
    return (delivery.text(*provider.id_path) or None) if verified else None


_Text = Callable[[Delivery], str]


@dataclass(frozen=True, slots=True)
class _Provider:
    """One row of the tables. The delivery id stands in a header or at a place of the body."""

    name: _Text
    source: _Text
    id_header: str | None = None
    id_path: tuple[str, ...] = ()


def _github_source(delivery: Delivery) -> str:
    repository = delivery.text("repository", "full_name")
    return "https://github.com" + (f"/{repository}" if _REPOSITORY.fullmatch(repository) else "")


def _shopify_source(delivery: Delivery) -> str:
    domain = delivery.header("x-shopify-shop-domain")
    return f"https://{domain if _DOMAIN.fullmatch(domain) else 'shopify.com'}"


def _twilio_name(delivery: Delivery) -> str:
    if not isinstance(delivery.body, dict):
        return ""
    return "message" if "MessageSid" in delivery.body else "call" if "CallSid" in delivery.body else ""


def _always(url: str) -> _Text:
    return lambda _: url


_PROVIDERS: Final[Mapping[str, _Provider]] = {
    "github": _Provider(lambda one: one.header("x-github-event"), _github_source, id_header="x-github-delivery"),
    "stripe": _Provider(lambda one: one.text("type"), _always("https://api.stripe.com"), id_path=("id",)),
    "slack": _Provider(
        lambda one: one.text("event", "type") or one.text("type"), _always("https://slack.com"), id_path=("event_id",)
    ),
    "linear": _Provider(
        lambda one: (one.header("linear-event") or one.text("type")).lower(), _always("https://linear.app"), id_header="linear-delivery"
    ),
    "shopify": _Provider(
        lambda one: one.header("x-shopify-topic").replace("/", "."), _shopify_source, id_header="x-shopify-webhook-id"
    ),
    "twilio": _Provider(_twilio_name, _always("https://api.twilio.com"), id_header="i-twilio-idempotency-token"),
    "pagerduty": _Provider(lambda one: one.text("event", "event_type"), _always("https://api.pagerduty.com"), id_path=("event", "id")),
    "clerk": _Provider(lambda one: one.text("type"), _always("https://clerk.com"), id_header="svix-id"),
}  # fmt: skip
