"""`kitectl bench` as a function: measures, shows, writes. Owns the order of the sections and the signals."""

import asyncio
import sys

import orjson
from rich.console import Console

from kite_cli.bench.accept import heat, measure_accept, measure_journeys
from kite_cli.bench.cold_start import measure_start
from kite_cli.bench.drain import measure_drain
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.machine import this_machine
from kite_cli.bench.options import BenchOptions
from kite_cli.bench.payments import measure_payments
from kite_cli.bench.plot import draw
from kite_cli.bench.profiling import measure_profile
from kite_cli.bench.report import markdown, show
from kite_cli.bench.results import Results
from kite_cli.bench.steps import Steps
from kite_cli.bench.whole import whole_kite
from kite_cli.local.chain.install import ensure_anvil
from kite_cli.local.folders import lib_folder
from kite_cli.local.kafka_install import ensure_kafka
from kite_cli.local.step import ConsoleProgress
from kite_cli.signals import ended_by_signals
from kite_common.errors import KiteError
from kite_common.runtime.system import SystemClock


def run_bench(options: BenchOptions, console: Console) -> None:
    """Measure what the options want, on a Kite of its own that is gone afterwards; print tables, and write what they ask for.

    Raises BenchFailed or StepFailed, each with the reason, and KeyboardInterrupt after SIGINT or SIGTERM; everything it started has been
    stopped then, too.
    """
    results = asyncio.run(_measure(options, console))
    show(results, console)
    if options.write is not None:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        picture = options.write.with_suffix(".svg")
        is_drawn = results.accepting is not None and draw(results.accepting, picture)
        options.write.write_text(markdown(results, picture.name if is_drawn else None), encoding="utf-8")
        console.print(f"written: {options.write}", highlight=False, soft_wrap=True)
    if options.json:
        sys.stdout.write(orjson.dumps(results.to_json(), option=orjson.OPT_INDENT_2).decode() + "\n")


async def _measure(options: BenchOptions, console: Console) -> Results:
    async with ended_by_signals():
        progress = ConsoleProgress(console)
        try:
            await ensure_kafka(lib_folder(), progress)
            if options.wants("start") or options.wants("payments"):
                await ensure_anvil(lib_folder(), progress)
            return await _sections(options, Steps(console))
        except (KiteError, ExceptionGroup) as error:
            raise BenchFailed(f"Kite cannot be used: {error}") from error
        finally:
            progress.stop()


async def _sections(options: BenchOptions, steps: Steps) -> Results:
    sizes = options.sizes
    results = Results(this_machine(), sizes, SystemClock().now().date().isoformat(), options.quick)
    if options.wants("start"):
        results.starts = await measure_start(sizes, steps)
    if options.wants("accept") or options.wants("journeys"):
        async with whole_kite() as kite:
            await heat(kite, sizes, steps)
            if options.wants("journeys"):
                results.journeys = await measure_journeys(kite, sizes, steps)
            if options.wants("accept"):
                results.accepting = await measure_accept(kite, sizes, steps)
    if options.wants("drain"):
        results.drains = await measure_drain(sizes, steps)
    if options.wants("payments"):
        results.payments = await measure_payments(sizes, steps)
    if options.wants("profile"):
        results.profiles = await measure_profile(sizes, steps)
    return results
