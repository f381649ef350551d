"""Networks for evaluation: the same features, up to rounding, in less time. They cannot train.

Batch norms are folded into the convolutions before them, which saves a pass over each layer's
output; on a processor convolutions of 1x1 go to oneDNN.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from protoseg.backbones.base import Backbone
from protoseg.training.precision import place

Network = TypeVar("Network", bound=nn.Module)


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


def for_evaluation(network: Network, device: torch.device) -> Network:
    """``network`` on ``device`` in evaluation mode, every `Backbone` in it folded; in place."""
    network.eval()
    backbones = [name for name, module in network.named_modules() if isinstance(module, Backbone)]
    for name in backbones:
        network.set_submodule(name, FoldedBackbone(network.get_submodule(name)))  # type: ignore[arg-type]
    if device.type == "cpu":
        _convolve_points_with_onednn(network)
    return place(network, device)


def _convolve_points_with_onednn(network: nn.Module) -> None:
    """Give convolutions of 1x1 a dilation, which changes no result.

    On one thread torch sends them to a plain matrix product, unless they are dilated; oneDNN takes
    about two thirds of its time.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = (2, 2)
