"""The localization methods, composed from their parts: CAM, SIPE, AE-SIPE, RPC and their union.

`training_losses` turns one batch into named losses; `localization_maps` turns the features of an
image and its mirror into the maps that are exported. Both take the settings of their stage, so
that every ablation of the papers is a setting. `pair_training` has the losses of RPNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from protoseg.localization.cam import class_activation_maps, foreground_cam, grid_validity
from protoseg.localization.losses import classification_loss, consistency_loss
from protoseg.localization.network import Features
from protoseg.localization.prototypes import NORM_FLOOR, ClassPrototypes, seed_prototypes
from protoseg.localization.refinement import normalize_maps, refine_maps, seed_maps
from protoseg.localization.regions import merge_regions
from protoseg.localization.seeds import make_seeds, one_hot_argmax
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings


def prototype_cam(
    cam: Tensor,
    features: Features,
    keep: Tensor,
    settings: ClassifierSettings | MapsSettings,
    *,
    prototype_feature: str,
    background_prototype: bool,
    class_prototypes: ClassPrototypes | None = None,
) -> Tensor:
    """First IS-CAM [B, K+1, H, W] in [0, 1], background first, not normalised.

    Args:
        cam: [B, K+1, H, W]; masked by ``keep`` in training, unmasked at inference.
        keep: [B, K+1, H, W] or broadcastable, 1 where a class may have seeds. Pixels won by a class
            that is not kept belong to nobody.
        background_prototype: without it (SIPE table 5) the background map is
            1 - max of the foreground maps.
        class_prototypes: of this region; see `refinement.seed_maps`.
    """
    structure = features.by_name(settings.structure_feature)
    seeds = make_seeds(
        cam, structure, settings.seeds, settings.background_factor, settings.seed_threshold
    )
    feature = features.by_name(prototype_feature)
    return seed_maps(feature, seeds * keep, background_prototype, class_prototypes)


def refined_region_cam(
    cam: Tensor,
    features: Features,
    keep: Tensor,
    settings: ClassifierSettings | MapsSettings,
    classifier: ClassifierSettings,
    images: Tensor | None = None,
    class_prototypes: ClassPrototypes | None = None,
) -> Tensor:
    """Last IS-CAM [B, K+1, H, W] of one region, not normalised.

    Args:
        cam, keep, class_prototypes: see `prototype_cam`. settings: of training or inference.
        images: [B, 3, H', W'] normalised, the network's input; for the step `pamr` alone.
    """
    first = prototype_cam(
        cam,
        features,
        keep,
        settings,
        prototype_feature=classifier.prototype_feature,
        background_prototype=classifier.background_prototype,
        class_prototypes=class_prototypes,
    )
    return refine_maps(
        first,
        features.by_name(classifier.prototype_feature),
        images,
        classifier.refinement,
        background_prototype=classifier.background_prototype,
        kernel=classifier.pamr_kernel,
        dilations=classifier.pamr_dilations,
        iterations=classifier.pamr_iterations,
        class_prototypes=class_prototypes,
    )


def refined_prototype_cam(
    cams: Sequence[Tensor],
    features: Features,
    keep: Tensor,
    settings: ClassifierSettings | MapsSettings,
    classifier: ClassifierSettings,
    images: Tensor | None = None,
    class_prototypes: Sequence[ClassPrototypes] | None = None,
) -> Tensor:
    """Last IS-CAM [B, K+1, H, W], not normalised: each region refined, then merged (RS-CAM).

    Refinement comes first because it carries no gradient to the maps that it starts from: after the
    merge, the branches of further regions would learn nothing.

    Args:
        cams: [B, K+1, H, W] of every region of ``features``. class_prototypes: of every region.
        keep, settings, images: see `refined_region_cam`.
    """
    of_regions: Sequence[ClassPrototypes | None] = class_prototypes or [None] * len(cams)
    regions = [
        refined_region_cam(cam, region, keep, settings, classifier, images, prototypes)
        for cam, region, prototypes in zip(cams, features.regions, of_regions, strict=True)
    ]
    return merge_regions(regions, classifier.region_background)


def classification_losses(features: Features, label: Tensor) -> dict[str, Tensor]:
    """`classification`, and of further regions `classification_2`, `classification_3` (L_aug)."""
    names = ["classification", "classification_2", "classification_3"]
    return {
        name: classification_loss(region.logits, label)
        for name, region in zip(names, features.regions, strict=False)
    }


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
    losses = classification_losses(features, label)
    if settings.prototypes == "image" and settings.consistency:
        grid = (features.logits.shape[2], features.logits.shape[3])
        keep = grid_validity(label, valid_box, image_size, grid)
        cams = [
            class_activation_maps(region.logits, settings.background_scale) * keep
            for region in features.regions
        ]
        maps = refined_prototype_cam(cams, features, keep, settings, settings, images)
        if settings.refinement:
            maps = normalize_maps(maps, settings.refinement_normalization)
        losses["consistency"] = settings.consistency_weight * consistency_loss(cams[0], maps)
    return losses | {"total": torch.stack(list(losses.values())).sum()}


def localization_maps(
    features: Features,
    label: Tensor,
    classifier: ClassifierSettings,
    settings: MapsSettings,
    source: str,
    image: Tensor | None = None,
    class_means: Tensor | None = None,
) -> Tensor:
    """Maps of one image at one scale, before fusion over scales.

    CAM: [K, h, w], foreground only, each divided by its maximum, then the maximum over regions.
    Prototypes: IS-CAM [K+1, h, w], background first, raw, or normalised with
    ``settings.normalize_scales``. ``features`` has B = 1: the image's plus its mirror's, flipped
    back.

    Args:
        label: [K] image-level labels, 0 or 1; the CAM is not masked by it, the seeds are.
        source: `cam` or `prototypes`.
        image: [1, 3, H, W], the network's input; needed by the refinement step `pamr` alone.
        class_means: [R, K+1, C], see `class_prototypes.average_prototypes`; they count by
            ``settings.class_prototype_share``.
    """
    if source == "cam":
        return torch.stack([foreground_cam(r.logits) for r in features.regions]).amax(0)[0]
    cams = inference_cams(features, classifier)
    keep = present_classes(label)
    shared = None
    if class_means is not None:
        present = class_means.to(keep) * keep[0, :, 0]
        shared = [ClassPrototypes(means, settings.class_prototype_share) for means in present]
    maps = refined_prototype_cam(cams, features, keep, settings, classifier, image, shared)
    if settings.normalize_scales:
        maps = normalize_maps(maps, classifier.refinement_normalization)
    return maps[0]


def image_prototypes(
    features: Features,
    label: Tensor,
    classifier: ClassifierSettings,
    settings: MapsSettings,
    image: Tensor,
) -> Tensor:
    """Unit prototypes [R, K+1, C] of the pixels that each class wins in the last IS-CAM.

    A class that wins none has zeros. Arguments as in `localization_maps`.
    """
    keep, found = present_classes(label), []
    for cam, region in zip(inference_cams(features, classifier), features.regions, strict=True):
        maps = refined_region_cam(cam, region, keep, settings, classifier, image)
        feature = region.by_name(classifier.prototype_feature)
        prototypes = seed_prototypes(feature, one_hot_argmax(maps) * keep)
        found.append(functional.normalize(prototypes[0], dim=1, eps=NORM_FLOOR))
    return torch.stack(found)


def inference_cams(features: Features, classifier: ClassifierSettings) -> list[Tensor]:
    """CAM [B, K+1, h, w] of every region, not masked by labels."""
    return [class_activation_maps(r.logits, classifier.background_scale) for r in features.regions]


def present_classes(label: Tensor) -> Tensor:
    """[1, K+1, 1, 1]: 1 for the background and the classes of labels [K]."""
    return torch.cat([label.new_ones(1), label])[None, :, None, None]


def merge_mirror(features: Features) -> Features:
    """Sum of an image's features and its mirror's, mirrored back: B = 2 -> B = 1."""

    def merged(feature: Tensor) -> Tensor:
        return feature[:1] + feature[1:].flip(-1)

    hierarchical = None if features.hierarchical is None else merged(features.hierarchical)
    return Features(merged(features.logits), merged(features.semantic), hierarchical)
