"""Pairs: partners share a class, and nothing depends on order, workers or other pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_set import small_index
from torch import Tensor
from torch.utils.data import DataLoader

from protoseg.data.classification import ImageLabelDataset, augment
from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.data.pairs import PairDataset, Partners, flatten_pairs
from protoseg.settings.classifier import ClassifierSettings
from protoseg.training.order import EpochBatches

SETTINGS = ClassifierSettings(crop=32, long_side=(20, 48))


def index_of(*labels: tuple[int, ...]) -> DatasetIndex:
    """Images a, b, c ... with these labels; no files."""
    records = [
        ImageRecord(name, Path(name), None, (4, 4), own)
        for name, own in zip("abcdefghij", labels, strict=False)
    ]
    return DatasetIndex("set", Path(), ("x", "y", "z"), {}, records, {})


def partners_of(*labels: tuple[int, ...], seed: int = 0) -> Partners:
    index = index_of(*labels)
    return Partners(index, list(index.records), seed)


def pairs_of(folder: Path, seed: int = 0) -> PairDataset:
    index = small_index(folder)
    return PairDataset(ImageLabelDataset(index, index.ids("train"), SETTINGS, seed))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


LABELS = ((1,), (1, 2), (2,), (2, 3), (3,), (1, 3))


def test_partners_share_a_class_and_are_others() -> None:
    partners = partners_of(*LABELS)
    for epoch in range(20):
        for position, image_id in enumerate(partners.ids):
            partner = partners(epoch, position)
            assert partner != image_id
            assert set(LABELS[position]) & set(LABELS[partners.ids.index(partner)])


def test_every_partner_comes_up_as_often_as_its_class() -> None:
    found = Counter(partners_of(*LABELS)(epoch, 1) for epoch in range(3000))
    # Labels 1 and 2 are equally likely; 1 leaves a and f, 2 leaves c and d.
    assert set(found) == {"a", "f", "c", "d"}
    assert all(abs(count / 3000 - 0.25) < 0.04 for count in found.values())


def test_labels_are_drawn_before_images() -> None:
    partners = partners_of((1, 2), (1,), (2,), (2,), (2,), (2,))
    share = np.mean([partners(epoch, 0) == "b" for epoch in range(2000)])
    assert abs(share - 0.5) < 0.05


def test_partner_is_a_function_of_seed_epoch_and_position() -> None:
    labels = ((1,),) * 10
    one, again, other = (partners_of(*labels, seed=seed) for seed in (0, 0, 1))
    drawn = [one(epoch, position) for epoch in range(5) for position in range(10)]
    assert drawn[::-1] == [again(e, p) for e in range(4, -1, -1) for p in range(9, -1, -1)]
    assert drawn != [other(epoch, position) for epoch in range(5) for position in range(10)]
    assert drawn[:10] != drawn[10:20]


def test_a_label_that_no_other_image_has_is_not_drawn() -> None:
    partners = partners_of((1, 2), (1,))
    assert {partners(epoch, 0) for epoch in range(20)} == {"b"}


def test_an_image_that_shares_no_label_is_its_own_partner() -> None:
    partners = partners_of((1,), (2,), (3,), (), (2,))
    assert [partners(0, position) for position in (0, 2, 3)] == ["a", "c", "d"]


def test_images_without_labels_are_partners_of_each_other() -> None:
    partners = partners_of((1,), (), (1,), ())
    assert {partners(epoch, 1) for epoch in range(20)} == {"d"}
    assert {partners(epoch, 0) for epoch in range(20)} == {"c"}


def test_only_images_of_the_list_are_partners() -> None:
    index = index_of(*LABELS)
    partners = Partners(index, ["b", "f"], 0)
    assert {partners(epoch, 0) for epoch in range(20)} == {"f"}


def test_item_is_both_samples(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path)
    index, samples = pairs.samples.index, pairs.samples
    assert len(pairs) == 6
    for position in range(6):
        item = pairs[2, position]
        assert item["image"].shape == (2, 3, 32, 32)
        assert item["label"].shape == (2, 3)
        assert item["valid_box"].shape == (2, 4)
        assert same({name: value[0] for name, value in item.items()}, samples[2, position])
        partner = index[pairs.partners(2, position)]
        assert item["label"][1].tolist() == index.label_vector(partner.id).tolist()
        assert (item["label"].sum(0) == 2).any()
        random = np.random.default_rng((0, 2, position, 1))
        image, box = augment(read_image(partner.image), 32, (20, 48), random)
        assert torch.equal(item["image"][1], image)
        assert torch.equal(item["valid_box"][1], box)


def test_item_is_a_function_of_seed_epoch_and_position(tmp_path: Path) -> None:
    item = pairs_of(tmp_path)[3, 1]
    assert same(pairs_of(tmp_path)[3, 1], item)
    for other in (pairs_of(tmp_path)[4, 1], pairs_of(tmp_path, seed=1)[3, 1]):
        assert not torch.equal(other["image"][0], item["image"][0])
        assert not torch.equal(other["image"][1], item["image"][1])


def test_an_image_paired_with_itself_is_augmented_twice(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    index.records["image0"] = replace(index["image0"], labels=())
    item = PairDataset(ImageLabelDataset(index, index.ids("train"), SETTINGS, 0))[0, 0]
    assert torch.equal(item["label"][0], item["label"][1])
    assert not torch.equal(item["image"][0], item["image"][1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_pairs_has_the_pairs_in_neighbouring_rows(tmp_path: Path, workers: int) -> None:
    pairs = pairs_of(tmp_path)
    batches = EpochBatches(len(pairs), 3, 0)
    loader = DataLoader(pairs, batch_sampler=batches, num_workers=workers)
    for keys, batch in zip(batches, loader, strict=True):
        flat = flatten_pairs(batch)
        assert flat["image"].shape == (6, 3, 32, 32)
        for number, key in enumerate(keys):
            rows = {name: value[2 * number : 2 * number + 2] for name, value in flat.items()}
            assert same(rows, pairs[key])
