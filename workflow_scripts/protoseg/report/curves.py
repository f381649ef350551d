"""Curves: losses over the epochs of one training stage, and mIoU against background thresholds.

In: a specification `{"title", "kind", "files": {name: file, or one file per seed}}`. Kind `history`
reads history.csv (see `training.history`), one panel per loss. Kind `sweep` reads metrics.json of
maps. Out: a figure. Several seeds of one curve are drawn as their mean in a band from the lowest to
the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from protoseg.errors import InputError
from protoseg.report.drawing import INK, LineStyle, calm, legend_columns, line_styles, save_figure
from protoseg.report.inputs import as_number, paths_of, read_metrics, required

NO_LOSS = ("epoch", "steps", "seconds", "data_wait", "learning_rate")
FEW_EPOCHS = 12  # up to here each epoch is marked
PANEL = (4.2, 3.2)  # inches
PANELS_PER_ROW = 3


def draw_curves(spec: dict[str, Any], path: Path) -> None:
    """Draw the figure that ``spec`` asks for.

    Raises:
        InputError: an unknown kind, no curves, or a file that cannot be read.
    """
    kinds = {"history": loss_curves, "sweep": sweep_curves}
    kind = required(spec, "kind", "curves")
    if kind not in kinds:
        raise InputError(f"curves of kind {kind!r}; choose one of {', '.join(kinds)}")
    curves = {
        name: paths_of(files) for name, files in required(spec, "files", "curves").items() if files
    }
    if not curves:
        raise InputError(f"curves {spec.get('title', '')!r}: no files to draw")
    save_figure(kinds[kind](str(spec.get("title", "")), curves), path)


def read_history(path: Path) -> pd.DataFrame:
    """History of one training, indexed by epoch, losses only.

    Raises:
        InputError: no such file, or no history.
    """
    try:
        history = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); rerun the training") from error
    if "epoch" not in history:
        raise InputError(f"{path} has no column 'epoch'; rerun the training")
    return history.set_index("epoch").drop(columns=list(NO_LOSS), errors="ignore")


def loss_curves(title: str, curves: dict[str, list[Path]]) -> Figure:
    """One panel per loss, one line per experiment that has it; `total` comes first."""
    histories = {name: [read_history(file) for file in files] for name, files in curves.items()}
    found = dict.fromkeys(
        str(loss) for seeds in histories.values() for seed in seeds for loss in seed.columns
    )
    losses = sorted(found, key=lambda loss: loss != "total")
    figure, panels = grid_of_panels(title, len(losses))
    for axes, loss in zip(panels, losses, strict=True):
        for name, colour, style in line_styles(histories):
            seeds = [history[loss] for history in histories[name] if loss in history]
            if seeds:
                table = pd.concat(seeds, axis=1).sort_index()
                epochs = table.index.to_numpy(float)
                draw_band(axes, epochs, table.to_numpy(float).T, colour, style)
        axes.set_title(loss.replace("_", " "), fontsize=10, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    add_legend(figure, [handle(*line) for line in line_styles(histories)])
    return figure


def sweep_curves(title: str, curves: dict[str, list[Path]]) -> Figure:
    """mIoU against the background threshold; a dot at the best, dashes at the estimated reading."""
    figure, (axes,) = grid_of_panels(title, 1)
    handles = []
    estimated = False
    for name, colour, _ in line_styles(curves):
        metrics = [read_metrics(file, "maps") for file in curves[name]]
        swept = [seed["sweep"] for seed in metrics if seed.get("sweep")]
        if swept:
            rates = np.array([[as_number(rate) for rate in sweep["miou"]] for sweep in swept])
            thresholds = np.array(same_thresholds(swept, name), float)
            mean = draw_band(axes, thresholds, rates, colour, "-")
            best = int(np.nanargmax(mean))
            axes.plot(thresholds[best], mean[best], "o", color=colour, markersize=6)
        if all(seed["reading"].startswith("estimated background") for seed in metrics):
            level = float(np.mean([as_number(seed["miou"]) for seed in metrics]))
            axes.axhline(level, color=colour, linestyle="--", linewidth=1.3)
            estimated = True
        handles.append(handle(name, colour, "-"))
    axes.set_xlabel("background threshold", fontsize=9, color=INK)
    axes.set_ylabel("mIoU of the maps, percent", fontsize=9, color=INK)
    best_dot = Line2D([], [], color=INK, marker="o", linestyle="none", label="best threshold")
    further = [best_dot, *([handle("estimated background", INK, "--")] if estimated else [])]
    add_legend(figure, handles + further)
    return figure


def same_thresholds(swept: Sequence[dict[str, Any]], name: str) -> list[float]:
    """The thresholds that all seeds share; InputError where they differ."""
    if any(sweep["thresholds"] != swept[0]["thresholds"] for sweep in swept):
        raise InputError(f"seeds of {name} have different thresholds; rerun evaluate_maps")
    return list(swept[0]["thresholds"])


def draw_band(
    axes: Axes, x: NDArray[np.float64], seeds: NDArray[np.float64], colour: str, style: LineStyle
) -> NDArray[np.float64]:
    """Draw the mean of ``seeds`` [n, len(x)] and, for several, their range; returns the mean."""
    mean = np.ma.masked_invalid(seeds).mean(axis=0).filled(np.nan)
    marker = "o" if len(x) <= FEW_EPOCHS else ""
    axes.plot(x, mean, color=colour, linestyle=style, linewidth=1.8, marker=marker, markersize=3)
    if len(seeds) > 1:
        low, high = np.fmin.reduce(seeds), np.fmax.reduce(seeds)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    return mean


def grid_of_panels(title: str, count: int) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, at most three in a row; a single panel is larger."""
    columns = min(count, PANELS_PER_ROW)
    rows = -(-count // columns)
    scale = 1.35 if count == 1 else 1.0
    size = (PANEL[0] * columns * scale, PANEL[1] * rows * scale)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=12, color=INK)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.remove()
    for axes in panels[:count]:
        calm(axes)
    return figure, panels[:count]


def handle(name: str, colour: str, style: LineStyle) -> Line2D:
    """Entry of a legend."""
    return Line2D([], [], color=colour, linestyle=style, linewidth=1.8, label=name)


def add_legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """Legend under all panels."""
    columns = legend_columns(figure.get_figwidth(), (str(entry.get_label()) for entry in handles))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        fontsize=9,
        frameon=False,
        labelcolor=INK,
    )
