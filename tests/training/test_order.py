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


def test_ranks_share_every_batch() -> None:
    whole = batches(0, 5, batch_size=4)
    shares = [list(EpochBatches(11, 4, 0, rank, 2)) for rank in range(2)]
    assert all(len(part) == 2 for share in shares for part in share)
    joined = [
        [key[1] for pair in zip(*parts, strict=True) for key in pair]
        for parts in zip(*shares, strict=True)
    ]
    assert joined == batches(0, 0, batch_size=4)
    assert joined != whole


@pytest.mark.parametrize(
    ("batch_size", "parts", "ranks", "sizes"),
    [
        (10, 1, 1, [[10]]),
        (10, 3, 1, [[4, 3, 3]]),
        (10, 2, 2, [[3, 2], [2, 3]]),
        (12, 2, 3, [[2, 2]] * 3),
        (10, 2, 5, [[1, 1]] * 5),
        (10, 2, 10, [[1]] * 10),
    ],
)
def test_parts_are_the_same_images_for_every_number_of_ranks(
    batch_size: int, parts: int, ranks: int, sizes: list[list[int]]
) -> None:
    shares = [EpochBatches(batch_size, batch_size, 0, rank, ranks) for rank in range(ranks)]
    assert [share.part_sizes(parts) for share in shares] == sizes
    (whole,) = EpochBatches(batch_size, batch_size, 0)
    start = 0
    cut = {rank: iter(next(iter(share))) for rank, share in enumerate(shares)}
    for part in zip(*sizes, strict=True):
        held = {next(cut[rank]) for rank, count in enumerate(part) for _ in range(count)}
        assert held == set(whole[start : start + sum(part)])
        start += sum(part)
    assert start == batch_size


def test_batch_that_ranks_cannot_share() -> None:
    with pytest.raises(
        InputError, match=r"batch of 10 .* by 4 processes; set batch_size to a multiple of 4"
    ):
        EpochBatches(20, 10, 0, 0, 4)
