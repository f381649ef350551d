"""ImageNet backbones as five named stages: images [B, 3, H, W] -> (stem, layer1 .. layer4).

torchvision's ResNet-18/50/101 and MobileNetV2, in torchvision's key names, so that its weight files
load unchanged. Source of the shapes: SIPE section 4.1 (strides 2, 2, 2, 1 without dilation, output
stride 16) and DeepLabV2 (output stride 8, the last two stages dilated by 2 and 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import mobilenetv2

from protoseg.backbones.weights import load_initial_weights

BatchNormMode = Literal["frozen", "batch"]


class Backbone(nn.Module):
    """Base of all backbones; subclasses name their modules in `stage_modules`.

    Attributes:
        widths: channels of the five stage outputs, stem first.
        strides: their strides with respect to the image.
        frozen_stages: how many leading layers (after the stem, which counts with them) never
            train: 0 trains everything, 2 freezes stem, layer1 and layer2 (the published setup).
        batch_norm: ``frozen`` uses running statistics always (affine parameters still train),
            ``batch`` is torch's usual behaviour, needed when training from random weights.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]

    def __init__(self, frozen_stages: int, batch_norm: BatchNormMode) -> None:
        super().__init__()
        self.frozen_stages = frozen_stages
        self.batch_norm = batch_norm

    def stage_modules(self) -> list[nn.Module]:
        """The five stages in order; their concatenation is the whole network."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Five stage outputs, strides ``self.strides``; frozen stages carry no gradient."""
        features: list[Tensor] = []
        current = images
        for number, stage in enumerate(self.stage_modules()):
            frozen = number <= self.frozen_stages if self.frozen_stages else False
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                current = stage(current)
            features.append(current)
        return tuple(features)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for number, stage in enumerate(self.stage_modules()):
            fixed = self.frozen_stages > 0 and number <= self.frozen_stages
            for module in stage.modules():
                if isinstance(module, nn.BatchNorm2d) and (fixed or self.batch_norm == "frozen"):
                    module.eval()
        return self

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the stages that train."""
        first = self.frozen_stages + 1 if self.frozen_stages else 0
        for stage in self.stage_modules()[first:]:
            yield from stage.parameters()


class ResNet(Backbone):
    """torchvision ResNet; widths 64, 256, 512, 1024, 2048 (ResNet-18: 64, 64, 128, 256, 512)."""

    def __init__(
        self,
        builder: Callable[..., models.ResNet],
        output_stride: int,
        frozen_stages: int,
        batch_norm: BatchNormMode,
    ) -> None:
        super().__init__(frozen_stages, batch_norm)
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
        deep = {8: 8, 16: 16, 32: 16}[output_stride]
        self.strides = (4, 4, 8, deep, {8: 8, 16: 16, 32: 32}[output_stride])

    def stage_modules(self) -> list[nn.Module]:
        stem = nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)
        return [stem, self.layer1, self.layer2, self.layer3, self.layer4]


class MobileNetV2(Backbone):
    """torchvision MobileNetV2; widths 16, 24, 32, 96, 1280 at strides 2, 4, 8, 16, 16."""

    BOUNDS = (0, 2, 4, 7, 14, 19)  # slices of `features`; stride-2 blocks are 0, 2, 4, 7, 14

    def __init__(
        self, output_stride: int, frozen_stages: int, batch_norm: BatchNormMode, width: float = 1.0
    ) -> None:
        super().__init__(frozen_stages, batch_norm)
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
        self.strides = {
            8: (2, 4, 8, 8, 8),
            16: (2, 4, 8, 16, 16),
            32: (2, 4, 8, 16, 32),
        }[output_stride]

    def stage_modules(self) -> list[nn.Module]:
        pairs = zip(self.BOUNDS[:-1], self.BOUNDS[1:], strict=True)
        return [self.features[start:end] for start, end in pairs]


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


@dataclass(frozen=True)
class BackboneSpec:
    """How to build a backbone and where torchvision keeps its ImageNet weights."""

    build: Callable[[int, int, BatchNormMode], Backbone]
    url: str


def _resnet(builder: Callable[..., models.ResNet]) -> Callable[..., Backbone]:
    return lambda stride, frozen, norm: ResNet(builder, stride, frozen, norm)


BACKBONES: dict[str, BackboneSpec] = {
    "resnet18": BackboneSpec(
        _resnet(models.resnet18), models.ResNet18_Weights.IMAGENET1K_V1.value.url
    ),
    "resnet50": BackboneSpec(
        _resnet(models.resnet50), models.ResNet50_Weights.IMAGENET1K_V1.value.url
    ),
    "resnet101": BackboneSpec(
        _resnet(models.resnet101), models.ResNet101_Weights.IMAGENET1K_V1.value.url
    ),
    "mobilenet_v2": BackboneSpec(MobileNetV2, models.MobileNet_V2_Weights.IMAGENET1K_V1.value.url),
}


def build_backbone(
    name: str,
    weights: str,
    *,
    output_stride: int = 16,
    frozen_stages: int = 2,
    batch_norm: BatchNormMode = "frozen",
) -> Backbone:
    """Backbone ``name`` with initial ``weights`` (``random``, ``torchvision`` or a file path).

    Raises:
        KeyError: unknown name. WeightsError: weights that do not fit or cannot be read.
    """
    if name not in BACKBONES:
        raise KeyError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    backbone = spec.build(output_stride, frozen_stages, batch_norm)
    load_initial_weights(backbone, weights, spec.url)
    return backbone
