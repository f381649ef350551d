"""Losses of stage 1 against loops and numbers by hand."""

from __future__ import annotations

import math

import torch

from protoseg.localization.losses import classification_loss, consistency_loss


def test_classification_equals_the_formula() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 5), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    total = 0.0
    for b in range(2):
        for k in range(3):
            score = float(logits[b, k].mean())
            right = 1 / (1 + math.exp(-score if label[b, k] else score))
            total -= math.log(right)
    expected = torch.tensor(total / 6)
    torch.testing.assert_close(classification_loss(logits, label), expected)


def test_consistency_by_hand() -> None:
    cam = torch.tensor([[[[1.0, 0.5]], [[0.0, 0.0]]]])
    maps = torch.tensor([[[[0.2, 0.4]], [[0.0, 0.0]]]])
    # Normalised maps are (0.5, 1): differences 0.5 and 0.5 of four entries.
    torch.testing.assert_close(consistency_loss(cam, maps), torch.tensor(0.25), atol=1e-4, rtol=0)


def test_both_sides_of_the_consistency_learn() -> None:
    torch.manual_seed(0)
    cam, maps = torch.rand(1, 2, 3, 3).requires_grad_(), torch.rand(1, 2, 3, 3).requires_grad_()
    consistency_loss(cam, maps).backward()
    assert cam.grad is not None
    assert maps.grad is not None
    assert (cam.grad != 0).any()
    assert (maps.grad != 0).any()


def test_absent_classes_stay_in_the_denominator() -> None:
    cam, maps = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    zeros = torch.zeros(1, 2, 3, 3)
    with_absent = consistency_loss(torch.cat([cam, zeros], 1), torch.cat([maps, zeros], 1))
    torch.testing.assert_close(with_absent, consistency_loss(cam, maps) / 2)
