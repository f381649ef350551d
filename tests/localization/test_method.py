"""Maps from features: masks of labels, ablations, refinement, and the merge with the mirror."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from protoseg.localization.cam import class_activation_maps, foreground_cam
from protoseg.localization.losses import consistency_loss
from protoseg.localization.method import (
    localization_maps,
    merge_mirror,
    prototype_cam,
    refined_prototype_cam,
    training_losses,
)
from protoseg.localization.network import Features
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.refinement import normalize_maps, refine_maps
from protoseg.localization.seeds import one_hot_argmax, structure_similarity, threshold_seeds
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings

SIPE, MAPS = ClassifierSettings(prototypes="image"), MapsSettings()
AE_SIPE = replace(SIPE, refinement=("pamr", "prototypes"))


def features_of(batch: int = 1) -> Features:
    torch.manual_seed(0)
    return Features(
        torch.randn(batch, 3, 4, 5), torch.randn(batch, 8, 4, 5), torch.randn(batch, 6, 4, 5)
    )


def maps_of(
    label: Tensor,
    classifier: ClassifierSettings = SIPE,
    settings: MapsSettings = MAPS,
    source: str = "prototypes",
) -> Tensor:
    return localization_maps(features_of(), label, classifier, settings, source, IMAGES[:1])


LABEL = torch.tensor([1.0, 0.0, 1.0])
IMAGES = torch.randn(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))


def test_source_cam_is_the_foreground_cam() -> None:
    found = maps_of(LABEL, source="cam")
    assert torch.equal(found, foreground_cam(features_of().logits)[0])


def test_prototype_maps_step_by_step() -> None:
    features = features_of()
    assert features.hierarchical is not None
    cam = class_activation_maps(features.logits)
    seeds = one_hot_argmax(structure_similarity(cam, features.hierarchical, 0.5))
    seeds[:, 2] = 0  # pixels of the absent class belong to nobody
    expected = prototype_maps(features.hierarchical, seed_prototypes(features.hierarchical, seeds))
    torch.testing.assert_close(maps_of(LABEL), expected[0])


def test_absent_classes_have_empty_maps() -> None:
    maps = maps_of(LABEL)
    assert maps.shape == (4, 4, 5)
    assert (maps[2] == 0).all()


@pytest.mark.parametrize("rule", ["argmax", "threshold"])
def test_seed_rules_at_inference(rule: str) -> None:
    features = features_of()
    assert features.hierarchical is not None
    cam = class_activation_maps(features.logits)
    seeds = one_hot_argmax(cam) if rule == "argmax" else threshold_seeds(cam, 0.4)
    seeds = seeds * torch.tensor([1.0, 1, 0, 1]).view(1, 4, 1, 1)
    expected = prototype_maps(features.hierarchical, seed_prototypes(features.hierarchical, seeds))
    found = maps_of(LABEL, settings=replace(MAPS, seeds=rule, seed_threshold=0.4))
    torch.testing.assert_close(found, expected[0])


def test_features_of_structure_and_prototypes_are_settings() -> None:
    published = maps_of(LABEL)
    semantic = maps_of(LABEL, replace(SIPE, prototype_feature="semantic"))
    assert not torch.allclose(semantic, published)
    features = features_of()
    cam = class_activation_maps(features.logits)
    seeds = one_hot_argmax(structure_similarity(cam, features.semantic, 0.5))
    seeds[:, 2] = 0
    expected = prototype_maps(features.semantic, seed_prototypes(features.semantic, seeds))
    settings = replace(MAPS, structure_feature="semantic")
    found = maps_of(LABEL, replace(SIPE, prototype_feature="semantic"), settings)
    torch.testing.assert_close(found, expected[0])


def test_without_background_prototype_the_background_is_the_rest() -> None:
    published = maps_of(LABEL)
    found = maps_of(LABEL, replace(SIPE, background_prototype=False))
    torch.testing.assert_close(found[1:], published[1:])
    torch.testing.assert_close(found[0], 1 - published[1:].amax(0))


def test_background_factor_moves_seeds_to_the_background() -> None:
    features = features_of()
    cam = class_activation_maps(features.logits)
    shares = [
        float(one_hot_argmax(structure_similarity(cam, features.semantic, f))[:, 0].mean())
        for f in (0.0, 0.5, 1.0, 100.0)
    ]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_batch_equals_single_images() -> None:
    features = features_of(3)
    cam = class_activation_maps(features.logits)
    keep = torch.ones(3, 4, 1, 1)

    def maps(part: slice) -> Tensor:
        chosen = Features(*(f[part] for f in features if f is not None))
        return prototype_cam(
            cam[part],
            chosen,
            keep[part],
            SIPE,
            prototype_feature="hierarchical",
            background_prototype=True,
        )

    singles = [maps(slice(i, i + 1)) for i in range(3)]
    torch.testing.assert_close(maps(slice(0, 3)), torch.cat(singles))


def test_refined_maps_step_by_step() -> None:
    features = features_of()
    assert features.hierarchical is not None
    first = maps_of(LABEL)[None]
    steps = {"steps": AE_SIPE.refinement, "kernel": "gaussian", "dilations": (1, 2)}
    expected = refine_maps(first, features.hierarchical, IMAGES[:1], **steps)  # type: ignore[arg-type]
    changed = replace(AE_SIPE, pamr_kernel="gaussian", pamr_dilations=(1, 2))
    torch.testing.assert_close(maps_of(LABEL, changed), expected[0])
    assert not torch.allclose(maps_of(LABEL, AE_SIPE), expected[0])


@pytest.mark.parametrize("classifier", [SIPE, AE_SIPE], ids=["sipe", "ae_sipe"])
@pytest.mark.parametrize("rule", ["maximum", "min_max"])
def test_scales_are_normalised_where_asked(classifier: ClassifierSettings, rule: str) -> None:
    classifier = replace(classifier, refinement_normalization=rule)
    raw = maps_of(LABEL, classifier)
    found = maps_of(LABEL, classifier, replace(MAPS, normalize_scales=True))
    torch.testing.assert_close(found, normalize_maps(raw, rule))
    assert not torch.allclose(found, raw)


@pytest.mark.parametrize("rule", ["maximum", "min_max"])
def test_consistency_reads_the_refined_and_normalised_maps(rule: str) -> None:
    features, label = features_of(2), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    settings = replace(AE_SIPE, refinement_normalization=rule)
    box = torch.tensor([[0, 64, 0, 80]]).repeat(2, 1)
    losses = training_losses(features, label, box, (64, 80), settings, IMAGES)
    keep = torch.cat([torch.ones(2, 1), label], 1)[:, :, None, None]
    cam = class_activation_maps(features.logits) * keep
    maps = refined_prototype_cam([cam], features, keep, settings, settings, IMAGES)
    expected = consistency_loss(cam, normalize_maps(maps, rule))
    torch.testing.assert_close(losses["consistency"], expected)


def test_without_refinement_images_are_not_read() -> None:
    features = features_of()
    found = localization_maps(features, LABEL, SIPE, MAPS, "prototypes")
    assert torch.equal(found, maps_of(LABEL))
    with pytest.raises(ValueError, match="the step pamr refines maps over their images"):
        localization_maps(features, LABEL, AE_SIPE, MAPS, "prototypes")


def test_merge_turns_the_mirror_back() -> None:
    image = features_of()
    plain = [image.logits, image.semantic, image.by_name("hierarchical")]
    logits, semantic, hierarchical = (torch.cat([one, one.flip(-1)]) for one in plain)
    pair = Features(logits, semantic, hierarchical)
    merged = merge_mirror(pair)
    found = [merged.logits, merged.semantic, merged.by_name("hierarchical")]
    for feature, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(feature, 2 * expected)
    assert merge_mirror(pair._replace(hierarchical=None)).hierarchical is None
