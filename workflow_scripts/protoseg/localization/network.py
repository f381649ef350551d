"""The network of stage 1: backbone, 1x1 classifier, and side branches for prototypes.

In: images [B, 3, H, W]. Out: `Features`. The network knows no loss and no label.
Source: SIPE section 4.1; widths of the side branches from the published code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from protoseg.backbones import Backbone
from protoseg.localization.seeds import unit_features


class Features(NamedTuple):
    """What one forward pass gives, in float32.

    logits: [B, K, h, w] classifier output before ReLU.
    semantic: [B, C, h, w] output of layer4.
    hierarchical: [B, C_h, h3, w3] side features at layer3's grid, or None without side branches.
    """

    logits: Tensor
    semantic: Tensor
    hierarchical: Tensor | None

    def by_name(self, name: str) -> Tensor:
        """``semantic`` or ``hierarchical``."""
        feature = self.semantic if name == "semantic" else self.hierarchical
        if feature is None:
            raise ValueError(f"this network has no {name} feature; it was trained without it")
        return feature


class LocalizationNetwork(nn.Module):
    """Backbone + classifier (1x1, no bias) + optional side branches (1x1, no bias, norm or ReLU).

    Side branches read detached stage outputs: they learn from the consistency loss alone and send
    nothing to the backbone.

    Args:
        side_widths: output channels of the branches on layer1 .. layer4; empty for none.
    """

    def __init__(self, backbone: Backbone, num_classes: int, side_widths: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Conv2d(backbone.widths[-1], num_classes, 1, bias=False)
        self.side = nn.ModuleList(
            nn.Conv2d(source, width, 1, bias=False)
            for source, width in zip(backbone.widths[1:], side_widths, strict=False)
        )

    def forward(self, images: Tensor) -> Features:
        return self.heads(self.backbone(images))

    def heads(self, stages: tuple[Tensor, ...]) -> Features:
        """Classifier and side branches on the backbone's five stage outputs."""
        logits = self.classifier(stages[-1])
        hierarchical = self.hierarchical_feature(stages[1:]) if self.side else None
        return Features(logits.float(), stages[-1].float(), hierarchical)

    def hierarchical_feature(self, layers: tuple[Tensor, ...]) -> Tensor:
        """Concatenated unit side features at layer3's grid, [B, sum(side_widths), h3, w3].

        Each side output is divided by (its norm + 1e-5) before the bilinear resize.
        """
        grid = layers[2].shape[-2:]
        sides = []
        for layer, branch in zip(layers, self.side, strict=True):
            side = unit_features(branch(layer.detach()).float())
            if side.shape[-2:] != grid:
                side = functional.interpolate(side, grid, mode="bilinear")
            sides.append(side)
        return torch.cat(sides, dim=1)
