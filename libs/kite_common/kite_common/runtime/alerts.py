"""What somebody must be told of, as one typed list: which metric shows it, from where on it is too much, and what to do. Decides nothing.

Every alert names a metric of `metrics.METRICS` and has a page docs/runbooks/<name>.md. docs/metrics.md and the rules in deploy/observe are
written from these lists.
"""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["page", "ticket"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition. `when` is a Prometheus expression over `metric`, that has to hold for `for_s` seconds; `means` is what it shows, `do`
    what helps. `page`: somebody has to get up; `ticket`: it can wait until the morning."""

    name: str
    metric: str
    when: str
    means: str
    do: str
    for_s: int = 0
    severity: Severity = "page"


def _grew(counter: str, within: str) -> str:
    """Whether a counter with labels rose, also from its not being there: with its first value it appears, and `increase` sees no rise."""
    return f"increase({counter}[{within}]) > 0 or ({counter} > 0 unless {counter} offset {within})"


ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        "service-gone", "kite_up",
        " or ".join(f'absent(kite_up{{service="{service}"}})' for service in ("gateway", "billing", "delivery", "replay")),
        "no process of a service tells anything: none runs, or none can be reached", "start one; its log says why the last one ended",
        for_s=60,
    ),
    Alert(
        "restarts-again-and-again", "kite_up",
        "changes(process_start_time_seconds[30m])"
        " * on (instance) group_left (service) max by (instance, service) (max_over_time(kite_up[30m])) > 2",
        "a process was started more than twice within half an hour: it ends each time, or is ended",
        "its exit code and the last lines of its log say why",
        severity="ticket",
    ),
    Alert(
        "not-ready", "kite_component_ready", "kite_component_ready == 0",
        "a part of a process cannot do its work; `/readyz` of that process says which and why", "read `failing` in the answer of /readyz",
        for_s=30,
    ),
    Alert(
        "consumer-stalled", "kite_consumer_stalled_seconds",
        'kite_consumer_stalled_seconds{group!~"kite-delivery.*"} > 20 or kite_consumer_stalled_seconds > 30',
        "work waits in this partition and nothing of it is done (delivery: from 30 s on, as a receiver may take that long); or an open "
        "transaction hides what follows",
        "the log of the process has `group.owner_restarts` with the reason; if nothing is logged, end the process: another takes over",
    ),
    Alert(
        "consumer-cut-off", "kite_consumer_look_age_seconds", "kite_consumer_look_age_seconds > 20",
        "a member of a group does not hear of its brokers: its lag is not known", "look at the brokers and the network between",
    ),
    Alert(
        "consumer-fails", "kite_consumer_restarts_total", "increase(kite_consumer_restarts_total[5m]) > 3",
        "the owner of a partition fails again and again; the label has the kind of error", "read `group.owner_restarts` in the log",
        severity="ticket",
    ),
    Alert(
        "consumer-behind", "kite_consumer_lag",
        'kite_consumer_lag{group!="kite-delivery-retries"} > 10000 and deriv(kite_consumer_lag[10m]) > 0',
        "more comes in than is worked off (what is parked for a retry is no lag of this kind)",
        "start more processes, up to one a partition",
        severity="ticket",
    ),
    Alert(
        "loop-late", "kite_loop_age_seconds", 'kite_loop_age_seconds{loop!="payments-watch"} > 30 or kite_loop_age_seconds > 100',
        "a loop that has to come round does not: it waits for an answer that does not come, or fails each time",
        "`/readyz` names it; the log has its last error. `projection`: Redis; `clickhouse`: ClickHouse; `payments-*` and `chain`: the node",
    ),
    Alert(
        "event-loop-late", "kite_event_loop_late_seconds", "kite_event_loop_late_seconds > 1",
        "a process computes, or is starved of CPU, for so long that it answers nobody meanwhile", "give it CPU; report what blocks",
        severity="ticket",
    ),
    Alert(
        "event-loop-blocked", "kite_event_loop_blocked_total", _grew("kite_event_loop_blocked_total", "10m"),
        "it did so for 5 s: probes got no answer either", "`event_loop.blocked` in the log has the stack of what blocked",
        severity="ticket",
    ),
    Alert(
        "table-silent", "kite_table_silent_seconds", "kite_table_silent_seconds > 25",
        "a process does not hear of changes to this topic: keys that were revoked, endpoints, webhook configs", "look at the brokers",
    ),
    Alert(
        "publish-stalled", "kite_publish_stalled_seconds", "kite_publish_stalled_seconds > 20",
        "a partition acknowledges no write: it has no leader, or too few replicas in sync", "look at that partition's brokers",
    ),
    Alert(
        "publish-fails", "kite_publish_failures_total", _grew("kite_publish_failures_total", "5m"),
        "writes are refused, or their outcome is open: callers get 503", "look at the brokers, and at `kite_publish_seconds`",
    ),
    Alert(
        "billing-behind", "kite_billing_stream_time_age_seconds", "kite_billing_stream_time_age_seconds > 30",
        "billing has not applied what is in the log for so long; reservations do not lapse meanwhile",
        "see consumer-stalled of kite-billing",
    ),
    Alert(
        "billing-behind-as-the-gateway-sees-it", "kite_gateway_stream_time_age_seconds", "kite_gateway_stream_time_age_seconds > 30",
        "the same, told by any gateway: also when no billing process is left to say so. From KITE_MAX_BILLING_LAG_S on nobody is admitted",
        "start billing; see loop-late of `projection`",
    ),
    Alert(
        "usage-late", "kite_billing_usages_late_total", _grew("kite_billing_usages_late_total", "1h"),
        "an event came into the log after its reservation had lapsed: its money may have been spent twice",
        "look at the clocks of all machines",
        severity="ticket",
    ),
    Alert(
        "unreadable", "kite_dead_letters_total", _grew("kite_dead_letters_total", "1h"),
        "a record could not be used and was set aside in kite.dead-letters",
        "look at it there; a newer version writes, an older one reads?",
        severity="ticket",
    ),
    Alert(
        "archive-refuses", "kite_replay_reads_total", _grew('kite_replay_reads_total{outcome="unavailable"}', "5m"),
        "readers get 503 because ClickHouse is away or refuses", "look at ClickHouse",
    ),
    Alert(
        "archive-broken", "kite_archive_broken_parts", "kite_archive_broken_parts > 0",
        "ClickHouse could not read parts of the archive when it started and has set them aside: their events are missing in GET /events",
        "`kitectl audit` says which; `kitectl rebuild archive` makes the archive again from the log, then remove the old one",
    ),
    Alert(
        "payments-unfit", "kite_x402_fit", "kite_x402_fit == 0", "no payments are taken", "`payments-checks` in /readyz says why",
        for_s=60,
    ),
    Alert(
        "payments-breaker", "kite_x402_breaker_open", "kite_x402_breaker_open == 1",
        "no new payments are taken because settling does not work", "look at the facilitator and its fees",
        for_s=60,
    ),
    Alert(
        "payment-unknown", "kite_x402_oldest_unknown_seconds", "kite_x402_oldest_unknown_seconds > 120",
        "what became of a payment cannot be found out", "look at the chain's node",
    ),
    Alert(
        "payments-gap", "kite_x402_ledger_gap_atomic", "sum(kite_x402_ledger_gap_atomic) != 0",
        "credits and transfers on the chain differ", "`kitectl payments audit`",
        for_s=120,
    ),
    Alert(
        "scan-late", "kite_x402_scan_age_seconds", "kite_x402_scan_age_seconds > 60",
        "the chain is not scanned: money that came in by itself is not seen", "look at the chain's node",
        severity="ticket",
    ),
    Alert(
        "payments-alert", "kite_x402_alerts_total", _grew("kite_x402_alerts_total", "1h"),
        "something about payments that somebody must look at; the label says what", "the log has it under the same name",
        severity="ticket",
    ),
    Alert(
        "facilitator-gone", "kite_up",
        'max by (service) (max_over_time(kite_up{service="facilitator"}[1d])) unless max by (service) (kite_up)',
        "the facilitator was there within the last day and tells nothing now: no payment can be verified or settled",
        "start it; its log says why it ended. Where payments were turned off: silence this for a day",
        for_s=120,
    ),
    Alert(
        "facilitator-out-of-fees", "kite_facilitator_gas_wei", "kite_facilitator_gas_wei < kite_facilitator_gas_floor_wei",
        "the facilitator has less for fees than its floor and refuses to verify and settle: no payments are taken",
        "send the chain's coin to its address",
    ),
    Alert(
        "facilitator-fees", "kite_facilitator_gas_wei", "kite_facilitator_gas_wei < 5 * kite_facilitator_gas_floor_wei",
        "the facilitator has less than five times the floor, under which it refuses to verify and settle",
        "send the chain's coin to its address",
        severity="ticket",
    ),
    Alert(
        "facilitator-stuck", "kite_facilitator_unclear_in_a_row", "kite_facilitator_unclear_in_a_row >= 2",
        "transactions are not mined in time; at 3 the facilitator starts anew", "look at the chain's node and at the fees",
        severity="ticket",
    ),
)  # fmt: skip
