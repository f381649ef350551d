"""train_aug from the official layouts: SBD's files, ready-made masks, and every problem at once."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

import prepare_voc as script
from protoseg.data import train_aug
from protoseg.data.checks import DatasetError
from protoseg.data.palette import load_label_png, save_label_png, voc_palette
from protoseg.data.train_aug import prepare_voc

TRAIN, VAL = ("2007_1", "2007_2"), ("2007_3", "2007_4")
SBD_LISTS = {"train": ("2007_1", "2007_3", "2008_5"), "val": ("2007_4", "2008_6")}
ANNOTATED = ("2007_2", "2007_1", "2008_5", "2008_6")  # (train + SBD) - val
VALUES = {name: value for value, name in enumerate((*TRAIN, *VAL, "2008_5", "2008_6"), 1)}
LIST = "ImageSets/Segmentation/train_aug.txt"


def mask(value: int) -> NDArray[np.uint8]:
    return np.array([[0, value, 0], [value, 0, 0]], np.uint8)


def write_mat(path: Path, labels: NDArray[np.uint8]) -> None:
    savemat(path, {"GTcls": {"Boundaries": np.zeros(2), "Segmentation": labels}})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images in VOC's layout; official masks hold 1, 2, ... and void."""
    counts = {"train": len(TRAIN), "val": len(VAL), "train_aug": len(ANNOTATED)}
    monkeypatch.setattr(train_aug, "COUNTS", counts)
    root = tmp_path / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "Annotations", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for name, ids in {"train": TRAIN, "val": VAL}.items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(ids) + "\n")
    for image_id, value in VALUES.items():
        (root / "JPEGImages" / f"{image_id}.jpg").write_bytes(b"image")
        (root / "Annotations" / f"{image_id}.xml").write_bytes(b"labels")
        labels = mask(value)
        labels[1, 2] = 255
        if image_id in (*TRAIN, *VAL):
            save_label_png(root / "SegmentationClass" / f"{image_id}.png", labels)
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    """SBD as unpacked: its masks hold 11, 12, ..."""
    folder = tmp_path / "benchmark_RELEASE"
    (folder / "dataset" / "cls").mkdir(parents=True)
    for name, ids in SBD_LISTS.items():
        (folder / "dataset" / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for image_id in ids:
            write_mat(folder / "dataset" / "cls" / f"{image_id}.mat", mask(10 + VALUES[image_id]))
    return folder


def problems(root: Path, sbd: Path | None) -> list[str]:
    with pytest.raises(DatasetError) as error:
        prepare_voc(root, sbd, 0)
    return error.value.problems


def test_list_and_masks_from_sbd(root: Path, sbd: Path) -> None:
    script.main(Namespace(root=root, sbd=sbd, workers=0))
    assert (root / LIST).read_text().split("\n") == [*sorted(ANNOTATED), ""]
    masks = root / "SegmentationClassAug"
    assert {path.name for path in masks.iterdir()} == {f"{image_id}.png" for image_id in VALUES}
    for image_id, value in VALUES.items():
        official = image_id in (*TRAIN, *VAL)
        labels = mask(value if official else 10 + value)
        labels[1, 2] = 255 if official else 0
        assert_array_equal(load_label_png(masks / f"{image_id}.png"), labels)
    with Image.open(masks / "2008_5.png") as image:
        assert image.mode == "P"
        assert_array_equal(np.array(image.convert("RGB"))[0, 1], voc_palette()[15])


def test_processes_write_the_same_and_sbd_may_be_named_by_its_inner_folder(
    root: Path, sbd: Path
) -> None:
    prepare_voc(root, sbd / "dataset", 2)
    assert_array_equal(load_label_png(root / "SegmentationClassAug/2008_6.png"), mask(16))


def test_a_stopped_run_goes_on_and_keeps_what_is_there(root: Path, sbd: Path) -> None:
    prepare_voc(root, sbd, 0)
    kept, lost = (root / "SegmentationClassAug" / f"{k}.png" for k in ("2008_5", "2008_6"))
    times = kept.stat().st_mtime_ns
    for path in (lost, root / LIST):
        path.unlink()
    prepare_voc(root, sbd, 0)
    assert lost.is_file()
    assert (root / LIST).is_file()
    assert kept.stat().st_mtime_ns == times
    prepare_voc(root, None, 0)  # what it made is a ready-made set


@pytest.mark.parametrize("inside", [True, False])
def test_ready_made_masks_count_as_they_are(root: Path, tmp_path: Path, inside: bool) -> None:
    folder = root / "SegmentationClassAug" if inside else tmp_path / "masks"
    folder.mkdir()
    for image_id in ANNOTATED:
        save_label_png(folder / f"{image_id}.png", mask(7))
    prepare_voc(root, None if inside else folder, 0)
    assert set((root / LIST).read_text().split()) == set(ANNOTATED)
    found = {k: load_label_png(root / f"SegmentationClassAug/{k}.png")[0, 1] for k in VALUES}
    assert found == VALUES | dict.fromkeys(ANNOTATED, 7)


def test_differing_files_are_named_and_never_replaced(root: Path, sbd: Path) -> None:
    prepare_voc(root, sbd, 0)
    masks = root / "SegmentationClassAug"
    save_label_png(masks / "2007_1.png", mask(19))
    (masks / "2008_5.png").write_bytes(b"no PNG")
    (masks / "2008_6.png").unlink()
    write_mat(sbd / "dataset/cls/2008_6.mat", mask(12))
    found = problems(root, sbd)
    assert len(found) == 2
    assert all("differs from" in line and "move either one away" in line for line in found)
    assert load_label_png(masks / "2007_1.png")[0, 1] == 19
    assert (masks / "2008_5.png").read_bytes() == b"no PNG"
    assert load_label_png(masks / "2008_6.png")[0, 1] == 12  # the others are written all the same


def test_another_list_is_named_and_never_replaced(root: Path, sbd: Path) -> None:
    (root / LIST).write_text("2008_6\n2007_1\n2007_2\n2008_5\n")
    prepare_voc(root, sbd, 0)
    assert (root / LIST).read_text().startswith("2008_6\n")
    (root / LIST).write_text("2008_6\n2007_1\n2009_9\n2008_5\n")
    (line,) = problems(root, sbd)
    assert "train_aug.txt: 1 ids have no mask, 1 are not on it (first: 2007_2)" in line
    assert "2009_9" in (root / LIST).read_text()


def test_everything_that_is_missing_is_named_with_its_archive(root: Path, sbd: Path) -> None:
    (root / "JPEGImages/2008_5.jpg").unlink()
    (root / "JPEGImages/2007_4.jpg").write_bytes(b"")
    (root / "Annotations/2007_1.xml").unlink()
    (root / "SegmentationClass/2007_3.png").unlink()
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_3\n")
    (sbd / "dataset/cls/2008_6.mat").unlink()
    expected = [
        ("val has 1 ids, not 2", "VOCtrainval_11-May-2012.tar"),
        ("cls lacks 1 files (first: 2008_6.mat)", "benchmark.tgz"),
        ("JPEGImages lacks 2 files (first: 2007_4.jpg)", "VOCtrainval_11-May-2012.tar"),
        ("Annotations lacks 1 files (first: 2007_1.xml)", "VOCtrainval_11-May-2012.tar"),
        ("SegmentationClass lacks 1 files (first: 2007_3.png)", "VOCtrainval_11-May-2012.tar"),
    ]
    for line, (text, archive) in zip(problems(root, sbd), expected, strict=True):
        assert text in line
        assert archive in line
    assert not (root / "SegmentationClassAug").exists()


def test_absent_and_partial_sets_are_named(root: Path, sbd: Path) -> None:
    assert "neither cls/*.mat nor masks as PNGs" in problems(root, None)[0]
    assert "name its VOCdevkit/VOC2012" in problems(root.parent, sbd)[0]
    (root / "SegmentationClassAug").mkdir()
    save_label_png(root / "SegmentationClassAug/2008_5.png", mask(15))
    (line,) = problems(root, None)
    assert "train_aug has 3 ids, not 4; unpack SegmentationClassAug.zip, or name" in line
    (sbd / "dataset/val.txt").unlink()
    assert "val.txt: no such list" in problems(root, sbd)[0]


@pytest.mark.parametrize(
    "content", [b"", b"text", {"other": 1}, {"GTcls": {"Segmentation": np.array([[0, 21]])}}]
)
def test_broken_files_of_sbd_are_named(root: Path, sbd: Path, content: bytes | dict) -> None:
    path = sbd / "dataset/cls/2008_5.mat"
    if isinstance(content, bytes):
        path.write_bytes(content or path.read_bytes()[:200])
    else:
        savemat(path, content)
    (line,) = problems(root, sbd)
    assert line.startswith(f"{path}: not a readable mask")
    assert not (root / LIST).exists()


def test_official_numbers() -> None:
    assert train_aug.COUNTS == {"train": 1464, "val": 1449, "train_aug": 10_582}


def test_the_command_says_what_is_wrong(root: Path, sbd: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(script.__file__)), "--root", str(root), "--sbd", str(sbd)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "train_aug has 4 ids, not 10582" in done.stderr
