"""The random walk of an image: the published dense matrix, sparse steps, or an expansion.

    OMP_NUM_THREADS=1 PYTHONPATH=workflow_scripts python benchmarks/random_walk.py

The published form builds the N x N transition matrix (N = 11,750 for 500 x 375 pixels) and squares
it 8 times: minutes and 2 GB. PROTOSEG_BENCH_SHRINK=3 takes every third pixel of the image instead.
The edge map is a smooth gradient of the image mapped to (0, 1), the maps are blurred masks. Making
the matrix or the stencil, upsampling and labels are part of the time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from measure import Comparison, command, cost_of
from numpy.typing import NDArray
from sample import Sample, samples
from textbook.random_walk import csr_labels, dense_labels
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.labels import WalkInput, refined_labels, refined_scores, resize_maps
from protoseg.affinity.refine import walk_settings
from protoseg.affinity.walk import STRIDE, Stencil, grid_size, stepwise_power
from protoseg.settings.schema import RefinedLabelsSettings

MAPS = 3
BACKGROUND = RefinedLabelsSettings().background_threshold
BLUR, SMOOTH = 41, 5  # side of the box filters, pixels
Labels = NDArray[np.int64]
Walk = Callable[[Tensor, Tensor, tuple[int, int], Tensor], Tensor]


class Inputs(NamedTuple):
    """maps: [3, h, w]; edge: [h, w]; size: of the image; classes: [4], the background first."""

    maps: Tensor
    edge: Tensor
    size: tuple[int, int]
    classes: Tensor


def inputs(sample: Sample, shrink: int = 1) -> Inputs:
    """What one image gives, with every ``shrink``-th pixel of its rows and columns."""
    pixels, mask = (array[::shrink, ::shrink].copy() for array in sample)
    size = (mask.shape[0], mask.shape[1])
    grid = grid_size(size)
    found = [int(label) for label in np.unique(mask) if 0 < label < 255]
    present = [torch.from_numpy(mask == label).float() for label in found]
    # what lacks in the image to three maps are its masks mirrored, so that maps compete
    masks = torch.stack([*present, *(one.flip(1) for one in present * MAPS)][:MAPS])
    blurred = resize_maps(_blurred(masks, max(BLUR // shrink // 2 * 2 + 1, 3)), grid)
    maps = blurred / blurred.amax((1, 2), keepdim=True)
    grey = _blurred(torch.from_numpy(pixels).float().mean(dim=-1)[None], SMOOTH)
    slopes = torch.stack(torch.gradient(resize_maps(grey, grid)[0])).norm(dim=0)
    edge = 1 - torch.exp(-slopes / (2 * slopes.mean()))
    return Inputs(maps, edge.clamp(1e-3, 1 - 1e-3), size, torch.arange(MAPS + 1))


def library_labels(maps: Tensor, edge: Tensor, size: tuple[int, int], classes: Tensor) -> Tensor:
    """Labels [H, W] as the stage `refine_labels` makes them by its default settings."""
    walk = walk_settings(RefinedLabelsSettings())
    (scores,) = refined_scores([WalkInput(maps, edge, size, 1.0)], walk)
    return refined_labels(scores, classes, BACKGROUND)


def stencil_labels(maps: Tensor, edge: Tensor, size: tuple[int, int], classes: Tensor) -> Tensor:
    """The same by single steps of the library's stencil."""
    settings = walk_settings(RefinedLabelsSettings())
    stencil = Stencil(edge, settings.radius, settings.beta, settings.dtype)
    root = stencil.degree.sqrt()
    flat = stencil.flatten(maps * (1 - edge) * root)
    walked = stencil.unflatten(stepwise_power(stencil, flat, 2**settings.log2_steps)) / root
    upsampled = resize_maps(walked, (STRIDE * edge.shape[0], STRIDE * edge.shape[1]))
    scores = upsampled[:, : size[0], : size[1]]
    return refined_labels(scores / scores.amax(), classes, BACKGROUND)


def compare() -> list[Comparison]:
    """Dense, CSR and stencil steps, each beside the library's walk of the same image."""
    warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
    given = inputs(samples(1)[0], int(os.environ.get("PROTOSEG_BENCH_SHRINK", "1")))
    found, library = cost_of(partial(_run, library_labels, given), repeats=10)
    forms: list[tuple[str, Walk, int, str]] = [
        (
            "published dense matrix",
            dense_labels,
            1,
            "at least x2500 of core-seconds; at most 100 MiB; at most 3 pixels differ",
        ),
        ("256 steps of a CSR matrix", csr_labels, 3, ""),
        ("256 steps of the library's stencil", stencil_labels, 3, ""),
    ]
    comparisons = []
    for name, walk, repeats, target in forms:
        expected, textbook = cost_of(partial(_run, walk, given), repeats=repeats)
        outputs = (
            f"{int((found != expected).sum())} of {found.size} labels differ; "
            f"{(expected > 0).mean():.0%} of them are foreground"
        )
        grid = "{} x {}".format(*given.edge.shape)
        title = f"random walk, {MAPS} maps on a grid of {grid}: {name}"
        comparisons.append(Comparison(title, textbook, library, outputs, target))
    return comparisons


def _run(walk: Walk, given: Inputs) -> Labels:
    return walk(*given).numpy()


def _blurred(maps: Tensor, side: int) -> Tensor:
    """Twice a mean over squares [C, H, W], without what lies outside."""
    for _ in range(2):
        maps = functional.avg_pool2d(maps, side, 1, side // 2, count_include_pad=False)
    return maps


if __name__ == "__main__":
    command(compare, __doc__)
