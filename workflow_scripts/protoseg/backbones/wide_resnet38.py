"""WideResNet-38 (model A1) as five stages, in the key names of its PyTorch conversions.

In: images [B, 3, H, W]. Out: (stem, layer1 .. layer4). Layers: 3x3 convolution of 64 channels, then
residual blocks on levels 2 to 7, see `LEVELS`. Files with the names of PSA and SEAM load, such as
``ilsvrc-cls_rna-a1_cls1000_ep-0001.pth``.
Source: Wu et al., "Wider or Deeper" (2016), model A1, dilated as in its published code; dropout as
in PSA and SEAM. Blocks are pre-activated (He et al., 2016): norm and ReLU come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from protoseg.backbones.base import Backbone, BatchNormMode, deep_strides

STEM_WIDTH = 64
LEVELS = {  # level -> number of blocks, channels of the convolutions of each
    2: (3, (128, 128)),
    3: (3, (256, 256)),
    4: (6, (512, 512)),
    5: (3, (512, 1024)),
    6: (1, (512, 1024, 2048)),
    7: (1, (1024, 2048, 4096)),
}
HALVING_LEVELS = (2, 3, 4, 5, 6)  # their first block halves the grid or, once it is small, dilates
KERNELS = {2: (3, 3), 3: (1, 3, 1)}  # number of convolutions -> their windows
BRANCHES = ("branch2a", "branch2b1", "branch2b2")
DROPOUT = {6: 0.3, 7: 0.5}


class PreActivationBlock(nn.Module):
    """Residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1, each after norm and ReLU.

    [B, width, H, W] -> [B, widths[-1], ceil(H / stride), ceil(W / stride)]. The shortcut is the
    input, or a 1x1 convolution of the activated input where the shape changes.

    Args:
        widths: channels of the convolutions.
        stride: of the first convolution and of the shortcut.
        dilations: of the first and of the other convolutions.
        dropout: probability for a channel, before all convolutions but the first.
    """

    def __init__(
        self,
        width: int,
        widths: Sequence[int],
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.branches = BRANCHES[: len(widths)]
        inputs = (width, *widths)
        for number, (branch, kernel) in enumerate(
            zip(self.branches, KERNELS[len(widths)], strict=True)
        ):
            dilation = dilations[min(number, 1)]
            convolution = nn.Conv2d(
                inputs[number],
                inputs[number + 1],
                kernel,
                stride=stride if number == 0 else 1,
                padding=dilation * (kernel // 2),
                dilation=dilation if kernel > 1 else 1,
                bias=False,
            )
            self.add_module(f"bn_{branch}", nn.BatchNorm2d(inputs[number]))
            self.add_module(f"conv_{branch}", convolution)
        self.changes_shape = stride > 1 or widths[-1] != width
        if self.changes_shape:
            self.conv_branch1 = nn.Conv2d(width, widths[-1], 1, stride, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        residual, shortcut = features, features
        for number, branch in enumerate(self.branches):
            activated = functional.relu(self.get_submodule(f"bn_{branch}")(residual))
            if number == 0 and self.changes_shape:
                shortcut = self.conv_branch1(activated)
            dropped = activated if number == 0 else self.dropout(activated)
            residual = self.get_submodule(f"conv_{branch}")(dropped)
        return shortcut + residual


class WideResNet38(Backbone):
    """Model A1; widths 128, 256, 512, 1024, 4096 at strides 2, 4, 8, 8, 8 (published: 8).

    Stem: first convolution and level 2. layer1: level 3. layer2: level 4. layer3: level 5. layer4:
    levels 6 and 7, norm and ReLU. The outputs before layer4 are sums, not yet activated.

    Args:
        output_stride: 8 (levels 5 and 6 dilate instead of halving), 16 (level 6 does) or 32 (as
            trained on ImageNet). All give the same features where their grids meet.
        width: factor on the channel counts.
    """

    STAGES = (
        ("conv1a", "b2", "b2_1", "b2_2"),
        ("b3", "b3_1", "b3_2"),
        ("b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"),
        ("b5", "b5_1", "b5_2"),
        ("b6", "b7", "bn7", "relu"),
    )

    def __init__(
        self, output_stride: int, frozen_stages: int, batch_norm: BatchNormMode, width: float = 1.0
    ) -> None:
        super().__init__(frozen_stages, batch_norm)
        self.strides = (2, 4, 8, *deep_strides(output_stride))
        self.widths = tuple(round(LEVELS[level][1][-1] * width) for level in (2, 3, 4, 5, 7))
        channels, stride, dilation = round(STEM_WIDTH * width), 1, 1
        self.conv1a = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        for level, (count, level_widths) in LEVELS.items():
            widths = [round(value * width) for value in level_widths]
            for number in range(count):
                halves = number == 0 and level in HALVING_LEVELS
                step = 2 if halves and stride < output_stride else 1
                later = 2 * dilation if halves and step == 1 else dilation
                block = PreActivationBlock(
                    channels, widths, step, (dilation, later), DROPOUT.get(level, 0.0)
                )
                self.add_module(f"b{level}_{number}" if number else f"b{level}", block)
                channels, stride, dilation = widths[-1], stride * step, later
        self.bn7 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
