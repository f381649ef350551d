"""Refined labels by random walk: maps + affinity network -> label maps (stage `refine_labels`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoseg.affinity.model import AffinityModel
from protoseg.affinity.walk import WalkSettings, refined_labels, refined_scores
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


def refine(maps: ScaleMaps, edge: Tensor, settings: RefinedLabelsSettings) -> NDArray[np.uint8]:
    """Label map [H, W] of one image from its maps and edge map [h, w].

    Maps with a background map: it walks along, maps to the power ``map_power``, argmax (SIPE).
    Maps without: power 1 and a constant background score after the walk (IRN).
    """
    fused = fuse_scales([torch.from_numpy(scale) for scale in maps.scales], maps.size)
    classes = torch.from_numpy(maps.classes)
    if has_background_map(maps.classes):
        factors = fused.new_ones(len(fused), 1, 1)
        factors[0] = settings.background_factor
        fused, power, background = fused * factors, settings.map_power, None
    else:
        power, background = 1.0, settings.background_threshold
        classes = torch.cat([classes.new_zeros(1), classes])
    scores = refined_scores(fused.to(edge.device), edge, maps.size, power, walk_settings(settings))
    return refined_labels(scores, classes, background).to(torch.uint8).cpu().numpy()


def refine_labels(
    model: AffinityModel,
    index: DatasetIndex,
    ids: Sequence[str],
    reader: ResultReader,
    settings: RefinedLabelsSettings,
    device: torch.device,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Refined labels of every image of ``ids``, in order."""
    reader.check_ids(ids, "the training list")

    def read(image_id: str) -> tuple[str, Tensor, ScaleMaps]:
        pixels = np.asarray(read_image(index[image_id].image))
        return image_id, normalize(pixels), reader.maps(image_id)

    for image_id, image, maps in read_ahead(read, ids):
        edge = model.edge(image.to(device), settings.precision)
        yield image_id, refine(maps, edge, settings)
