"""DeepLab V2, LargeFOV and V3: images [B, 3, H, W] -> class logits at the backbone's stride.

In training the network also runs on smaller copies of the images and returns the logits of every
scale and their pixelwise maximum, for the multi-scale loss; in evaluation it returns the maximum.
Source: DeepLabV2 section 4.1 ("MSC") and its published code; the heads' sources are in `heads`. The
networks here know no loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from protoseg.segmentation.heads import AtrousPyramid, at_least_float32, large_fov_batchnorm

FULL, MAXIMUM = "full", "max"
SCALE_NAMES = {0.5: "half", 0.75: "three_quarter"}


def scale_name(scale: float) -> str:
    """Name of a further scale's logits: `half`, `three_quarter`, else such as `scale_0.6`."""
    return SCALE_NAMES.get(scale, f"scale_{scale:g}")


def rescale(images: Tensor, scale: float) -> Tensor:
    """Images [B, C, H, W] -> [B, C, floor(H * scale), floor(W * scale)], bilinear, half-pixel.

    The sampling step is exactly 1 / scale, also where the size was rounded down: the published
    code passes the factor, not the size, and the logits differ clearly between the two.
    """
    if scale == 1.0:
        return images
    return functional.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)


def resize_logits(logits: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Logits [B, C, h, w] -> [B, C, *size], bilinear; see `predictions.align_corners`."""
    if logits.shape[-2:] == size:
        return logits
    return functional.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


class Segmenter(nn.Module):
    """A backbone, a head on its last stage, and the scales of multi-scale training.

    Args:
        backbone: images [B, 3, H, W] -> sequence of stage outputs, the last one the features.
        head: features [B, C, h, w] -> logits [B, classes, h, w].
        train_scales: further scales besides 1, such as (0.75, 0.5); without any, the full scale
            is all there is and no maximum is taken.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, train_scales: Sequence[float]) -> None:
        super().__init__()
        names = [FULL, *map(scale_name, train_scales)]
        if len(set(names)) < len(names) or 1.0 in train_scales:
            raise ValueError(
                f"train_scales {list(train_scales)}: name each scale once, and leave 1 out"
            )
        self.backbone, self.head = backbone, head
        self.train_scales = tuple(train_scales)

    def single_scale(self, images: Tensor) -> Tensor:
        """Logits [B, classes, h, w] of the images as they are, float32 or wider."""
        return at_least_float32(self.head(self.backbone(images)[-1]))

    def forward(self, images: Tensor) -> dict[str, Tensor] | Tensor:
        """Multi-scale logits.

        Args:
            images: [B, 3, H, W], normalised.

        Returns:
            In training a dictionary: `full` [B, classes, h, w], one entry for each further scale
            (`half`, `three_quarter`, ...) on its own smaller grid, and `max` [B, classes, h, w].
            In evaluation the maximum alone.
        """
        logits = {FULL: self.single_scale(images)}
        for scale in self.train_scales:
            logits[scale_name(scale)] = self.single_scale(rescale(images, scale))
        maximum = self._maximum(list(logits.values()))
        if not self.training:
            return maximum
        return logits | {MAXIMUM: maximum} if self.train_scales else logits

    @staticmethod
    def _maximum(logits: Sequence[Tensor]) -> Tensor:
        """Pixelwise maximum on the grid of the first, to which the others are resized."""
        size = (logits[0].shape[-2], logits[0].shape[-1])
        maximum = logits[0]
        for other in logits[1:]:
            maximum = torch.maximum(maximum, resize_logits(other, size))
        return maximum


class DeepLabV2(Segmenter):
    """`Segmenter` with the atrous pyramid; the backbone belongs at output stride 8.

    Args:
        feature_channels: of the backbone's last stage, 2048 for a ResNet.
        num_classes: background included. rates: 6, 12, 18, 24 in the paper.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        num_classes: int,
        rates: Sequence[int],
        train_scales: Sequence[float],
    ) -> None:
        head = AtrousPyramid(feature_channels, num_classes, rates)
        super().__init__(backbone, head, train_scales)


class DeepLabLargeFOV(Segmenter):
    """`Segmenter` with one dilated 3x3 convolution to 512 channels, as SEAM trains it.

    Args: as `DeepLabV2`; ``rates`` holds the dilation of that convolution alone, 12 in the paper.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        num_classes: int,
        rates: Sequence[int],
        train_scales: Sequence[float],
    ) -> None:
        (rate,) = rates
        head = large_fov_batchnorm(feature_channels, num_classes, dilation=rate)
        super().__init__(backbone, head, train_scales)


class DeepLabV3(Segmenter):
    """`Segmenter` with torchvision's pyramid of 1x1, dilated 3x3 and image pooling, all normalised.

    Training needs two images or more on a device: BatchNorm follows the image pooling.

    Args: as `DeepLabV2`; ``rates``: 12, 24, 36 in the paper at output stride 8, half of it at 16.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        num_classes: int,
        rates: Sequence[int],
        train_scales: Sequence[float],
    ) -> None:
        head = DeepLabHead(feature_channels, num_classes, tuple(rates))
        super().__init__(backbone, head, train_scales)


SEGMENTERS: dict[str, type[DeepLabV2] | type[DeepLabLargeFOV] | type[DeepLabV3]] = {
    "deeplab_v2": DeepLabV2,
    "large_fov": DeepLabLargeFOV,
    "deeplab_v3": DeepLabV3,
}
