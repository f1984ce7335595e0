"""What is charged and how soon it shows, payments and what became of them, the chain and the facilitator."""

from typing import Final

from kite_common.runtime.dashboards.panels import (
    RARE,
    WHOLE,
    Dashboard,
    Panel,
    Query,
    Row,
    highest,
    one,
    quantiles,
    rate,
    rise,
    total,
)

MONEY: Final = Dashboard(
    "money", "Kite: money", "What is charged and how soon it shows, payments and what became of them, the chain and the facilitator.",
    (
        Row("Charging", (
            Panel("Usages and commands applied a second", "cps", rate("kite_billing_records_total", "kind")),
            Panel(
                "Append of an event to its charge in the balance", "s", quantiles("kite_billing_event_to_balance_seconds"), lines=(1.0,),
                runbook="slo-balance",
            ),
            Panel(
                "Charges in balances a second, by how soon", "cps", rate("kite_billing_charges_projected_total", "within"),
                runbook="slo-balance",
            ),
            Panel(
                "Billing behind", "s",
                (
                    Query("max(kite_billing_stream_time_age_seconds)", "as billing sees it"),
                    Query("max(kite_gateway_stream_time_age_seconds)", "as gateways see it"),
                ),
                lines=(30.0,),
            ),
            Panel("One transaction of accounts", "s", quantiles("kite_transaction_seconds", labels='group="kite-billing"')),
            Panel("Accounts projected a second", "cps", rate("kite_billing_projections_total", "result")),
            Panel("Reservations lapsed, an hour", "short", one("sum(increase(kite_billing_reservations_lapsed_total[1h]))", "lapsed")),
            Panel(
                "Usages after their reservation's end, an hour", "short", one("sum(increase(kite_billing_usages_late_total[1h]))", "late"),
                lines=(1.0,),
            ),
            Panel("Teams told of limits and funds, an hour", "short", rise("kite_billing_notices_total", "kind")),
        )),
        Row("Payments", (
            Panel("Outcomes told, an hour", "short", rise("kite_x402_outcomes_total", "result", "reason")),
            Panel("Credits and other steps of payments, an hour", "short", rise("kite_x402_steps_total", "event")),
            Panel("Payment keys by state", "short", total("kite_x402_payments", "state"), about="`settling` and `unknown` are under way."),
            Panel("The longest unknown payment", "s", one("max(kite_x402_oldest_unknown_seconds)", "unknown"), lines=(120.0,)),
            Panel("Sending to outcome, 99 %", "s", quantiles("kite_x402_wait_seconds", "result", of=(0.99,))),
            Panel(
                "Calls of verify, settle and for evidence, 99 %", "s",
                (
                    *quantiles("kite_x402_verify_seconds", "answer", of=(0.99,), name="verify"),
                    *quantiles("kite_x402_settle_seconds", "answer", of=(0.99,), name="settle"),
                    *quantiles("kite_x402_prove_seconds", "evidence", of=(0.99,), name="evidence"),
                ),
            ),
        )),
        Row("Chain and facilitator", (
            Panel("Whether payments are taken, whether the breaker is open", "bool", (
                Query("min(kite_x402_fit)", "fit"), Query("max(kite_x402_breaker_open)", "breaker open"),
            )),
            Panel(
                "Credits without a transfer, atomic", "none", one("sum(kite_x402_ledger_gap_atomic)", "gap"),
                about="Anything but 0 for long is money without a credit (below 0), or a credit without money.",
            ),
            Panel("Received and given to no team, atomic", "none", one("sum(kite_x402_unattributed_atomic)", "unattributed")),
            Panel("Blocks not scanned", "short", one("max(kite_x402_scan_lag_blocks)", "blocks")),
            Panel("Since the scanner was at the newest block", "s", one("max(kite_x402_scan_age_seconds)", "age"), lines=(60.0,)),
            Panel("Things somebody must look at, an hour", "short", rise("kite_x402_alerts_total", "kind"), lines=(1.0,), about=RARE),
            Panel(
                "Left for fees, wei", "none",
                (
                    Query("min(kite_facilitator_gas_wei)", "has"), Query("max(kite_facilitator_gas_floor_wei)", "floor"),
                    Query("min(kite_x402_facilitator_gas_wei)", "as billing sees it"),
                ),
            ),
            Panel("Settles unclear in a row", "short", highest("kite_facilitator_unclear_in_a_row", "instance"), lines=(2.0, 3.0)),
            Panel("Answers of the facilitator, a second", "reqps", rate("kite_facilitator_answers_total", "call", "result")),
            Panel("One call of the facilitator", "s", quantiles("kite_facilitator_seconds", "call"), width=WHOLE),
        )),
    ),
)  # fmt: skip
