"""What all backbones share: images [B, 3, H, W] -> the outputs of five named stages.

In: images normalised with ImageNet's mean and deviation. Out: (stem, layer1 .. layer4).
Source of the strides: SIPE section 4.1 (output stride 16: the last stride is removed, nothing is
dilated) and DeepLabV2 (output stride 8: the last two stages dilated by 2 and 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

BatchNormMode = Literal["frozen", "batch"]
DEEP_STRIDES = {8: (8, 8), 16: (16, 16), 32: (16, 32)}  # output stride -> those of layer3, layer4


class Backbone(nn.Module):
    """Base of all backbones; subclasses name their modules in `STAGES`.

    Attributes:
        STAGES: names of the modules of each of the five stages, in order.
        widths: channels of the five stage outputs, stem first.
        strides: their strides with respect to the image.
        frozen_stages: how many leading layers (after the stem, which counts with them) never
            train: 0 trains everything, 2 freezes stem, layer1 and layer2 (the published setup).
            A frozen stage is in evaluation mode always.
        batch_norm: ``frozen`` uses running statistics always (affine parameters still train),
            ``batch`` is torch's usual behaviour, needed when training from random weights.
    """

    STAGES: ClassVar[tuple[tuple[str, ...], ...]] = ()
    widths: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, frozen_stages: int, batch_norm: BatchNormMode) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages
        self.batch_norm = batch_norm

    def stage_modules(self) -> list[nn.Module]:
        """The five stages in order; their concatenation is the whole network."""
        return [nn.Sequential(*map(self.get_submodule, names)) for names in self.STAGES]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five stage outputs, strides ``self.strides``; frozen stages carry no gradient."""
        features: list[Tensor] = []
        current = images
        for number, stage in enumerate(self.stage_modules()):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen(number)):
                current = stage(current)
            features.append(current)
        return tuple(features)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for number, stage in enumerate(self.stage_modules()):
            if self._is_frozen(number):
                stage.eval()
            for module in stage.modules():
                if isinstance(module, nn.BatchNorm2d) and self.batch_norm == "frozen":
                    module.eval()
        return self

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the stages that train."""
        for number, stage in enumerate(self.stage_modules()):
            if not self._is_frozen(number):
                yield from stage.parameters()

    def _is_frozen(self, number: int) -> bool:
        return 0 < self.frozen_stages >= number


def deep_strides(output_stride: int) -> tuple[int, int]:
    """Strides of layer3 and layer4 at an output stride; ValueError where it is not offered."""
    if output_stride not in DEEP_STRIDES:
        known = ", ".join(map(str, DEEP_STRIDES))
        raise ValueError(f"output_stride {output_stride} is not offered; choose one of {known}")
    return DEEP_STRIDES[output_stride]


def set_stride_and_dilation(stage: nn.Module, stride: int, dilation: int) -> None:
    """Give every strided convolution of ``stage`` this stride, every 3x3 this dilation."""
    for module in stage.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if module.stride == (2, 2):
            module.stride = (stride, stride)
        if module.kernel_size == (3, 3):
            module.dilation = (dilation, dilation)
            module.padding = (dilation, dilation)
