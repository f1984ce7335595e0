"""x402 on the wire: parsing, checking, keys, quotes, seals. Pure: now, keys and random bytes are arguments; no IO, no web3."""
