"""Prototypes and the maps that they give (IS-CAM).

In: features [B, C, H, W] and seeds [B, K+1, H, W]. Out: prototypes [B, K+1, C], maps
[B, K+1, H, W]. Source: SIPE section 3.3, equations 6 and 7.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import EPSILON

NORM_FLOOR = 1e-8  # the smallest norm of a cosine; a zero prototype gives a zero map


class ClassPrototypes(NamedTuple):
    """What the classes of an image look like in other images, and how much that counts.

    vectors: [K+1, C], unit vectors; zero for classes that this image or all others do not have.
    share: of them in the image's prototypes, 0 to 1.
    """

    vectors: Tensor
    share: float

    def blend(self, prototypes: Tensor) -> Tensor:
        """(1 - share) prototypes + share vectors, both of unit length: [B, K+1, C].

        A class without a single seed has the other images' prototype alone, one that has none there
        its own alone.
        """
        own = functional.normalize(prototypes, dim=2, eps=NORM_FLOOR)
        share = self.share * self.vectors.any(dim=1, keepdim=True)  # [K+1, 1]
        return (1.0 - share) * own + share * self.vectors


def seed_prototypes(feature: Tensor, seeds: Tensor) -> Tensor:
    """Mean feature over each class's seeds: [B, K+1, C]; a class without seeds has zeros."""
    vectors = feature.flatten(2)  # [B, C, N]
    weights = seeds.flatten(2)  # [B, K+1, N]
    return weights @ vectors.transpose(1, 2) / (weights.sum(2, keepdim=True) + EPSILON)


def prototype_maps(feature: Tensor, prototypes: Tensor) -> Tensor:
    """ReLU of the cosine of every pixel with every prototype: [B, K+1, H, W] in [0, 1]."""
    batch, _, height, width = feature.shape
    vectors = functional.normalize(feature.flatten(2), dim=1, eps=NORM_FLOOR)  # [B, C, N]
    directions = functional.normalize(prototypes, dim=2, eps=NORM_FLOOR)  # [B, K+1, C]
    return functional.relu(directions @ vectors).view(batch, -1, height, width)
