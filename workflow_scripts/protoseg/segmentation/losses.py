"""Losses of a segmenter: logits [B, C, h, w] and a label map -> scalar; multi-scale: one a scale.

Label maps hold 0 (background) to C - 1 and 255 (ignored). Three forms of cross-entropy: the plain
mean over pixels, background and foreground averaged apart over the batch, and DSRG's balanced
seeding loss per image (DSRG, equation 4). Sources: DeepLabV2's published code, ToCo, DSRG.
A batch, or a part of it, without any valid pixel adds 0, never NaN. Means over pixels run over the
batch of all ranks, so that the losses averaged over ranks are those of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.segmentation.heads import at_least_float32
from protoseg.training.distributed import sum_over_ranks, world_size

IGNORED = 255
DSRG_FLOOR = 1e-4  # added to every probability, and the least divisor, in DSRG's layers

SegmentationLoss = Callable[[Tensor, Tensor], Tensor]


def resize_label(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Label maps [B, H, W] -> [B, *size] by nearest, at index floor((i + 1/2) * H / n).

    Integer arithmetic, so no size suffers from rounding; any dtype is kept.
    """
    rows, columns = (
        (2 * torch.arange(n, device=label.device) + 1) * length // (2 * n)
        for n, length in zip(size, label.shape[-2:], strict=True)
    )
    return label[:, rows][:, :, columns]


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are not 255.

    Args:
        logits: [B, C, H, W]. label: [B, H, W] integers.
    """
    return _masked_mean(_pixel_cross_entropy(logits, label), label != IGNORED)


def batch_balanced_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Half the mean over the batch's background pixels plus half that over its foreground (ToCo).

    Args: as `cross_entropy`.
    """
    losses = _pixel_cross_entropy(logits, label)
    background = _masked_mean(losses, label == 0)
    foreground = _masked_mean(losses, _is_foreground(label))
    return (background + foreground) / 2


def dsrg_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """DSRG's balanced seeding loss: background term plus foreground term, see `dsrg_terms`."""
    background, foreground = dsrg_terms(logits, label)
    return background + foreground


def dsrg_terms(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Background and foreground term of DSRG's loss, each a mean over the images of all ranks.

    Per image: the mean of -log p over the background pixels, and over all foreground pixels
    together, where p = normalise(softmax + 1e-4). An image without such pixels adds 0 and counts.

    Args: as `cross_entropy`.
    """
    valid = label != IGNORED
    log_p = dsrg_probabilities(logits).log()
    target = torch.where(valid, label, 0).long()
    losses = -log_p.gather(1, target[:, None])[:, 0]  # [B, H, W]

    images = sum_over_ranks(torch.tensor(len(label), device=label.device))

    def image_mean(mask: Tensor) -> Tensor:
        counts = mask.sum(dim=(1, 2)).to(losses.dtype)
        means = (losses * mask).sum(dim=(1, 2)) / counts.clamp(min=DSRG_FLOOR)
        return world_size() * means.sum() / images

    return image_mean(label == 0), image_mean(_is_foreground(label))


def dsrg_probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes plus 1e-4, normalised again: [B, C, H, W] in (0, 1), no zeros."""
    raised = at_least_float32(logits).softmax(dim=1) + DSRG_FLOOR
    return raised / raised.sum(dim=1, keepdim=True)


def multi_scale_loss(
    logits: Mapping[str, Tensor], label: Tensor, loss: SegmentationLoss = cross_entropy
) -> dict[str, Tensor]:
    """``loss`` on the logits of every scale, the label resized to each, and their plain sum.

    Args:
        logits: as a `Segmenter` gives in training: name -> [B, C, h, w], grids of any size.
        label: [B, H, W] integers at the size of the images.

    Returns:
        One scalar for each entry of ``logits``, in its order, and `total`, their sum (not their
        mean: the published learning rate belongs to the sum).
    """
    terms = {
        name: loss(scores, resize_label(label, (scores.shape[2], scores.shape[3])))
        for name, scores in logits.items()
    }
    return terms | {"total": torch.stack(list(terms.values())).sum()}


LOSSES: dict[str, SegmentationLoss] = {
    "cross_entropy": cross_entropy,
    "balanced": batch_balanced_cross_entropy,
    "dsrg": dsrg_cross_entropy,
}


def _is_foreground(label: Tensor) -> Tensor:
    return (label > 0) & (label != IGNORED)


def _pixel_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """[B, H, W], 0 where the label is 255."""
    return functional.cross_entropy(
        at_least_float32(logits), label.long(), ignore_index=IGNORED, reduction="none"
    )


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    count = sum_over_ranks(mask.sum()).clamp(min=1)
    return world_size() * (values * mask).sum() / count
