"""Panels: the same images through the stages, one row per image, one column per result file.

In: a specification `{"title", "index", "images", "columns": [{"title", "kind", "file"}]}`. images:
ids, or an expression over lists such as `train[6]`. kind: `image`, `maps`, `labels` or
`ground_truth`; file: one path or several with different ids, for maps and labels. Out: a figure.

A column whose files do not exist, or hold none of the images, is left out. Maps are shown for one
class per image, the same in all columns: the strongest, by mean, of the first maps column. Labels
are in VOC's colours, named below.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex, read_index
from protoseg.data.palette import voc_palette
from protoseg.data.selection import select_ids
from protoseg.errors import InputError
from protoseg.localization.fusion import fused_maps
from protoseg.report.drawing import FAINT, INK, legend_columns, save_figure
from protoseg.report.inputs import paths_of, required
from protoseg.storage import ResultReader

LOG = logging.getLogger(__name__)
Pixels = NDArray[np.uint8]

FROM_FILES = ("maps", "labels")
KINDS = ("image", *FROM_FILES, "ground_truth")
# Inches: width of a cell, between cells, a line of the legend, title and column titles.
CELL, GAP, LINE, ABOVE = 2.0, 0.05, 0.2, 0.62
TALLEST = 1.0  # height of a cell over its width; taller images get margins at the sides
HEAT = 0.6  # opacity of the heat map
VOID = 255
EMPTY = 244  # grey of a cell without a result


@dataclass(frozen=True)
class Column:
    """One column; reader is None for images and ground truth."""

    title: str
    kind: str
    reader: ResultReader | None = None
    ids: frozenset[str] = frozenset()

    def has(self, image_id: str, index: DatasetIndex) -> bool:
        """Whether there is something to show for an image."""
        if self.kind == "ground_truth":
            return index[image_id].mask is not None
        return self.reader is None or image_id in self.ids


@dataclass(frozen=True)
class Cell:
    """pixels: [H, W, 3] uint8; class_name: of the heat map, empty for none."""

    pixels: Pixels
    class_name: str = ""


def draw_panels(spec: dict[str, Any], path: Path) -> None:
    """Draw the figure that ``spec`` asks for.

    Raises:
        InputError: an unknown kind or image, or a file of another kind.
    """
    index = read_index(Path(required(spec, "index", "panels")))
    images = required(spec, "images", "panels")
    images = select_ids(index, images) if isinstance(images, str) else images
    columns = [c for c in map(open_column, required(spec, "columns", "panels")) if c is not None]
    columns = [c for c in columns if any(c.has(image_id, index) for image_id in images)]
    if not images or not columns:
        raise InputError(f"panels {spec.get('title', '')!r}: nothing to draw")
    rows = [row_cells(index, image_id, columns) for image_id in images]
    shown = sorted(set().union(*(labels for _, labels in rows)))
    names = dict(enumerate(index.class_names)) | {VOID: "unknown"}
    colours = {label: names.get(label, f"class {label}") for label in shown}
    cells, titles = [row for row, _ in rows], [column.title for column in columns]
    save_figure(panels_figure(str(spec.get("title", "")), cells, titles, colours), path)


def open_column(entry: dict[str, Any]) -> Column | None:
    """Column with its file opened, None where the file does not exist."""
    kind = required(entry, "kind", "a column of panels")
    if kind not in KINDS:
        raise InputError(f"column of kind {kind!r}; choose one of {', '.join(KINDS)}")
    title = entry.get("title", kind)
    if kind not in FROM_FILES:
        return Column(title, kind)
    paths = paths_of(required(entry, "file", f"column {title!r}"))
    found = [path for path in paths if path.exists()]
    if not found:
        LOG.info("column %r is left out, there is no %s", title, " or ".join(map(str, paths)))
        return None
    reader = ResultReader(found, kind)
    return Column(title, kind, reader, frozenset(reader.ids()))


def row_cells(
    index: DatasetIndex, image_id: str, columns: Sequence[Column]
) -> tuple[list[Cell], set[int]]:
    """All columns of one image, a cell without a result stays empty; and the labels shown."""
    pixels = np.asarray(read_image(index[image_id].image))
    class_id: int | None = None
    cells: list[Cell] = []
    labels_shown: set[int] = set()
    for column in columns:
        cell = Cell(pixels)
        if not column.has(image_id, index):
            cell = Cell(np.full_like(pixels, EMPTY))
        elif column.kind == "maps" and column.reader:
            foreground = foreground_maps(column.reader, image_id)
            if class_id is None and foreground:
                class_id = max(foreground, key=lambda c: float(foreground[c].mean()))
            if class_id in foreground:
                cell = Cell(overlay(pixels, foreground[class_id]), index.classes[class_id - 1])
        elif column.kind != "image":
            reader = column.reader
            labels = reader.label(image_id) if reader else index.read_mask(image_id)
            labels_shown |= set(np.unique(labels).tolist())
            cell = Cell(voc_palette()[labels])
        cells.append(cell)
    return cells, labels_shown


def foreground_maps(reader: ResultReader, image_id: str) -> dict[int, NDArray[np.float32]]:
    """Class id -> fused map [H, W] in [0, 1]; the background's map is left out."""
    stored = reader.maps(image_id)
    pairs = zip(stored.classes.tolist(), fused_maps(stored), strict=True)
    return {class_id: fused_map for class_id, fused_map in pairs if class_id != 0}


def overlay(pixels: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """Heat map [H, W] in [0, 1] over the image [H, W, 3], both seen; the image in grey."""
    colours = matplotlib.colormaps["turbo"](np.clip(heat, 0, 1))[..., :3]
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) / 255
    blended = (1 - HEAT) * grey + HEAT * colours
    return np.rint(255 * blended).astype(np.uint8)


def panels_figure(
    title: str, rows: Sequence[Sequence[Cell]], titles: Sequence[str], colours: dict[int, str]
) -> Figure:
    """The grid of cells under their titles, with the names of label colours below."""
    heights = [CELL * min(row[0].pixels.shape[0] / row[0].pixels.shape[1], TALLEST) for row in rows]
    width = CELL * len(titles) + GAP * (len(titles) - 1)
    entries = min(legend_columns(width, colours.values()), len(colours)) if colours else 1
    below = LINE * (1 + -(-len(colours) // entries))
    height = ABOVE + sum(heights) + GAP * (len(heights) - 1) + below
    figure = Figure(figsize=(width, height))
    figure.text(0.5, 1 - 0.1 / height, title, ha="center", va="top", fontsize=12, color=INK)
    top = height - ABOVE
    for row, cell_height in zip(rows, heights, strict=True):
        for position, (cell, column_title) in enumerate(zip(row, titles, strict=True)):
            left = position * (CELL + GAP)
            box = (left / width, (top - cell_height) / height, CELL / width, cell_height / height)
            axes = figure.add_axes(box)
            axes.set_axis_off()
            axes.imshow(cell.pixels, interpolation="nearest")
            name_class(axes, cell.class_name)
            if row is rows[0]:
                axes.set_title(column_title, fontsize=10, color=INK, pad=4)
        top -= cell_height + GAP
    if colours:
        add_colours(figure, colours, entries)
    return figure


def name_class(axes: Axes, name: str) -> None:
    """Write the class of a heat map into the corner of its image."""
    if name:
        box = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 2}
        axes.text(0.03, 0.04, name, transform=axes.transAxes, fontsize=8, color="white", bbox=box)


def add_colours(figure: Figure, colours: dict[int, str], entries: int) -> None:
    """Names of the label colours at the bottom, ``entries`` side by side."""
    palette = voc_palette() / 255
    patches = [
        Patch(facecolor=tuple(palette[label]), edgecolor=FAINT, label=name)
        for label, name in colours.items()
    ]
    figure.legend(
        handles=patches,
        loc="lower center",
        ncols=entries,
        fontsize=9,
        frameon=False,
        labelcolor=INK,
        handlelength=1.2,
        borderaxespad=0.2,
    )
