"""Collects what Kite holds in the end: log, ledger, outcomes of deliveries, wallets, counters, GET /events, the chain. Judges nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import orjson
from aiokafka import TopicPartition

from kite_cli.admin.payments_audit import PaidAt, audit_payments
from kite_cli.chaos.load.caller import Caller, GaveUp, Team
from kite_cli.chaos.load.config_changes import SUBSCRIPTION, WEBHOOK
from kite_cli.chaos.load.readers import walked
from kite_cli.chaos.load.teams import Cast
from kite_cli.chaos.memory import Memory
from kite_cli.chaos.stack import ChaosKite
from kite_cli.chaos.verdict import ENDED, Entry, Found, may_be_reserved, outcome_after
from kite_cli.local.chain.known import PAY_TO
from kite_cli.target import LogTarget
from kite_common.errors import Malformed
from kite_common.events.codec import EVENT_RECORD, RECORD_HEADER, decode_as
from kite_common.events.ledger import LedgerEntry
from kite_common.stream.input import Input, input_of
from kite_common.stream.kafka import Kafka
from kite_common.stream.state import MARKER_KEY
from kite_common.topics import DELIVERIES, EVENTS, LEDGER, Topic

_LOOK_S: Final = 2.0
_PAYMENTS_WITHIN_S: Final = 60.0


async def collect(kite: ChaosKite, cast: Cast, memory: Memory, caller: Caller, *, within_s: float) -> Found:
    """Everything, once deliveries have ended and nothing is reserved any more, or `within_s` are over. Raises GaveUp, CommandFailed."""
    found = Found()
    for team in cast.all:
        if team is not cast.buyer:  # which cannot pay for it
            found.walks[team.id] = await walked(caller, team)
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await _at_rest(kite.log, cast, memory, caller)
    await _log(kite.log, found)
    for team in cast.all:
        await _account(caller, team, found)
    await _settings(caller, cast, memory, found)
    chain = kite.local.chain
    audit = await audit_payments(kite.log, PaidAt(chain.url, chain.token, (PAY_TO,)), 0, _PAYMENTS_WITHIN_S)
    found.payments_gap_atomic = audit.gap_atomic or audit.records_atomic - audit.ledger_atomic
    return found


async def _at_rest(log: LogTarget, cast: Cast, memory: Memory, caller: Caller) -> None:
    while True:
        found = Found()
        await _outcomes(log, found)
        if all(found.outcomes.get(event_id) in ENDED for event_id in memory.accepted):
            for team in cast.all:
                await _account(caller, team, found)
            open_ = may_be_reserved(memory)
            if not any(reserved and not open_[team_id] for team_id, (_, reserved) in found.wallets.items()):
                return
        await asyncio.sleep(_LOOK_S)


async def _log(log: LogTarget, found: Found) -> None:
    async for record in _records(log, EVENTS):
        if (RECORD_HEADER, EVENT_RECORD) in record.headers:
            _note_event(orjson.loads(record.value or b"{}"), found)
    async for record in _records(log, LEDGER):
        entry = None if record.key == MARKER_KEY else _entry(record.value)
        if entry is not None:
            found.ledger.append(entry)
    await _outcomes(log, found)


async def _outcomes(log: LogTarget, found: Found) -> None:
    async for record in _records(log, DELIVERIES):
        fact = orjson.loads(record.value or b"{}")
        if "event_id" in fact and "status" in fact:
            found.outcomes[fact["event_id"]] = outcome_after(found.outcomes.get(fact["event_id"]), fact["status"])


async def _records(log: LogTarget, topic: Topic) -> AsyncIterator[Input]:
    """What the topic holds at this moment, committed records only."""
    consumer = Kafka(log.kafka_bootstrap, client_id="chaos").consumer()
    try:
        await consumer.start()
        places = [TopicPartition(topic.name, number) for number in range(log.partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                for record in (await consumer.getmany(place, timeout_ms=200)).get(place, []):
                    yield input_of(record)
    finally:
        await consumer.stop()


def _note_event(event: dict[str, Any], found: Found) -> None:
    if str(event.get("type", "")).startswith("kite."):
        return  # Kite's own notices: nobody was promised them
    event_id, data = str(event["kiteid"] if "kiteid" in event else event["id"]), event.get("data")
    found.event_counts[event_id] += 1
    text = (data.get("body") or data.get("text")) if isinstance(data, dict) else None
    ids = found.events.setdefault(str(text), [])
    if event_id not in ids:
        ids.append(event_id)


def _entry(value: bytes | None) -> Entry | None:
    try:
        one = decode_as(LedgerEntry, value)
    except Malformed:
        return None
    transaction = one.payment.transaction if one.payment is not None else None
    return Entry(
        one.id, one.team_id, one.reason, one.amount_atomic, one.balance_after_atomic, one.shortfall_atomic, one.event_id, transaction
    )


async def _account(caller: Caller, team: Team, found: Found) -> None:
    wallet = (await caller.ask("GET", "/api/v1/wallet", team=team)).body
    found.wallets[team.id] = int(wallet["balance_atomic"]), int(wallet["reserved_atomic"])
    found.used[team.id] = int((await caller.ask("GET", "/api/v1/usage", team=team)).body["events_used"])


async def _settings(caller: Caller, cast: Cast, memory: Memory, found: Found) -> None:
    teams = {team.id: team for team in cast.all}
    for team_id, what in memory.said:
        with suppress(GaveUp):
            if what == "webhook":
                found.said[team_id, what] = str((await caller.ask("GET", WEBHOOK, team=teams[team_id])).body["url"])
            else:
                answer = await caller.ask("GET", SUBSCRIPTION, team=teams[team_id])
                found.said[team_id, what] = str(answer.body["subscription"]["plan_name"])
