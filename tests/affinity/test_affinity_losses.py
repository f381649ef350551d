"""Loss terms: additivity over ranks, corner cases, closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from protoseg.affinity.losses import EPSILON, PairSums, add_sums, affinity_losses, pair_sums

RADIUS = 4
NAMES = {
    "background",
    "foreground",
    "negative",
    "positive",
    "displacement_foreground",
    "displacement_background",
    "total",
}


def random_batch(images: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Edge logits, labels at four times the grid, displacement."""
    torch.manual_seed(0)
    values = torch.tensor([0, 0, 3, 7, 255])
    labels = values[torch.randint(5, (images, 3, 4))].repeat_interleave(16, 1)
    labels = labels.repeat_interleave(16, 2)  # blocks of 4 x 4 grid cells
    logits = torch.randn(images, 1, 12, 16, dtype=dtype)
    return logits, labels, torch.randn(images, 2, 12, 16, dtype=dtype)


def test_two_ranks_equal_one_batch_with_gradients() -> None:
    logits, labels, field = random_batch(5)
    logits.requires_grad_()
    field.requires_grad_()
    whole = affinity_losses(pair_sums(logits, labels, RADIUS, field))
    parts = [
        pair_sums(logits[part], labels[part], RADIUS, field[part])
        for part in (slice(0, 2), slice(2, 5))
    ]
    everywhere = parts[0].counts + parts[1].counts
    shares = [affinity_losses(part, lambda counts: everywhere) for part in parts]
    for name in NAMES:
        torch.testing.assert_close(shares[0][name] + shares[1][name], whole[name])
    expected = torch.autograd.grad(whole["total"], [logits, field], retain_graph=True)
    found = torch.autograd.grad(shares[0]["total"] + shares[1]["total"], [logits, field])
    torch.testing.assert_close(found, expected)


def test_ranks_that_divide_alone_do_not_give_the_loss_of_the_batch() -> None:
    logits, labels, field = random_batch(5)
    whole = affinity_losses(pair_sums(logits, labels, RADIUS, field))["total"]
    alone = [
        affinity_losses(pair_sums(logits[part], labels[part], RADIUS, field[part]))["total"]
        for part in (slice(0, 2), slice(2, 5))
    ]
    assert abs((alone[0] + alone[1]) / 2 - whole) > 1e-3


def test_parts_of_a_batch_add_up() -> None:
    logits, labels, _ = random_batch(4)
    halves = [pair_sums(logits[part], labels[part], RADIUS) for part in (slice(0, 2), slice(2, 4))]
    together, whole = add_sums(*halves), pair_sums(logits, labels, RADIUS)
    torch.testing.assert_close(together.costs, whole.costs)
    assert torch.equal(together.counts, whole.counts)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_uniform_labels_and_saturated_edges_stay_finite(value: int, logit: float) -> None:
    edge = torch.full((2, 1, 12, 16), logit, requires_grad=True)
    field = torch.zeros(2, 2, 12, 16, requires_grad=True)
    labels = torch.full((2, 48, 64), value)
    losses = affinity_losses(pair_sums(edge, labels, RADIUS, field))
    gradients = torch.autograd.grad(losses["total"], [edge, field])
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    if value == 255:
        assert all(loss == 0 for loss in losses.values())


def test_zero_logits_give_log_two() -> None:
    _, labels, _ = random_batch(2)
    sums = pair_sums(torch.zeros(2, 1, 12, 16, dtype=torch.float64), labels, RADIUS)
    losses = affinity_losses(sums)
    for name, count in zip(("background", "foreground", "negative"), sums.counts, strict=True):
        expected = -math.log(0.5 + EPSILON) * int(count) / (int(count) + EPSILON)
        assert losses[name].item() == pytest.approx(expected, rel=1e-12)


def test_without_displacement_only_the_affinity_terms_remain() -> None:
    logits, labels, field = random_batch(2)
    full = affinity_losses(pair_sums(logits, labels, RADIUS, field))
    reduced = affinity_losses(pair_sums(logits, labels, RADIUS))
    assert set(full) == NAMES
    assert set(reduced) == {name for name in NAMES if "displacement" not in name}
    torch.testing.assert_close(reduced["total"], (full["positive"] + full["negative"]) / 2)
    half = (full["displacement_foreground"] + full["displacement_background"]) / 2
    torch.testing.assert_close(full["total"], reduced["total"] + half)


def test_bfloat16_logits_give_float32_losses() -> None:
    logits, labels, field = random_batch(2, torch.bfloat16)
    low: PairSums = pair_sums(logits, labels, RADIUS, field)
    high = pair_sums(logits.float(), labels, RADIUS, field.float())
    assert low.costs.dtype == torch.float32
    assert torch.equal(low.costs, high.costs)
