"""Loss part of an affinity training step: gathered paths and loaded masks, or running maxima.

    OMP_NUM_THREADS=1 PYTHONPATH=workflow_scripts python benchmarks/affinity_step.py

Four crops of 512 x 512 pixels (edge maps of 128 x 128), pairs of radius 10, forward and backward.
The published form includes what its loader does for the batch (three masks of pairs an image, and
their collation), not the creation of its index buffers, which happens once. Network and images are
left out: they are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measure import Comparison, command, cost_of
from numpy.typing import NDArray
from sample import HEIGHT, WIDTH, samples
from textbook.affinity_step import AffinityLoss, PathIndex, loader_masks
from torch import Tensor

from protoseg.affinity.losses import affinity_losses, pair_sums

BATCH, CROP, RADIUS = 4, 512, 10
GRID = CROP // 4
Gradients = tuple[float, NDArray[np.float32], NDArray[np.float32]]


def textbook_step(
    index: PathIndex, loss: AffinityLoss, logits: Tensor, field: Tensor, labels: NDArray[np.uint8]
) -> Gradients:
    """Total loss and its gradients by logits and displacement, the loader's masks first."""
    loaded = [loader_masks(label, index) for label in labels]
    masks = [torch.stack(kind) for kind in zip(*loaded, strict=True)]
    return _with_gradients(lambda edge, flow: loss(edge, flow, masks), logits, field)


def library_step(
    logits: Tensor, field: Tensor, labels: NDArray[np.uint8], radius: int = RADIUS
) -> Gradients:
    """The same by the library, from the labels alone."""
    batch = torch.from_numpy(labels).long()  # as the loader gives them

    def loss(edge: Tensor, flow: Tensor) -> Tensor:
        return affinity_losses(pair_sums(edge, batch, radius, flow))["total"]

    return _with_gradients(loss, logits, field)


def inputs() -> tuple[Tensor, Tensor, NDArray[np.uint8]]:
    """Edge logits [B, 1, h, w], displacement [B, 2, h, w], labels [B, H, W] as after a crop."""
    generator = torch.Generator().manual_seed(0)
    labels = np.full((BATCH, CROP, CROP), 255, np.uint8)
    for label, sample in zip(labels, samples(BATCH), strict=True):
        label[64 : 64 + HEIGHT, 6 : 6 + WIDTH] = sample.mask
    logits = torch.randn(BATCH, 1, GRID, GRID, generator=generator)
    return logits, torch.randn(BATCH, 2, GRID, GRID, generator=generator), labels


def compare() -> list[Comparison]:
    """One comparison, of one step."""
    logits, field, labels = inputs()
    index = PathIndex(RADIUS, (GRID, GRID))
    loss = AffinityLoss(index)
    published = partial(textbook_step, index, loss, logits, field, labels)
    ours = partial(library_step, logits, field, labels)
    expected, textbook = cost_of(published, repeats=5)
    found, library = cost_of(ours, repeats=5)
    masks, loader = cost_of(partial(_loaded_mebibytes, index, labels[0]), repeats=5)
    buffers = sum(buffer.nbytes for buffer in loss.buffers()) / 2**20
    outputs = (
        f"losses {expected[0]:.6f} and {found[0]:.6f}; gradients differ by "
        f"{_difference(expected[1], found[1]):.1e} (edge) and "
        f"{_difference(expected[2], found[2]):.1e} (displacement) of their maximum. The published "
        f"loader takes {loader.core_seconds * 1000:.0f} ms and {masks:.1f} MiB an image; its index "
        f"buffers, made before and not counted, {buffers:.1f} MiB, the library's none"
    )
    title = f"affinity loss, forward and backward, {BATCH} crops of {CROP}, radius {RADIUS}"
    target = "at least x1.5 of core-seconds, x3 of memory; equal to about 1e-5"
    return [Comparison(title, textbook, library, outputs, target)]


def _loaded_mebibytes(index: PathIndex, label: NDArray[np.uint8]) -> float:
    return sum(mask.nbytes for mask in loader_masks(label, index)) / 2**20


def _with_gradients(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, field: Tensor
) -> Gradients:
    leaves = [logits.detach().requires_grad_(), field.detach().requires_grad_()]
    total = loss(*leaves)
    edge, flow = torch.autograd.grad(total, leaves)
    return total.item(), edge.numpy(), flow.numpy()


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    command(compare, __doc__)
