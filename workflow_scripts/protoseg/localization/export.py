"""Export of localization maps: trained network + images -> maps per scale (stage `export_maps`).

Every image and its mirror are one batch of two; their raw logits and features are summed, the
mirror flipped back, before ReLU and normalisation. Refinement sees the image without its mirror.
Source: the published code of SIPE and AE-SIPE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.localization.fusion import scaled_size
from protoseg.localization.method import localization_maps, merge_mirror
from protoseg.localization.network import Features, LocalizationNetwork
from protoseg.localization.regions import region_features
from protoseg.prefetch import read_ahead
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.storage import ScaleMaps
from protoseg.training.precision import autocast


class ScaleFeatures(NamedTuple):
    """One image at one scale.

    features: B = 1, the mirror's added. image: [1, 3, H, W], the network's input, not mirrored.
    """

    features: Features
    image: Tensor


def scaled_images(image: Image.Image, scales: Sequence[float]) -> list[Tensor]:
    """The image at each scale (bicubic), normalised: [1, 3, H, W]."""
    found = []
    for scale in scales:
        height, width = scaled_size((image.height, image.width), scale)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        found.append(normalize(np.asarray(resized))[None])
    return found


def read_scaled(
    index: DatasetIndex, ids: Sequence[str], scales: Sequence[float]
) -> Iterator[tuple[ImageRecord, list[Tensor]]]:
    """Record and `scaled_images` of every image of ``ids``, in order, read ahead in a thread."""

    def read(image_id: str) -> tuple[ImageRecord, list[Tensor]]:
        return index[image_id], scaled_images(read_image(index[image_id].image), scales)

    return read_ahead(read, ids)


def read_with_mirror(network: LocalizationNetwork, image: Tensor) -> Features:
    """Features of one image [1, 3, H, W] and its mirror, flipped back and added: B = 1."""
    pair = torch.cat([image, image.flip(-1)]).contiguous(memory_format=torch.channels_last)
    return merge_mirror(network(pair))


@torch.inference_mode()
def features_per_scale(
    network: LocalizationNetwork,
    images: Sequence[Tensor],
    label: Tensor,
    classifier: ClassifierSettings,
    settings: MapsSettings,
    device: torch.device,
) -> list[ScaleFeatures]:
    """Features of one image at each scale, its mirror's added.

    Args:
        images: [1, 3, H, W] per scale, see `scaled_images`.
        label: [K] image-level labels, 0 or 1; further regions lose what present classes mark.
    """
    found = []
    for image in images:
        pixels = image.to(device)
        with autocast(device, settings.precision):
            features = region_features(
                network,
                pixels,
                label[None].to(pixels),
                classifier.region_threshold,
                read_with_mirror,
            )
        found.append(ScaleFeatures(features, pixels))
    return found


def image_features(
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: MapsSettings,
    device: torch.device,
) -> Iterator[tuple[ImageRecord, Tensor, list[ScaleFeatures]]]:
    """Record, image-level labels [K] and features per scale of every image of ``ids``, in order."""
    for record, images in read_scaled(index, ids, settings.scales):
        label = torch.from_numpy(index.label_vector(record.id))
        found = features_per_scale(network, images, label, classifier, settings, device)
        yield record, label, found


def maps_source(classifier: ClassifierSettings, settings: MapsSettings) -> str:
    """`cam` or `prototypes`; `auto` takes IS-CAM where prototypes are the image's own."""
    if settings.source != "auto":
        return settings.source
    return "prototypes" if classifier.prototypes == "image" else "cam"


@torch.inference_mode()
def maps_of_image(
    features: Sequence[ScaleFeatures],
    label: Tensor,
    size: tuple[int, int],
    classifier: ClassifierSettings,
    settings: MapsSettings,
    class_means: Tensor | None = None,
) -> ScaleMaps:
    """Maps of the present classes (and the background, for prototypes) at every scale.

    Args:
        features: per scale. label: [K] image-level labels, 0 or 1. size: image (H, W).
        class_means: see `method.localization_maps`.
    """
    present = torch.nonzero(label).flatten()
    source = maps_source(classifier, settings)
    with_background = source == "prototypes"
    kept = torch.cat([present.new_zeros(1), present + 1]) if with_background else present
    scales = []
    for feature, image in features:
        maps = localization_maps(
            feature, label.to(feature.logits), classifier, settings, source, image, class_means
        )
        scales.append(maps[kept.to(maps.device)].cpu().numpy())
    classes = kept.numpy() if with_background else present.numpy() + 1
    return ScaleMaps(tuple(scales), classes, size)


def export_maps(
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: MapsSettings,
    device: torch.device,
    class_means: Tensor | None = None,
) -> Iterator[tuple[str, ScaleMaps]]:
    """Maps of every image of ``ids``, in order."""
    images = image_features(network, classifier, index, ids, settings, device)
    for record, label, found in images:
        yield record.id, maps_of_image(found, label, record.size, classifier, settings, class_means)
