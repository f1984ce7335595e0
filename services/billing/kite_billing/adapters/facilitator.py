"""The facilitator over HTTP. Three outcomes of a settle: success, refused, unclear; its texts never get any further. Decides no payment."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson

from kite_billing.domain.payments.answers import LARGEST_ANSWER, read_gas, read_settle, read_verify
from kite_billing.domain.payments.facts import NoAnswer, SettleAnswer, Unclear, VerifyAnswer
from kite_common.events.payment_record import CallEnd, PaymentRecord
from kite_common.x402.networks import checksum
from kite_common.x402.precheck import canonical_signature
from kite_common.x402.wire import SCHEME

_PROTOCOL: Final = 2
_CONNECT_S: Final = 3.0
_LOOK_S: Final = 5.0
_CHUNK: Final = 16 * 1024
_OK: Final = 200


class HttpFacilitator:
    """`kite_billing.application.ports.Facilitator`. The session belongs to it; close it."""

    def __init__(self, url: str, token: str | None, *, verify_timeout_s: float, settle_timeout_s: float) -> None:
        self._url, self._verify_s, self._settle_s = url, verify_timeout_s, settle_timeout_s
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    async def verify(self, record: PaymentRecord) -> VerifyAnswer:
        """Whether it would settle; anything but a clear answer is none."""
        try:
            return read_verify(*await self._post("/verify", request_of(record), self._verify_s))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return NoAnswer(type(error).__name__)

    async def settle(self, record: PaymentRecord) -> SettleAnswer:
        """Let it settle; how a call ended without an answer decides when it may be made again."""
        network = record.requirement.network if record.requirement is not None else ""
        try:
            return read_settle(*await self._post("/settle", request_of(record), self._settle_s), network)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return Unclear("no_answer", _end_of(error))

    async def misfit(self, network: str) -> str | None:
        """Why it cannot settle what we take, in words of ours; None if it says that it can."""
        try:
            status, body = await self._call("GET", "/supported", None, _LOOK_S)
            kinds = orjson.loads(body).get("kinds") if status == _OK else None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return f"the facilitator does not answer ({type(error).__name__})"
        except (orjson.JSONDecodeError, AttributeError):
            kinds = None
        if not isinstance(kinds, list):
            return f"the facilitator does not say what it supports (status {status})"
        wanted = (_PROTOCOL, SCHEME, network)
        said = ((kind.get("x402Version"), kind.get("scheme"), kind.get("network")) for kind in kinds if isinstance(kind, dict))
        return None if wanted in said else f"the facilitator does not support x402 version {_PROTOCOL}, scheme {SCHEME}, on {network}"

    async def gas_wei(self) -> int | None:
        """What its key has left for fees, None if it does not say."""
        try:
            _, body = await self._call("GET", "/healthz", None, _LOOK_S)
        except (TimeoutError, aiohttp.ClientError, OSError):
            return None
        return read_gas(body)

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, path: str, content: Mapping[str, Any], timeout_s: float) -> tuple[int, bytes]:
        return await self._call("POST", path, orjson.dumps(content), timeout_s)

    async def _call(self, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        if self._session is None:
            # A connection that is used twice may be closed under a request, and then nobody knows whether it arrived.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(_CONNECT_S, timeout_s))
        headers = self._headers | {"content-type": "application/json", "accept-encoding": "identity"}
        async with self._session.request(
            method, self._url + path, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status, await _bounded(response)


def request_of(record: PaymentRecord) -> dict[str, Any]:
    """A version 2 request for /verify and /settle, rebuilt from canonical values; never the client's bytes.

    Raises ValueError for a record without a payment.
    """
    authorization, wanted = record.authorization, record.requirement
    if authorization is None or wanted is None or record.signature is None:
        raise ValueError("the record holds no payment")
    requirement = {
        "scheme": SCHEME, "network": wanted.network, "asset": checksum(wanted.asset), "amount": str(wanted.amount_atomic),
        "payTo": checksum(wanted.pay_to), "maxTimeoutSeconds": wanted.max_timeout_s,
        "extra": {"name": wanted.name, "version": wanted.version},
    }  # fmt: skip
    signed = {
        "from": checksum(authorization.from_address), "to": checksum(authorization.to_address), "value": authorization.value,
        "validAfter": authorization.valid_after, "validBefore": authorization.valid_before, "nonce": authorization.nonce,
    }  # fmt: skip
    payload = {"signature": canonical_signature(record.signature), "authorization": signed}
    payment = {"x402Version": _PROTOCOL, "accepted": requirement, "payload": payload}
    return {"x402Version": _PROTOCOL, "paymentPayload": payment, "paymentRequirements": requirement}


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body, cut one byte after the largest that counts."""
    body = bytearray()
    while len(body) <= LARGEST_ANSWER and (chunk := await response.content.read(_CHUNK)):
        body += chunk
    return bytes(body[: LARGEST_ANSWER + 1])


def _end_of(error: Exception) -> CallEnd:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return "unsent"
    return "timeout" if isinstance(error, TimeoutError | asyncio.TimeoutError) else "cut"
