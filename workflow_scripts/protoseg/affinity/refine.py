"""Refined labels by random walk: maps + affinity network -> label maps (stage `refine_labels`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from protoseg.affinity.labels import WalkInput, refined_labels, refined_scores
from protoseg.affinity.model import AffinityModel
from protoseg.affinity.walk import WalkSettings
from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex
from protoseg.localization.fusion import fuse_scales
from protoseg.prefetch import read_ahead
from protoseg.pseudo_labels.labels import has_background_map
from protoseg.settings.schema import RefinedLabelsSettings
from protoseg.storage import ResultReader, ScaleMaps


def walk_settings(settings: RefinedLabelsSettings) -> WalkSettings:
    """The walk of a stage: in float32, where it takes half the time and memory of float64."""
    return WalkSettings(
        settings.radius, settings.beta, settings.log2_steps, settings.degree, torch.float32
    )


def refine(
    maps: Sequence[ScaleMaps], edges: Sequence[Tensor], settings: RefinedLabelsSettings
) -> list[NDArray[np.uint8]]:
    """Label map [H, W] of each image from its maps and edge map [h, w]; the images walk together.

    Maps with a background map: it walks along, maps to the power ``map_power``, argmax (SIPE).
    Maps without: power 1 and a constant background score after the walk (IRN).
    """
    images = [_walk_input(one, edge, settings) for one, edge in zip(maps, edges, strict=True)]
    scores = refined_scores(images, walk_settings(settings))
    return [_labels(*pair, settings) for pair in zip(scores, maps, strict=True)]


def _walk_input(maps: ScaleMaps, edge: Tensor, settings: RefinedLabelsSettings) -> WalkInput:
    fused = fuse_scales([torch.from_numpy(scale) for scale in maps.scales], maps.size)
    power = 1.0
    if has_background_map(maps.classes):
        fused[0] *= settings.background_factor
        power = settings.map_power
    return WalkInput(fused.to(edge.device), edge, maps.size, power)


def _labels(scores: Tensor, maps: ScaleMaps, settings: RefinedLabelsSettings) -> NDArray[np.uint8]:
    classes, background = torch.from_numpy(maps.classes), None
    if not has_background_map(maps.classes):
        classes, background = functional.pad(classes, (1, 0)), settings.background_threshold
    return refined_labels(scores, classes, background).to(torch.uint8).cpu().numpy()


def refine_labels(
    model: AffinityModel,
    index: DatasetIndex,
    ids: Sequence[str],
    reader: ResultReader,
    settings: RefinedLabelsSettings,
    device: torch.device,
    images_at_once: int | None = None,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Refined labels of every image of ``ids``, in order.

    Args:
        images_at_once: that walk together; without it 16 on a GPU, and 1 on a processor, where it
            is no faster.
    """
    together = images_at_once or (1 if device.type == "cpu" else 16)

    def read(image_id: str) -> tuple[str, Tensor, ScaleMaps]:
        pixels = np.asarray(read_image(index[image_id].image))
        return image_id, normalize(pixels), reader.maps(image_id)

    def edge(image: Tensor) -> Tensor:
        return model.edge(image.to(device), settings.precision, settings.pad_to_crop)

    images = read_ahead(read, ids)
    while batch := list(islice(images, together)):
        found, pixels, maps = zip(*batch, strict=True)
        edges = [edge(image) for image in pixels]
        yield from zip(found, refine(maps, edges, settings), strict=True)
