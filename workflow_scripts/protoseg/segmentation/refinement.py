"""denseCRF on a segmenter's scores (stage `refine_predictions`): images and scores -> label maps.

Scores hold the classes that are likely somewhere; the probabilities of the others are left out of
the softmax. A factor common to all classes of a pixel has no effect on the CRF.
Source: DeepLabV2, section 3.3. pydensecrf runs on one thread, so images go to processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex
from protoseg.processes import map_in_processes
from protoseg.pseudo_labels.crf import crf_parameters, refine_probabilities
from protoseg.segmentation.predict import fuse_scores
from protoseg.settings.predictions import PredictionsCRFSettings
from protoseg.storage import ResultReader


def refined_prediction(
    image_id: str,
    index: DatasetIndex,
    reader: ResultReader,
    settings: PredictionsCRFSettings,
    align_corners: bool,
) -> tuple[str, NDArray[np.uint8]]:
    """Id and label map [H, W] of one image."""
    scores = reader.maps(image_id)
    grids = [torch.from_numpy(grid) for grid in scores.scales]
    pixels = np.asarray(read_image(index[image_id].image))
    probabilities = fuse_scores(grids, scores.size, align_corners).numpy()
    winners = refine_probabilities(pixels, probabilities, crf_parameters(settings))
    return image_id, scores.classes.astype(np.uint8)[winners]


def refine_predictions(
    index: DatasetIndex,
    ids: Sequence[str],
    reader: ResultReader,
    settings: PredictionsCRFSettings,
    align_corners: bool,
    workers: int,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Label maps of every image of ``ids``, in order.

    Args:
        align_corners: as the predictions were made. workers: processes; 0 or 1: this one.
    """
    reader.check_ids(ids, "the list of the predictions")
    work = partial(
        refined_prediction,
        index=index,
        reader=reader,
        settings=settings,
        align_corners=align_corners,
    )
    yield from map_in_processes(work, ids, workers, chunk=8)
