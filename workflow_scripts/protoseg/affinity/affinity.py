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

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.paths import directions, path_runs

IGNORE = 255


class PairMasks(NamedTuple):
    """Labels of pixel pairs, three boolean masks [B, D, ch, cw]; no pair is in two of them.

    Attributes:
        background: both ends are background. foreground: both ends are one and the same class.
        negative: the ends differ. A pair with an ignored end is in none.
    """

    background: Tensor
    foreground: Tensor
    negative: Tensor


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


def path_affinities(edge: Tensor, radius: int) -> Tensor:
    """Affinity 1 - max of the edge along the path: [B, 1, H, W] -> [B, D, ch, cw] in [0, 1].

    Runs in float32, or float64 where ``edge`` is. Differentiable; where cells of a path tie for
    the maximum, they share the gradient.
    """
    edge = edge.to(torch.promote_types(edge.dtype, torch.float32))
    rows, columns = _run_maxima(edge, radius)
    margin = radius - 1
    height, width = source_grid(edge.shape[2], edge.shape[3], radius)
    maxima = []
    for direction in directions(radius):
        views = []
        for (y, x), length, axis in path_runs(direction):
            field = (rows if axis == "row" else columns)[length - 1]
            views.append(field[:, y : y + height, margin + x : margin + x + width])
        maxima.append(reduce(torch.maximum, views))  # [B, ch, cw]
    return 1.0 - torch.stack(maxima, dim=1)


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


def pair_masks(labels: Tensor, radius: int) -> PairMasks:
    """Masks of background, foreground and negative pairs, made on the device of ``labels``.

    Args:
        labels: [B, H, W] integers on the edge map's grid; 0 is background, 255 is ignored.
    """
    margin = radius - 1
    height, width = source_grid(labels.shape[1], labels.shape[2], radius)
    source = labels[:, None, :height, margin : margin + width]  # [B, 1, ch, cw]
    partner = _partners(labels[:, None], radius).squeeze(1)  # [B, D, ch, cw]
    equal = source == partner
    positive = equal & (source != IGNORE)
    background = positive & (source == 0)
    negative = ~equal & (source != IGNORE) & (partner != IGNORE)
    return PairMasks(background, positive & ~background, negative)


def pair_displacement(displacement: Tensor, radius: int) -> Tensor:
    """Source displacement minus partner displacement: [B, 2, H, W] -> [B, 2, D, ch, cw].

    Channel 0 is dy and channel 1 is dx, in grid cells. For a pair inside one object it should be
    the direction itself, for a background pair 0 (IRN, equations 5 and 6).
    """
    displacement = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    margin = radius - 1
    height, width = source_grid(displacement.shape[2], displacement.shape[3], radius)
    source = displacement[:, :, None, :height, margin : margin + width]  # [B, 2, 1, ch, cw]
    return source - _partners(displacement, radius)


def _partners(field: Tensor, radius: int) -> Tensor:
    """The partner of every source pixel in every direction: [B, C, H, W] -> [B, C, D, ch, cw]."""
    margin = radius - 1
    height, width = source_grid(field.shape[2], field.shape[3], radius)
    views = [
        field[:, :, dy : dy + height, margin + dx : margin + dx + width]
        for dy, dx in directions(radius)
    ]
    return torch.stack(views, dim=2)


def _run_maxima(edge: Tensor, radius: int) -> tuple[list[Tensor], list[Tensor]]:
    """Maxima over runs of 1 .. radius cells, along rows and along columns.

    Entry L - 1 of the row list is [B, H, W - L + 1]: cell (i, j) is the maximum over
    (i, j) .. (i, j + L - 1); of the column list [B, H - L + 1, W] likewise.
    """
    rows, columns = [edge[:, 0]], [edge[:, 0]]
    for length in range(1, radius):
        rows.append(torch.maximum(rows[-1][:, :, :-1], edge[:, 0, :, length:]))
        columns.append(torch.maximum(columns[-1][:, :-1], edge[:, 0, length:]))
    return rows, columns
