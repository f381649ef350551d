"""Multi-scale prediction of one image: normalised image [3, H, W] -> class probabilities [C, H, W].

The image is resized to each scale, never padded or cropped; its mirror may be averaged in. Sources:
DeepLabV2's published code (maximum of the scales' logits) and SEAM's segmenter (mean, mirrored).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from protoseg.segmentation.deeplab import rescale, resize_logits
from protoseg.segmentation.heads import at_least_float32


@torch.inference_mode()
def score_grids(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    scales: Sequence[float],
    flip: bool,
    fusion: Literal["max", "mean"],
    align_corners: bool = False,
) -> list[Tensor]:
    """Logits [C, h, w] on the grids of the network, which `fuse_scores` turns into probabilities.

    ``max`` compares the scales on the grid of the finest one, as DeepLabV2 does, which gives one
    grid; ``mean`` keeps one grid for each scale, finest first, as SEAM does. The image and its
    mirror are one batch and are averaged within each scale.

    Args:
        network: images [B, 3, h, w] -> logits [B, C, h', w']; a `Segmenter` takes its own
            maximum over training scales, its method `single_scale` does not.
        image: [3, H, W], normalised. scales: of H and W, in any order.
        align_corners: where logits are enlarged, see the setting.

    Raises:
        ValueError: no scales, an unknown ``fusion``, a network in training mode.
    """
    _check(network, scales, fusion)
    grids: list[Tensor] = []
    for scale in sorted(scales, reverse=True):
        logits = _mirrored_logits(network, rescale(image[None], scale), flip)  # B, C, h, w
        if grids and fusion == "max":
            logits = resize_logits(logits, (grids[0].shape[1], grids[0].shape[2]), align_corners)
            grids[0] = torch.maximum(grids[0], logits.mean(dim=0))
        else:
            grids.append(logits.mean(dim=0))
    return grids


@torch.inference_mode()
def fuse_scores(
    grids: Sequence[Tensor], size: tuple[int, int], align_corners: bool = False
) -> Tensor:
    """Probabilities [C, *size], float32: softmax of the mean of ``grids``, each resized to size.

    Args:
        grids: logits [C, h, w] of `score_grids`, or of some of the classes alone: the sum of their
            probabilities is then 1.
        align_corners: as in `score_grids`.
    """
    resized = (resize_logits(grid[None], size, align_corners)[0] for grid in grids)
    total = reduce(torch.add, resized)
    return (total / len(grids)).softmax(dim=0).float()


def predict_probabilities(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    scales: Sequence[float],
    flip: bool,
    size: tuple[int, int],
    fusion: Literal["max", "mean"],
    align_corners: bool = False,
) -> Tensor:
    """Probabilities [C, *size], float32, sum 1 at every pixel, on the device of ``image``.

    Args: as `score_grids`; size: (H, W) of the result, as a rule that of the image.
    """
    grids = score_grids(network, image, scales, flip, fusion, align_corners)
    return fuse_scores(grids, size, align_corners)


def likely_classes(probabilities: Tensor, minimum: float) -> Tensor:
    """Classes [n], ascending, that reach ``minimum`` at some pixel of probabilities [C, H, W].

    The denseCRF's cost grows with their number; 0 keeps all classes.

    Raises:
        ValueError: there are none.
    """
    classes = (probabilities.amax(dim=(1, 2)) >= minimum).nonzero()[:, 0]
    if len(classes) == 0:
        raise ValueError(
            f"no class reaches minimum_probability {minimum}; lower this setting (or look for NaN "
            "in the probabilities)"
        )
    return classes


def _mirrored_logits(network: Callable[[Tensor], Tensor], images: Tensor, flip: bool) -> Tensor:
    """Logits [1 or 2, C, h, w] of the image and its mirror, the latter flipped back."""
    if not flip:
        return at_least_float32(network(images))
    logits = at_least_float32(network(torch.cat([images, images.flip(-1)])))
    return torch.stack([logits[0], logits[1].flip(-1)])


def _check(network: Callable[[Tensor], Tensor], scales: Sequence[float], fusion: str) -> None:
    if not scales:
        raise ValueError("scales is empty; name at least one, such as 1.0")
    if fusion not in ("max", "mean"):
        raise ValueError(f"fusion is {fusion!r}; use max or mean")
    module = getattr(network, "__self__", network)
    if isinstance(module, nn.Module) and module.training:
        raise ValueError(f"{type(module).__name__} is in training mode; call .eval() first")
