"""Predictions of a trained segmenter: images -> label maps (stage `predict`).

The network runs in this process; the denseCRF, where it is asked for, in others beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray

from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex
from protoseg.pseudo_labels.crf import CRFParameters, refine_probabilities
from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.segmentation.predict import predict_probabilities
from protoseg.settings.schema import PredictionsSettings
from protoseg.training.precision import autocast

Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@torch.inference_mode()
def probabilities_of(
    network: DeepLabV2, pixels: Pixels, settings: PredictionsSettings, device: torch.device
) -> Probabilities:
    """Class probabilities [C, H, W] float32 of one image [H, W, 3]."""
    image = normalize(pixels).to(device)
    with autocast(device, settings.precision):
        probabilities = predict_probabilities(
            network.single_scale,
            image,
            settings.scales,
            settings.flip,
            (image.shape[1], image.shape[2]),
            settings.fusion,  # type: ignore[arg-type]
        )
    return probabilities.cpu().numpy()


def label_of(
    item: tuple[Pixels, Probabilities], settings: PredictionsSettings
) -> NDArray[np.uint8]:
    """Label map [H, W], after the segmenter's denseCRF where it is on."""
    pixels, probabilities = item
    parameters = CRFParameters(
        gaussian_sxy=settings.crf_gaussian_sxy,
        gaussian_weight=settings.crf_gaussian_weight,
        bilateral_sxy=settings.crf_bilateral_sxy,
        bilateral_srgb=settings.crf_bilateral_srgb,
        bilateral_weight=settings.crf_bilateral_weight,
        iterations=settings.crf_iterations if settings.crf else 0,
    )
    minimum = settings.crf_minimum_probability
    return refine_probabilities(pixels, probabilities, parameters, minimum)


def predict(
    network: DeepLabV2,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: PredictionsSettings,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Predictions of every image of ``ids``, in order; ``workers`` processes for the CRF."""

    def items() -> Iterator[tuple[Pixels, Probabilities]]:
        for image_id in ids:
            pixels = np.asarray(read_image(index[image_id].image))
            yield pixels, probabilities_of(network, pixels, settings, device)

    work = partial(label_of, settings=settings)
    if workers <= 1 or not settings.crf:
        yield from zip(ids, map(work, items()), strict=True)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending = []
        for image_id, item in zip(ids, items(), strict=True):
            pending.append((image_id, pool.submit(work, item)))
            if len(pending) > 2 * workers:  # bounds the probabilities that wait in memory
                done, future = pending.pop(0)
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()
