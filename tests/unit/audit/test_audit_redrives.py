"""Outcomes of deliveries that were redriven: a round of its own, whose config may be another one, and which must come to an end, too."""

from typing import Any

from kite_cli.admin.audit.deliveries import Deliveries
from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place
from kite_common.ids import EventId, WebhookConfigId, delivery_of

EVENT, CONFIG = EventId("0198a7b2-0000-7000-8000-000000000001"), WebhookConfigId("0198a7b2-0000-7000-8000-000000000002")


def told(*facts: dict[str, Any]) -> Findings:
    """What is found when one event has these outcomes, delivery being far behind it."""
    findings = Findings()
    deliveries = Deliveries(findings, Place("kite.events", 0), Place("kite.deliveries", 0), 0)
    deliveries.event(0, EVENT)
    for offset, fact in enumerate(facts):
        deliveries.outcome(offset, fact)
    deliveries.finish(100, frozenset())
    return findings


def fact(status: str | None, redrives: int = 0, config: WebhookConfigId | None = None) -> dict[str, Any]:
    known = {} if status is None else {"status": status}
    return known | {
        "team_id": "team_a", "event_id": EVENT, "kiteseq": 0, "delivery_id": delivery_of(EVENT, None), "webhook_config_id": config,
        "redrives": redrives,
    }  # fmt: skip


def test_a_redrive_goes_where_the_config_says_now_and_keeps_its_id() -> None:
    """What had no endpoint, was redriven and delivered, was two violations."""
    found = told(fact("no_endpoint"), fact(None, 1, CONFIG), fact("delivered", 1, CONFIG))
    assert found.ok
    assert not found.in_flight


def test_another_config_without_a_redrive_is_a_violation() -> None:
    assert not told(fact("delivered", 0, CONFIG)).ok


def test_a_redrive_that_never_ends_is_told_of() -> None:
    """That the round before had ended hid it."""
    found = told(fact("dead"), fact(None, 1))
    assert dict(found.in_flight) == {"redriven deliveries under way": 1}


def test_what_a_round_that_is_over_still_says_decides_nothing() -> None:
    found = told(fact("dead"), fact(None, 1), fact("delivered", 1), fact("retrying"))
    assert found.ok
    assert not found.in_flight
