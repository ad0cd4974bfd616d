"""The pictures of a report: results in, PNG bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator, PercentFormatter
from scipy.special import expit

from services.learning.drift import Drift
from services.learning.evidence import Verdict
from services.learning.measures import auc
from services.learning.moments import Moment
from services.learning.reliability import Bin, reliability
from services.learning.report.content import Example, HeldOut
from services.learning.report.style import (
    BASE_LOOK,
    BLUE,
    GREY,
    INK,
    MODEL_LOOK,
    OTHER_LOOKS,
    PALE,
    VERMILION,
    figure,
    label,
    png,
    signed,
    tidy,
)

Floats = npt.NDArray[np.float64]

MOST_REASONS: Final = 9
"""Of a customer, that are drawn one by one; the smaller ones are drawn as their sum."""
MOST_MOMENTS: Final = 12
HALF: Final = 0.31
"""Half the height of a bar, where rows are 1 apart."""
CALLED: Final = 0.2
"""Share of customers at which the lift curve is read."""


def _looks(judges: int) -> list[tuple[str, str, object]]:
    """Colour, marker and line by judge: the base first, the model last."""
    if judges == 1:
        return [MODEL_LOOK]
    between = [OTHER_LOOKS[i % len(OTHER_LOOKS)] for i in range(judges - 2)]
    return [BASE_LOOK, *between, MODEL_LOOK]


def reliability_diagram(held_out: HeldOut) -> bytes:
    """Tenths of customers by chance: what was predicted against what happened, base and model."""
    first, last = held_out.chances[0], held_out.chances[-1]
    judges = [last] if len(held_out.chances) == 1 else [first, last]
    drawn = figure(6.4, 6.2)
    upper, lower = drawn.subplots(2, 1, height_ratios=[5, 1], sharex=True)
    top = 0.0
    for (name, chance), (colour, marker, _) in zip(judges, _looks(len(judges)), strict=True):
        bins = reliability(held_out.label, chance)
        top = max(top, *(max(b.high, b.chance) for b in bins))
        _bins(upper, bins, name, colour, marker)
    top = min(1.0, top * 1.04)
    upper.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    upper.text(
        top * 0.6,
        top * 0.575,
        "as predicted",
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="top",
        fontsize=8.5,
        color=GREY,
    )
    upper.set_xlim(0, top)
    upper.set_ylim(0, top)
    upper.legend(frameon=False, fontsize=9, loc="upper left")
    tidy(upper, "Does the risk hold? Tenths of customers", "", "share that did not come back (bars: 5 to 95 %)")
    edges = np.linspace(0, top, 41)
    for (_, chance), (colour, _, line) in zip(judges, _looks(len(judges)), strict=True):
        lower.stairs(np.histogram(chance, edges)[0] / len(chance), edges, color=colour, linewidth=1.4, linestyle=line)
    tidy(lower, "", "predicted risk", "customers")
    for axis in (upper.xaxis, upper.yaxis, lower.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    upper.grid(color=PALE, linewidth=0.6)
    return png(drawn)


def _bins(axes: Axes, bins: Sequence[Bin], name: str, colour: str, marker: str) -> None:
    chance, observed = [b.chance for b in bins], [b.observed for b in bins]
    reach = np.array([[b.observed - b.low for b in bins], [b.high - b.observed for b in bins]])
    axes.errorbar(
        chance,
        observed,
        yerr=np.maximum(reach, 0.0),
        fmt=marker,
        color=colour,
        markersize=5.5,
        elinewidth=1.3,
        capsize=2.5,
        markerfacecolor=colour if marker == "o" else "white",
        markeredgewidth=1.3,
        label=name,
    )


def gains(label: Floats, chance: Floats) -> tuple[Floats, Floats]:
    """Share of customers called, most at risk first, and share of leavers among them; both from 0 to 1.

    Customers of equal chance are called together: within them the line is straight, as in any order of them.
    """
    order = np.argsort(-chance, kind="stable")
    found = np.cumsum(label[order])
    ends = np.flatnonzero(np.append(np.diff(chance[order]) != 0, True))
    called = np.concatenate([[0.0], (ends + 1) / len(label)])
    return called, np.concatenate([[0.0], found[ends] / found[-1]])


def reached(held_out: HeldOut) -> float:
    """Share of leavers among the `CALLED` most at risk, by the model."""
    return float(np.interp(CALLED, *gains(held_out.label, held_out.chances[-1][1])))


def lift_curve(held_out: HeldOut) -> bytes:
    """Cumulative gains of every judge; needs both outcomes."""
    drawn = figure(6.8, 4.8)
    axes = drawn.subplots()
    left = float(held_out.label.mean())
    axes.plot([0, left, 1], [0, 1, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)), label="nobody called in vain")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="called at random")
    grid = np.linspace(0, 1, 501)
    for (name, chance), (colour, _, line) in zip(held_out.chances, _looks(len(held_out.chances)), strict=True):
        axes.plot(
            grid,
            np.interp(grid, *gains(held_out.label, chance)),
            color=colour,
            linewidth=2,
            linestyle=line,
            label=f"{name} (AUC {auc(held_out.label, chance):.3f})",
        )
    at = reached(held_out)
    axes.plot([CALLED, CALLED, 0], [0, at, at], color=INK, linewidth=0.8, linestyle=(0, (1, 1)))
    axes.plot([CALLED], [at], "o", color=BLUE, markersize=6, zorder=5)
    axes.annotate(
        f"{CALLED:.0%} called: {at:.0%} of leavers reached",
        (CALLED, at),
        xytext=(9, -12),
        textcoords="offset points",
        fontsize=9,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, fontsize=9, loc="lower right", reverse=True)
    tidy(
        axes,
        "Whom to call: leavers reached by customers called",
        "share of customers called, most at risk first",
        "share of leavers reached",
    )
    return png(drawn)


def waterfall(example: Example) -> bytes:
    """From the average customer's log-odds to this one's, reason by reason; chances along the top."""
    ordered = example.ordered
    steps = [(label(sentence, 44), size) for sentence, size in ordered[:MOST_REASONS]]
    if len(ordered) > MOST_REASONS:
        rest = ordered[MOST_REASONS:]
        steps.append((f"{len(rest)} smaller reasons together", sum(size for _, size in rest)))
    ends = example.average + np.cumsum([0.0, *(size for _, size in steps)])
    rows = len(steps) + 2
    drawn = figure(8.0, 1.5 + 0.42 * rows)
    axes = drawn.subplots()
    low, high = min(ends.min(), ends.max() - 1.0), max(ends.max(), ends.min() + 1.0)
    room = 0.2 * (high - low)
    for row, (_, size) in enumerate(steps, start=1):
        start, end = ends[row - 1], ends[row]
        colour = VERMILION if size > 0 else BLUE
        axes.barh(row, size, left=start, height=2 * HALF, color=colour)
        outward = end + np.sign(size) * 0.012 * (high - low)
        axes.text(
            outward, row, signed(size, 2), va="center", ha="left" if size > 0 else "right", fontsize=9, color=colour
        )
        axes.plot(
            [end, end], [row + HALF, row + (1 if row == len(steps) else 1 - HALF)], color=GREY, linewidth=0.8, zorder=0
        )
    axes.plot([ends[0], ends[0]], [0, 1 - HALF], color=GREY, linewidth=0.8, zorder=0)
    for row, at in ((0, ends[0]), (rows - 1, ends[-1])):
        axes.plot([at], [row], "D", color=INK, markersize=7)
        axes.annotate(
            f"{expit(at):.1%}",
            (at, row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            color=INK,
        )
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks(range(rows), ["the average customer", *(text for text, _ in steps), "this customer"])
    tidy(axes, f"Why this risk: customer {label(example.customer_id, 40, 1)}", "log-odds of not coming back")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    chances = axes.secondary_xaxis("top")
    marks = [p for p in _MARKS if low - room <= np.log(p / (1 - p)) <= high + room]
    chances.set_xticks([float(np.log(p / (1 - p))) for p in marks], [f"{100 * p:.4g}%" for p in marks])
    chances.tick_params(labelsize=8, colors=GREY, labelcolor=GREY)
    chances.spines["top"].set_color(PALE)
    return png(drawn)


_MARKS: Final = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)


def layers_picture(verdicts: Sequence[Verdict]) -> bytes:
    """What each layer added to the one below, out of sample, with its interval; left-out layers hollow."""
    drawn = figure(7.2, 1.5 + 0.55 * len(verdicts))
    axes = drawn.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for row, verdict in enumerate(verdicts):
        gain = verdict.gain
        colour, face = (BLUE, BLUE) if verdict.kept else (GREY, "white")
        axes.plot([gain.low * 1000, gain.high * 1000], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([gain.mean * 1000], [row], "o", color=colour, markerfacecolor=face, markersize=8, markeredgewidth=1.6)
        axes.annotate(
            "kept" if verdict.kept else "left out",
            (gain.high * 1000, row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
        )
    axes.set_yticks(range(len(verdicts)), [f"+ {label(v.layer, 24, 1)}" for v in verdicts])
    axes.set_ylim(len(verdicts) - 0.5, -0.5)
    axes.margins(x=0.16)
    tidy(
        axes,
        "What each layer added to the one below",
        "gain in log-loss a customer, thousandths (right of 0 is better; 5 to 95 %)",
    )
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.spines["left"].set_visible(False)
    return png(drawn)


def moments_picture(moments: Sequence[Moment]) -> bytes:
    """Differences in leaving with their intervals, the surest first; what may be chance hollow."""
    shown = moments[:MOST_MOMENTS]
    drawn = figure(8.0, 1.6 + 0.42 * len(shown))
    axes = drawn.subplots()
    axes.axvline(0, color=INK, linewidth=1)
    for row, moment in enumerate(shown):
        d = moment.effect.difference
        colour = GREY if not moment.found else VERMILION if d.mean > 0 else BLUE
        axes.plot([d.low * 100, d.high * 100], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
        face = colour if moment.found else "white"
        marker = "v" if moment.feeling == "badly" else "^"
        axes.plot(
            [d.mean * 100], [row], marker, color=colour, markerfacecolor=face, markersize=7.5, markeredgewidth=1.4
        )
        axes.annotate(
            f"{moment.effect.customers:,}",
            (1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=GREY,
        )
    axes.annotate(
        "customers",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(6, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=GREY,
    )
    axes.set_yticks(range(len(shown)), [_moment_label(moment) for moment in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}".replace("-", "\N{MINUS SIGN}") if x else "0"))
    tidy(
        axes,
        "Moments of truth: leaving, against what was to be expected",
        "percentage points (right: more left; hollow: may be chance; 5 to 95 %)",
    )
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return png(drawn)


def _moment_label(moment: Moment) -> str:
    where = moment.touchpoint or "any touchpoint"
    journey = f" in {moment.journey}" if moment.journey else ""
    return label(f"{where}{journey}, felt {moment.feeling}", 40)


def drift_picture(drift: Drift) -> bytes:
    """How many were to leave, how many would be no surprise, and how many left."""
    drawn = figure(7.2, 1.9)
    axes = drawn.subplots()
    low, high = drift.allowed
    axes.barh([0], [high - low], left=[low], height=0.5, color=PALE, label="no surprise")
    axes.plot([drift.expected, drift.expected], [-0.25, 0.25], color=INK, linewidth=2, label="expected")
    colour = VERMILION if drift.drifted else BLUE
    axes.plot([drift.observed], [0], "D", color=colour, markersize=9, label="did not come back")
    axes.use_sticky_edges = False
    axes.set_yticks([])
    axes.margins(x=0.12)
    axes.set_ylim(-0.75, 0.6)
    for at, share in ((low, "right"), (high, "left")):
        axes.annotate(f" {at:,.0f} ", (at, 0), ha=share, va="center", fontsize=9, color=GREY)
    for at, off, colour_of in ((drift.expected, 0.3, INK), (float(drift.observed), -0.62, colour)):
        axes.text(at, off, f"{at:,.0f}", ha="center", fontsize=9, color=colour_of)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if axes.get_xlim()[1] - axes.get_xlim()[0] < 5:
        axes.xaxis.set_major_locator(MultipleLocator(1))
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    tidy(axes, "The latest window that has ended", f"customers of {drift.n:,}")
    axes.spines["left"].set_visible(False)
    return png(drawn)
