"""Training images with label maps: from result files and from masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_set import small_index

from protoseg.data.index import DatasetIndex
from protoseg.data.labelled import LabelledDataset, ground_truth, stored_labels
from protoseg.errors import InputError
from protoseg.storage import ResultReader, write_results


def reader_of(index: DatasetIndex, folder: Path) -> ResultReader:
    """The masks of all images but the last, as a result file."""
    path = folder / "labels.h5"
    with write_results(path, "labels", index.class_names, "f") as writer:
        for image_id in index.ids("train")[:-1]:
            writer.write_label(image_id, index.read_mask(image_id))
    return ResultReader([path], "labels")


def test_both_sources_give_the_same_items(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    ids = index.ids("train")[:-1]
    reader = reader_of(index, tmp_path)
    sources = (ground_truth(index, ids, "train"), stored_labels(reader, ids, "train"))
    masks, stored = (LabelledDataset(index, ids, read, 32, (0.5, 1.5), 0) for read in sources)
    assert len(masks) == 5
    for position in range(5):
        one, other = masks[2, position], stored[2, position]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
        assert one["image"].shape == (3, 32, 32)
        assert one["label"].shape == (32, 32)
        assert one["label"].dtype == torch.int64


def test_item_is_a_function_of_seed_epoch_and_position(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    ids = index.ids("train")

    def item(seed: int, epoch: int) -> torch.Tensor:
        read = ground_truth(index, ids, "train")
        return LabelledDataset(index, ids, read, 32, (0.5, 1.5), seed)[epoch, 0]["image"]

    assert torch.equal(item(0, 1), item(0, 1))
    assert not torch.equal(item(0, 1), item(0, 2))
    assert not torch.equal(item(0, 1), item(1, 1))


def test_missing_labels_and_masks_are_told_before_training(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    ids = index.ids("train")
    with pytest.raises(InputError, match=r"lacks 1 ids of 'train_aug' \(first: image5\)"):
        stored_labels(reader_of(index, tmp_path), ids, "train_aug")
    index.records["image2"] = replace(index["image2"], mask=None)
    with pytest.raises(InputError, match=r"1 ids of 'train' have no mask \(first: image2\)"):
        ground_truth(index, ids, "train")


def test_label_map_of_another_size_is_named(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    dataset = LabelledDataset(
        index, ["image0"], lambda image_id: np.zeros((3, 3), np.uint8), 32, (1.0, 1.0), 0
    )
    with pytest.raises(InputError, match=r"label map of image0 is \(3, 3\), its image \(24, 32\)"):
        dataset[0, 0]
