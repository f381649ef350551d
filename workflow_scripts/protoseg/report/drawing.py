"""What all figures share: colours, type sizes and PNG files whose bytes depend on content alone.

Figures are made without pyplot: no global state, no display, the Agg renderer.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protoseg.settings.stage_file import write_atomically

# Okabe and Ito's colours, told apart with any colour vision; yellow is left out, it fades on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#404040")
LineStyle = Literal["-", "--", ":", "-."]
STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.")
INK = "#333333"
FAINT = "#d9d9d9"
DPI = 144


def line_styles(names: Iterable[str]) -> Iterator[tuple[str, str, LineStyle]]:
    """(name, colour, line style), no pair twice among the first 28 names."""
    pairs = ((colour, style) for style in STYLES for colour in COLOURS)
    for name, (colour, style) in zip(names, itertools.cycle(pairs), strict=False):
        yield name, colour, style


def calm(axes: Axes) -> None:
    """Two spines, a faint grid behind the data, small ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def legend_columns(width: float, labels: Iterable[str]) -> int:
    """How many entries of a legend in 9 points fit side by side into ``width`` inches."""
    longest = max(len(label) for label in labels)
    return max(1, int(width / (0.55 + 0.075 * longest)))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; equal figures give equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    write_atomically(path, stream.getvalue())
