"""How far every consumer is behind, by partition, whether it moves on, and what stops it."""

from functools import partial
from typing import Final

from kite_common.runtime.dashboards import panels
from kite_common.runtime.dashboards.panels import HALF, Dashboard, Panel, Row, one

_HERE: Final = 'instance=~"$instance"'
_rate, _rise = partial(panels.rate, labels=_HERE), partial(panels.rise, labels=_HERE)
_total, _highest = partial(panels.total, labels=_HERE), partial(panels.highest, labels=_HERE)
_BY_PARTITION: Final = "{{group}} {{topic}}-{{partition}}"

_BEHIND: Final = Row("Behind", (
    Panel(
        "Records behind, by group and topic", "short", _total("kite_consumer_lag", "group", "topic"), lines=(10_000.0,), width=HALF,
        about="What is parked for a retry counts as behind, too, in the topics of retries.",
    ),
    Panel(
        "The twenty partitions furthest behind", "short",
        one(f"topk(20, sum by (group, topic, partition) (kite_consumer_lag{{{_HERE}}}) > 0)", _BY_PARTITION),
        about="Empty where nothing is behind.", width=HALF,
    ),
    Panel(
        "Falling back (above 0) or catching up, records a second", "cps",
        one(f"sum by (group) (deriv(kite_consumer_lag{{{_HERE}}}[$__rate_interval]))", "{{group}}"), width=HALF,
    ),
    Panel(
        "Billing behind, by partition", "s", _highest("kite_billing_stream_time_age_seconds", "partition"), lines=(30.0,), width=HALF
    ),
))  # fmt: skip

_STILL: Final = Row("Standing still", (
    Panel(
        "Without progress although there is work", "s",
        one(f"max by (group, topic, partition) (kite_consumer_stalled_seconds{{{_HERE}}}) > 0", _BY_PARTITION), lines=(20.0, 30.0),
        about="Empty where all moves on. The upper line is delivery's, which may have to wait for a receiver.",
    ),
    Panel("Since members heard of their brokers", "s", _highest("kite_consumer_look_age_seconds", "group"), lines=(20.0,)),
    Panel("Since loops last came round", "s", _highest("kite_loop_age_seconds", "loop"), lines=(30.0, 100.0)),
))  # fmt: skip

_PROGRESS: Final = Row("Progress", (
    Panel("Transactions a second", "cps", _rate("kite_transaction_seconds_count", "group")),
    Panel("One transaction: decide, write, commit", "s", panels.quantiles("kite_transaction_seconds", "group", labels=_HERE)),
    Panel(
        "Owners started again after an error, an hour", "short", _rise("kite_consumer_restarts_total", "group", "reason"), about=panels.RARE
    ),
    Panel("Partitions assigned or taken away, an hour", "short", _rise("kite_consumer_rebalances_total", "group", "change"), width=HALF),
    Panel("Records nobody could use, an hour", "short", _rise("kite_dead_letters_total", "service"), about=panels.RARE, width=HALF),
))  # fmt: skip

LAG: Final = Dashboard(
    "lag", "Kite: consumers", "How far every consumer is behind, by partition, whether it moves on, and what stops it.",
    (_BEHIND, _STILL, _PROGRESS), by_process=True,
)  # fmt: skip
