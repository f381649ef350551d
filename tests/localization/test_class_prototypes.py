"""Class prototypes: the blend, the average, the choice of images, and the file between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_set import small_index
from torch import Tensor
from torch.nn import functional

from protoseg.data.images import read_image
from protoseg.errors import InputError
from protoseg.localization.class_prototypes import (
    average_prototypes,
    prototype_images,
    read_class_prototypes,
    write_class_prototypes,
)
from protoseg.localization.export import export_maps, features_per_scale, scaled_images
from protoseg.localization.method import refined_prototype_cam
from protoseg.localization.prototypes import ClassPrototypes, prototype_maps, seed_prototypes
from protoseg.localization.refinement import refine_maps, seed_maps
from protoseg.localization.train import build_network
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings

CPU = torch.device("cpu")
SIPE = ClassifierSettings(backbone="mobilenet_v2", prototypes="image")
AE_SIPE = replace(SIPE, refinement=("pamr", "prototypes"))
TWO_REGIONS = replace(SIPE, regions=2)
MAPS = MapsSettings(scales=(1.0, 1.5), class_prototype_share=0.4)


def case() -> tuple[Tensor, Tensor, Tensor]:
    """Feature [2, 6, 4, 5], seeds of 4 classes of which the last has none, unit vectors [4, 6]."""
    torch.manual_seed(0)
    feature = torch.randn(2, 6, 4, 5)
    winners = torch.randint(3, (2, 4, 5))
    seeds = functional.one_hot(winners, 4).permute(0, 3, 1, 2).float()
    return feature, seeds, functional.normalize(torch.randn(4, 6), dim=1)


def test_no_share_leaves_the_images_own_maps() -> None:
    feature, seeds, vectors = case()
    own = seed_maps(feature, seeds, True)
    torch.testing.assert_close(seed_maps(feature, seeds, True, ClassPrototypes(vectors, 0.0)), own)


def test_a_share_of_one_leaves_the_class_prototypes_alone() -> None:
    feature, seeds, vectors = case()
    found = seed_maps(feature, seeds, True, ClassPrototypes(vectors, 1.0))
    torch.testing.assert_close(found, prototype_maps(feature, vectors.expand(2, -1, -1)))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_class_that_no_other_image_shows_keeps_its_own_prototype(share: float) -> None:
    feature, seeds, vectors = case()
    vectors[1] = 0
    found = seed_maps(feature, seeds, True, ClassPrototypes(vectors, share))
    torch.testing.assert_close(found[:, 1], seed_maps(feature, seeds, True)[:, 1])
    assert found[:, 1].max() > 0


def test_blend_is_one_of_directions() -> None:
    feature, seeds, vectors = case()
    own = functional.normalize(seed_prototypes(feature, seeds), dim=2)
    found = seed_maps(feature, seeds * 7, True, ClassPrototypes(vectors, 0.25))
    torch.testing.assert_close(found, prototype_maps(feature, 0.75 * own + 0.25 * vectors))


def test_a_present_class_without_seeds_has_a_map_and_an_absent_one_has_none() -> None:
    feature, seeds, vectors = case()
    seeds[:, 1], vectors[1] = 0, 0
    found = seed_maps(feature, seeds, True, ClassPrototypes(vectors, 0.25))
    assert found[:, 1].abs().max() == 0
    torch.testing.assert_close(found[:, 3], prototype_maps(feature, vectors[None])[:, 3])


def test_every_step_of_refinement_blends() -> None:
    feature, seeds, vectors = case()
    shared = ClassPrototypes(vectors, 0.5)
    first = seed_maps(feature, seeds, True, shared)
    found = refine_maps(first, feature, None, ("prototypes",), class_prototypes=shared)
    again = functional.one_hot(first.argmax(1), 4).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(found, seed_maps(feature, again, True, shared))


@pytest.mark.parametrize("classifier", [SIPE, AE_SIPE, TWO_REGIONS], ids=["sipe", "ae", "regions"])
def test_average_is_that_of_the_pixels_which_classes_win(
    tmp_path: Path, classifier: ClassifierSettings
) -> None:
    torch.manual_seed(0)
    index = small_index(tmp_path, 4, sizes=((64, 80),))
    ids = index.ids("train")
    network = build_network(classifier, 3, "random").eval()
    found = average_prototypes(network, classifier, index, ids, MAPS, CPU)
    sums = torch.zeros_like(found)
    for image_id in ids:
        label = torch.from_numpy(index.label_vector(image_id)).float()
        pixels = scaled_images(read_image(index[image_id].image), [1.0])
        ((features, image),) = features_per_scale(network, pixels, label, classifier, MAPS, CPU)
        keep = torch.cat([torch.ones(1), label])[None, :, None, None]
        for region, own in enumerate(features.regions):
            alone = own._replace(further=())
            cam = functional.relu(own.logits)
            cam = cam / (cam.amax((2, 3), keepdim=True) + 1e-5)
            cam = torch.cat([1 - cam.amax(1, keepdim=True), cam], 1)
            maps = refined_prototype_cam([cam], alone, keep, MAPS, classifier, image)
            winners = maps.argmax(1)[0]
            for number in torch.nonzero(keep.flatten()).flatten().tolist():
                pixels_won = own.by_name("hierarchical")[0][:, winners == number]
                if pixels_won.numel():
                    sums[region, number] += functional.normalize(pixels_won.mean(1), dim=0)
    assert found.shape == (classifier.regions, 4, sum(classifier.side_widths))
    torch.testing.assert_close(found, functional.normalize(sums, dim=2), rtol=1e-3, atol=1e-4)


def test_maps_of_all_scales_and_regions_read_the_prototypes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    index = small_index(tmp_path, 3, sizes=((64, 80),))
    ids = index.ids("train")
    network = build_network(TWO_REGIONS, 3, "random").eval()
    means = average_prototypes(network, TWO_REGIONS, index, ids, MAPS, CPU)
    none = replace(MAPS, class_prototype_share=0.0)
    plain = dict(export_maps(network, TWO_REGIONS, index, ids, MAPS, CPU))
    same = dict(export_maps(network, TWO_REGIONS, index, ids, none, CPU, means))
    blended = dict(export_maps(network, TWO_REGIONS, index, ids, MAPS, CPU, means))
    for image_id in ids:
        for one, other, third in zip(
            plain[image_id].scales, same[image_id].scales, blended[image_id].scales, strict=True
        ):
            torch.testing.assert_close(torch.from_numpy(one), torch.from_numpy(other))
            assert abs(one - third).max() > 1e-3


def test_images_are_so_many_of_every_class_and_of_those_trained_on(tmp_path: Path) -> None:
    index = small_index(tmp_path, 40, sizes=((8, 8),))
    ids = index.ids("train")
    chosen = prototype_images(index, ids, 1.0, 3, seed=0)
    assert chosen == [image_id for image_id in ids if image_id in chosen]
    counts = [sum(label in index[i].labels for i in chosen) for label in (1, 2, 3)]
    assert min(counts) >= 3
    assert len(chosen) <= 9
    half = set(prototype_images(index, ids, 0.5, 40, seed=0))
    assert half < set(prototype_images(index, ids, 1.0, 40, seed=0)) == set(ids)


def test_file_keeps_the_prototypes(tmp_path: Path) -> None:
    prototypes = torch.rand(2, 4, 6)
    write_class_prototypes(tmp_path / "class_prototypes.npz", prototypes)
    found = read_class_prototypes([tmp_path / "class_prototypes.npz"], CPU)
    assert found is not None
    torch.testing.assert_close(found, prototypes, rtol=0, atol=0)
    assert read_class_prototypes([], CPU) is None


@pytest.mark.parametrize("content", [b"other", b"", b"PK\x03\x04 cut short"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "class_prototypes.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"class_prototypes.npz .* rerun average_prototypes"):
        read_class_prototypes([path], CPU)
