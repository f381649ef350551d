"""Predictions of a trained segmenter (stage `predict`): images -> label maps and scores.

Scores are the logits on the network's grids of the classes that are likely somewhere in the image:
enough for the denseCRF of `refinement`, in some hundredths of the space of full-size probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex
from protoseg.prefetch import read_ahead
from protoseg.segmentation.deeplab import Segmenter
from protoseg.segmentation.predict import fuse_scores, likely_classes, score_grids
from protoseg.settings.predictions import PredictionsSettings
from protoseg.storage import ScaleMaps
from protoseg.training.precision import autocast

Label = NDArray[np.uint8]


@torch.inference_mode()
def prediction_of(
    network: Segmenter,
    image: Tensor,
    settings: PredictionsSettings,
    device: torch.device,
) -> tuple[Label, ScaleMaps]:
    """Label map [H, W] and scores of one image [3, H, W], normalised."""
    image = image.to(device)
    size = (image.shape[1], image.shape[2])
    with autocast(device, settings.precision):
        grids = score_grids(
            network.single_scale,
            image,
            settings.scales,
            settings.flip,
            settings.fusion,  # type: ignore[arg-type]
            settings.align_corners,
        )
    probabilities = fuse_scores(grids, size, settings.align_corners)
    classes = likely_classes(probabilities, settings.minimum_probability)
    label = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
    scales = tuple(grid[classes].float().cpu().numpy() for grid in grids)
    return label, ScaleMaps(scales, classes.cpu().numpy(), size)


def predict(
    network: Segmenter,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: PredictionsSettings,
    device: torch.device,
) -> Iterator[tuple[str, Label, ScaleMaps]]:
    """Id, label map and scores of every image of ``ids``, in order."""

    def read(image_id: str) -> tuple[str, Tensor]:
        return image_id, normalize(np.asarray(read_image(index[image_id].image)))

    for image_id, image in read_ahead(read, ids):
        yield image_id, *prediction_of(network, image, settings, device)
