"""Multi-scale prediction of one image: normalised image [3, H, W] -> class probabilities [C, H, W].

The image is resized to each scale, never padded or cropped; its mirror may be averaged in. Sources:
DeepLabV2's published code (maximum of the scales' logits) and SEAM's segmenter (mean, mirrored).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from protoseg.segmentation.deeplab import rescale, resize_logits
from protoseg.segmentation.heads import at_least_float32


@torch.inference_mode()
def predict_probabilities(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    scales: Sequence[float],
    flip: bool,
    size: tuple[int, int],
    fusion: Literal["max", "mean"],
    fused: Literal["logits", "probabilities"] = "logits",
) -> Tensor:
    """Probabilities [C, *size], float32, sum 1 at every pixel, on the device of ``image``.

    ``max`` compares the scales on the grid of the finest one and resizes the result, which is what
    DeepLabV2 does; ``mean`` resizes every scale to ``size`` first, as SEAM does. The image and its
    mirror are one batch and are averaged within each scale.

    Args:
        network: images [B, 3, h, w] -> logits [B, C, h', w']; a `Segmenter` takes its own
            maximum over training scales, its method `single_scale` does not.
        image: [3, H, W], normalised. scales: of H and W, in any order.
        size: (H, W) of the result, as a rule that of the image.
        fused: what is fused, logits or softmax probabilities.

    Raises:
        ValueError: no scales, an unknown ``fusion`` or ``fused``, a network in training mode.
    """
    _check(network, scales, fusion, fused)
    total: Tensor | None = None
    grid = size
    for scale in sorted(scales, reverse=True):
        logits = _mirrored_logits(network, rescale(image[None], scale), flip)  # B, C, h, w
        if total is None and fusion == "max":
            grid = (logits.shape[2], logits.shape[3])
        scores = resize_logits(logits, grid)
        scores = scores.softmax(dim=1) if fused == "probabilities" else scores
        scores = scores.mean(dim=0, keepdim=True)
        if total is None:
            total = scores
        else:
            total = torch.maximum(total, scores) if fusion == "max" else total + scores
    assert total is not None
    total = resize_logits(total / len(scales) if fusion == "mean" else total, size)[0]
    if fused == "probabilities":
        return (total / total.sum(dim=0, keepdim=True)).float()
    return total.softmax(dim=0).float()


def _mirrored_logits(network: Callable[[Tensor], Tensor], images: Tensor, flip: bool) -> Tensor:
    """Logits [1 or 2, C, h, w] of the image and its mirror, the latter flipped back."""
    if not flip:
        return at_least_float32(network(images))
    logits = at_least_float32(network(torch.cat([images, images.flip(-1)])))
    return torch.stack([logits[0], logits[1].flip(-1)])


def _check(
    network: Callable[[Tensor], Tensor], scales: Sequence[float], fusion: str, fused: str
) -> None:
    if not scales:
        raise ValueError("scales is empty; name at least one, such as 1.0")
    if fusion not in ("max", "mean"):
        raise ValueError(f"fusion is {fusion!r}; use max or mean")
    if fused not in ("logits", "probabilities"):
        raise ValueError(f"fused is {fused!r}; use logits or probabilities")
    module = getattr(network, "__self__", network)
    if isinstance(module, nn.Module) and module.training:
        raise ValueError(f"{type(module).__name__} is in training mode; call .eval() first")
