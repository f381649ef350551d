"""Order of the training data: a function of (seed, epoch) alone.

Batches are lists of (epoch, position) pairs; the data set draws its augmentation from them. So the
number of workers, a resume or a prefetch changes nothing. Of every batch, each rank has an equal
share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from protoseg.errors import InputError


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch, or a rank's share of them; an incomplete last batch is dropped.

    Args:
        length: images, or pairs of images. batch_size: of them, per step over all ranks.
        rank: number of this process among ``ranks``.

    Raises:
        InputError: fewer images than one batch; a batch that gives no equal shares.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if length < batch_size:
            raise InputError(
                f"{length} training images are fewer than a batch of {batch_size}; lower "
                "batch_size, or mend dataset.train_list (classifier) or labels_list (the others)"
            )
        if batch_size % ranks:
            raise InputError(
                f"a batch of {batch_size} images (or pairs) cannot be shared by {ranks} processes; "
                f"set batch_size to a multiple of {ranks} (with pairs of {2 * ranks}), or use "
                "fewer GPUs"
            )
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, 0
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield [(self.epoch, int(i)) for i in batch[self.rank :: self.ranks]]

    def part_sizes(self, parts: int) -> list[int]:
        """How many images of the rank's share lie in each of equal ``parts`` of the whole batch.

        Fewer parts where a rank would have none in one. So a part holds the same images whatever
        the number of ranks.
        """
        whole = np.arange(self.batch_size)
        split_up = np.array_split(whole, min(parts, self.batch_size // self.ranks))
        return [int((part % self.ranks == self.rank).sum()) for part in split_up]
