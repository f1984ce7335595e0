"""Results -> tables of text, the same for the terminal and for Markdown. Pure; knows neither of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kite_cli.bench.accept import Accepting, Journeys
from kite_cli.bench.aims import aims_of
from kite_cli.bench.cold_start import Start
from kite_cli.bench.drain import Drain
from kite_cli.bench.generation import GENERATOR, LoadRun
from kite_cli.bench.payments import Paying
from kite_cli.bench.profiling import Profile
from kite_cli.bench.results import Results
from kite_cli.bench.spread import Spread

RunT = TypeVar("RunT")
ShareT = TypeVar("ShareT")
_PARTS = ("gateway", "billing", "delivery", "replay", "kafka", "valkey")
# All that `kitectl up` starts.
_PROCESSES = (*_PARTS, "facilitator", "chain")
_PLACES_SHOWN = 15
_PROFILED = {"replay": "replay (the archiver)"}


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is text, the others are figures. `note` says how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables_of(results: Results) -> list[Table]:
    """All tables for which there are figures."""
    return list(_tables(results))


def number(value: float) -> str:
    """A figure with as many digits as it deserves."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def spread_text(spread: Spread) -> str:
    """`median (least - greatest)`; the median alone if there is nothing else."""
    if spread.low == spread.high:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)} - {number(spread.high)})"


def _tables(results: Results) -> Iterator[Table]:
    yield _aims(results)
    if results.accepting is not None:
        yield _accept(results.accepting, results.sizes.closed_connections)
        at = results.sizes.cpu_rate
        if at in results.accepting.rates:
            yield _cpu(dict(zip(results.accepting.rates, results.accepting.at_rate, strict=True))[at], at)
    if results.journeys is not None:
        yield _journeys(results.journeys)
    if results.drains:
        yield _drains(results.drains)
    if results.payments:
        yield _payments(results.payments)
    if results.starts:
        yield from _starts(results.starts)
    for name, profile in results.profiles.items():
        yield _profile(name, profile)


def _aims(results: Results) -> Table:
    words = {None: "not measured", True: "reached", False: "missed"}
    rows = tuple(
        (
            aim.text, f"{'<=' if aim.at_most else '>='} {aim.value:,.0f} {aim.unit}",
            "-" if aim.found is None else f"{spread_text(aim.found)} {aim.unit}", words[aim.reached],
        )
        for aim in aims_of(results)
    )  # fmt: skip
    return Table("Aims", ("aim", "wanted", "found", "median"), rows)


def _accept(accepting: Accepting, connections: int) -> Table:
    loads = [(f"{connections} at once", accepting.most)]
    loads += [(f"{rate:,}/s", runs) for rate, runs in zip(accepting.rates, accepting.at_rate, strict=True)]
    columns = ("load", "202/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "errors", "late ms", "its CPU")
    note = (
        f"{connections} connections that send again as soon as they have an answer, or an open loop: Poisson arrivals at a fixed rate, "
        "latency from the time a request was due, so waiting is counted. Late is the p99 of how late the load generator itself was (part "
        "of the latencies), its CPU the share of one core it took from those Kite runs on. Errors are the sum of "
        "all runs, answers that did not come within ten seconds among them; those are in no percentile."
    )
    return Table("Accept: request to 202", columns, tuple(_accept_row(text, runs) for text, runs in loads), note)


def _accept_row(text: str, runs: Sequence[LoadRun]) -> tuple[str, ...]:
    return (
        text,
        _over(runs, lambda run: run.outcome.per_s),
        *_latencies(runs),
        _over(runs, lambda run: run.outcome.longest_ms),
        str(sum(run.outcome.errors for run in runs)),
        _over(runs, lambda run: run.outcome.late_p99_ms),
        f"{Spread.of([run.cpu.share(GENERATOR) for run in runs]).median:.0%}",
    )


def _cpu(runs: Sequence[LoadRun], rate: int) -> Table:
    def per_1000(run: LoadRun, name: str) -> float:
        return run.cpu.seconds.get(name, 0.0) / (run.outcome.per_s * run.cpu.wall_s) * 1000

    rows = [(name, _over(runs, lambda run, name=name: per_1000(run, name))) for name in (*_PARTS, GENERATOR)]  # type: ignore[misc]
    rows.append(("sum without generator", _over(runs, lambda run: sum(per_1000(run, name) for name in _PARTS))))
    return Table(f"CPU seconds per 1,000 messages at {rate:,}/s", ("process", "CPU s"), tuple(rows), "Teams without webhooks.")


def _journeys(journeys: Journeys) -> Table:
    columns = ("from 202 to", "p50 ms", "p95 ms", "p99 ms", "samples", "never seen", "errors")
    loads = (("webhook", journeys.delivered), ("GET /events", journeys.replayable))
    rows = tuple(
        (
            text, *_latencies(runs), _over(runs, lambda run: run.outcome.count),
            str(sum(run.outcome.unseen for run in runs)), str(sum(run.outcome.errors for run in runs)),
        )
        for text, runs in loads
    )  # fmt: skip
    note = (
        "From the 202 as the sender sees it to the arrival of the webhook's POST, and to the answer of GET /events that has the event, for "
        "one reader that asks without a pause. Below zero: there before the sender had its 202."
    )
    return Table(f"From accepted to its readers, at {journeys.rate}/s", columns, rows, note)


def _drains(drains: Sequence[Drain]) -> Table:
    rows = (
        ("billing: usage records to ledger entries", _over(drains, lambda run: run.billing.per_s), _cores(drains, "billing", "billing")),
        ("archiver: rows of events and ledger", _over(drains, lambda run: run.archiver.per_s), _cores(drains, "archiver", "replay")),
    )
    note = (
        f"A backlog of {drains[0].pairs:,} events, each with its usage event, written before the service starts; from its first progress "
        "to its last. Billing runs alone with Kafka and Valkey and reads both kinds of record, twice as many as it charges; then the "
        "archiver runs alone. Counted afterwards: one ledger entry and one archive row for each event, none besides."
    )
    return Table("Drain", ("service", "a second", "cores: itself, kafka"), rows, note)


def _payments(runs: Sequence[Paying]) -> Table:
    rows = (
        ("402 to a request without a payment, p50 ms", _over(runs, lambda run: run.unpaid_p50_ms)),
        ("402 to a request without a payment, p95 ms", _over(runs, lambda run: run.unpaid_p95_ms)),
        ("payments a second, 8 at once", _over(runs, lambda run: run.paid_per_s)),
        ("a payment, p50 ms", _over(runs, lambda run: run.paid_p50_ms)),
        ("a payment, p95 ms", _over(runs, lambda run: run.paid_p95_ms)),
        ("CPU ms to recover a signer", _over(runs, lambda run: run.recover_ms)),
        *((f"cores while paying: {name}", _over(runs, lambda run, name=name: run.cores[name])) for name in runs[0].cores),  # type: ignore[misc]
    )
    note = (
        "Deposits. Unpaid requests come 100 a second, latency from the time each was due. A payment is what the official Python client "
        "does: the request, its 402, the signature, the request again, answered once the chain has the transfer and the wallet the "
        "credit. The chain mines each transaction at once; a real one adds its block time. One facilitator key sends one transaction "
        "after the other: that, and the cores all of it shares, is the limit."
    )
    return Table("Payments", ("what", "found"), rows, note)


def _cores(drains: Sequence[Drain], which: str, process: str) -> str:
    uses = [getattr(run, which).cpu for run in drains]
    return ", ".join(f"{Spread.of([use.share(name) for use in uses]).median:.2f}" for name in (process, "kafka"))


def _starts(starts: Sequence[Start]) -> Iterator[Table]:
    rows = (
        ("all services ready", _over(starts, lambda run: run.ready_s)),
        ("first 202 of a team just opened", _over(starts, lambda run: run.first_202_s)),
    )
    yield Table("Cold start: everything installed, empty data folder", ("until", "seconds"), rows)
    memory = [(name, _over(starts, lambda run, name=name: run.resident_mib.get(name, 0.0))) for name in _PROCESSES]  # type: ignore[misc]
    memory.append(("sum", _over(starts, lambda run: sum(run.resident_mib.values()))))
    yield Table("Memory at rest", ("process", "RSS MiB"), tuple(memory), "What processes share is counted in each of them.")


def _profile(name: str, profile: Profile) -> Table:
    """One table a process: modules and other threads by what they compute themselves, then functions of Kite by all that they are for."""
    rows = [(f"module {place}", _percent(share.own), _percent(share.within)) for place, share in _shown(profile.modules)]
    rows += [(f"threads {place}", _percent(share), "") for place, share in _shown(profile.threads)]
    rows += [(f"function {place}", _percent(share.own), _percent(share.within)) for place, share in _shown(profile.functions)]
    note = (
        f"Shares of {profile.cpu_s:.1f} s of CPU time of this process while the gateway accepted as much as it could. Taken by a timer of "
        f"that time: {profile.samples:,} samples of the main thread's stack, each weighed with what the thread had computed since the one "
        "before. C code counts for the Python that called it, the event loop with its system calls for asyncio.runners. Of other "
        "threads the system tells how much they computed, by name; what they called is not known."
    )
    return Table(f"Profile of {_PROFILED.get(name, name)}", ("where", "itself", "with what it calls"), tuple(rows), note)


def _shown(shares: Mapping[str, ShareT]) -> list[tuple[str, ShareT]]:
    return list(shares.items())[:_PLACES_SHOWN]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _latencies(runs: Sequence[LoadRun]) -> tuple[str, str, str]:
    return (
        _over(runs, lambda run: run.outcome.p50_ms),
        _over(runs, lambda run: run.outcome.p95_ms),
        _over(runs, lambda run: run.outcome.p99_ms),
    )


def _over(runs: Sequence[RunT], figure: Callable[[RunT], float]) -> str:
    return spread_text(Spread.of([figure(run) for run in runs]))
