"""CAM: equations 1 and 2 of SIPE pixel by pixel, and the mask of the training crop."""

from __future__ import annotations

import torch
from torch import Tensor

from protoseg.localization.cam import (
    class_activation_maps,
    foreground_cam,
    grid_validity,
    normalize_by_maximum,
)


def slow_cam(logits: Tensor, scale: float) -> Tensor:
    """Literal loops over images, classes and pixels."""
    batch, classes, height, width = logits.shape
    maps = torch.zeros(batch, classes + 1, height, width)
    for b in range(batch):
        for k in range(classes):
            top = max(0.0, float(logits[b, k].max()))
            for y in range(height):
                for x in range(width):
                    maps[b, k + 1, y, x] = max(0.0, float(logits[b, k, y, x])) / (top + 1e-5)
        for y in range(height):
            for x in range(width):
                maps[b, 0, y, x] = scale * (1 - float(maps[b, 1:, y, x].max()))
    return maps


def test_equals_the_loops() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5)
    for scale in (1.0, 0.5):
        torch.testing.assert_close(class_activation_maps(logits, scale), slow_cam(logits, scale))


def test_a_class_without_positive_logits_has_an_empty_map() -> None:
    logits = torch.full((1, 2, 3, 3), -1.0)
    maps = class_activation_maps(logits)
    assert (maps[:, 1:] == 0).all()
    assert (maps[:, 0] == 1).all()


def test_range_and_scale_of_the_logits() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 6, 6)
    maps = foreground_cam(logits)
    assert maps.min() >= 0
    assert maps.max() < 1
    torch.testing.assert_close(foreground_cam(1000 * logits), maps, atol=1e-4, rtol=0)
    assert foreground_cam(logits.bfloat16()).dtype == torch.float32


def test_maximum_of_each_map_alone() -> None:
    maps = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]], [[4.0, 1.0]]])
    expected = torch.tensor([[[0.5, 1.0]], [[0.0, 0.0]], [[1.0, 0.25]]])
    torch.testing.assert_close(normalize_by_maximum(maps), expected, atol=1e-5, rtol=0)


def slow_validity(
    label: Tensor, box: Tensor, size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    keep = torch.zeros(len(label), label.shape[1] + 1, *grid)
    for b in range(len(label)):
        y0, y1, x0, x1 = (int(bound) for bound in box[b])
        image = torch.zeros(size)
        image[y0:y1, x0:x1] = 1
        for i in range(grid[0]):
            for j in range(grid[1]):
                value = image[i * size[0] // grid[0], j * size[1] // grid[1]]
                keep[b, 0, i, j] = value
                keep[b, 1:, i, j] = value * label[b]
    return keep


def test_validity_is_the_nearest_pixel_of_the_full_mask() -> None:
    label = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    box = torch.tensor([[5, 30, 0, 17], [0, 32, 9, 32]])
    for grid in ((2, 2), (3, 5), (32, 32)):
        found = grid_validity(label, box, (32, 32), grid)
        assert torch.equal(found, slow_validity(label, box, (32, 32), grid))
