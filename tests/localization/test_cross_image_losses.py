"""RPNet's losses against loops and numbers by hand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cross_image_losses import (
    cross_image_losses,
    enhancement_loss,
    mean_over_scales,
    present_maps,
)
from protoseg.localization.losses import classification_loss

LABEL = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])


def case(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, *size, generator=generator) for size in sizes]


def slow_maps(logits: Tensor, label: Tensor) -> Tensor:
    maps = torch.zeros_like(logits)
    for b in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            top = max(0.0, float(logits[b, k].max()))
            for y in range(logits.shape[2]):
                for x in range(logits.shape[3]):
                    value = max(0.0, float(logits[b, k, y, x]))
                    maps[b, k, y, x] = max(0.0, value - 1e-5) / (top + 1e-5) * label[b, k]
    return maps


def test_maps_equal_the_loops() -> None:
    (logits,) = case((3, 4))
    logits[2, 0] = -1
    found = present_maps(logits, LABEL)
    torch.testing.assert_close(found, slow_maps(logits, LABEL))
    assert (found[LABEL == 0] == 0).all()
    assert (found[2, 0] == 0).all()
    assert found.max() < 1


def test_scores_below_the_floor_are_nothing() -> None:
    logits = torch.tensor([[[[1.0, 1e-5, 5e-6, -2.0]]]])
    found = present_maps(logits, torch.ones(1, 1)).flatten()
    torch.testing.assert_close(found[0], torch.tensor(1.0), atol=1e-4, rtol=0)
    assert (found[1:] == 0).all()


def test_loss_equals_the_loops() -> None:
    logits, enhanced = case((3, 4), (3, 4))
    total = 0.0
    pairs = zip(
        slow_maps(logits, LABEL).flatten(), slow_maps(enhanced, LABEL).flatten(), strict=True
    )
    for one, other in pairs:
        total += float(one - other) ** 2
    expected = torch.tensor(total / logits.numel())
    torch.testing.assert_close(enhancement_loss(logits, enhanced, LABEL), expected)


def test_equal_maps_and_absent_classes_cost_nothing() -> None:
    logits, enhanced = case((3, 4), (3, 4))
    assert enhancement_loss(logits, logits, LABEL) == 0
    assert enhancement_loss(logits, enhanced, torch.zeros(4, 3)) == 0
    torch.testing.assert_close(
        enhancement_loss(logits, 100 * logits, LABEL), torch.tensor(0.0), atol=1e-6, rtol=0
    )


def test_both_sides_learn() -> None:
    logits, enhanced = (tensor.requires_grad_() for tensor in case((3, 4), (3, 4)))
    enhancement_loss(logits, enhanced, LABEL).backward()
    for tensor in (logits, enhanced):
        assert tensor.grad is not None
        assert (tensor.grad[LABEL == 1] != 0).any()
        assert (tensor.grad[LABEL == 0] == 0).all()


def test_mean_over_scales_by_hand() -> None:
    whole = torch.tensor([[[[2.0, -4.0], [1.0, 3.0]]]])
    single = torch.tensor([[[[6.0]]]])
    expected = torch.tensor([[[[4.0, 3.0], [3.5, 4.5]]]])
    assert torch.equal(mean_over_scales([whole, single]), expected)
    assert torch.equal(mean_over_scales([whole]), torch.relu(whole))


def test_scales_are_resized_before_the_relu() -> None:
    scales = case((4, 4), (2, 2), (6, 6), (8, 8))
    expected = torch.zeros_like(scales[0])
    for logits in scales:
        expected += torch.relu(functional.interpolate(logits, (4, 4), mode="bilinear")) / 4
    torch.testing.assert_close(mean_over_scales(scales), expected)


def test_only_the_first_scale_learns() -> None:
    scales = [tensor.requires_grad_() for tensor in case((4, 4), (2, 2), (8, 8))]
    mean_over_scales(scales).sum().backward()
    assert scales[0].grad is not None
    torch.testing.assert_close(scales[0].grad, (scales[0] > 0) / 3)
    assert scales[1].grad is None
    assert scales[2].grad is None


def test_losses_of_a_batch_of_pairs() -> None:
    logits, enhanced = case((3, 4), (3, 4))
    losses = cross_image_losses(logits, [enhanced], LABEL, 10.0)
    assert set(losses) == {"classification", "enhancement"}
    rows = [classification_loss(logits[b : b + 1], LABEL[b : b + 1]) for b in range(4)]
    pairs = [rows[0] + rows[1], rows[2] + rows[3]]
    torch.testing.assert_close(losses["classification"], (pairs[0] + pairs[1]) / 2)
    expected = 2 * 10 * enhancement_loss(logits, torch.relu(enhanced), LABEL)
    torch.testing.assert_close(losses["enhancement"], expected)


def test_losses_are_means_over_pairs_in_any_order() -> None:
    logits, enhanced = case((3, 4), (3, 4))
    whole = cross_image_losses(logits, [enhanced], LABEL, 10.0)
    for order in ([1, 0, 2, 3], [2, 3, 0, 1]):
        moved = cross_image_losses(logits[order], [enhanced[order]], LABEL[order], 10.0)
        for name, value in whole.items():
            torch.testing.assert_close(moved[name], value)
    singles = [
        cross_image_losses(logits[rows], [enhanced[rows]], LABEL[rows], 10.0)
        for rows in (slice(0, 2), slice(2, 4))
    ]
    for name, value in whole.items():
        torch.testing.assert_close((singles[0][name] + singles[1][name]) / 2, value)


def test_the_enhanced_maps_are_not_classified() -> None:
    logits, enhanced = (tensor.requires_grad_() for tensor in case((3, 4), (3, 4)))
    cross_image_losses(logits, [enhanced], LABEL, 10.0)["classification"].backward()
    assert logits.grad is not None
    assert enhanced.grad is None
