"""MobileNetV2: torchvision's features at output stride 32, dilations at 8."""

from __future__ import annotations

import torch
from torch import nn
from torchvision import models

from protoseg.backbones.mobilenet import MobileNetV2


def test_output_stride_32_is_torchvision_unchanged() -> None:
    torch.manual_seed(0)
    reference = models.mobilenet_v2(weights=None, width_mult=0.1).eval()
    backbone = MobileNetV2(32, 0, "batch", width=0.1).eval()
    backbone.features.load_state_dict(reference.features.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images)[-1], reference.features(images))


def test_dilations() -> None:
    found = {}
    for output_stride in (8, 16, 32):
        stages = MobileNetV2(output_stride, 0, "frozen", width=0.1).stage_modules()
        found[output_stride] = [
            {m.dilation[0] for m in stage.modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
            for stage in stages
        ]
    assert found[8] == [{1}, {1}, {1}, {2}, {4}]
    assert found[16] == found[32] == [{1}] * 5
