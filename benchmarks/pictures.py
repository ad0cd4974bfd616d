"""Pictures for the docs, drawn from kept figures: ``python -m benchmarks.pictures``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import matplotlib

from benchmarks.report import Figures, stages

matplotlib.use("Agg")
from matplotlib import pyplot

CUSTOMERS: Final = {
    100_000: "scoring_events_per_s",
    1_000_000: "scoring_1m_customers_events_per_s",
    10_000_000: "scoring_10m_customers_events_per_s",
}
INK: Final = "#1f3b57"
SIZE: Final = (7.0, 3.6)


def throughput(figures: Figures, path: Path) -> None:
    """Events per second against the number of customers."""
    measured = {number: figures[name] for number, name in CUSTOMERS.items() if name in figures}
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    axes.plot([*measured], [value / 1000 for value in measured.values()], marker="o", color=INK)
    for number, value in measured.items():
        axes.annotate(f"{value / 1000:,.0f}k", (number, value / 1000), textcoords="offset points", xytext=(0, 8))
    axes.set_xscale("log")
    axes.set_xticks([*measured], [f"{number:,}" for number in measured])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12, y=0.18)
    axes.set_xlabel("customers")
    axes.set_ylabel("thousand events a second")
    axes.set_title("Scoring, whole path, one worker, two cores")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def cost(figures: Figures, path: Path) -> None:
    """Processor time of the worker for an event, by stage."""
    by_stage = stages(figures)
    figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
    bars = axes.barh([*by_stage], [*by_stage.values()], color=INK)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("microseconds of processor time an event")
    axes.set_title("What an event costs the worker")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Draw what the figures allow; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if CUSTOMERS[100_000] in figures:
        drawn.append(folder / "throughput.png")
        throughput(figures, drawn[-1])
    if stages(figures):
        drawn.append(folder / "stages.png")
        cost(figures, drawn[-1])
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--figures", type=Path, default=Path(".touchstone/bench.json"))
    parser.add_argument("--folder", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    for path in draw(json.loads(options.figures.read_text()), options.folder):
        print(path)


if __name__ == "__main__":
    main()
