"""The index as files: what is written is read back, byte for byte the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from protoseg.data.checks import DatasetError
from protoseg.data.index import DatasetIndex, ImageRecord, read_index, write_index
from protoseg.data.palette import save_label_png

SIZE = (3, 4)


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """Two classes out of values 1..3; the list order is not the sorted one."""
    root = tmp_path / "root"
    root.mkdir()
    records = [
        ImageRecord("b", root / "b.jpg", root / "b.png", SIZE, (1, 2)),
        ImageRecord("000012", root / "000012.jpg", None, SIZE, (2,)),
        ImageRecord("NA", root / "NA.jpg", root / "NA.png", SIZE, (1,)),
    ]
    lists = {"train_aug": ["b", "NA", "000012"], "val": ["NA"]}
    values = {0: 0, 1: 1, 2: 255, 3: 2, 255: 255}
    return DatasetIndex("tiny", root, ["cow", "dog"], values, records, lists)


def test_what_is_written_is_read_back(index: DatasetIndex, tmp_path: Path) -> None:
    write_index(index, tmp_path / "out")
    again = read_index(tmp_path / "out")
    assert again.name == "tiny"
    assert again.classes == ("cow", "dog")
    assert again.ids("train_aug") == ["b", "NA", "000012"]
    assert again.mask_values == index.mask_values
    assert [again[name] for name in index.ids("train_aug")] == [
        index[name] for name in index.ids("train_aug")
    ]


def test_equal_indexes_give_equal_bytes(index: DatasetIndex, tmp_path: Path) -> None:
    turned = DatasetIndex(
        index.name,
        index.root,
        index.classes,
        index.mask_values,
        list(index.records.values())[::-1],
        index.lists,
    )
    write_index(index, tmp_path / "one")
    write_index(turned, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["dataset.json", "images.csv"]  # no temporary file stays behind
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_columns_of_the_table(index: DatasetIndex, tmp_path: Path) -> None:
    write_index(index, tmp_path)
    rows = pd.read_csv(tmp_path / "images.csv", dtype=str, keep_default_na=False)
    assert list(rows["id"]) == ["000012", "NA", "b"]
    assert list(rows.loc[2]) == ["b", "b.jpg", "b.png", "3", "4", "1 2", "train_aug"]
    assert list(rows["mask"]) == ["", "NA.png", "b.png"]


def test_mask_values_become_class_ids(index: DatasetIndex) -> None:
    pixels = np.array([[0, 1, 2, 3], [255, 0, 3, 3], [1, 1, 2, 0]], np.uint8)
    save_label_png(index.root / "b.png", pixels)
    mask = index.read_mask("b")
    assert mask.dtype == np.uint8
    assert_array_equal(mask, [[0, 1, 255, 2], [255, 0, 2, 2], [1, 1, 255, 0]])


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full(SIZE, 7, np.uint8), "unknown values"),
        (np.zeros((4, 4), np.uint8), "not as indexed"),
        (None, "No such file"),
    ],
)
def test_a_mask_changed_since_indexing_is_refused(
    index: DatasetIndex, pixels: np.ndarray | None, reason: str
) -> None:
    if pixels is not None:
        save_label_png(index.root / "b.png", pixels)
    with pytest.raises(DatasetError, match=rf"b\.png.*{reason}.*rerun index_dataset"):
        index.read_mask("b")


def test_an_image_without_mask_has_labels(index: DatasetIndex) -> None:
    vector = index.label_vector("000012")
    assert vector.dtype == np.float32
    assert_array_equal(vector, [0, 1])
    with pytest.raises(DatasetError, match="000012 of tiny has no mask"):
        index.read_mask("000012")


def test_unknown_names_are_named(index: DatasetIndex) -> None:
    with pytest.raises(DatasetError, match="no list 'test', only train_aug, val"):
        index.ids("test")
    with pytest.raises(DatasetError, match="no image 'x'"):
        index["x"]


def test_ids_is_a_copy(index: DatasetIndex) -> None:
    index.ids("val").append("b")
    assert index.ids("val") == ["NA"]


def test_an_absent_or_broken_index_says_what_to_run(index: DatasetIndex, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no usable index in .*run index_dataset"):
        read_index(tmp_path / "nowhere")
    write_index(index, tmp_path)
    about = json.loads((tmp_path / "dataset.json").read_text())
    del about["lists"]
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="run index_dataset"):
        read_index(tmp_path)
