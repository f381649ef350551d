"""Order of the training data: a function of (seed, epoch) alone.

Batches are lists of (epoch, position) pairs; the data set draws its augmentation from them. So the
number of workers, a resume or a prefetch changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from protoseg.errors import InputError


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch; an incomplete last batch is dropped.

    Raises:
        InputError: fewer images than one batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        if length < batch_size:
            raise InputError(
                f"{length} training images are fewer than a batch of {batch_size}; lower batch_size"
            )
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, 0

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(self.epoch, int(i)) for i in order[start : start + self.batch_size]]
