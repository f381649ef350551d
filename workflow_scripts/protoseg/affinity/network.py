"""The affinity network: five backbone stages -> edge logits and a displacement field.

In: stage outputs of a frozen backbone (the caller runs it without gradient), any five widths.
Out: `AffinityFields` on the grid of stage 2, stride 4.
Source: IRN (Ahn et al., CVPR 2019), figure 3; layer sizes as in the published code, which are those
of a ResNet-50 whose last stage keeps stride 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

GRID_STRIDE = 4  # of stage 2, whose grid the outputs have
DEEP_STRIDE = 8  # of stage 3, on whose grid the displacement branch fuses stages 3 to 5
EDGE_WIDTH = 32
DISPLACEMENT_WIDTHS = (64, 128, 256, 256, 256)


class AffinityFields(NamedTuple):
    """Outputs of the network.

    Attributes:
        edge_logits: [B, 1, h, w], before the sigmoid.
        displacement: [B, 2, h, w], (dy, dx) in grid cells towards the object's centre, or None.
    """

    edge_logits: Tensor
    displacement: Tensor | None


class Projection(nn.Module):
    """1x1 convolution without bias -> group norm -> resampling from stride to stride -> ReLU."""

    def __init__(
        self, width: int, out_width: int, groups: int, stride: int, out_stride: int
    ) -> None:
        super().__init__()
        if max(stride, out_stride) % min(stride, out_stride):
            raise ValueError(f"cannot bring stride {stride} to stride {out_stride}: not a multiple")
        self.conv = nn.Conv2d(width, out_width, 1, bias=False)
        self.norm = nn.GroupNorm(groups, out_width)
        self.stride, self.out_stride = stride, out_stride

    def forward(self, features: Tensor) -> Tensor:
        projected = self.norm(self.conv(features))
        if self.stride > self.out_stride:
            factor = self.stride // self.out_stride
            projected = functional.interpolate(
                projected, scale_factor=float(factor), mode="bilinear", align_corners=False
            )
        elif self.stride < self.out_stride:
            # half-pixel bilinear by 1/2 is the mean of 2x2; this also keeps an odd last row
            projected = functional.avg_pool2d(
                projected, self.out_stride // self.stride, ceil_mode=True
            )
        return functional.relu(projected)


class EdgeBranch(nn.Module):
    """Every stage to 32 channels at stride 4, concatenated, to one logit."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Projection(width, EDGE_WIDTH, 4, stride, GRID_STRIDE)
            for width, stride in zip(widths, strides, strict=True)
        )
        self.out = nn.Conv2d(EDGE_WIDTH * len(widths), 1, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Five stage outputs -> edge logits [B, 1, h, w]."""
        grid = stages[1].shape[-2:]
        projected = [
            _cut(projection(stage), grid)
            for projection, stage in zip(self.stages, stages, strict=True)
        ]
        return _precise(self.out, torch.cat(projected, dim=1))


class DisplacementBranch(nn.Module):
    """Stages 3 to 5 fused at stride 8, then with stages 1 and 2 at stride 4, to (dy, dx)."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        targets = (GRID_STRIDE, GRID_STRIDE, DEEP_STRIDE, DEEP_STRIDE, DEEP_STRIDE)
        outs = DISPLACEMENT_WIDTHS
        self.stages = nn.ModuleList(
            Projection(width, out, min(out // 8, 16), stride, target)
            for width, out, stride, target in zip(widths, outs, strides, targets, strict=True)
        )
        self.fuse_deep = Projection(sum(outs[2:]), outs[-1], 16, DEEP_STRIDE, GRID_STRIDE)
        fused = outs[0] + outs[1] + outs[-1]
        self.fuse_all = Projection(fused, outs[-1], 16, GRID_STRIDE, GRID_STRIDE)
        self.out = nn.Conv2d(outs[-1], 2, 1, bias=False)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Five stage outputs -> displacement field [B, 2, h, w], mean not subtracted."""
        grid, deep_grid = stages[1].shape[-2:], stages[2].shape[-2:]
        projected = [
            _cut(projection(stage), grid if number < 2 else deep_grid)
            for number, (projection, stage) in enumerate(zip(self.stages, stages, strict=True))
        ]
        deep = _cut(self.fuse_deep(torch.cat(projected[2:], dim=1)), grid)
        fused = self.fuse_all(torch.cat([*projected[:2], deep], dim=1))
        return _precise(self.out, fused)


class AffinityNetwork(nn.Module):
    """Edge branch and, if asked for, displacement branch over five stages of a backbone.

    Args:
        widths: channels of the five stages (ResNet-50: 64, 256, 512, 1024, 2048).
        strides: their strides (ResNet-50: 4, 4, 8, 16, 16); those of stages 2 and 3 are 4 and 8.
            A stage at another stride is resampled, so a stage 1 at stride 2 is reduced.
        displacement: whether to have the displacement branch; it does not reach semantic labels.

    The branches are the attributes ``edge`` and ``displacement`` (None without), each with its own
    learning rate in training. The buffer ``displacement_mean`` [2] holds the mean field over the
    training set, to be filled in after training; it is subtracted in evaluation mode only.
    """

    displacement_mean: Tensor

    def __init__(self, widths: Sequence[int], strides: Sequence[int], displacement: bool) -> None:
        super().__init__()
        if len(widths) != 5 or len(strides) != 5 or tuple(strides[1:3]) != (4, 8):
            raise ValueError(
                "the affinity network takes five stages, the second at stride 4 and the third at "
                f"stride 8; got widths {tuple(widths)} at strides {tuple(strides)}"
            )
        self.edge = EdgeBranch(widths, strides)
        self.displacement = DisplacementBranch(widths, strides) if displacement else None
        self.register_buffer("displacement_mean", torch.zeros(2))

    def forward(self, stages: Sequence[Tensor]) -> AffinityFields:
        """Stage outputs [B, widths[i], H / strides[i], W / strides[i]] -> fields at stride 4."""
        edge_logits = self.edge(stages)
        if self.displacement is None:
            return AffinityFields(edge_logits, None)
        field = self.displacement(stages)
        if not self.training:
            field = field - self.displacement_mean[:, None, None]
        return AffinityFields(edge_logits, field)


def _cut(field: Tensor, grid: Sequence[int]) -> Tensor:
    """Cut rows and columns that upsampling an odd grid left over."""
    return field[..., : grid[0], : grid[1]]


def _precise(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """Output layers leave autocast: in bfloat16 edge logits would tie along the paths."""
    with torch.autocast(features.device.type, enabled=False):
        return convolution(features.to(convolution.weight.dtype))
