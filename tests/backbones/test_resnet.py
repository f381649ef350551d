"""ResNets: strides and dilations of the convolutions, groups and widths of the variants."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from protoseg.backbones.resnet import ResNet


def test_stride_16_resnet_has_no_dilation() -> None:
    with torch.device("meta"):
        layers = {s: ResNet(models.resnet50, s, 2, "frozen").layer4 for s in (16, 8)}
    for stride, dilation in {16: (1, 1), 8: (4, 4)}.items():
        convolutions = [m for m in layers[stride].modules() if isinstance(m, nn.Conv2d)]
        assert all(m.stride == (1, 1) for m in convolutions)
        assert {m.dilation for m in convolutions if m.kernel_size == (3, 3)} == {dilation}


@pytest.mark.parametrize(
    ("name", "groups", "inside"),
    [
        ("resnet50", 1, 64),
        ("resnext50_32x4d", 32, 128),
        ("resnext101_32x8d", 32, 256),
        ("wide_resnet50_2", 1, 128),
        ("wide_resnet101_2", 1, 128),
    ],
)
def test_variants_differ_inside_the_blocks(name: str, groups: int, inside: int) -> None:
    with torch.device("meta"):
        backbone = ResNet(getattr(models, name), 8, 2, "frozen")
    for number, layer in enumerate([backbone.layer1, backbone.layer2, backbone.layer3]):
        convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
        three = [m for m in convolutions if m.kernel_size == (3, 3)]
        assert {(m.groups, m.out_channels) for m in three} == {(groups, inside * 2**number)}
        dilation = 2 if number == 2 else 1
        assert {m.dilation for m in three} == {(dilation, dilation)}
        assert three[0].stride == ((2, 2) if number == 1 else (1, 1))


def test_output_stride_32_is_torchvision_unchanged() -> None:
    torch.manual_seed(0)
    reference = models.resnet18(weights=None).eval()
    backbone = ResNet(models.resnet18, 32, 0, "batch").eval()
    backbone.load_state_dict(reference.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 48)
    pooled = backbone(images)[-1].mean((2, 3))
    torch.testing.assert_close(reference.fc(pooled), reference(images))
