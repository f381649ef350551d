"""Erasing: equation 5 of RPC pixel by pixel, and what is never erased."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from protoseg.localization.cam import foreground_cam
from protoseg.localization.erasing import erase, keep_mask, strongest_response

SIZE = (11, 14)
LABEL = torch.tensor([[1.0, 0, 1], [0, 1, 0]])


def case(batch: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(batch, 3, *SIZE), foreground_cam(torch.randn(batch, 3, 4, 5))


def slow_bilinear(grid: Tensor, y: int, x: int) -> float:
    """Value of a map [h, w] at pixel (y, x) of the image, pixel centres aligned, edges repeated."""
    place = []
    for pixel, length, cells in ((y, SIZE[0], grid.shape[0]), (x, SIZE[1], grid.shape[1])):
        centre = max(0.0, (pixel + 0.5) * cells / length - 0.5)
        low = min(math.floor(centre), cells - 1)
        place.append((low, min(low + 1, cells - 1), centre - low))
    (y0, y1, v), (x0, x1, u) = place
    top = (1 - u) * float(grid[y0, x0]) + u * float(grid[y0, x1])
    bottom = (1 - u) * float(grid[y1, x0]) + u * float(grid[y1, x1])
    return (1 - v) * top + v * bottom


def slow_response(cam: Tensor, label: Tensor) -> Tensor:
    found = torch.zeros(len(cam), 1, *SIZE)
    for b in range(len(cam)):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                values = [
                    slow_bilinear(cam[b, k], y, x) if label[b, k] == 1 else 0.0
                    for k in range(cam.shape[1])
                ]
                found[b, 0, y, x] = max(values)
    return found


def test_equals_the_loops() -> None:
    images, cam = case()
    response = slow_response(cam, LABEL)
    found = strongest_response(cam, LABEL, SIZE)
    torch.testing.assert_close(found, response, atol=1e-6, rtol=1e-5)
    for threshold in (0.3, 0.7):
        assert not (response - threshold).abs().lt(1e-5).any()  # no tie that rounding decides
        expected = torch.zeros_like(images)
        for b in range(2):
            for y in range(SIZE[0]):
                for x in range(SIZE[1]):
                    if response[b, 0, y, x] < threshold:
                        expected[b, :, y, x] = images[b, :, y, x]
        assert torch.equal(erase(images, [cam], LABEL, threshold), expected)


def test_below_the_threshold_nothing_is_erased() -> None:
    images, cam = case()
    response = strongest_response(cam, LABEL, SIZE)
    shares = []
    for threshold in (0.0, 0.2, 0.5, 0.8, 1.0):
        erased = erase(images, [cam], LABEL, threshold)
        kept = (response < threshold).expand_as(images)
        assert torch.equal(erased[kept], images[kept])
        assert (erased[~kept] == 0).all()
        shares.append(float(kept.float().mean()))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_by_hand_at_the_threshold() -> None:
    cam = torch.tensor([0.69, 0.7, 0.71]).view(1, 1, 1, 3)
    keep = keep_mask(cam, torch.ones(1, 1), (1, 3), 0.7)
    assert keep.flatten().tolist() == [True, False, False]


def test_absent_classes_erase_nothing() -> None:
    images, cam = case()
    changed = cam.clone()
    changed[LABEL == 0] = 1
    found = erase(images, [changed], LABEL, 0.5)
    assert torch.equal(found, erase(images, [cam], LABEL, 0.5))
    assert torch.equal(erase(images, [cam], torch.zeros(2, 3), 0.1), images)


def test_a_third_region_loses_the_union() -> None:
    images, first = case()
    second = foreground_cam(torch.randn(2, 3, 4, 5))
    found = erase(images, [first, second], LABEL, 0.6)
    highest = torch.maximum(
        strongest_response(first, LABEL, SIZE), strongest_response(second, LABEL, SIZE)
    )
    assert torch.equal(found == 0, (highest >= 0.6).expand_as(images))
    assert torch.equal(found, erase(images, [second, first], LABEL, 0.6))
    one_by_one = erase(erase(images, [first], LABEL, 0.6), [second], LABEL, 0.6)
    assert torch.equal(found, one_by_one)
    assert torch.equal(erase(images, [], LABEL, 0.6), images)


def test_no_gradient_flows_to_the_maps_and_images_stay() -> None:
    images, cam = case()
    before = images.clone()
    cam.requires_grad_()
    images.requires_grad_()
    erased = erase(images, [cam], LABEL, 0.5)
    erased.sum().backward()
    assert cam.grad is None
    assert not strongest_response(cam, LABEL, SIZE).requires_grad
    assert images.grad is not None
    assert torch.equal(images.grad, (erased != 0).float())
    assert torch.equal(images.detach(), before)


def test_batch_equals_single_images() -> None:
    images, cam = case()
    whole = erase(images, [cam], LABEL, 0.5)
    for i in range(2):
        one = slice(i, i + 1)
        assert torch.equal(whole[one], erase(images[one], [cam[one]], LABEL[one], 0.5))


def test_dtype_and_memory_layout_follow_the_images() -> None:
    images, cam = case()
    images = images.bfloat16().to(memory_format=torch.channels_last)
    erased = erase(images, [cam], LABEL, 0.5)
    assert erased.dtype == torch.bfloat16
    assert erased.is_contiguous(memory_format=torch.channels_last)


def test_a_background_map_is_refused() -> None:
    _, cam = case()
    with pytest.raises(ValueError, match="without the background"):
        strongest_response(torch.cat([1 - cam[:, :1], cam], dim=1), LABEL, SIZE)
