"""The network of stage 1: backbone, 1x1 classifier, and the branches that prototypes read.

In: images [B, 3, H, W]. Out: `Features`. The network knows no loss and no label.
Sources: SIPE section 4.1, widths of the side branches from the published code; RPNet and RPC for
the branches over pairs, the attention and the networks of further regions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from protoseg.backbones import Backbone
from protoseg.localization.attention import Attention, resize
from protoseg.localization.cross_image import PairBranch, PairFeatures
from protoseg.localization.seeds import unit_features


class Features(NamedTuple):
    """What one forward pass gives, in float32.

    logits: [B, K, h, w] classifier output before ReLU.
    semantic: [B, C, h, w] output of layer4.
    hierarchical: [B, C_h, h3, w3] side features at layer3's grid, or None without side branches.
    pair: features of RPNet's prototypes, or None without its branch.
    further: features of the further regions, in order (RPC).
    """

    logits: Tensor
    semantic: Tensor
    hierarchical: Tensor | None
    pair: PairFeatures | None = None
    further: tuple[Features, ...] = ()

    def by_name(self, name: str) -> Tensor:
        """``semantic`` or ``hierarchical``."""
        feature = self.semantic if name == "semantic" else self.hierarchical
        if feature is None:
            raise ValueError(f"this network has no {name} feature; it was trained without it")
        return feature

    @property
    def regions(self) -> tuple[Features, ...]:
        """Features of every region, this one first."""
        return (self, *self.further)


class LocalizationNetwork(nn.Module):
    """Backbone + classifier (1x1, no bias) + optional branches.

    Side branches (1x1, no bias, norm or ReLU) read detached stage outputs: they and the attention
    learn from the consistency loss alone and send nothing to the backbone. The branch over pairs
    stands before the classifier and sends its gradient on.

    Args:
        side_widths: output channels of the branches on layer1 .. layer4; empty for none.
        attention: weighs side features, or the features of pairs.
        pairs: RPNet's branch; its last block is what the classifier reads.

    Attributes:
        further: the networks of further regions, see `regions.region_features`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        side_widths: tuple[int, ...],
        attention: Attention | None = None,
        pairs: PairBranch | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        width = pairs.width if pairs else backbone.widths[-1]
        self.classifier = nn.Conv2d(width, num_classes, 1, bias=False)
        self.side = nn.ModuleList(
            nn.Conv2d(source, width, 1, bias=False)
            for source, width in zip(backbone.widths[1:], side_widths, strict=False)
        )
        self.attention = attention or Attention()
        self.pairs = pairs
        self.further = nn.ModuleList()

    def forward(self, images: Tensor) -> Features:
        return self.heads(self.backbone(images))

    def heads(self, stages: tuple[Tensor, ...]) -> Features:
        """Classifier and branches on the backbone's five stage outputs; of the first region."""
        layers = stages[1:]
        pair = self.pairs(layers, self.attention) if self.pairs else None
        logits = self.classify(pair.last if pair else layers[-1])
        hierarchical = self.hierarchical_feature(layers) if self.side else None
        return Features(logits.float(), layers[-1].float(), hierarchical, pair)

    def classify(self, feature: Tensor) -> Tensor:
        """Logits [B, K, h, w] of the last block [B, C, h, w], or of RPNet's enhanced one."""
        logits: Tensor = self.classifier(self.pairs.mixed(feature) if self.pairs else feature)
        return logits

    def hierarchical_feature(self, layers: tuple[Tensor, ...]) -> Tensor:
        """Concatenated unit side features at layer3's grid, [B, sum(side_widths), h3, w3].

        Each side output is divided by (its norm + 1e-5) before the bilinear resize, and weighed by
        the attention after it.
        """
        grid = layers[2].shape[-2:]
        refined = self.attention.refine(layers, grid)
        sides = [
            resize(unit_features(branch(layer).float()), grid)
            for layer, branch in zip(refined, self.side, strict=True)
        ]
        return torch.cat(self.attention(layers, sides), dim=1)
