"""COCO 2014 as its own files: labels, drawn masks, subsets, and every problem at once."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from protoseg.data import coco
from protoseg.data.checks import DatasetError
from protoseg.data.coco import index_coco
from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex, read_index, write_index
from protoseg.data.palette import load_label_png
from protoseg.settings.schema import DatasetSettings

HEIGHT, WIDTH = 12, 16
CATEGORIES = {1: "person", 18: "dog", 44: "bottle"}
LISTS = {"train_list": "train", "labels_list": "train", "maps_list": "train", "val_list": "val"}
DOG, PERSON, BOTH, NONE = (f"COCO_train2014_{number:012d}" for number in (9, 25, 30, 34))
CROWD = "COCO_val2014_000000000042"
SCRIPT = Path(coco.__file__).parents[2] / "index_dataset.py"


def box(top: int, left: int, bottom: int, right: int) -> list[float]:
    return [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]


def annotation(image: int, category: int, shape: Any, area: float, crowd: int = 0) -> dict:
    names = ("image_id", "category_id", "segmentation", "area", "iscrowd")
    return dict(zip(names, (image, category, shape, area, crowd), strict=True))


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths of a mask: down the columns, zeros first."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def ring() -> np.ndarray:
    """A square with a hole."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:9, 2:9] = True
    mask[4:7, 4:7] = False
    return mask


ANNOTATIONS = {
    "train": [
        # The small dog stands first, so that the two rules differ where it meets the person.
        annotation(30, 18, [box(4, 4, 8, 8)], 16),
        annotation(30, 1, [box(2, 6, 10, 14)], 64),
        annotation(9, 18, run_lengths(ring()), 40),
        annotation(25, 1, [box(1, 1, 3, 3), box(5, 5, 9, 9)], 20),
    ],
    "val": [annotation(42, 44, run_lengths(~ring()), 150, crowd=1)],
}
IMAGES = {"train": (34, 9, 30, 25), "val": (42,)}


def instances(name: str) -> dict[str, Any]:
    images = [
        {"id": i, "file_name": f"COCO_{name}2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in IMAGES[name]
    ]
    categories = [{"id": i, "name": text} for i, text in reversed(CATEGORIES.items())]
    annotations = copy.deepcopy(ANNOTATIONS[name])
    return {"images": images, "annotations": annotations, "categories": categories}


def write_instances(root: Path, name: str, content: Any) -> None:
    (root / "annotations" / f"instances_{name}2014.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four training images, one of them grey, one without annotation; one crowd in val."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for name in IMAGES:
        (root / f"{name}2014").mkdir()
        write_instances(root, name, instances(name))
        for entry in instances(name)["images"]:
            image = Image.fromarray(noise).convert("L" if entry["id"] == 9 else "RGB")
            image.save(root / f"{name}2014" / entry["file_name"], quality=95)
    return root


def settings(root: Path, **values: Any) -> DatasetSettings:
    return DatasetSettings(**{"name": "tiny", "kind": "coco", "root": str(root), **LISTS, **values})


def index_of(root: Path, **values: Any) -> DatasetIndex:
    return index_coco(settings(root, **values), root.parent / "masks", workers=1)


def problems(root: Path, **values: Any) -> list[str]:
    with pytest.raises(DatasetError) as error:
        index_of(root, **values)
    return error.value.problems


def test_labels_lists_and_classes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        index = index_of(root)
    assert index.classes == ("person", "dog", "bottle")  # by category id, not by place
    assert index.ids("train") == [DOG, PERSON, BOTH]
    assert [index[image_id].labels for image_id in index.ids("train")] == [(2,), (1,), (1, 2)]
    assert index[CROWD].labels == (3,)  # a crowd is a label whatever the painting
    assert index[BOTH].size == (HEIGHT, WIDTH)
    assert "train: 4 images, 3 with labels" in caplog.text
    assert "train: 3 images; left out without our classes: 1" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_images_without_labels_can_stay(root: Path) -> None:
    index = index_of(root, keep_unlabelled=True)
    assert index.ids("train") == [DOG, PERSON, BOTH, NONE]
    assert index[NONE].labels == ()
    assert not index.read_mask(NONE).any()


@pytest.mark.parametrize("rule", ["annotation_order", "smaller_on_top"])
def test_masks_follow_the_rule(root: Path, rule: str) -> None:
    index = index_of(root, coco_painting=rule)
    both, smaller_on_top = np.zeros((HEIGHT, WIDTH), int), rule == "smaller_on_top"
    both[4:8, 4:8] = 2
    both[2:10, 6:14] = 1
    if smaller_on_top:
        both[4:8, 4:8] = 2
    assert_array_equal(index.read_mask(BOTH), both)
    assert_array_equal(index.read_mask(DOG), 2 * ring())  # the hole is background
    assert_array_equal(index.read_mask(CROWD), 3 * ~ring() * smaller_on_top)


def test_a_subset_takes_the_same_masks(root: Path) -> None:
    whole = index_of(root)
    index = index_of(root, classes=("bottle", "dog"))
    assert index.ids("train") == [DOG, BOTH]
    assert index[BOTH].labels == (2,)
    assert index[BOTH].mask == whole[BOTH].mask
    assert sorted(np.unique(index.read_mask(BOTH))) == [0, 2, 255]
    assert_array_equal(index.read_mask(BOTH) == 255, whole.read_mask(BOTH) == 1)


def test_a_grey_image_is_read_as_three_channels(root: Path) -> None:
    image = index_of(root)[DOG].image
    with Image.open(image) as stored:
        assert stored.mode == "L"
    pixels = np.asarray(read_image(image))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_whole_masks_are_kept_and_broken_ones_drawn_again(root: Path) -> None:
    index = index_of(root)
    dog, person = index[DOG].mask, index[PERSON].mask
    assert dog
    assert person
    before, times = load_label_png(dog), person.stat().st_mtime_ns
    dog.write_bytes(dog.read_bytes()[:40])
    assert index_of(root)[DOG].mask == dog
    assert_array_equal(load_label_png(dog), before)
    assert person.stat().st_mtime_ns == times
    assert {path.suffix for path in dog.parent.iterdir()} == {".png"}


def test_other_annotations_are_drawn_elsewhere(root: Path) -> None:
    before = index_of(root)
    content = instances("train")
    content["annotations"][3]["category_id"] = 18
    write_instances(root, "train", content)
    after = index_of(root)
    assert after[PERSON].mask != before[PERSON].mask
    assert after[CROWD].mask == before[CROWD].mask
    assert set(np.unique(after.read_mask(PERSON))) == {0, 2}


def test_only_images_of_the_settings_get_a_mask(root: Path) -> None:
    one = "train[1]"
    index = index_of(root, train_list=one, labels_list=one, maps_list=one)
    assert [bool(index[image_id].mask) for image_id in index.ids("train")] == [True, False, False]


def test_a_list_that_is_not_named_is_not_read(root: Path) -> None:
    (root / "annotations" / "instances_train2014.json").unlink()
    index = index_of(root, train_list="val", labels_list="val", maps_list="val")
    assert list(index.lists) == ["val"]


def test_the_index_is_read_back(root: Path, tmp_path: Path) -> None:
    index = index_of(root)
    write_index(index, tmp_path / "out")
    again = read_index(tmp_path / "out")
    assert again.records == index.records
    assert again.painting == "annotation_order"
    assert_array_equal(again.read_mask(BOTH), index.read_mask(BOTH))


def test_every_problem_is_listed_at_once(root: Path) -> None:
    content = instances("train")
    content["annotations"] += [annotation(30, category, [], 1) for category in (13, 99, 99)]
    content["images"][1]["width"] = WIDTH + 1
    write_instances(root, "train", content)
    (root / "val2014" / f"{CROWD}.jpg").unlink()
    broken = root / "train2014" / f"{PERSON}.jpg"
    broken.write_bytes(broken.read_bytes()[:-100])
    found = problems(root, classes=("dog", "gnu"), keep_unlabelled=True)
    expected = [
        "category 13 of 1 annotations is unknown",
        "category 99 of 2 annotations is unknown",
        "'gnu' is no category",
        f"{DOG}.jpg: image is 16x12, the JSON says 17x12",
        f"{PERSON}.jpg: not a whole image",
        f"{CROWD}.jpg: no such image",
    ]
    for line, text in zip(found, expected, strict=True):
        assert text in line
    assert not (root.parent / "masks").exists()  # nothing is drawn before all is well


def test_both_lists_are_compared(root: Path) -> None:
    content = instances("train")
    content["categories"][0]["name"] = "flask"
    write_instances(root, "val", content)
    found = problems(root)
    assert any("val2014.json: other categories than train" in line for line in found)
    assert any(f"{DOG} is in train as well" in line for line in found)


def test_files_that_are_no_coco_are_named(root: Path) -> None:
    path = root / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps({"images": []}))
    (root / "train2014").rename(root / "train2017")
    found = problems(root, train_list="train_aug + train")
    assert any("no list 'train_aug', only train, val" in line for line in found)
    assert any("train2014: no such folder" in line for line in found)
    assert any("not a sound instances JSON of COCO (KeyError('annotations'))" in x for x in found)
    assert len(found) == 3
    content = instances("val")
    content["images"] *= 2
    write_instances(root, "val", content)
    assert any("lists an image more than once" in line for line in problems(root))
    path.unlink()
    assert any("instances_val2014.json: cannot be read" in line for line in problems(root))


def test_shapes_that_cannot_be_painted_are_named(root: Path) -> None:
    content = instances("train")
    content["annotations"][0]["segmentation"] = []
    content["annotations"][3]["segmentation"] = [[1.0, 2.0]]
    write_instances(root, "train", content)
    found = problems(root)
    assert [line.split(":")[0] for line in found] == [PERSON, BOTH]


@pytest.mark.parametrize(("labelled", "warned"), [(3, False), (2, True)])
def test_official_counts_are_compared(
    root: Path,
    labelled: int,
    warned: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(coco.LISTS, "train", (len(IMAGES["train"]), labelled))
    index_of(root)
    assert ("COCO 2014 has 2 images with labels" in caplog.text) == warned


def test_the_command_draws_in_processes(root: Path, tmp_path: Path) -> None:
    values = {"name": "tiny", "kind": "coco", "root": str(root), **LISTS}
    given, output = tmp_path / "settings.json", tmp_path / "results"
    given.write_text(json.dumps({"dataset": values}))
    options = {"--settings": given, "--output": output, "--workers": 2}
    command = [sys.executable, SCRIPT, *(part for pair in options.items() for part in pair)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index, drawn = read_index(output), index_of(root)
    for image_id in index.records:
        assert_array_equal(index.read_mask(image_id), drawn.read_mask(image_id))
    assert index.mask_root == output / "masks"
