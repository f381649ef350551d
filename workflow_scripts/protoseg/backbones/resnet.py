"""ResNets as five stages: ResNet, ResNeXt and Wide-ResNet in torchvision's key names.

In: images [B, 3, H, W]. Out: (stem, layer1 .. layer4). torchvision's weight files load unchanged.
Source: SIPE section 4.1 and DeepLabV2, see `base`; the variants are those of RPNet's table III.
"""

from __future__ import annotations

from collections.abc import Callable

from torchvision import models

from protoseg.backbones.base import (
    Backbone,
    BatchNormMode,
    deep_strides,
    set_stride_and_dilation,
)


class ResNet(Backbone):
    """torchvision ResNet of any kind.

    Widths 64, 256, 512, 1024, 2048 with bottlenecks (wide ones too, which are wide inside), 64, 64,
    128, 256, 512 without; strides 4, 4, 8, 16, 16.

    Args:
        builder: torchvision's function, such as ``models.resnext50_32x4d``.
        output_stride: 8, 16 or 32 (torchvision's own).
    """

    STAGES = (
        ("conv1", "bn1", "relu", "maxpool"),
        ("layer1",),
        ("layer2",),
        ("layer3",),
        ("layer4",),
    )

    def __init__(
        self,
        builder: Callable[..., models.ResNet],
        output_stride: int,
        frozen_stages: int,
        batch_norm: BatchNormMode,
    ) -> None:
        super().__init__(frozen_stages, batch_norm)
        self.strides = (4, 4, 8, *deep_strides(output_stride))
        network = builder(weights=None)
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        if output_stride == 16:
            set_stride_and_dilation(self.layer4, stride=1, dilation=1)
        elif output_stride == 8:
            # DeepLabV2: Caffe's pooling rounds up, 375x500 -> 48x63
            self.maxpool.ceil_mode = True
            set_stride_and_dilation(self.layer3, stride=1, dilation=2)
            set_stride_and_dilation(self.layer4, stride=1, dilation=4)
        width = network.fc.in_features
        self.widths = (64, width // 8, width // 4, width // 2, width)
