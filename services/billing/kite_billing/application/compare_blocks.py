"""Compares the blocks that proven transfers stand in with the chain as it is now. Decides nothing: what has changed is asked for anew."""

from collections.abc import AsyncIterator, Mapping

from kite_billing.application.ports import Chain
from kite_billing.domain.payments.facts import DeepEnough, HashChanged
from kite_common.events.payment_record import Place


async def compared(chain: Chain, head: int, watched: Mapping[str, Place], watch_blocks: int) -> AsyncIterator[HashChanged | DeepEnough]:
    """Each watched key whose block is another one, or is the same and `watch_blocks` deep; newest first. A block is read once.

    Every place is compared: that a newer one stands says nothing of the older ones, which may come from before a reorganisation.
    Places above `head` are left for later. Raises ChainUnreadable; what was compared until then holds.
    """
    hashes: dict[int, str] = {}
    for key, place in sorted(watched.items(), key=lambda item: item[1].block, reverse=True):
        if place.block > head:
            continue
        if place.block not in hashes:
            hashes[place.block] = (await chain.block(place.block)).hash
        if hashes[place.block] != place.block_hash:
            yield HashChanged(key)
        elif head - place.block + 1 >= watch_blocks:
            yield DeepEnough(key)
