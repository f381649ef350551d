"""Xception as five stages, in the key names of timm's ``legacy_xception``, whose file loads.

In: images [B, 3, H, W]. Out: (stem, layer1 .. layer4); layer1 to layer3 before the ReLU that opens
the next block. Source: Xception (Chollet, CVPR 2017), figure 5; output stride 8 as in DeepLabV3+:
where a stride was removed, the windows after it are dilated by 2 more.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protoseg.backbones.base import (
    Backbone,
    BatchNormMode,
    deep_strides,
    set_stride_and_dilation,
)
from protoseg.data.images import MEAN, STD

OWN_MEAN, OWN_STD = 0.5, 0.5  # the normalisation that the ImageNet weights were trained with


class Renormalize(nn.Module):
    """From ImageNet's mean and deviation to 0.5 and 0.5: [B, 3, H, W] -> [B, 3, H, W]."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
        self.register_buffer("scale", std / OWN_STD, persistent=False)
        self.register_buffer("shift", (mean - OWN_MEAN) / OWN_STD, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


class Xception(Backbone):
    """timm's Xception; widths 64, 128, 256, 728, 2048 at strides 2, 4, 8, 16, 16.

    The first two convolutions are padded by 1 (published: not at all), so that grids have the sizes
    and positions that they have in other backbones. Images come normalised as for those; the stem
    changes that to what the weights know.

    Args:
        output_stride: 8 (dilated), 16 (the last stride removed) or 32 (published).
    """

    STAGES = (
        ("renormalize", "conv1", "bn1", "act1", "conv2", "bn2", "act2"),
        ("block1",),
        ("block2",),
        tuple(f"block{i}" for i in range(3, 12)),
        ("block12", "conv3", "bn3", "act3", "conv4", "bn4", "act4"),
    )

    def __init__(self, output_stride: int, frozen_stages: int, batch_norm: BatchNormMode) -> None:
        from timm.models.xception import Xception as Published  # others run without timm

        super().__init__(frozen_stages, batch_norm)
        self.strides = (2, 4, 8, *deep_strides(output_stride))
        self.widths = (64, 128, 256, 728, 2048)
        self.renormalize = Renormalize()
        network = Published()
        network.conv1.padding = network.conv2.padding = (1, 1)
        for name, module in network.named_children():
            if name not in ("global_pool", "fc"):
                self.add_module(name, module)
        if output_stride == 16:
            remove_stride(self.get_submodule("block12"), dilation=1)
        elif output_stride == 8:
            remove_stride(self.get_submodule("block3"), dilation=1)
            for number in range(4, 12):
                set_stride_and_dilation(self.get_submodule(f"block{number}"), 1, dilation=2)
            remove_stride(self.get_submodule("block12"), dilation=2)
            for name in ("conv3", "conv4"):
                set_stride_and_dilation(self.get_submodule(name), 1, dilation=4)


def remove_stride(block: nn.Module, dilation: int) -> None:
    """Keep the grid in a block that halves it; its windows reach ``dilation`` cells apart.

    The block ends in a 3x3 maximum, whose own padding cannot exceed 1: cells outside are -inf.
    """
    set_stride_and_dilation(block, 1, dilation)
    pooling = nn.MaxPool2d(3, stride=1, dilation=dilation)
    outside = nn.ConstantPad2d(dilation, float("-inf"))
    block.get_submodule("rep")[-1] = nn.Sequential(outside, pooling)  # type: ignore[operator]
