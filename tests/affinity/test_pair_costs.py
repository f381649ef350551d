"""Costs summed in parts, with their own backward pass, against plain autograd on all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from protoseg.affinity.affinity import pair_displacement, pair_masks, path_affinities
from protoseg.affinity.pair_costs import EPSILON, pair_costs
from protoseg.affinity.paths import directions

RADIUS = 4


def plain_costs(edge: Tensor, labels: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Textbook: every pair at once, differentiated by autograd."""
    affinities = path_affinities(edge, RADIUS)
    masks = pair_masks(labels, RADIUS)
    alike, different = -(affinities + EPSILON).log(), -(1 + EPSILON - affinities).log()
    pairs = pair_displacement(field, RADIUS)
    target = pairs.new_tensor(directions(RADIUS)).t()[None, :, :, None, None]
    terms = [
        alike * masks.background,
        alike * masks.foreground,
        different * masks.negative,
        (pairs - target).abs() * masks.foreground[:, None],
        pairs.abs() * masks.background[:, None],
    ]
    return torch.stack([term.sum() for term in terms]), torch.stack([m.sum() for m in masks])


@pytest.fixture
def fields() -> tuple[Tensor, Tensor, Tensor]:
    """Edge probabilities, displacement, labels."""
    generator = torch.Generator().manual_seed(0)
    edge = torch.rand(2, 1, 9, 12, generator=generator, dtype=torch.float64)
    field = torch.randn(2, 2, 9, 12, generator=generator, dtype=torch.float64)
    values = torch.tensor([0, 0, 3, 7, 255])
    return edge, field, values[torch.randint(5, (2, 9, 12), generator=generator)]


def test_sums_counts_and_gradients_are_those_of_all_pairs(
    fields: tuple[Tensor, Tensor, Tensor],
) -> None:
    edge, field, labels = fields
    leaves = [edge.requires_grad_(), field.requires_grad_()]
    costs, counts = plain_costs(edge, labels, field)
    sums = pair_costs(edge, labels, RADIUS, field)
    torch.testing.assert_close(sums.costs, costs)
    assert torch.equal(sums.counts, counts)
    weights = torch.tensor([0.3, 0.7, 1.1, 0.2, 0.5], dtype=torch.float64)
    expected = torch.autograd.grad((costs * weights).sum(), leaves)
    found = torch.autograd.grad((sums.costs * weights).sum(), leaves)
    torch.testing.assert_close(found, expected)


def test_without_displacement_costs_are_the_first_three(
    fields: tuple[Tensor, Tensor, Tensor],
) -> None:
    edge, field, labels = fields
    alone = pair_costs(edge.requires_grad_(), labels, RADIUS)
    assert torch.equal(alone.costs, pair_costs(edge, labels, RADIUS, field).costs[:3])
    (gradient,) = torch.autograd.grad(alone.costs.sum(), edge)
    assert gradient.abs().max() > 0


def test_tied_cells_take_a_gradient_once(fields: tuple[Tensor, Tensor, Tensor]) -> None:
    _, field, labels = fields
    edge = torch.full((2, 1, 9, 12), 0.4, dtype=torch.float64, requires_grad=True)
    costs = plain_costs(edge, labels, field)[0][:3].sum()
    (expected,) = torch.autograd.grad(costs, edge)
    (found,) = torch.autograd.grad(pair_costs(edge, labels, RADIUS).costs.sum(), edge)
    torch.testing.assert_close(found.sum(), expected.sum())
