"""PAMR against loops over pixels and neighbours, and what holds for every image."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization.pamr import (
    NEIGHBOURS,
    local_deviation,
    neighbour_weights,
    pamr,
    shifted_views,
)

DILATIONS = (1, 2, 5)
KERNELS = ["absolute", "gaussian"]


def case(batch: int = 2, classes: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.rand(batch, 3, 5, 6), torch.rand(batch, classes, 5, 6)


def pixel(plane: Tensor, y: int, x: int) -> float:
    """Value at a place that may lie outside, where the border goes on."""
    height, width = plane.shape
    return float(plane[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])


def slow_weights(image: Tensor, y: int, x: int, kernel: str) -> list[float]:
    """Weights of the neighbours of one pixel of an image [3, H, W]."""
    places = [(y + d * dy, x + d * dx) for d in DILATIONS for dy, dx in NEIGHBOURS]
    logits = [0.0] * len(places)
    for plane in image:
        centre = pixel(plane, y, x)
        around = [pixel(plane, *place) for place in places]
        sample = [*around, *[centre] * len(DILATIONS)]
        mean = math.fsum(sample) / len(sample)
        variance = math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1)
        for number, value in enumerate(around):
            if kernel == "absolute":
                logits[number] -= abs(value - centre) / (1e-8 + 0.1 * math.sqrt(variance)) / 3
            else:
                logits[number] -= (value - centre) ** 2 / (1e-8 + variance)
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [value / math.fsum(exponentials) for value in exponentials]


def slow_pamr(image: Tensor, mask: Tensor, iterations: int, kernel: str) -> Tensor:
    batch, classes, height, width = mask.shape
    for _ in range(iterations):
        refined = torch.zeros_like(mask)
        for b, y, x in product(range(batch), range(height), range(width)):
            weights = slow_weights(image[b], y, x, kernel)
            places = [(y + d * dy, x + d * dx) for d in DILATIONS for dy, dx in NEIGHBOURS]
            for k in range(classes):
                values = [pixel(mask[b, k], *place) for place in places]
                refined[b, k, y, x] = math.fsum(w * v for w, v in zip(weights, values, strict=True))
        mask = refined
    return mask


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_loops(kernel: str) -> None:
    image, mask = (tensor[:1, :, :4] for tensor in case(classes=2))
    found = pamr(image, mask, DILATIONS, 2, kernel)
    torch.testing.assert_close(found, slow_pamr(image, mask, 2, kernel), atol=2e-6, rtol=0)


def test_deviation_is_that_of_the_sampled_windows() -> None:
    image, _ = case()
    views = list(shifted_views(image, DILATIONS))
    assert len(views) == 8 * len(DILATIONS)
    sample = torch.stack([*views, *[image] * len(DILATIONS)])
    torch.testing.assert_close(local_deviation(image, DILATIONS), sample.std(0))


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_sum_to_one(kernel: str) -> None:
    image, _ = case()
    weights = neighbour_weights(image, DILATIONS, kernel)
    assert weights.shape == (2, 8 * len(DILATIONS), 5, 6)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 5, 6))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("grey", [0.0, 0.7, 1.0])
def test_flat_images_average_their_neighbours(kernel: str, grey: float) -> None:
    _, mask = case()
    image = torch.full((2, 3, 5, 6), grey)
    found = pamr(image, mask, DILATIONS, 1, kernel)
    mean = torch.stack(list(shifted_views(mask, DILATIONS))).mean(0)
    torch.testing.assert_close(found, mean)


@pytest.mark.parametrize("kernel", KERNELS)
def test_constant_masks_stay_and_others_keep_their_range(kernel: str) -> None:
    image, mask = case()
    constant = torch.full_like(mask, 0.3)
    torch.testing.assert_close(pamr(image, constant, kernel=kernel), constant)
    found = pamr(image, mask, kernel=kernel)
    for before, after in zip(mask.flatten(0, 1), found.flatten(0, 1), strict=True):
        assert before.min() - 1e-6 <= after.min() <= after.max() <= before.max() + 1e-6


def test_masks_follow_the_edges_of_the_image() -> None:
    """Two flat halves; a mask whose border lies a column off moves to the image's."""
    image, mask = torch.zeros(1, 3, 8, 12), torch.zeros(1, 1, 8, 12)
    image[..., 6:], mask[..., 5:] = 1, 1
    found = pamr(image, mask, (1, 2), 10)[0, 0]
    assert (found[:, 5] < 0.5).all()
    assert (found[:, 6:] > 0.9).all()


def test_low_resolution_masks_are_resized_first() -> None:
    image, mask = torch.rand(1, 3, 6, 8), torch.rand(1, 2, 3, 2)
    resized = functional.interpolate(mask, (6, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(pamr(image, mask), pamr(image, resized))
    assert pamr(image, mask).shape == (1, 2, 6, 8)


def test_batch_equals_single_images() -> None:
    image, mask = case(3)
    singles = [pamr(image[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(pamr(image, mask), torch.cat(singles))


def test_maps_do_not_see_each_other_and_arguments_stay() -> None:
    image, mask = case()
    before = image.clone(), mask.clone()
    found = pamr(image, mask)
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])
    torch.testing.assert_close(found[:, 1:2], pamr(image, mask[:, 1:2]))


def test_carries_no_gradient() -> None:
    image, mask = case()
    assert not pamr(image.requires_grad_(), mask.requires_grad_()).requires_grad


def test_unknown_kernel() -> None:
    with pytest.raises(ValueError, match="unknown kernel 'box'; known: absolute, gaussian"):
        pamr(*case(), kernel="box")
