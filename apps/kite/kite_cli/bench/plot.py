"""Draws the latency of accept by rate. Needs matplotlib, which comes with the development packages only."""

from pathlib import Path

from kite_cli.bench.accept import Accepting
from kite_cli.bench.spread import Spread

_CURVES = (("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))


def draw(accepting: Accepting, path: Path) -> bool:
    """Write the picture (SVG); False without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return False
    # Equal results give equal bytes: no date, no drawn ids.
    with mpl.rc_context({"svg.hashsalt": "kite", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for label, name in _CURVES:
            spreads = [Spread.of([getattr(run.outcome, name) for run in runs]) for runs in accepting.at_rate]
            medians = [spread.median for spread in spreads]
            below = [spread.median - spread.low for spread in spreads]
            above = [spread.high - spread.median for spread in spreads]
            axes.errorbar(list(accepting.rates), medians, yerr=[below, above], marker="o", capsize=4, label=label)
        axes.set(xscale="log", yscale="log", xlabel="messages a second (open loop)", ylabel="milliseconds, request due to 202")
        axes.set_xticks(list(accepting.rates), labels=[f"{rate:,}" for rate in accepting.rates])
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        figure.savefig(path, format="svg", metadata={"Date": None})
    return True
