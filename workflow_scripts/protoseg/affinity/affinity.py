"""Affinities of pixel pairs from an edge map, and the pairs' labels.

In: edge probabilities [B, 1, H, W] in [0, 1] and label maps [B, H, W]. Out: one value for every
source pixel and direction, [B, D, ch, cw], directions in the order of `paths.directions`.
Source: IRN (Ahn et al., CVPR 2019), equation 1 (affinity) and section 4.2 (pairs and labels).

Source pixels are those whose neighbours in every direction lie inside the map: with the margin
m = radius - 1, source (i, j) of the ch x cw grid is pixel (i, j + m) of the map, ch = H - m and
cw = W - 2 m. The pixels of a direction are therefore a shifted view of the map and no index
buffer is needed; the maximum over a path is a running maximum over such views.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.paths import Cell, directions, path_runs

IGNORE = 255


class PairMasks(NamedTuple):
    """Labels of pixel pairs, masks [B, D, ch, cw] of 0 and 1; no pair is in two of them.

    Attributes:
        background: both ends are background. foreground: both ends are one and the same class.
        negative: the ends differ. A pair with an ignored end is in none.
    """

    background: Tensor
    foreground: Tensor
    negative: Tensor


class RunMaxima(NamedTuple):
    """Maxima over straight runs of 1 .. radius cells.

    Attributes:
        rows: entry L - 1 is [B, H, W - L + 1]; its cell (i, j) is the maximum over
            (i, j) .. (i, j + L - 1).
        columns: entry L - 1 is [B, H - L + 1, W] likewise.
    """

    rows: list[Tensor]
    columns: list[Tensor]


def source_grid(height: int, width: int, radius: int) -> tuple[int, int]:
    """Height and width of the grid of source pixels of a map.

    Raises:
        ValueError: a map too small to hold one source pixel.
    """
    margin = radius - 1
    if height <= margin or width <= 2 * margin:
        raise ValueError(
            f"a map of {height}x{width} cells holds no pixel pair of radius {radius}: it takes "
            f"{radius}x{2 * radius - 1}; use a larger crop or a smaller radius"
        )
    return height - margin, width - 2 * margin


def run_maxima(edge: Tensor, radius: int) -> RunMaxima:
    """Maxima over all runs that paths consist of: [B, 1, H, W] -> `RunMaxima`."""
    rows, columns = [edge[:, 0]], [edge[:, 0]]
    for length in range(1, radius):
        rows.append(torch.maximum(rows[-1][:, :, :-1], edge[:, 0, :, length:]))
        columns.append(torch.maximum(columns[-1][:, :-1], edge[:, 0, length:]))
    return RunMaxima(rows, columns)


def path_views(runs: RunMaxima, radius: int, end: Cell) -> list[Tensor]:
    """The runs of the path to ``end``, for every source pixel: views [B, ch, cw]."""
    margin = radius - 1
    height, width = source_grid(runs.rows[0].shape[1], runs.rows[0].shape[2], radius)
    views = []
    for (y, x), length, axis in path_runs(end):
        field = (runs.rows if axis == "row" else runs.columns)[length - 1]
        views.append(field[:, y : y + height, margin + x : margin + x + width])
    return views


def path_maxima(runs: RunMaxima, radius: int, ends: Sequence[Cell]) -> Tensor:
    """Maxima of the edge along the paths to ``ends``: [B, D, ch, cw]."""
    return torch.stack(
        [reduce(torch.maximum, path_views(runs, radius, end)) for end in ends], dim=1
    )


def path_affinities(edge: Tensor, radius: int) -> Tensor:
    """Affinity 1 - max of the edge along the path: [B, 1, H, W] -> [B, D, ch, cw] in [0, 1].

    Runs in float32, or float64 where ``edge`` is. Differentiable; where cells of a path tie for
    the maximum, they share the gradient.
    """
    edge = edge.to(torch.promote_types(edge.dtype, torch.float32))
    return 1.0 - path_maxima(run_maxima(edge, radius), radius, directions(radius))


def padded_affinities(edge: Tensor, radius: int) -> Tensor:
    """Affinities with every pixel of the map as a source: [B, 1, H, W] -> [B, D, H, W].

    The form used by the random walk: outside the map the edge is 1, so that a pair which leaves
    the map has affinity 0.
    """
    margin = radius - 1
    return path_affinities(functional.pad(edge, (margin, margin, 0, margin), value=1.0), radius)


def labels_on_grid(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Labels [B, H, W] sampled by nearest at the centres of a grid: [B, h, w].

    Row i of the grid reads row floor((i + 1/2) H / h), as Pillow's nearest does.
    """
    rows, columns = (
        torch.arange(1, 2 * cells, 2, device=labels.device) * size // (2 * cells)
        for cells, size in zip(grid, labels.shape[-2:], strict=True)
    )
    return labels[:, rows[:, None], columns]


def pair_masks(labels: Tensor, radius: int, ends: Sequence[Cell] | None = None) -> PairMasks:
    """Masks of background, foreground and negative pairs, on the device and of the dtype of labels.

    Args:
        labels: [B, H, W] on the edge map's grid; 0 is background, 255 is ignored. In floating
            point the masks can be multiplied with costs at once, without a conversion.
        ends: the directions [D], all of the radius unless given.
    """
    margin = radius - 1
    height, width = source_grid(labels.shape[1], labels.shape[2], radius)
    empty, ignored = ((labels == value).to(labels.dtype) for value in (0, IGNORE))
    fields = torch.stack([labels, empty, 1 - ignored], dim=1)
    source = fields[:, :, None, :height, margin : margin + width]  # [B, 3, 1, ch, cw]
    partner = _partners(fields, radius, ends)  # [B, 3, D, ch, cw]
    equal = partner[:, 0].eq_(source[:, 0])
    background, known = (source[:, 1:] * partner[:, 1:]).unbind(1)
    foreground = equal.mul_(known).sub_(background)
    return PairMasks(background, foreground, known - foreground - background)


def pair_displacement(
    displacement: Tensor, radius: int, ends: Sequence[Cell] | None = None
) -> Tensor:
    """Source displacement minus partner displacement: [B, 2, H, W] -> [B, 2, D, ch, cw].

    Channel 0 is dy and channel 1 is dx, in grid cells. For a pair inside one object it should be
    the direction itself, for a background pair 0 (IRN, equations 5 and 6).
    """
    displacement = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    margin = radius - 1
    height, width = source_grid(displacement.shape[2], displacement.shape[3], radius)
    source = displacement[:, :, None, :height, margin : margin + width]  # [B, 2, 1, ch, cw]
    return source - _partners(displacement, radius, ends)


def _partners(field: Tensor, radius: int, ends: Sequence[Cell] | None) -> Tensor:
    """The partner of every source pixel in the directions: [B, C, H, W] -> [B, C, D, ch, cw]."""
    margin = radius - 1
    height, width = source_grid(field.shape[2], field.shape[3], radius)
    views = [
        field[:, :, dy : dy + height, margin + dx : margin + dx + width]
        for dy, dx in (directions(radius) if ends is None else ends)
    ]
    return torch.stack(views, dim=2)
