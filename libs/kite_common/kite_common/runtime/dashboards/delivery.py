"""What is sent to webhooks: attempts and what became of them, how soon, what waits, what was given up."""

from typing import Final

from kite_common.runtime.dashboards.panels import HALF, Dashboard, Panel, Row, one, quantiles, rate, rise, total

DELIVERY: Final = Dashboard(
    "delivery", "Kite: delivery", "Attempts and what became of them, how soon, what waits, what was given up.",
    (
        Row("Attempts", (
            Panel("POSTs a second, by outcome", "reqps", rate("kite_delivery_attempts_total", "outcome"), stacked=True),
            Panel(
                "Append of an event to its first attempt", "s", quantiles("kite_delivery_first_attempt_seconds", of=(0.5, 0.95, 0.99)),
                lines=(0.5,), runbook="slo-first-attempt",
            ),
            Panel("One POST, 99 %", "s", quantiles("kite_delivery_attempt_seconds", "outcome", of=(0.99,))),
            Panel("POSTs being made", "short", total("kite_delivery_in_flight", "instance")),
            Panel("Deliveries that ended, a second", "cps", rate("kite_delivery_concluded_total", "status"), stacked=True),
            Panel(
                "Share of POSTs that delivered", "percentunit",
                one(
                    'sum(rate(kite_delivery_attempts_total{outcome="delivered"}[$__rate_interval]))'
                    " / sum(rate(kite_delivery_attempts_total[$__rate_interval]))", "delivered",
                ),
            ),
        )),
        Row("What waits, and what was given up", (
            Panel("Parked for a retry, an hour", "short", rise("kite_delivery_parked_total", "tier"), stacked=True),
            Panel(
                "Dead letters of deliveries, an hour", "short", rise("kite_delivery_dead_letters_total", "reason", "fault"),
                about="Fault `ours` has to be looked at; `receiver` is for the team, which finds them in `GET /api/v1/deliveries`.",
            ),
            Panel("Endpoints left alone", "short", total("kite_delivery_left_alone", "instance")),
            Panel("Breakers that changed, an hour", "short", rise("kite_delivery_breaker_changes_total", "to"), width=HALF),
            Panel("Endpoint lanes in memory", "short", total("kite_delivery_lanes_open", "instance"), width=HALF),
        )),
    ),
)  # fmt: skip
