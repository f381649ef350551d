"""Xception: timm's features, the images that its weights know, and output strides that agree."""

from __future__ import annotations

import pytest
import torch
from timm.models.xception import Xception as Published
from torch import Tensor, nn

from protoseg.backbones.weights import load_checked
from protoseg.backbones.xception import Xception, remove_stride
from protoseg.data.images import MEAN, STD


@pytest.fixture(scope="module")
def published() -> Published:
    """timm's network, padded as ours, with norms that keep the features at a usual scale."""
    torch.manual_seed(0)
    network = Published().eval()
    network.conv1.padding = network.conv2.padding = (1, 1)
    images = torch.randn(4, 3, 64, 48)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        network(images)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Pixels in [0, 1]."""
    torch.manual_seed(1)
    return torch.rand(1, 3, 75, 49)


def stages_of(published: Published, images: Tensor, output_stride: int) -> tuple[Tensor, ...]:
    with torch.device("meta"):
        backbone = Xception(output_stride, 0, "frozen")
    backbone.to_empty(device="cpu")
    backbone.renormalize = type(backbone.renormalize)()
    load_checked(backbone, published.state_dict(), "timm")
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    with torch.no_grad():
        return backbone.eval()((images - mean) / std)


def test_features_are_those_of_timm(published: Published, images: Tensor) -> None:
    stages = stages_of(published, images, 32)
    with torch.no_grad():
        last, activated = published.forward_intermediates((images - 0.5) / 0.5)
    assert last.std() > 1e-2
    for number, (found, wanted) in enumerate(zip(stages, activated, strict=True)):
        found = found.relu() if 0 < number < 4 else found
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stages[-1], last, atol=1e-4, rtol=1e-4)


def test_output_stride_8_has_every_feature_of_32(published: Published, images: Tensor) -> None:
    dense, coarse = (stages_of(published, images, stride) for stride in (8, 32))
    for step, found, wanted in zip((1, 1, 1, 2, 4), dense, coarse, strict=True):
        torch.testing.assert_close(found[..., ::step, ::step], wanted, atol=1e-4, rtol=1e-4)


def test_output_stride_16_has_no_dilation() -> None:
    with torch.device("meta"):
        backbone = Xception(16, 0, "frozen")
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    exit_flow = backbone.stage_modules()[4]
    assert {m.stride for m in exit_flow.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


@pytest.mark.parametrize("dilation", [1, 2])
def test_pooling_without_stride_is_the_maximum_of_nine(dilation: int) -> None:
    block = Published().block2
    remove_stride(block, dilation)
    features = -torch.rand(1, 2, 5, 6)
    found = block.rep[-1](features)
    for y in range(5):
        for x in range(6):
            rows = [y + dilation * i for i in (-1, 0, 1) if 0 <= y + dilation * i < 5]
            columns = [x + dilation * i for i in (-1, 0, 1) if 0 <= x + dilation * i < 6]
            wanted = features[:, :, rows][..., columns].amax((2, 3))
            torch.testing.assert_close(found[:, :, y, x], wanted)
