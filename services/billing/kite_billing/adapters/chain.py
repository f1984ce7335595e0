"""The chain over JSON-RPC: blocks, receipts and logs of one token, read strictly. Says ChainUnreadable instead of guessing."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import orjson

from kite_billing.application.ports import ChainUnreadable
from kite_billing.domain.payments.evidence import AUTHORIZATION_CANCELED, AUTHORIZATION_USED, TRANSFER, Block, Log, Receipt, word_of

ANSWER_S: Final = 3.0
_LARGEST_ANSWER: Final = 16 * 1024 * 1024
_CHUNK: Final = 256 * 1024
# First 4 bytes of keccak256 of authorizationState(address,bytes32) and DOMAIN_SEPARATOR().
AUTHORIZATION_STATE: Final = "0xe94a0102"
DOMAIN_SEPARATOR: Final = "0x3644e515"
# No block, log or second of a chain has a greater number; records could not hold it either.
_LARGEST_NUMBER: Final = (1 << 53) - 1
_TRANSFER_TOPICS: Final = 3
_HEX: Final = re.compile("0x[0-9a-fA-F]*")
_WORD_CHARS: Final = 66
_YES, _NO = "0x" + "0" * 63 + "1", "0x" + "0" * 64


class RpcChain:
    """`kite_billing.application.ports.Chain` of the token `asset` (lower case). The session belongs to it; close it."""

    def __init__(self, url: str, asset: str, *, answer_s: float = ANSWER_S) -> None:
        self._url, self._asset, self._answer_s = url, asset, answer_s
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def head(self) -> Block:
        return _block(await self._call("eth_getBlockByNumber", "latest", False))

    async def block(self, number: int) -> Block:
        block = _block(await self._call("eth_getBlockByNumber", hex(number), False))
        if block.number != number:
            raise ChainUnreadable("another_block")
        return block

    async def receipt(self, transaction: str) -> Receipt | None:
        found = await self._call("eth_getTransactionReceipt", transaction)
        return None if found is None else _receipt(found, transaction)

    async def authorization_used(self, payer: str, nonce: str, at_block: int) -> bool:
        data = AUTHORIZATION_STATE + word_of(payer)[2:] + nonce[2:]
        answer = await self._call("eth_call", {"to": self._asset, "data": data}, hex(at_block))
        if answer not in (_YES, _NO):
            raise ChainUnreadable("authorization_state")
        return bool(answer == _YES)

    async def logs_of_nonce(self, payer: str, nonce: str, first: int, last: int) -> Sequence[Log]:
        topics = [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED], word_of(payer), nonce]
        return await self._logs(topics, first, last)

    async def transfers_to(self, pay_to: str, first: int, last: int) -> Sequence[Log]:
        found = await self._logs([TRANSFER, None, word_of(pay_to)], first, last)
        if not all(map(_is_transfer, found)):
            raise ChainUnreadable("transfer")
        return found

    async def chain_id(self) -> int:
        """The number of the chain."""
        return _number(await self._call("eth_chainId"))

    async def has_code(self) -> bool:
        """Whether there is a contract at the token's address."""
        return len(_hex(await self._call("eth_getCode", self._asset, "latest"))) > len("0x")

    async def domain_separator(self) -> str:
        """What the token says its EIP-712 domain is, as hex."""
        return _hex(await self._call("eth_call", {"to": self._asset, "data": DOMAIN_SEPARATOR}, "latest"))

    async def client_version(self) -> str:
        """What the node calls itself."""
        return str(await self._call("web3_clientVersion"))

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    async def _logs(self, topics: Sequence[object], first: int, last: int) -> list[Log]:
        wanted = {"address": self._asset, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
        found = await self._call("eth_getLogs", wanted)
        if not isinstance(found, list):
            raise ChainUnreadable("logs")
        return sorted(map(_log, found), key=lambda log: (log.block, log.index))

    async def _call(self, method: str, *params: object) -> Any:
        """The result of a call. Node's texts go no further than here: they may name addresses and keys."""
        number = next(self._ids)
        body = orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        try:
            answer = orjson.loads(await self._post(body))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ChainUnreadable(f"{method}: {type(error).__name__}") from error
        except orjson.JSONDecodeError as error:
            raise ChainUnreadable(f"{method}: not_json") from error
        if not isinstance(answer, dict) or answer.get("id") != number or "result" not in answer or answer.get("error") is not None:
            raise ChainUnreadable(f"{method}: refused")
        return answer["result"]

    async def _post(self, body: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._answer_s))
        headers = {"content-type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise ChainUnreadable(f"status_{response.status}")
            content = bytearray()
            while chunk := await response.content.read(_CHUNK):
                content += chunk
                if len(content) > _LARGEST_ANSWER:
                    raise ChainUnreadable("too_large")
            return bytes(content)


def _block(found: Any) -> Block:
    fields = _object(found, "block")
    return Block(_number(fields.get("number")), _word(fields.get("hash")), _number(fields.get("timestamp")))


def _receipt(found: Any, transaction: str) -> Receipt:
    fields = _object(found, "receipt")
    logs, status = fields.get("logs"), fields.get("status")
    if not isinstance(logs, list) or status not in ("0x0", "0x1") or _word(fields.get("transactionHash")) != transaction:
        raise ChainUnreadable("receipt")
    block, block_hash = _number(fields.get("blockNumber")), _word(fields.get("blockHash"))
    return Receipt(transaction, block, block_hash, status == "0x1", tuple(map(_log, logs)))


def _log(found: Any) -> Log:
    fields = _object(found, "log")
    topics = fields.get("topics")
    if fields.get("removed") is True or not isinstance(topics, list):
        raise ChainUnreadable("log")
    return Log(
        address=_hex(fields.get("address")), topics=tuple(map(_word, topics)), data=_hex(fields.get("data")),
        block=_number(fields.get("blockNumber")), block_hash=_word(fields.get("blockHash")),
        transaction=_word(fields.get("transactionHash")), index=_number(fields.get("logIndex")),
    )  # fmt: skip


def _is_transfer(log: Log) -> bool:
    return len(log.topics) == _TRANSFER_TOPICS and log.topics[0] == TRANSFER and len(log.data) == _WORD_CHARS


def _object(found: Any, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ChainUnreadable(f"{what}_missing")
    return found


def _hex(found: Any) -> str:
    if not isinstance(found, str) or not _HEX.fullmatch(found):
        raise ChainUnreadable("not_hex")
    return found.lower()


def _word(found: Any) -> str:
    word = _hex(found)
    if len(word) != _WORD_CHARS:
        raise ChainUnreadable("not_a_word")
    return word


def _number(found: Any) -> int:
    try:
        number = int(_hex(found), 16)
    except ValueError as error:
        raise ChainUnreadable("not_a_number") from error
    if number > _LARGEST_NUMBER:
        raise ChainUnreadable("too_large_a_number")
    return number
