"""The localization methods, composed from their parts: CAM, SIPE and AE-SIPE.

`training_losses` turns one batch into named losses; `localization_maps` turns the features of an
image and its mirror into the maps that are exported. Both take the settings of their stage, so
that every ablation of SIPE (tables 4 and 5, figure 8) and AE-SIPE (tables 2 and 3) is a setting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from protoseg.localization.cam import class_activation_maps, foreground_cam, grid_validity
from protoseg.localization.losses import classification_loss, consistency_loss
from protoseg.localization.network import Features
from protoseg.localization.refinement import normalize_maps, refine_maps, seed_maps
from protoseg.localization.seeds import make_seeds
from protoseg.settings.schema import ClassifierSettings, MapsSettings


def prototype_cam(
    cam: Tensor,
    features: Features,
    keep: Tensor,
    settings: ClassifierSettings | MapsSettings,
    *,
    prototype_feature: str,
    background_prototype: bool,
) -> Tensor:
    """First IS-CAM [B, K+1, H, W] in [0, 1], background first, not normalised.

    Args:
        cam: [B, K+1, H, W]; masked by ``keep`` in training, unmasked at inference.
        keep: [B, K+1, H, W] or broadcastable, 1 where a class may have seeds. Pixels won by a class
            that is not kept belong to nobody.
        background_prototype: without it (SIPE table 5) the background map is
            1 - max of the foreground maps.
    """
    structure = features.by_name(settings.structure_feature)
    seeds = make_seeds(
        cam, structure, settings.seeds, settings.background_factor, settings.seed_threshold
    )
    return seed_maps(features.by_name(prototype_feature), seeds * keep, background_prototype)


def refined_prototype_cam(
    cam: Tensor,
    features: Features,
    keep: Tensor,
    settings: ClassifierSettings | MapsSettings,
    classifier: ClassifierSettings,
    images: Tensor | None = None,
) -> Tensor:
    """Last IS-CAM [B, K+1, H, W], not normalised: the first one after ``classifier.refinement``.

    Args:
        cam, features, keep: see `prototype_cam`. settings: seed rule of training or inference.
        images: [B, 3, H', W'] normalised, the network's input; for the step `pamr` alone.
    """
    maps = prototype_cam(
        cam,
        features,
        keep,
        settings,
        prototype_feature=classifier.prototype_feature,
        background_prototype=classifier.background_prototype,
    )
    return refine_maps(
        maps,
        features.by_name(classifier.prototype_feature),
        images,
        classifier.refinement,
        background_prototype=classifier.background_prototype,
        kernel=classifier.pamr_kernel,
        dilations=classifier.pamr_dilations,
        iterations=classifier.pamr_iterations,
    )


def training_losses(
    features: Features,
    label: Tensor,
    valid_box: Tensor,
    image_size: tuple[int, int],
    settings: ClassifierSettings,
    images: Tensor | None = None,
) -> dict[str, Tensor]:
    """Named losses of one batch; ``total`` is what is minimised.

    Args:
        label: [B, K] image-level labels, 0 or 1. valid_box: [B, 4], see `cam.grid_validity`.
        images: [B, 3, H, W], the network's input; needed by the refinement step `pamr` alone.
    """
    losses = {"classification": classification_loss(features.logits, label)}
    if settings.method == "sipe" and settings.consistency:
        grid = (features.logits.shape[2], features.logits.shape[3])
        keep = grid_validity(label, valid_box, image_size, grid)
        cam = class_activation_maps(features.logits, settings.background_scale) * keep
        maps = refined_prototype_cam(cam, features, keep, settings, settings, images)
        if settings.refinement:
            maps = normalize_maps(maps, settings.refinement_normalization)
        losses["consistency"] = settings.consistency_weight * consistency_loss(cam, maps)
    return losses | {"total": torch.stack(list(losses.values())).sum()}


def localization_maps(
    features: Features,
    label: Tensor,
    classifier: ClassifierSettings,
    settings: MapsSettings,
    source: str,
    image: Tensor | None = None,
) -> Tensor:
    """Maps of one image at one scale, before fusion over scales.

    CAM: [K, h, w], foreground only, each divided by its maximum. Prototypes: IS-CAM [K+1, h, w],
    background first, raw, or normalised with ``settings.normalize_scales``. ``features`` has B = 1:
    the image's plus its mirror's, flipped back.

    Args:
        label: [K] image-level labels, 0 or 1; the CAM is not masked by it, the seeds are.
        source: `cam` or `prototypes`.
        image: [1, 3, H, W], the network's input; needed by the refinement step `pamr` alone.
    """
    if source == "cam":
        return foreground_cam(features.logits)[0]
    cam = class_activation_maps(features.logits, classifier.background_scale)
    keep = torch.cat([label.new_ones(1), label])[None, :, None, None]
    maps = refined_prototype_cam(cam, features, keep, settings, classifier, image)
    if settings.normalize_scales:
        maps = normalize_maps(maps, classifier.refinement_normalization)
    return maps[0]


def merge_mirror(features: Features) -> Features:
    """Sum of an image's features and its mirror's, mirrored back: B = 2 -> B = 1."""

    def merged(feature: Tensor) -> Tensor:
        return feature[:1] + feature[1:].flip(-1)

    hierarchical = None if features.hierarchical is None else merged(features.hierarchical)
    return Features(merged(features.logits), merged(features.semantic), hierarchical)
