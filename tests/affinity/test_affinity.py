"""Affinities, pair masks and pair displacements against the textbook loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from protoseg.affinity.affinity import (
    labels_on_grid,
    padded_affinities,
    pair_displacement,
    pair_masks,
    path_affinities,
    source_grid,
)
from protoseg.affinity.paths import directions, path_cells

RADIUS = 4


def gathered_affinities(edge: Tensor, radius: int) -> Tensor:
    """Textbook: every cell of every path gathered, then a maximum over them."""
    margin = radius - 1
    height, width = source_grid(edge.shape[2], edge.shape[3], radius)
    affinities = []
    for direction in directions(radius):
        cells = [
            edge[:, 0, y : y + height, margin + x : margin + x + width]
            for y, x in path_cells(direction)
        ]
        affinities.append(1 - torch.stack(cells).amax(dim=0))
    return torch.stack(affinities, dim=1)


@pytest.mark.parametrize("radius", [2, 4, 10])
def test_running_maximum_equals_gather_with_gradient(radius: int) -> None:
    torch.manual_seed(0)
    edge = torch.rand(2, 1, 17, 25, dtype=torch.float64, requires_grad=True)
    fast, slow = path_affinities(edge, radius), gathered_affinities(edge, radius)
    assert torch.equal(fast, slow)
    weight = torch.rand_like(fast)
    (gradient,) = torch.autograd.grad((fast * weight).sum(), edge)
    (expected,) = torch.autograd.grad((slow * weight).sum(), edge)
    torch.testing.assert_close(gradient, expected)


def test_batch_equals_its_single_images() -> None:
    torch.manual_seed(1)
    edge = torch.rand(3, 1, 9, 12)
    batch = path_affinities(edge, RADIUS)
    for number in range(3):
        assert torch.equal(batch[number], path_affinities(edge[number : number + 1], RADIUS)[0])


def test_half_precision_edges_are_computed_in_float32() -> None:
    edge = torch.rand(1, 1, 9, 12).bfloat16()
    affinities = path_affinities(edge, RADIUS)
    assert affinities.dtype == torch.float32
    assert torch.equal(affinities, path_affinities(edge.float(), RADIUS))


def test_padded_form_agrees_inside_and_is_zero_across_the_border() -> None:
    torch.manual_seed(2)
    height, width, margin = 8, 11, RADIUS - 1
    edge = torch.rand(1, 1, height, width)
    padded = padded_affinities(edge, RADIUS)
    assert padded.shape == (1, len(directions(RADIUS)), height, width)
    inside = padded[:, :, : height - margin, margin : width - margin]
    assert torch.equal(inside, path_affinities(edge, RADIUS))
    for number, (dy, dx) in enumerate(directions(RADIUS)):
        for i in range(height):
            for j in range(width):
                if i + dy >= height or not 0 <= j + dx < width:
                    assert padded[0, number, i, j] == 0


def test_masks_equal_the_definition() -> None:
    torch.manual_seed(3)
    values = torch.tensor([0, 1, 80, 255], dtype=torch.uint8)
    labels = values[torch.randint(4, (2, 9, 13))]
    background, foreground, negative = pair_masks(labels, RADIUS)
    height, width = source_grid(9, 13, RADIUS)
    for image in range(2):
        for number, (dy, dx) in enumerate(directions(RADIUS)):
            for i in range(height):
                for j in range(width):
                    a = int(labels[image, i, j + RADIUS - 1])
                    b = int(labels[image, i + dy, j + RADIUS - 1 + dx])
                    at = (image, number, i, j)
                    valid = 255 not in (a, b)
                    assert background[at] == (a == b == 0)
                    assert foreground[at] == (valid and a == b > 0)
                    assert negative[at] == (valid and a != b)


def test_displacement_to_a_centre_differs_by_the_direction() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(13.0), indexing="ij")
    towards_centre = torch.stack([4 - rows, 6 - columns])[None]
    difference = pair_displacement(towards_centre, RADIUS)
    expected = torch.tensor(directions(RADIUS), dtype=torch.float32).t()[None, :, :, None, None]
    assert torch.equal(difference, expected.expand_as(difference))


@pytest.mark.parametrize("size", [(16, 20), (15, 18), (13, 21)])
def test_labels_come_from_the_centres_of_the_cells(size: tuple[int, int]) -> None:
    labels = torch.arange(size[0] * size[1]).view(1, *size)
    grid = (-(-size[0] // 4), -(-size[1] // 4))
    sampled = labels_on_grid(labels, grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            row, column = int((i + 0.5) * size[0] / grid[0]), int((j + 0.5) * size[1] / grid[1])
            assert sampled[0, i, j] == labels[0, row, column]


def test_map_without_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="larger crop"):
        path_affinities(torch.rand(1, 1, 9, 18), 10)
