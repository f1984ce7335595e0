"""The gateway's HTTP API as commands use it: messages, events, webhook config. Keeps nothing, prints nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from kite_cli.failure import EXIT_UNAVAILABLE, CommandFailed
from kite_cli.output import printable
from kite_cli.target import ApiTarget
from kite_common.clock import rfc3339, to_unix_ms
from kite_common.runtime.system import SystemClock

_TIMEOUT_S: Final = 15.0
# How long a 503 is met with patience: about as long as a service takes to come back after a kill.
_PATIENCE_S: Final = 15.0
_LONGEST_WAIT_S: Final = 5.0
_UNAVAILABLE: Final = 503

_ADVICE: Final[Mapping[str, str]] = {
    "unauthorized": "Check KITE_API_KEY: it is unknown here, revoked or expired. `kitectl key create` makes another one.",
    "forbidden": "Check KITE_TEAM_ID: the key belongs to another team.",
    "insufficient_permissions": "Use a key with the permission this needs (read < write < admin).",
    "insufficient_funds": "The team's wallet is empty: `kitectl pay deposit 1` fills it.",
    "x402_unconfigured": "This server takes no payments; `kitectl up` starts one that does.",
    "invalid_payment": "`kitectl wallet show` tells what the wallet has; `kitectl wallet faucet` fills it on the local chain.",
    "quota_exceeded": "Wait until the plan's period or day ends, or use a team of a larger plan.",
    "rate_limit_exceeded": "Wait as long as it says, then go on.",
    "no_active_subscription": "Use a team with a subscription; `kitectl team create` opens one.",
    "invalid_filter": "Give --type an exact type, or a prefix such as com.github.*, and --agent, --from and --to ids of agents.",
    "invalid_cursor": "Give --since a cursor that `kitectl events` printed, or a time such as 2026-04-30T10:00:00Z.",
    "webhook_config_not_found": "Set one with PUT /api/v1/webhook-config (docs/using.md, Receiving).",
    "delivery_in_progress": "It goes on by itself; `kitectl deliveries show` tells when.",
    "event_expired": "Nothing can be done: the event is not kept any more.",
    "cursor_expired": "Give a later --since, or leave it out to begin with the oldest event.",
}


class ApiRefused(CommandFailed):
    """An answer >= 400: its status, code and, if the gateway names one, the seconds after which to try again."""

    def __init__(self, status: int, error: str, message: str, retry_after_s: float | None) -> None:
        advice = _ADVICE.get(error, "See the gateway's log for more." if status >= 500 else "See `--help` of this command.")
        super().__init__(f"the gateway refuses ({status} {error}): {message}", advice, EXIT_UNAVAILABLE if status >= 500 else 1)
        self.status, self.error, self.retry_after_s = status, error, retry_after_s


class GatewayClient:
    """One team's view of a gateway. Every call raises ApiRefused, or CommandFailed if there is no answer.

    A 503 is met with patience: nothing here does harm when it is repeated.
    """

    def __init__(self, target: ApiTarget, http: httpx.AsyncClient) -> None:
        self._target, self._http = target, http

    async def send(self, message: Mapping[str, str], idempotency_key: str) -> dict[str, Any]:
        """Send a message; the body of 202. The key makes repeats harmless."""
        return await self._call("POST", "/api/v1/agents/messages", json=message, headers={"Idempotency-Key": idempotency_key})

    async def events(self, since: str | None, limit: int, filters: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """A page of events after `since`: `events`, `next_cursor`, `has_more`. `filters` by name: `type`, `agent`, `from`, `to`."""
        query: dict[str, Any] = {"limit": limit} | dict(filters or {})
        return await self._call("GET", "/api/v1/events", query=query | ({"since": since} if since else {}))

    async def webhook_config(self) -> dict[str, Any] | None:
        """The active webhook config without its secret, None if there is none."""
        try:
            return await self._call("GET", "/api/v1/webhook-config")
        except ApiRefused as error:
            if error.error == "webhook_config_not_found":
                return None
            raise

    async def time(self) -> str:
        """The gateway's time in whole seconds, RFC 3339: this machine's clock may be another."""
        told = (await self._request("GET", "/health", {}, None, {})).headers.get("date")
        return rfc3339(SystemClock().unix_ms() if told is None else to_unix_ms(parsedate_to_datetime(told)))

    async def deliveries(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """A page of the attempt log: `deliveries`, `next_cursor`, `has_more`."""
        return await self._call("GET", "/api/v1/deliveries", query=query)

    async def redrive(self, delivery_id: str, updated_before: str) -> dict[str, Any]:
        """Order another round of one delivery; repeats with the same time (RFC 3339) are the same round."""
        return await self._call("POST", f"/api/v1/deliveries/{delivery_id}/redrive", query={"updated_before": updated_before})

    async def redrive_page(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Order another round of a page of deliveries: `redriven`, `expired`, `next_cursor`."""
        return await self._call("POST", "/api/v1/deliveries/redrive", query=query)

    async def test_webhook(self) -> dict[str, Any]:
        """Queue a test event: `event_id`, `delivery_id`."""
        return await self._call("POST", "/api/v1/webhook-config/test")

    async def wallet(self) -> dict[str, Any]:
        """The team's wallet. Refused with 404 or 409 if it has none."""
        return await self._call("GET", "/api/v1/wallet")

    async def put_webhook_config(self, url: str, secret: str) -> None:
        """Create or replace the webhook config."""
        await self._call("PUT", "/api/v1/webhook-config", json={"url": url, "secret": secret})

    async def delete_webhook_config(self) -> None:
        """Deactivate the webhook config."""
        await self._call("DELETE", "/api/v1/webhook-config")

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        async def once() -> dict[str, Any]:
            return answer_of(await self._request(method, path, query or {}, json, headers or {}))

        return await patiently(once)

    async def _request(
        self, method: str, path: str, query: Mapping[str, Any], json: object, headers: Mapping[str, str]
    ) -> httpx.Response:
        team = self._target.team
        try:
            return await self._http.request(
                method, self._target.url + path, params={"team_id": team.team_id, **query}, json=json,
                headers={"Authorization": f"Bearer {team.api_key}", **headers},
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise CommandFailed(
                f"the gateway at {self._target.url} does not answer: {type(error).__name__}",
                "See `kitectl status`; start it with `make run`, or check KITE_PUBLIC_URL.", EXIT_UNAVAILABLE,
            ) from error  # fmt: skip


@asynccontextmanager
async def gateway_client(target: ApiTarget) -> AsyncIterator[GatewayClient]:
    """A client with connections of its own."""
    # Without the proxies of the environment: the address is exactly the one that was chosen.
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
        yield GatewayClient(target, http)


async def patiently(call: Callable[[], Awaitable[dict[str, Any]]], patience_s: float = _PATIENCE_S) -> dict[str, Any]:
    """The result of `call`, which is repeated while it is refused with 503, until `patience_s` are over."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        try:
            return await call()
        except ApiRefused as error:
            wait_s = min(error.retry_after_s or 1.0, _LONGEST_WAIT_S)
            if error.status != _UNAVAILABLE or asyncio.get_running_loop().time() + wait_s > deadline:
                raise
            await asyncio.sleep(wait_s)


def answer_of(answer: httpx.Response) -> dict[str, Any]:
    """The body of a good answer. Raises ApiRefused for one >= 400, CommandFailed for what is none of a gateway."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.status_code < 400 and isinstance(body, dict):
        return body
    if not isinstance(body, dict) or not isinstance(body.get("error"), str):
        raise CommandFailed(f"what answers is no Kite gateway (status {answer.status_code})", "Check KITE_PUBLIC_URL.", EXIT_UNAVAILABLE)
    retry = body.get("retry_after_secs")
    # Why a payment is refused stands in a field of its own.
    message = printable(" ".join(str(body[name]) for name in ("message", "reason") if body.get(name)))
    raise ApiRefused(answer.status_code, printable(body["error"]), message, float(retry) if isinstance(retry, int) else None)
