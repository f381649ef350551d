"""Order of the training data: a function of (seed, epoch), every image at most once."""

from __future__ import annotations

import pytest

from protoseg.errors import InputError
from protoseg.training.order import EpochBatches


def batches(seed: int, epoch: int, length: int = 11, batch_size: int = 3) -> list[list[int]]:
    sampler = EpochBatches(length, batch_size, seed)
    sampler.epoch = epoch
    found = list(sampler)
    assert all(number == epoch for batch in found for number, _ in batch)
    return [[position for _, position in batch] for batch in found]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches(0, 5) == batches(0, 5)
    assert len({str(batches(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_incomplete_batch_is_dropped() -> None:
    found = batches(0, 0)
    assert [len(batch) for batch in found] == [3, 3, 3]
    positions = [position for batch in found for position in batch]
    assert len(set(positions)) == 9
    assert set(positions) <= set(range(11))
    assert len(EpochBatches(11, 3, 0)) == 3


def test_every_image_comes_up_over_the_epochs() -> None:
    seen = {p for epoch in range(10) for batch in batches(0, epoch) for p in batch}
    assert seen == set(range(11))


def test_fewer_images_than_a_batch() -> None:
    assert len(EpochBatches(3, 3, 0)) == 1
    with pytest.raises(InputError, match="2 training images are fewer than a batch of 3"):
        EpochBatches(2, 3, 0)
