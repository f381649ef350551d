"""Regions (RPC): a network after another, each on what those before left; their maps merged.

In: a network, images [B, 3, H, W], labels [B, K]. Out: `Features` whose `further` holds those of
the further regions; from the maps of all regions, RS-CAM [B, K+1, h, w]. Source: RPC, equations 5
to 8 and table 7. The prototypes of a region are compared with that region's own features, because
two networks share no feature space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from protoseg.localization.cam import foreground_cam
from protoseg.localization.erasing import erase
from protoseg.localization.network import Features, LocalizationNetwork

Reader = Callable[[LocalizationNetwork, Tensor], Features]


def region_features(
    network: LocalizationNetwork, images: Tensor, label: Tensor, threshold: float, read: Reader
) -> Features:
    """Features of the first region, and of the further ones in ``further``.

    Args:
        images: [B, 3, H, W], normalised. label: [B, K], 0 or 1; only present classes erase.
        threshold: see `erasing.erase`.
        read: (network, images) -> features; in training a forward pass, at export the sum of an
            image's and its mirror's, so that both lose the same pixels.
    """
    found = [read(network, images)]
    for further in network.further:
        cams = [foreground_cam(features.logits.detach()) for features in found]
        rest = erase(images, cams, label, threshold)
        found.append(read(further, rest))  # type: ignore[arg-type]
    return found[0]._replace(further=tuple(found[1:]))


def merge_regions(maps: Sequence[Tensor], background: str) -> Tensor:
    """Elementwise maximum of the regions' maps [B, K+1, h, w] (equation 8).

    Args:
        maps: one per region, the first region first.
        background: ``first`` takes the background map of the first region, which alone sees the
            whole image; ``max`` merges it as the classes are.

    Raises:
        ValueError: unknown ``background``.
    """
    if background not in ("first", "max"):
        raise ValueError(f"unknown background {background!r}; known: first, max")
    merged = torch.stack(list(maps)).amax(dim=0)
    if background == "max":
        return merged
    return torch.cat([maps[0][:, :1], merged[:, 1:]], dim=1)
