"""MobileNetV2 as five stages, in torchvision's key names: light enough to train without a GPU.

In: images [B, 3, H, W]. Out: (stem, layer1 .. layer4).
Source: MobileNetV2 (Sandler et al., CVPR 2018), table 2; strides as in `base`.
"""

from __future__ import annotations

from torch import nn
from torchvision import models
from torchvision.models import mobilenetv2

from protoseg.backbones.base import (
    Backbone,
    BatchNormMode,
    deep_strides,
    set_stride_and_dilation,
)


class MobileNetV2(Backbone):
    """torchvision MobileNetV2; widths 16, 24, 32, 96, 1280 at strides 2, 4, 8, 16, 16.

    Args:
        output_stride: 8, 16 or 32 (torchvision's own).
        width: factor on the channel counts.
    """

    BOUNDS = (0, 2, 4, 7, 14, 19)  # slices of `features`; stride-2 blocks are 0, 2, 4, 7, 14

    def __init__(
        self, output_stride: int, frozen_stages: int, batch_norm: BatchNormMode, width: float = 1.0
    ) -> None:
        super().__init__(frozen_stages, batch_norm)
        self.strides = (2, 4, 8, *deep_strides(output_stride))
        self.features = models.mobilenet_v2(weights=None, width_mult=width).features
        if output_stride == 16:
            set_stride_and_dilation(self.features[14:18], stride=1, dilation=1)
        elif output_stride == 8:
            set_stride_and_dilation(self.features[7:14], stride=1, dilation=2)
            set_stride_and_dilation(self.features[14:18], stride=1, dilation=4)
        self.widths = tuple(
            block.out_channels
            if isinstance(block, mobilenetv2.InvertedResidual)
            else next(m for m in block.modules() if isinstance(m, nn.Conv2d)).out_channels
            for block in (self.features[end - 1] for end in self.BOUNDS[1:])
        )

    def stage_modules(self) -> list[nn.Module]:
        pairs = zip(self.BOUNDS[:-1], self.BOUNDS[1:], strict=True)
        return [self.features[start:end] for start, end in pairs]
