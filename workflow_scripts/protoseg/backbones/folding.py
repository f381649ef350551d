"""Backbones for evaluation: batch norms folded into the convolutions before them.

In: a trained backbone in evaluation mode. Out: the same features, up to rounding, without a pass
over each layer's output for its norm. It cannot train.
"""

from __future__ import annotations

from torch import nn
from torch.fx.experimental.optimization import fuse

from protoseg.backbones.base import Backbone


class FoldedBackbone(Backbone):
    """Copy of a backbone whose convolutions do what the batch norms right after them did.

    Norms that follow something else, as in pre-activated blocks, stay.

    Raises:
        ValueError: ``backbone`` is in training mode.
    """

    def __init__(self, backbone: Backbone) -> None:
        if backbone.training:
            raise ValueError("batch norms fold in evaluation mode alone; call eval() first")
        super().__init__(backbone.frozen_stages, backbone.batch_norm)
        self.widths, self.strides = backbone.widths, backbone.strides
        self.stages = nn.ModuleList(fuse(stage) for stage in backbone.stage_modules())
        self.eval()

    def stage_modules(self) -> list[nn.Module]:
        return list(self.stages)
