"""The user's own folder: labels from a table, lists from a column or files, optional masks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import index_dataset
from protoseg.command import Arguments
from protoseg.data.checks import DatasetError
from protoseg.data.folder import index_folder
from protoseg.data.index import DatasetIndex, read_index
from protoseg.data.palette import save_label_png
from protoseg.settings.schema import DatasetSettings

LISTS = {"train_list": "train", "labels_list": "train", "maps_list": "val", "val_list": "val"}
TABLE = """image,labels,lists
a.jpg,nut bolt,train
b.png,bolt,train|all
c.jpg,,train all
d.jpg,nut nut,val
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text(TABLE)
    for name in ("a.jpg", "b.png", "c.jpg", "d.jpg"):
        Image.new("L", (30, 20)).save(tmp_path / "images" / name)
    return tmp_path


def add_masks(root: Path, ids: str = "ad") -> None:
    """Rows of the values 0, 1, 2 and 255; value 1 is the nut."""
    (root / "masks").mkdir()
    (root / "classes.txt").write_text("nut\nbolt\n\n")
    mask = np.zeros((20, 30), np.uint8)
    mask[1:4] = [[1], [2], [255]]
    for image_id in ids:
        save_label_png(root / "masks" / f"{image_id}.png", mask)


def settings(root: Path, **values: Any) -> DatasetSettings:
    named = {"name": "own", "kind": "folder", "root": str(root)}
    return DatasetSettings(**{**named, **LISTS, **values})


def index_of(root: Path, **values: Any) -> DatasetIndex:
    return index_folder(settings(root, **values), workers=1)


def problems(root: Path, **values: Any) -> list[str]:
    with pytest.raises(DatasetError) as error:
        index_of(root, **values)
    return error.value.problems


def test_labels_and_lists_come_from_the_table(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        index = index_of(root)
    assert index.classes == ("bolt", "nut")
    assert index.ids("train") == ["a", "b"]  # c has no label
    assert [index[image_id].labels for image_id in "abd"] == [(1, 2), (1,), (2,)]
    assert index["b"].image == root / "images" / "b.png"
    assert index["a"].mask is None
    assert "train: 2 images; left out without our classes: 1" in caplog.text
    assert "nothing of this data set can be scored" in caplog.text
    assert index_of(root, keep_unlabelled=True)["c"].labels == ()


def test_values_of_masks_are_named_by_a_file(root: Path) -> None:
    add_masks(root)
    index = index_of(root)
    assert index.classes == ("nut", "bolt")
    assert_array_equal(index.read_mask("d")[:4, 0], [0, 1, 2, 255])
    assert index["b"].mask is None  # trained on, never scored
    subset = index_of(root, classes=("bolt",), maps_list="train[1]")
    assert_array_equal(subset.read_mask("a")[:4, 0], [0, 255, 1, 255])
    assert "d" not in subset.records


def test_names_with_spaces_need_the_bar(root: Path) -> None:
    table = "image, labels\na.jpg, wing nut | bolt\nb.png, wing nut\nd.jpg, bolt\n"
    (root / "labels.csv").write_text(table, encoding="utf-8-sig")
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text("b.png\na\n")  # with or without ending
    (root / "lists" / "val.txt").write_text("d\n")
    index = index_of(root)
    assert index.classes == ("bolt", "wing nut")
    assert index.ids("train") == ["b", "a"]
    assert [index[image_id].labels for image_id in "abd"] == [(1, 2), (2,), (1,)]


def test_every_problem_is_listed_at_once(root: Path) -> None:
    add_masks(root, "a")
    save_label_png(root / "masks" / "a.png", np.full((20, 30), 9, np.uint8))
    (root / "classes.txt").write_text("nut\n")
    more = "x/e.jpg,nut,train\na.png,nut,train\nf.jpg,nut,train\n"
    (root / "labels.csv").write_text(TABLE + more)
    (root / "lists").mkdir()
    (root / "lists" / "val.txt").write_text("d\nghost.jpg\n")
    found = problems(root, classes=("nut", "cog"), labels_list="none")
    expected = [
        "'x/e.jpg' is no file name",
        "a stands there more than once",
        "classes.txt: 'bolt' of labels.csv is not in it",
        "'cog' is no label",
        "val.txt: ghost.jpg has no row in labels.csv",
        "none.txt: no such list",
        "f.jpg: no such image",
        "a.png: mask holds 9, which no class has",
        "d: no mask, but its list is scored",
    ]
    for text in expected:
        assert len([line for line in found if text in line]) == 1, text
    assert len(found) == len(expected)


def test_masks_need_names(root: Path) -> None:
    add_masks(root)
    (root / "classes.txt").unlink()
    assert any("classes.txt: no such file; name the class" in line for line in problems(root))


@pytest.mark.parametrize("table", ["", "image,label\na.jpg,nut\n", "image,labels\n", None])
def test_a_table_without_rows_or_columns(root: Path, table: str | None) -> None:
    (root / "labels.csv").unlink()
    if table is not None:
        (root / "labels.csv").write_text(table)
    reason = (
        "mend dataset.root"
        if table is None
        else "write the columns image and labels, parted by commas"
    )
    assert reason in problems(root)[0]


def test_the_command_writes_an_index(root: Path, tmp_path: Path) -> None:
    add_masks(root)
    given, output = tmp_path / "settings.json", tmp_path / "results"
    values = {"name": "own", "kind": "folder", "root": str(root), **LISTS}
    given.write_text(json.dumps({"dataset": values}))
    index_dataset.main(Arguments(settings=given, output=output, workers=1))
    assert read_index(output).records == index_of(root).records


def test_images_of_the_test_list_need_neither_labels_nor_masks(root: Path) -> None:
    add_masks(root)
    table = TABLE.replace("c.jpg,,train all", "c.jpg,,new")
    (root / "labels.csv").write_text(table)
    index = index_of(root, test_list="new")
    assert index.ids("new") == ["c"]
    assert index["c"].labels == ()
    assert index["c"].mask is None
    assert index.ids("train") == ["a", "b"]
    assert "all" not in index.lists
