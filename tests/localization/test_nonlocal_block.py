"""The non-local block: its sums pixel by pixel, and evaluation that sees one image alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from protoseg.localization.nonlocal_block import NonLocalBlock

SIMILARITIES = ["gaussian", "dot_product"]


def block_of(similarity: str, scale: float = 1.0) -> NonLocalBlock:
    torch.manual_seed(0)
    block = NonLocalBlock(6, similarity)
    nn.init.constant_(block.norm.weight, scale)
    block.norm.running_mean = torch.randn(6)
    block.norm.running_var = torch.rand(6) + 0.5
    return block


def feature_of(batch: int = 2) -> Tensor:
    return torch.randn(batch, 6, 3, 4, generator=torch.Generator().manual_seed(1))


def at(convolution: nn.Conv2d, pixel: Tensor) -> Tensor:
    assert convolution.bias is not None
    return convolution.weight[:, :, 0, 0] @ pixel + convolution.bias


def slow_block(block: NonLocalBlock, feature: Tensor) -> Tensor:
    """One image [C, h, w] in evaluation mode."""
    pixels = feature.flatten(1).unbind(1)
    columns = []
    for pixel in pixels:
        scores = [float(at(block.theta, pixel) @ at(block.phi, other)) for other in pixels]
        if block.similarity == "gaussian":
            total = sum(math.exp(score) for score in scores)
            weights = [math.exp(score) / total for score in scores]
        else:
            weights = [score / len(pixels) for score in scores]
        values = [at(block.g, other) for other in pixels]
        mean = torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum(0)
        norm = block.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        centred = (at(block.out, mean) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        columns.append(pixel + norm.weight * centred + norm.bias)
    return torch.stack(columns, 1).view_as(feature)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_equals_the_loops(similarity: str) -> None:
    block, feature = block_of(similarity).eval(), feature_of()
    with torch.no_grad():
        expected = torch.stack([slow_block(block, image) for image in feature])
        torch.testing.assert_close(block(feature), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_evaluation_sees_one_image_alone(similarity: str) -> None:
    block, feature = block_of(similarity).eval(), feature_of(3)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    whole = block(feature)
    for i in range(3):
        single = block(feature[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], single, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(block.state_dict()[name], value) for name, value in before.items())


def test_training_moves_the_running_statistics() -> None:
    block = block_of("gaussian").train()
    assert block.norm.running_mean is not None
    before = block.norm.running_mean.clone()
    block(feature_of())
    assert not torch.equal(block.norm.running_mean, before)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_new_block_changes_nothing_and_learns(similarity: str) -> None:
    torch.manual_seed(0)
    block, feature = NonLocalBlock(6, similarity), feature_of()
    assert torch.equal(block(feature), feature)
    assert torch.equal(block.eval()(feature), feature)
    block(feature).square().sum().backward()
    assert block.norm.weight.grad is not None
    assert (block.norm.weight.grad != 0).any()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pixels_may_be_shuffled(similarity: str) -> None:
    block, feature = block_of(similarity).eval(), feature_of()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    shuffled = feature.flatten(2)[:, :, order].view_as(feature)
    expected = block(feature).flatten(2)[:, :, order].view_as(feature)
    torch.testing.assert_close(block(shuffled), expected, atol=1e-5, rtol=1e-4)


def test_one_channel_and_unknown_similarity() -> None:
    block = NonLocalBlock(1, "gaussian").eval()
    assert block(torch.rand(1, 1, 2, 3)).shape == (1, 1, 2, 3)
    with pytest.raises(ValueError, match="unknown similarity 'cosine'"):
        NonLocalBlock(4, "cosine")
