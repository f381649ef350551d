"""Losses against loops written out, and their behaviour on empty sets."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protoseg.segmentation.losses import LOSSES, multi_scale_loss, resize_label

CLASSES = 4


def example(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits [3, 4, 5, 6] and labels; the second image has no background, the third only that."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, CLASSES, 5, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(CLASSES, (3, 5, 6), generator=generator, dtype=torch.uint8)
    label[1] = label[1].clamp(min=1)
    label[2] = 0
    label[:, 0] = 255
    return logits, label


def textbook(name: str, logits: Tensor, label: Tensor) -> float:
    """The three losses as sums over pixels."""
    groups: list[dict[str, list[float]]] = []
    for image, truth in zip(logits, label, strict=True):
        groups.append({"background": [], "foreground": []})
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if (target := int(truth[y, x])) == 255:
                    continue
                p = [math.exp(v) for v in image[:, y, x].tolist()]
                p = [v / sum(p) for v in p]
                if name == "dsrg":
                    p = [(v + 1e-4) / (1 + 1e-4 * len(p)) for v in p]
                groups[-1]["foreground" if target else "background"].append(-math.log(p[target]))
    background = [value for group in groups for value in group["background"]]
    foreground = [value for group in groups for value in group["foreground"]]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    if name == "cross_entropy":
        return mean(background + foreground)
    if name == "balanced":
        return (mean(background) + mean(foreground)) / 2
    return sum(mean(g["background"]) + mean(g["foreground"]) for g in groups) / len(groups)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_textbook(name: str, seed: int) -> None:
    logits, label = example(seed)
    before = label.clone()
    found = LOSSES[name](logits, label)
    assert found.item() == pytest.approx(textbook(name, logits, label), rel=1e-9)
    assert torch.equal(LOSSES[name](logits, label.long()), found)
    assert torch.equal(label, before)


@pytest.mark.parametrize("name", LOSSES)
def test_all_ignored_is_zero_with_zero_gradient(name: str) -> None:
    logits, label = example()
    logits.requires_grad_()
    loss = LOSSES[name](logits, torch.full_like(label, 255))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_and_half_precision_logits(name: str) -> None:
    logits, label = example()
    assert torch.isfinite(LOSSES[name]((logits * 1e4).float(), label))
    half = logits.to(torch.bfloat16)
    assert LOSSES[name](half, label).dtype == torch.float32
    assert torch.equal(LOSSES[name](half, label), LOSSES[name](half.float(), label))


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_get_no_gradient(name: str) -> None:
    logits, label = example()
    logits.requires_grad_()
    LOSSES[name](logits, label).backward()
    assert logits.grad is not None
    ignored = (label == 255)[:, None].expand_as(logits)
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].any()


def test_multi_scale_is_the_sum_of_its_terms() -> None:
    logits, label = example()
    scales = {"full": logits, "half": logits[:, :, :2, :3], "max": logits + 1}
    for loss in LOSSES.values():
        terms = multi_scale_loss(scales, label, loss)
        assert list(terms) == ["full", "half", "max", "total"]
        half = loss(scales["half"], resize_label(label, (2, 3)))
        assert torch.equal(terms["half"], half)
        total = terms["full"] + terms["half"] + terms["max"]
        torch.testing.assert_close(terms["total"], total)


@given(st.integers(1, 700), st.integers(1, 200))
def test_resized_index_is_exact(length: int, n: int) -> None:
    ramp = torch.arange(length)[None, :, None]
    found = resize_label(ramp, (n, 1))[0, :, 0].tolist()
    assert found == [math.floor((i + Fraction(1, 2)) * length / n) for i in range(n)]


def test_resized_label_keeps_dtype_and_values() -> None:
    _, label = example()
    same = resize_label(label, (5, 6))
    assert torch.equal(same, label)
    assert resize_label(label, (11, 3)).shape == (3, 11, 3)
    assert resize_label(label, (11, 3)).dtype == torch.uint8
