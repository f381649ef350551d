"""Background factors of prototype maps, scored side by side from one pass over the images.

The factor decides between background and foreground seeds (methods SIPE and its relatives); the
right one depends on the number of classes, because absent classes suppress the background map. The
sweep reads masks: it informs, it never sets anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from protoseg.data.index import DatasetIndex
from protoseg.localization.export import image_features, maps_of_image
from protoseg.localization.fusion import fused_maps
from protoseg.localization.network import LocalizationNetwork
from protoseg.metrics import Confusion
from protoseg.progress import progress
from protoseg.pseudo_labels.labels import argmax_with_background
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings


def sweep_background_factor(
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: MapsSettings,
    factors: Sequence[float],
    device: torch.device,
    class_means: Tensor | None = None,
) -> pd.DataFrame:
    """mIoU in percent (columns `background_factor`, `miou`) of prototype maps at each factor.

    The factor of an image's own seeds is swept; the one of the reading is the settings' own, and so
    is the one by which ``class_means`` were made.
    """
    variants = [
        replace(settings, source="prototypes", background_factor=factor) for factor in factors
    ]
    confusions = [Confusion(len(index.classes) + 1) for _ in factors]
    images = image_features(network, classifier, index, ids, settings, device)
    for record, label, features in progress(images, len(ids), "images"):
        mask = index.read_mask(record.id)
        for variant, confusion in zip(variants, confusions, strict=True):
            maps = maps_of_image(features, label, record.size, classifier, variant, class_means)
            winners = argmax_with_background(
                fused_maps(maps), maps.classes, settings.evaluation_background_factor
            )
            confusion.update(mask, maps.classes.astype(np.uint8)[winners])
    rates = [100.0 * confusion.compute().mean_iou for confusion in confusions]
    return pd.DataFrame({"background_factor": list(factors), "miou": rates})
