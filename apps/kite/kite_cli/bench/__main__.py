"""`python -m kite_cli.bench`: `kitectl bench` without the rest of kitectl."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from kite_cli.bench.command import run_bench
from kite_cli.bench.failure import BenchFailed
from kite_cli.bench.options import SECTIONS, BenchOptions
from kite_cli.local.step import StepFailed


def main() -> int:
    """Run it; 1 with the reason if it cannot be done, 2 for wrong arguments, 130 if it was ended."""
    parser = argparse.ArgumentParser(prog="python -m kite_cli.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute that only tries the tool out; its figures mean nothing")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of {','.join(SECTIONS)} (default: all)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout, everything else on stderr")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report as Markdown, its plot beside it")
    arguments = parser.parse_args()
    try:
        options = BenchOptions(tuple(filter(None, arguments.only.split(","))), arguments.quick, arguments.json, arguments.write)
    except ValueError as error:
        parser.error(str(error))
    try:
        run_bench(options, Console(stderr=arguments.json))
    except (BenchFailed, StepFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
