"""The random walk against the dense textbook version, and its invariants."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from protoseg.affinity.paths import directions, path_cells
from protoseg.affinity.walk import (
    Stencil,
    WalkSettings,
    chebyshev_coefficients,
    chebyshev_power,
    edge_probability,
    random_walk,
    stepwise_power,
    walk_together,
)

RADIUS, BETA = 4, 10.0
SETTINGS = WalkSettings(RADIUS, BETA, log2_steps=8, degree=112, dtype=torch.float64)


def dense_transition(edge: Tensor, radius: int, beta: float) -> Tensor:
    """Textbook S D^-1, [N, N], columns sum to 1."""
    height, width = edge.shape
    similarity = torch.eye(height * width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            for dy, dx in directions(radius):
                if i + dy < height and 0 <= j + dx < width:
                    path = [edge[i + y, j + x] for y, x in path_cells((dy, dx))]
                    source, partner = i * width + j, (i + dy) * width + j + dx
                    value = (1 - torch.stack(path).max()) ** beta
                    similarity[source, partner] = similarity[partner, source] = value
    return similarity / similarity.sum(dim=0, keepdim=True)


@pytest.fixture(scope="module")
def edge() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(9, 12, generator=generator, dtype=torch.float64) * 0.6


@pytest.fixture(scope="module")
def maps() -> Tensor:
    return torch.rand(3, 9, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("log2_steps", [0, 1, 4, 8])
def test_walk_equals_dense_matrix_power(edge: Tensor, maps: Tensor, log2_steps: int) -> None:
    settings = WalkSettings(RADIUS, BETA, log2_steps, degree=112, dtype=torch.float64)
    transition = dense_transition(edge, RADIUS, BETA)
    for _ in range(log2_steps):
        transition = transition @ transition
    expected = (maps.flatten(1) @ transition).view_as(maps)
    torch.testing.assert_close(random_walk(maps, edge, settings), expected, rtol=1e-10, atol=0)


def test_expansion_equals_single_steps(edge: Tensor, maps: Tensor) -> None:
    stencil = Stencil(edge, RADIUS, BETA, torch.float64)
    flat = stencil.flatten(maps)
    stepped = stepwise_power(stencil, flat, 64)
    torch.testing.assert_close(chebyshev_power(stencil, flat, 64, 64), stepped)
    assert torch.equal(stencil.unflatten(flat), maps)


def test_matrix_is_symmetric_and_degrees_are_column_sums(edge: Tensor) -> None:
    stencil = Stencil(edge, RADIUS, BETA, torch.float64)
    unit = torch.eye(edge.numel(), dtype=torch.float64).view(-1, *edge.shape)
    flat = stencil.flatten(unit)
    product = torch.zeros_like(flat)
    stencil.add_product(stencil.cells(product), stencil.neighbours(flat), 1.0)
    matrix = stencil.unflatten(product).flatten(1)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-14, atol=1e-16)
    root = stencil.degree.sqrt().flatten()
    transition = root[:, None] * matrix / root
    torch.testing.assert_close(transition.sum(dim=0), torch.ones_like(root))
    torch.testing.assert_close(transition, dense_transition(edge, RADIUS, BETA))


def test_walked_values_are_means_of_the_map(edge: Tensor, maps: Tensor) -> None:
    constant = torch.full((1, *edge.shape), 0.7, dtype=torch.float64)
    torch.testing.assert_close(random_walk(constant, edge, SETTINGS), constant)
    walked = random_walk(maps, edge, SETTINGS)
    assert (walked.amax((1, 2)) < maps.amax((1, 2))).all()
    assert (walked.amin((1, 2)) > maps.amin((1, 2))).all()


def test_sum_weighted_by_degree_is_conserved(edge: Tensor, maps: Tensor) -> None:
    degree = Stencil(edge, RADIUS, BETA, torch.float64).degree
    walked = random_walk(maps, edge, SETTINGS)
    torch.testing.assert_close((walked * degree).sum((1, 2)), (maps * degree).sum((1, 2)))


def test_constant_map_without_edges_is_conserved() -> None:
    constant = torch.full((2, 7, 10), 0.3, dtype=torch.float64)
    walked = random_walk(constant, torch.zeros(7, 10), SETTINGS)
    torch.testing.assert_close(walked, constant)


def test_closed_edges_stop_the_walk(maps: Tensor) -> None:
    torch.testing.assert_close(random_walk(maps, torch.ones(9, 12), SETTINGS), maps)


def test_a_wall_keeps_maps_on_their_side() -> None:
    edge = torch.zeros(8, 15, dtype=torch.float64)
    edge[:, 7] = 1
    left = torch.zeros(1, 8, 15, dtype=torch.float64)
    left[:, :, :7] = torch.rand(1, 8, 7, dtype=torch.float64)
    walked = random_walk(left, edge, SETTINGS)
    assert walked[:, :, 7:].abs().max() == 0
    assert walked[:, :, :7].min() > 0


def test_walk_is_linear_and_leaves_its_arguments_alone(edge: Tensor, maps: Tensor) -> None:
    before = (maps.clone(), edge.clone())
    walked = random_walk(maps, edge, SETTINGS)
    assert torch.equal(maps, before[0])
    assert torch.equal(edge, before[1])
    summed = random_walk(maps.sum(0, keepdim=True), edge, SETTINGS)
    torch.testing.assert_close(walked.sum(0, keepdim=True), summed)


def test_map_smaller_than_the_radius_walks() -> None:
    walked = random_walk(torch.ones(1, 1, 2), torch.zeros(1, 2), SETTINGS)
    torch.testing.assert_close(walked, torch.ones(1, 1, 2, dtype=torch.float64))


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_coefficients_are_those_of_the_power(steps: int) -> None:
    coefficients = chebyshev_coefficients(steps, steps)
    for x in (-1.0, -0.4, 0.0, 0.77, 1.0):
        terms = [c * math.cos(j * math.acos(x)) for j, c in enumerate(coefficients)]
        assert math.fsum(terms) == pytest.approx(x**steps, abs=1e-14)


def test_a_degree_that_is_too_low_is_refused() -> None:
    with pytest.raises(ValueError, match="set the degree to 192"):
        chebyshev_coefficients(1024, 96)


def test_images_of_several_sizes_walk_together_as_they_do_alone(edge: Tensor, maps: Tensor) -> None:
    edges = [edge, edge[:6, :10], edge[:9, :4], edge[2:]]
    starts = [maps, maps[:2, :6, :10], maps[:0, :9, :4], maps[:1, 2:]]
    together = walk_together(starts, edges, SETTINGS)
    for walked, start, own_edge in zip(together, starts, edges, strict=True):
        torch.testing.assert_close(walked, random_walk(start, own_edge, SETTINGS))


def test_maps_on_another_grid_are_refused(edge: Tensor) -> None:
    with pytest.raises(ValueError, match="resize"):
        random_walk(torch.rand(1, 9, 13), edge, SETTINGS)


def test_edge_probability_of_a_mirrored_pair_is_that_of_the_image() -> None:
    logits = torch.randn(1, 7, 10)
    pair = torch.zeros(2, 1, 8, 16)  # padded right and below
    pair[0, :, :7, :10], pair[1, :, :7, :10] = logits, logits.flip(-1)
    torch.testing.assert_close(edge_probability(pair, (7, 10)), logits[0].double().sigmoid())
