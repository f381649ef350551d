"""Affinity loss in the published form: stored path indices, everything gathered, masks by a loader.

In: edge logits [B, 1, h, w], a displacement [B, 2, h, w], label images. Out: the loss of IRN (Ahn
et al., CVPR 2019), equations 1 to 7, as the published program computes it: the indices of all cells
of all paths are buffers of a module, grouped by the number of cells; the loader of every image
makes three float masks of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5
CLASSES = 21  # labels from here on are ignored


class PathIndex:
    """Flat indices of pixel pairs and of the cells on the straight paths between them.

    Attributes:
        paths: one [directions, cells, N] array for every number of cells.
        source: [N] first ends. partner: [D, N] second ends, in the order of ``paths``.
        steps: [D, 2], (dy, dx) of the directions.
    """

    def __init__(self, radius: int, size: tuple[int, int]) -> None:
        margin = radius - 1
        grid = np.arange(size[0] * size[1]).reshape(size)
        height, width = size[0] - margin, size[1] - 2 * margin

        def shifted(dy: int, dx: int) -> NDArray[np.int64]:
            return grid[dy : dy + height, margin + dx : margin + dx + width].ravel()

        by_length = _directions_by_length(radius)
        self.paths = [
            np.array([[shifted(*cell) for cell in cells] for _, cells in group])
            for group in by_length
        ]
        self.steps = np.array([step for group in by_length for step, _ in group])
        self.source = shifted(0, 0)
        self.partner = np.array([shifted(*step) for step in self.steps])


class AffinityLoss(nn.Module):
    """The loss with its index buffers."""

    def __init__(self, index: PathIndex) -> None:
        super().__init__()
        self.groups = len(index.paths)
        for number, paths in enumerate(index.paths):
            self.register_buffer(f"paths_{number}", torch.from_numpy(paths))
        self.register_buffer("source", torch.from_numpy(index.source))
        self.register_buffer("partner", torch.from_numpy(index.partner))
        steps = torch.from_numpy(index.steps).float().t()[None, :, :, None]
        self.register_buffer("steps", steps)  # [1, 2, D, 1]

    def affinities(self, edge: Tensor) -> Tensor:
        """Edge probabilities [B, 1, h, w] -> [B, D, N]."""
        return gathered_affinities(
            edge, [self.get_buffer(f"paths_{n}") for n in range(self.groups)]
        )

    def displacements(self, field: Tensor) -> Tensor:
        """Field [B, 2, h, w] -> difference of the ends [B, 2, D, N]."""
        source, partner = self.get_buffer("source"), self.get_buffer("partner")
        flat = field.flatten(2)
        first = torch.index_select(flat, 2, source)
        second = torch.index_select(flat, 2, partner.view(-1)).view(*flat.shape[:2], *partner.shape)
        return first[:, :, None] - second

    def forward(self, edge_logits: Tensor, field: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Total loss; ``masks`` are background, foreground and negative pairs, [B, D, N]."""
        background, foreground, negative = masks
        affinity = self.affinities(torch.sigmoid(edge_logits))
        alike = -torch.log(affinity + EPSILON)
        different = -torch.log(1.0 + EPSILON - affinity)
        pairs = self.displacements(field)
        inside = torch.abs(pairs - self.get_buffer("steps"))
        outside = torch.abs(pairs)
        numbers = [mask.sum() for mask in masks]
        background_loss = torch.sum(background * alike) / (numbers[0] + EPSILON)
        foreground_loss = torch.sum(foreground * alike) / (numbers[1] + EPSILON)
        negative_loss = torch.sum(negative * different) / (numbers[2] + EPSILON)
        inside_loss = torch.sum(inside * foreground[:, None]) / (2 * numbers[1] + EPSILON)
        outside_loss = torch.sum(outside * background[:, None]) / (2 * numbers[0] + EPSILON)
        positive_loss = (background_loss + foreground_loss) / 2
        return (positive_loss + negative_loss) / 2 + (inside_loss + outside_loss) / 2


def gathered_affinities(edge: Tensor, paths: Sequence[Tensor]) -> Tensor:
    """Edge map [B, 1, h, w] -> [B, D, N]: every cell of every path gathered, then the maximum."""
    flat = edge.flatten(1)
    affinities = []
    for indices in paths:
        cells = torch.index_select(flat, 1, indices.view(-1)).view(len(flat), *indices.shape)
        longest = functional.max_pool2d(cells, (cells.shape[2], 1))  # [B, directions, 1, N]
        affinities.append(1 - longest[:, :, 0])
    return torch.cat(affinities, dim=1)


def loader_masks(label: NDArray[np.uint8], index: PathIndex) -> list[Tensor]:
    """What the loader makes of a label image [H, W]: three float masks [D, N]."""
    size = (label.shape[1] // 4, label.shape[0] // 4)
    small = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST)).ravel()
    first, second = small[index.source][None], small[index.partner]
    valid = np.logical_and(first < CLASSES, second < CLASSES)
    equal = np.equal(first, second)
    positive = np.logical_and(equal, valid)
    background = np.logical_and(positive, np.equal(first, 0))
    foreground = np.logical_and(positive, np.greater(first, 0))
    negative = np.logical_and(np.logical_not(equal), valid)
    masks = (background, foreground, negative)
    return [torch.from_numpy(mask.astype(np.float32)) for mask in masks]


def _directions_by_length(
    radius: int,
) -> list[list[tuple[tuple[int, int], list[tuple[int, int]]]]]:
    """(direction, cells of its path), in lists of equal numbers of cells, shortest first."""
    steps = [(0, x) for x in range(1, radius)]
    around = range(-radius + 1, radius)
    steps += [(y, x) for y in range(1, radius) for x in around if x * x + y * y < radius**2]
    groups: dict[int, list[tuple[tuple[int, int], list[tuple[int, int]]]]] = {}
    for dy, dx in steps:
        cells = [
            (y, x)
            for y in range(dy + 1)
            for x in range(min(dx, 0), max(dx, 0) + 1)
            if (dy * x - dx * y) ** 2 / (dy**2 + dx**2) < 1
        ]
        groups.setdefault(len(cells), []).append(((dy, dx), cells))
    return [groups[length] for length in sorted(groups)]
