"""Training images with label maps, for the affinity network and the segmenter.

In: an index, a list, and where the label maps come from: result files or the masks. Out: per item
an image [3, crop, crop] float32 and a label map [crop, crop] int64, 255 unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex
from protoseg.data.segmentation_transforms import augment_with_label
from protoseg.errors import InputError
from protoseg.storage import ResultReader

ReadLabel = Callable[[str], NDArray[np.uint8]]


class LabelledDataset(Dataset[dict[str, Tensor]]):
    """Augmented images with label maps; item (epoch, position) is a function of the seed.

    Args:
        read_label: gives the label map [H, W] of an id, see `stored_labels` and `ground_truth`.
        crop: side in pixels. scale: range of random scaling. hsv_jitter: of colours.
        resample: of the scaled image.
    """

    def __init__(
        self,
        index: DatasetIndex,
        ids: Sequence[str],
        read_label: ReadLabel,
        crop: int,
        scale: Sequence[float],
        seed: int,
        hsv_jitter: int = 0,
        resample: Image.Resampling = Image.Resampling.BICUBIC,
    ) -> None:
        self.index, self.ids, self.read_label = index, list(ids), read_label
        self.crop, self.scale, self.seed = crop, tuple(scale), seed
        self.hsv_jitter, self.resample = hsv_jitter, resample

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, position = key
        record = self.index[self.ids[position]]
        label = self.read_label(record.id)
        if label.shape != record.size:
            raise InputError(
                f"label map of {record.id} is {label.shape}, its image {record.size}; rerun the "
                "stage that made the labels"
            )
        random = np.random.default_rng((self.seed, epoch, position))
        image = read_image(record.image)
        pixels, labels = augment_with_label(
            image, label, self.crop, self.scale, random, self.resample, self.hsv_jitter
        )
        return {"image": pixels, "label": labels}


def stored_labels(reader: ResultReader, ids: Sequence[str], list_name: str) -> ReadLabel:
    """Label maps of result files, after a check that they hold every id."""
    reader.check_ids(ids, list_name)
    return reader.label


def ground_truth(index: DatasetIndex, ids: Sequence[str], list_name: str) -> ReadLabel:
    """Masks of the data set, after a check that every id has one."""
    missing = [image_id for image_id in ids if index[image_id].mask is None]
    if missing:
        raise InputError(
            f"{len(missing)} ids of {list_name!r} have no mask (first: {missing[0]}), which "
            "segmenter.labels: ground_truth needs"
        )
    return partial(DatasetIndex.read_mask, index)
