"""Pairs of training images that share a class, for methods that compare images (RPNet).

In: the training images of stage 1. Out: per item both images of a pair, [2, ...] each entry; a
batch of P items is [P, 2, ...] and `flatten_pairs` makes it 2P images, pair i at rows 2i, 2i + 1.
The partner is a function of (seed, epoch, position), and each image's augmentation of (seed, epoch,
position, which): 0 for the image, 1 for its partner. Source: RPNet (arXiv 2108.07413).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from protoseg.data.classification import ImageLabelDataset, augment
from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex

CHOICE = 2  # the random stream of partners, beside 0 and 1 of the augmentations
NO_LABEL = (0,)  # the class of images without labels


class Partners:
    """The partner of each image of a list, anew in every epoch.

    One of the image's labels at random among those that another image has, then one of the other
    images with that label. An image that shares no label is its own partner. Images without labels
    count as one class: a partner with an object would bring them prototypes of what they lack.
    """

    def __init__(self, index: DatasetIndex, ids: Sequence[str], seed: int) -> None:
        self.ids, self.seed = list(ids), seed
        self.labels = [index[image_id].labels or NO_LABEL for image_id in self.ids]
        members: dict[int, list[int]] = {}
        for position, labels in enumerate(self.labels):
            for label in labels:
                members.setdefault(label, []).append(position)
        self.members = {label: np.array(positions) for label, positions in members.items()}

    def __call__(self, epoch: int, position: int) -> str:
        """Id of the partner of image ``position`` in ``epoch``."""
        shared = [label for label in self.labels[position] if len(self.members[label]) > 1]
        if not shared:
            return self.ids[position]
        random = np.random.default_rng((self.seed, epoch, position, CHOICE))
        members = self.members[shared[int(random.integers(len(shared)))]]
        others = members[members != position]
        return self.ids[others[int(random.integers(len(others)))]]


class PairDataset(Dataset[dict[str, Tensor]]):
    """Each training image with its partner; item (epoch, position) is a function of the seed.

    An item has image [2, 3, crop, crop], label [2, K] and valid_box [2, 4], partner second. The
    first image is the one that ``samples`` gives for the same key.

    Args:
        samples: the single images; gives list, crop, scales and seed.
    """

    def __init__(self, samples: ImageLabelDataset) -> None:
        self.samples = samples
        self.partners = Partners(samples.index, samples.ids, samples.seed)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        partner = self._partner(*key)
        own = self.samples[key]
        return {name: torch.stack([own[name], partner[name]]) for name in own}

    def _partner(self, epoch: int, position: int) -> dict[str, Tensor]:
        index, settings = self.samples.index, self.samples.settings
        record = index[self.partners(epoch, position)]
        random = np.random.default_rng((self.samples.seed, epoch, position, 1))
        image, box = augment(read_image(record.image), settings.crop, settings.long_side, random)
        label = torch.from_numpy(index.label_vector(record.id))
        return {"image": image, "label": label, "valid_box": box}


def flatten_pairs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of P pairs [P, 2, ...] as 2P images, pair i at rows 2i and 2i + 1."""
    return {name: value.flatten(0, 1) for name, value in batch.items()}
