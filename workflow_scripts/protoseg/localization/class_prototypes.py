"""Class prototypes: what a class looks like over the images that carry its tag.

In: a trained network, images and their labels. Out: [R, K+1, C], for every region the mean of the
images' unit prototypes, background first. At inference they take a share of each image's own
prototypes (`maps.class_prototype_share`): SIPE's prototypes come from one image, RPNet's from two,
these from many. No paper has the combination; no mask is read.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.data.fraction import draw_by_class, draw_fraction
from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError
from protoseg.localization.export import image_features
from protoseg.localization.method import image_prototypes
from protoseg.localization.network import LocalizationNetwork
from protoseg.progress import progress
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import write_atomically


def prototype_images(
    index: DatasetIndex, ids: Sequence[str], fraction: float, count: int, seed: int
) -> list[str]:
    """The first ``count`` images of each class among those that the classifier was trained on.

    Together they show a frequent class more than ``count`` times, a rare one as often as it occurs.

    Args:
        ids, fraction: training list and the share of it that was used.
    """
    trained_on = draw_fraction(index, ids, fraction, seed)
    wanted = dict.fromkeys(range(len(index.classes) + 1), count)
    return draw_by_class(index, trained_on, wanted, seed)


@torch.inference_mode()
def average_prototypes(
    network: LocalizationNetwork,
    classifier: ClassifierSettings,
    index: DatasetIndex,
    ids: Sequence[str],
    settings: MapsSettings,
    device: torch.device,
) -> Tensor:
    """Mean unit prototypes [R, K+1, C] of ``ids`` at scale 1, of unit length again.

    A class counts in the images that carry it, the background in all; a class that none carries has
    zeros, which leave an image's own prototypes as they are.
    """
    settings = replace(settings, scales=(1.0,))
    images = image_features(network, classifier, index, ids, settings, device)
    total = torch.zeros(())
    for _, label, ((features, image),) in progress(images, len(ids), "images"):
        present = label.to(features.logits)
        total = total + image_prototypes(features, present, classifier, settings, image).cpu()
    return functional.normalize(total, dim=2)


def write_class_prototypes(path: Path, prototypes: Tensor) -> None:
    """Write [R, K+1, C] as .npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, prototypes=prototypes.numpy())
    write_atomically(path, buffer.getvalue())


def read_class_prototypes(files: Sequence[Path], device: torch.device) -> Tensor | None:
    """Prototypes [R, K+1, C] of the one file, or None without a file.

    Raises:
        InputError: the file holds something else.
    """
    if not files:
        return None
    (path,) = files
    try:
        with path.open("rb") as stream, np.load(stream) as stored:
            return torch.from_numpy(stored["prototypes"]).to(device)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} holds no class prototypes ({error}); rerun average_prototypes"
        ) from error
