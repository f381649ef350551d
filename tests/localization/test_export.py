"""Export of maps: grids, kept classes, odd sizes, and a mirrored image."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_set import small_index
from torch import nn

from protoseg.backbones.backbone import MobileNetV2
from protoseg.data.images import normalize, read_image
from protoseg.localization.cam import foreground_cam
from protoseg.localization.erasing import erase
from protoseg.localization.export import (
    export_maps,
    features_per_scale,
    maps_of_image,
    maps_source,
    read_with_mirror,
    scaled_images,
)
from protoseg.localization.fusion import fused_maps
from protoseg.localization.network import LocalizationNetwork
from protoseg.localization.train import build_network, load_network
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.storage import ScaleMaps
from protoseg.training.checkpoint import save_weights

CPU = torch.device("cpu")
CAM = ClassifierSettings()
SIPE = ClassifierSettings(prototypes="image")
AE_SIPE = replace(SIPE, refinement=("pamr", "prototypes"))
MAPS = MapsSettings(scales=(1.0, 0.5, 1.5))


@pytest.fixture(scope="module")
def network() -> LocalizationNetwork:
    torch.manual_seed(0)
    backbone = MobileNetV2(16, 0, "frozen", width=0.1)
    return LocalizationNetwork(backbone, 3, (4, 4, 4, 4)).eval()


def maps_of(
    network: LocalizationNetwork, image: Image.Image, classifier: ClassifierSettings
) -> ScaleMaps:
    label = torch.tensor([1.0, 0.0, 1.0])
    features = features_per_scale(
        network, scaled_images(image, MAPS.scales), label, classifier, MAPS, CPU
    )
    return maps_of_image(features, label, (image.height, image.width), classifier, MAPS)


@pytest.mark.parametrize(
    ("classifier", "kept"),
    [
        (CAM, {1: [2], 3: [1]}),
        (SIPE, {1: [0, 2], 3: [0, 1]}),
        (AE_SIPE, {1: [0, 2], 3: [0, 1]}),
    ],
)
def test_maps_of_present_classes_at_the_size_of_the_image(
    tmp_path: Path,
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    kept: dict[int, list[int]],
) -> None:
    index = small_index(tmp_path)
    ids = ["image4", "image0"]
    found = dict(export_maps(network, classifier, index, ids, MAPS, CPU))
    assert list(found) == ids
    assert found["image4"].classes.tolist() == kept[1]
    assert found["image0"].classes.tolist() == kept[3]
    for image_id, maps in found.items():
        assert maps.size == index[image_id].size
        fused = fused_maps(maps)
        assert fused.shape == (len(maps.classes), *index[image_id].size)
        assert 0 <= fused.min() <= fused.max() <= 1
        assert len(maps.scales) == 3


@pytest.mark.parametrize("classifier", [CAM, SIPE, AE_SIPE])
def test_mirrored_image_gives_mirrored_maps(
    network: LocalizationNetwork, classifier: ClassifierSettings
) -> None:
    """Sides of whole strides at every scale, so that the grid lies alike from left and right."""
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (64, 128, 3), dtype=np.uint8))
    maps = maps_of(network, image, classifier)
    mirrored = maps_of(network, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), classifier)
    for found, expected in zip(mirrored.scales, maps.scales, strict=True):
        np.testing.assert_allclose(found, expected[..., ::-1], atol=1e-5)


def test_image_without_labels_has_no_cam(network: LocalizationNetwork, tmp_path: Path) -> None:
    image = read_image(small_index(tmp_path, 1)["image0"].image)
    label = torch.zeros(3)
    features = features_per_scale(network, scaled_images(image, MAPS.scales), label, CAM, MAPS, CPU)
    found = maps_of_image(features, label, (image.height, image.width), CAM, MAPS)
    assert found.scales[0].shape[0] == 0
    assert found.classes.tolist() == []


def test_features_come_with_the_image_that_is_not_mirrored(
    network: LocalizationNetwork, tmp_path: Path
) -> None:
    image = read_image(small_index(tmp_path, 1)["image0"].image)
    found = features_per_scale(
        network, scaled_images(image, MAPS.scales), torch.ones(3), CAM, MAPS, CPU
    )
    for scale, (features, pixels) in zip(MAPS.scales, found, strict=True):
        size = (round(image.width * scale), round(image.height * scale))
        plain = normalize(np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
        assert torch.equal(pixels[0], plain)
        assert len(features.logits) == 1


def test_further_regions_see_the_image_without_what_was_found() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    image, label = Image.fromarray(noise), torch.tensor([1.0, 0, 1])
    settings = replace(SIPE, backbone="resnet18", regions=2, region_threshold=0.9)
    torch.manual_seed(0)
    network = build_network(settings, 3, "random").eval()
    (found,) = features_per_scale(network, scaled_images(image, (1.0,)), label, settings, MAPS, CPU)
    pixels, cam = found.image, foreground_cam(found.features.logits)
    rest = erase(pixels, [cam], label[None], 0.9)
    assert 0 < (rest == 0).all(1).float().mean() < 1
    (second,) = found.features.further
    expected = read_with_mirror(network.further[0], rest)  # type: ignore[arg-type]
    torch.testing.assert_close(second.logits, expected.logits)


def test_source_follows_the_method_unless_set() -> None:
    assert maps_source(CAM, MAPS) == "cam"
    assert maps_source(SIPE, MAPS) == "prototypes"
    assert maps_source(SIPE, replace(MAPS, source="cam")) == "cam"


def test_the_folded_network_of_every_region_gives_the_features_of_the_trained_one(
    tmp_path: Path,
) -> None:
    settings = replace(SIPE, backbone="resnet18", regions=2)
    torch.manual_seed(0)
    network = build_network(settings, 3, "random").eval()
    about = {"settings": asdict(settings), "classes": ["cat", "dog", "cow"]}
    save_weights(tmp_path / "weights.pt", network, about)
    found, classifier = load_network(tmp_path / "weights.pt", CPU)
    assert classifier == settings
    images = torch.randn(1, 3, 32, 32)
    pairs = zip((found, *found.further), (network, *network.further), strict=True)
    for folded, trained in pairs:
        torch.testing.assert_close(folded(images), trained(images), atol=1e-4, rtol=1e-4)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.backbone.modules())
