"""How pictures look, and how a figure becomes bytes. Nothing here touches matplotlib's global state."""

from __future__ import annotations

import functools
import io
import textwrap
from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

DPI: Final = 150
FONT: Final = "DejaVu Sans"
"""Comes with matplotlib, so that a report looks alike everywhere."""

# Okabe and Ito's palette: told apart with every common colour blindness; markers and dashes say the same again.
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
INK: Final = "#222222"
GREY: Final = "#767676"
PALE: Final = "#D9D9D9"

BASE_LOOK: Final = (VERMILION, "s", (0, (4, 2)))
MODEL_LOOK: Final = (BLUE, "o", "solid")
OTHER_LOOKS: Final = ((GREEN, "^", (0, (1, 1))), (PURPLE, "D", (0, (5, 1, 1, 1))))
"""Colour, marker and line of a judge."""


def figure(width: float = 7.2, height: float = 4.4) -> Figure:
    """An empty figure; sizes in inches."""
    empty = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(empty)
    return empty


def tidy(axes: Axes, title: str, x: str, y: str = "") -> None:
    """Title at the left, labelled axes, only the spines that carry a scale."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(x, fontsize=9.5, color=INK)
    axes.set_ylabel(y, fontsize=9.5, color=INK)
    axes.tick_params(labelsize=9, colors=INK, labelcolor=INK, labelfontfamily=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.set_axisbelow(True)


def png(drawn: Figure) -> bytes:
    """The figure as a PNG; the same figure gives the same bytes with the same matplotlib."""
    for text in drawn.findobj(Text):
        if isinstance(text, Text):
            text.set_fontfamily(FONT)
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


@functools.cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def label(text: str, width: int = 38, lines: int = 2) -> str:
    """Text from outside as it may stand in a picture: wrapped, cut to ``lines``, characters without a glyph as a box,
    and dollars as dollars, not as mathematics."""
    known = "".join(c if c.isspace() or ord(c) in _drawable() else "\N{WHITE SQUARE}" for c in text)
    wrapped = textwrap.wrap(" ".join(known.split()), width, max_lines=lines, placeholder=" …", break_long_words=True)
    return "\n".join(wrapped).replace("$", r"\$")


def signed(value: float, digits: int = 4) -> str:
    """A number with its sign, and a true minus; none where it rounds to 0."""
    text = f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
    return text if text.strip("+\N{MINUS SIGN}0.") else text[1:]
