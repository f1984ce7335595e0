"""What comes in, how fast it is answered, how it gets into the log, what is read back, and how the processes are."""

from functools import partial
from typing import Final

from kite_common.runtime.dashboards import panels
from kite_common.runtime.dashboards.panels import Dashboard, Panel, Query, Row, one

# All of these can be narrowed down to one process: whoever sees one that differs has found it.
_HERE: Final = 'instance=~"$instance"'
_rate, _rise = partial(panels.rate, labels=_HERE), partial(panels.rise, labels=_HERE)
_mean, _quantiles = partial(panels.mean, labels=_HERE), partial(panels.quantiles, labels=_HERE)
_total, _highest = partial(panels.total, labels=_HERE), partial(panels.highest, labels=_HERE)

_DOOR: Final = Row("At the door", (
    Panel("Events accepted a second", "cps", _rate("kite_gateway_messages_accepted_total", "kind")),
    Panel("Requests refused a second, by code", "reqps", _rate("kite_gateway_refused_total", "code"), runbook="slo-api"),
    Panel(
        "Receipt of a request to its 202", "s", _quantiles("kite_gateway_accept_seconds", of=(0.5, 0.95, 0.99)), lines=(0.1,),
        runbook="slo-accept",
    ),
    Panel("Requests being worked on", "short", _total("kite_gateway_in_flight", "instance")),
    Panel("Round trip of admission to Redis", "s", _quantiles("kite_gateway_admission_seconds")),
    Panel(
        "Billing behind, as gateways see it", "s", one(f"max(kite_gateway_stream_time_age_seconds{{{_HERE}}})", "behind"), lines=(30.0,)
    ),
))  # fmt: skip

_LOG: Final = Row("Into the log", (
    Panel("Batch handed over to its acknowledgement, 99 %", "s", _quantiles("kite_publish_seconds", "topic", of=(0.99,))),
    Panel("Writes that shared a batch, mean", "short", _mean("kite_publish_group_size", "topic")),
    Panel("Writes without an acknowledgement, longest", "s", _highest("kite_publish_stalled_seconds", "topic"), lines=(20.0,)),
    Panel("Writes refused or open, an hour", "short", _rise("kite_publish_failures_total", "topic", "outcome"), about=panels.RARE),
    Panel("Keys of tables held in memory", "short", _highest("kite_table_keys", "topic")),
    Panel("Tables that hear nothing of their topic", "s", _highest("kite_table_silent_seconds", "topic"), lines=(25.0,)),
))  # fmt: skip

_READING: Final = Row("Reading back", (
    Panel("Queries a second", "reqps", _rate("kite_replay_reads_total", "kind", "outcome")),
    Panel("One query, 99 %", "s", _quantiles("kite_replay_read_seconds", "kind", of=(0.99,))),
    Panel(
        "Append of an event to its being readable", "s", _quantiles("kite_replay_event_to_replayable_seconds"), lines=(2.0,),
        runbook="slo-replayable",
    ),
    Panel("Rows archived a second", "cps", _rate("kite_replay_rows_archived_total", "table")),
    Panel("One insert into the archive, 99 %", "s", _quantiles("kite_replay_archive_batch_seconds", "table", of=(0.99,))),
    Panel("Parts of the archive set aside", "short", _highest("kite_archive_broken_parts", "instance"), lines=(1.0,)),
))  # fmt: skip

_PROCESSES: Final = Row("Processes", (
    Panel("Processes by service and version", "short", _total("kite_up", "service", "version")),
    Panel(
        "Parts that are not ready", "short", one(f"sum by (component) (1 - kite_component_ready{{{_HERE}}})", "{{component}}"), lines=(1.0,)
    ),
    Panel("CPUs in use", "short", _rate("process_cpu_seconds_total", "instance")),
    Panel("Memory", "bytes", _total("process_resident_memory_bytes", "instance")),
    Panel(
        "Event loop: longest time with one thing", "s", _highest("kite_event_loop_late_seconds", "instance"), lines=(1.0,)
    ),
    Panel("Event loop: times blocked for 5 s, ten minutes", "short", one(
        f"sum by (instance) (increase(kite_event_loop_blocked_total{{{_HERE}}}[10m]))", "{{instance}}",
    ), lines=(1.0,)),
    Panel("Open files and sockets", "short", _total("process_open_fds", "instance")),
    Panel("Spans of traces a second, by outcome", "cps", _rate("kite_trace_spans_total", "outcome")),
    Panel("CPUs in use by service", "short", (Query(
        f"sum by (service) (rate(process_cpu_seconds_total{{{_HERE}}}[$__rate_interval])"
        " * on (instance) group_left (service) max by (instance, service) (kite_up))",
        "{{service}}",
    ),)),
))  # fmt: skip

TRAFFIC: Final = Dashboard(
    "traffic", "Kite: traffic", "What comes in, how fast it is answered, and how the processes are.",
    (_DOOR, _LOG, _READING, _PROCESSES), by_process=True,
)  # fmt: skip
