"""Prototypes of a SIPE training step, and AE-SIPE's PAMR, beside their broadcast form.

    OMP_NUM_THREADS=1 PYTHONPATH=workflow_scripts python benchmarks/prototypes.py

A step is structure seeds, prototypes, IS-CAM, both losses and the gradient of the features that the
network hands over; the network itself is not part of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from measure import Comparison, command, cost_of
from textbook import prototypes as textbook
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import grid_validity
from protoseg.localization.method import training_losses
from protoseg.localization.network import Features
from protoseg.localization.pamr import pamr
from protoseg.localization.seeds import unit_features
from protoseg.settings.classifier import ClassifierSettings

SEMANTIC = 2048  # channels of ResNet-50's layer4
STRIDE = 16  # image pixels per cell of the grid
SIPE = ClassifierSettings(prototypes="image")
Three = tuple[Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, list[Tensor | None]]


class Step(NamedTuple):
    """What the prototypes of a step read.

    features: logits [B, K, N, N], semantic [B, C, N, N], hierarchical [B, C_h, N, N].
    label: [B, K]. box: [B, 4], rows and columns of real pixels in the crop.
    """

    features: Three
    label: Tensor
    box: Tensor

    @property
    def crop(self) -> tuple[int, int]:
        """Size of the training crop, pixels."""
        height, width = self.features[0].shape[2:]
        return height * STRIDE, width * STRIDE


def random_step(batch: int, classes: int, grid: int, semantic: int, sides: tuple[int, ...]) -> Step:
    """Smooth random features with two classes an image; the first crop is part padding."""
    generator = torch.Generator().manual_seed(0)

    def smooth(channels: int) -> Tensor:
        coarse = torch.randn(batch, channels, grid // 4, grid // 4, generator=generator)
        return functional.interpolate(coarse, (grid, grid), mode="bicubic")

    hierarchical = torch.cat([unit_features(smooth(width)) for width in sides], dim=1)
    features = (smooth(classes), functional.relu(smooth(semantic)), hierarchical)
    label = torch.zeros(batch, classes)
    for row in label:
        row[torch.randperm(classes, generator=generator)[:2]] = 1
    side = grid * STRIDE
    box = torch.tensor([[0, side, 0, side]] * batch)
    box[0, 1] = side * 3 // 4
    return Step(features, label, box)


def leaves(step: Step) -> Three:
    """Its features as tensors that collect gradients."""
    logits, semantic, hierarchical = (one.detach().requires_grad_() for one in step.features)
    return logits, semantic, hierarchical


def textbook_step(step: Step) -> Gradients:
    """Losses [2] and the gradients of logits, semantic and hierarchical feature."""
    features = leaves(step)
    grid = (step.features[0].shape[2], step.features[0].shape[3])
    keep = grid_validity(step.label, step.box, step.crop, grid)
    losses = textbook.training_losses(*features, keep)
    losses.sum().backward()
    return losses.detach(), [feature.grad for feature in features]


def library_step(step: Step) -> Gradients:
    """As `textbook_step`."""
    features = leaves(step)
    losses = training_losses(Features(*features), step.label, step.box, step.crop, SIPE)
    losses["total"].backward()
    found = torch.stack([losses["classification"], losses["consistency"]])
    return found.detach(), [feature.grad for feature in features]


def difference(found: Gradients, expected: Gradients) -> tuple[float, float]:
    """Largest difference of the losses, and of the gradients relative to their norm.

    Raises:
        ValueError: a gradient that only one of them has.
    """
    errors = [0.0]
    for one, other in zip(found[1], expected[1], strict=True):
        if (one is None) != (other is None):
            raise ValueError("one form has a gradient that the other lacks")
        if one is not None and other is not None:
            errors.append(float((one - other).norm() / other.norm()))
    return float((found[0] - expected[0]).abs().max()), max(errors)


def compare_steps() -> Comparison:
    """B = 16, K = 20, grid 32 x 32, widths of SIPE's ResNet-50; and how memory grows with K."""
    sizes = {"batch": 16, "grid": 32, "semantic": SEMANTIC, "sides": SIPE.side_widths}
    step = random_step(classes=20, **sizes)  # type: ignore[arg-type]
    wide = random_step(classes=80, **sizes)  # type: ignore[arg-type]
    expected, published = cost_of(lambda: textbook_step(step))
    found, library = cost_of(lambda: library_step(step), repeats=5)
    _, of_wide = cost_of(lambda: library_step(wide))
    losses, gradients = difference(found, expected)
    return Comparison(
        "SIPE's prototypes in a training step, B = 16, K = 20, 32 x 32, widths of ResNet-50",
        published,
        library,
        f"losses differ by {losses:.1e}, gradients by {gradients:.1e} of their norm; the library's "
        "peak grows with N = 32 * 32, where one tensor of the textbook form has 4 B (K + 1) N^2 "
        "bytes; with K = 80 the library takes "
        f"{of_wide.mebibytes:.0f} MiB, such a tensor would take 5,184 MiB",
        "x8 in time and memory",
    )


def compare_pamr() -> Comparison:
    """One image of 128 x 128, 21 maps of 32 x 32."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16, generator=generator)
    image = functional.interpolate(coarse, (128, 128), mode="bilinear")
    mask = torch.rand(1, 21, 32, 32, generator=generator)
    expected, published = cost_of(lambda: textbook.pamr(image, mask), repeats=2)
    found, library = cost_of(lambda: pamr(image, mask), repeats=5)
    error = float((found - expected).abs().max())
    return Comparison(
        "PAMR of AE-SIPE, 21 maps at 128 x 128",
        published,
        library,
        f"maps differ by {error:.1e} at most",
        "x8 in time and memory",
    )


def compare() -> list[Comparison]:
    return [compare_steps(), compare_pamr()]


if __name__ == "__main__":
    command(compare, __doc__)
