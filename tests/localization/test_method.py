"""Maps from features: masks of labels, ablations, and the merge of an image with its mirror."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from protoseg.localization.cam import class_activation_maps, foreground_cam
from protoseg.localization.method import localization_maps, merge_mirror, prototype_cam
from protoseg.localization.network import Features
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.seeds import one_hot_argmax, structure_similarity, threshold_seeds
from protoseg.settings.schema import ClassifierSettings, MapsSettings

SIPE, MAPS = ClassifierSettings(method="sipe"), MapsSettings()


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
    return localization_maps(features_of(), label, classifier, settings, source)


LABEL = torch.tensor([1.0, 0.0, 1.0])


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


def test_merge_turns_the_mirror_back() -> None:
    image = features_of()
    pair = Features(*(torch.cat([f, f.flip(-1)]) for f in image if f is not None))
    for found, expected in zip(merge_mirror(pair), image, strict=True):
        assert found is not None
        assert expected is not None
        torch.testing.assert_close(found, 2 * expected)
    assert merge_mirror(pair._replace(hierarchical=None)).hierarchical is None
