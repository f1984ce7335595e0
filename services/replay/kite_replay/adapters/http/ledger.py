"""GET /api/v1/ledger: wire forms in and out (wire contract, section 3). No rules."""

from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from kite_common.clock import Clock, rfc3339
from kite_common.errors import ApiError, Malformed, Unavailable
from kite_common.events.codec import decode_as
from kite_common.events.ledger import LedgerEntry, PaymentReference
from kite_common.runtime.observe import get_logger
from kite_common.x402.networks import checksum
from kite_replay.adapters.http.answers import answered, limit_of, rate_headers
from kite_replay.adapters.http.authenticate import Credentials, authenticate
from kite_replay.application.ports import Allowances
from kite_replay.application.read_ledger import LedgerPage, LedgerRequest, ReadLedger
from kite_replay.domain import ledger as cursors
from kite_replay.domain.access import Principal
from kite_replay.domain.allowance import rate_refusal
from kite_replay.domain.ledger import FoundEntry

log = get_logger("kite.replay.http")

PATH: Final = "/api/v1/ledger"


@dataclass(frozen=True, slots=True)
class LedgerRoute:
    """The route's parts; `__call__` answers one request."""

    credentials: Credentials
    allowances: Allowances
    read: ReadLedger
    clock: Clock

    async def __call__(self, request: Request) -> Response:
        """A page, or an error of the code list; always with the team's limits once they are known."""
        return await answered(request, self._answer)

    async def _answer(self, request: Request, limits: dict[str, str]) -> Response:
        principal = authenticate(request, self.credentials, "read", self.clock.unix_ms())
        wanted = ledger_request(request, principal)
        rate = (await self.allowances.take(principal.team_id)).rate
        limits |= rate_headers(rate)
        refused = rate_refusal(rate)
        if refused is not None:
            raise refused
        return Response(page_body(await self.read(wanted)), media_type="application/json")


def ledger_request(request: Request, principal: Principal) -> LedgerRequest:
    """What the query asks for. Raises ApiError `invalid_limit` or `invalid_cursor`."""
    limit, cursor = limit_of(request), request.query_params.get("cursor")
    try:
        before = None if cursor is None else cursors.parse(cursor)
    except Malformed:
        raise ApiError("invalid_cursor", "The cursor is no next_cursor of this route.") from None
    return LedgerRequest(principal.team_id, before, limit)


def page_body(page: LedgerPage) -> bytes:
    """The JSON of a page. Raises Unavailable if an entry cannot be read here: a newer Kite wrote it, which answers soon."""
    try:
        entries = list(map(_entry, page.entries))
    except Malformed as error:
        log.error("ledger.entry_unreadable", problem=str(error))  # noqa: TRY400 - a stack tells nothing that the problem does not
        raise Unavailable("an entry of the ledger cannot be read") from error
    return orjson.dumps({"entries": entries, "next_cursor": page.next_cursor, "has_more": page.has_more})


def _entry(found: FoundEntry) -> dict[str, Any]:
    entry = decode_as(LedgerEntry, found.fact)
    return {
        "id": entry.id, "created_at": rfc3339(found.created_ms), "kind": entry.entry, "reason": entry.reason,
        "amount_atomic": entry.amount_atomic, "balance_after_atomic": entry.balance_after_atomic, "event_id": _event_id(entry),
        "payment": None if entry.payment is None else _payment(entry.payment),
    }  # fmt: skip


def _event_id(entry: LedgerEntry) -> str | None:
    """The event that was charged. What a page was charged under is the id of no event."""
    return None if entry.reason == "replay" else entry.event_id


def _payment(paid: PaymentReference) -> dict[str, str]:
    """Inside Kite addresses are lower case, in answers they are written in EIP-55 casing (wire contract, 12)."""
    return {"network": paid.network, "asset": checksum(paid.asset), "payer": checksum(paid.payer), "transaction": paid.transaction}
