"""VOC 2012 and SBD: from the official archives to the list `train_aug` and its masks.

In: VOC 2012's folder; SBD as published (`dataset/cls/*.mat`, `train.txt`, `val.txt`), or masks of
both sets as PNGs. Out: `ImageSets/Segmentation/train_aug.txt`, which is (VOC train + SBD) - VOC
val, 10,582 ids, and `SegmentationClassAug`: VOC's own masks of train and val, SBD's of the others.

Names and numbers are checked first; that takes seconds, and what is missing is one error. Masks
that lie there already are kept, so a stopped run goes on; a differing file is never replaced.
Source: VOC 2012 development kit; Hariharan et al., "Semantic Contours from Inverse Detectors" (ICCV
2011), whose archive describes the structure `GTcls`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from tqdm import tqdm

from protoseg.data.checks import READ_ERRORS, DatasetError
from protoseg.data.palette import load_label_png, save_label_png
from protoseg.data.voc import AUGMENTED_MASKS, OFFICIAL_MASKS, VOC_CLASSES, read_list
from protoseg.processes import map_in_processes
from protoseg.settings.stage_file import write_atomically

LOG = logging.getLogger(__name__)
COUNTS = {"train": 1_464, "val": 1_449, "train_aug": 10_582}
VOC_ARCHIVE = "VOCtrainval_11-May-2012.tar"
SBD_ARCHIVE = "SBD's benchmark.tgz"
READY_ARCHIVE = f"SegmentationClassAug.zip, or name the folder of {SBD_ARCHIVE} by --sbd"
CHUNK = 32  # masks that a process writes before it asks for more


def prepare_voc(root: Path, sbd: Path | None, workers: int) -> None:
    """Write what VOC 2012 lacks for `train_aug`: the list, and masks in `SegmentationClassAug`.

    Args:
        root: VOC 2012's folder, with `ImageSets` in it.
        sbd: SBD's folder, or a folder of PNG masks; None where `SegmentationClassAug` has them.
        workers: processes that write masks; 0 or 1: this one.

    Raises:
        DatasetError: everything that is missing, before anything is written; then, once all other
            masks are there, those that cannot be read or differ.
    """
    lists, problems = official_lists(root)
    masks, archive, sbd_problems = augmented_masks(root, sbd)
    train, val = lists["train"], lists["val"]
    train_aug = sorted((set(train) | masks.keys()) - set(val))
    list_file = root / "ImageSets" / "Segmentation" / "train_aug.txt"
    problems += sbd_problems or [
        *count_problems("train_aug", len(train_aug), archive),
        *list_problems(list_file, train_aug),
    ]
    problems += lacking(root, {*train_aug, *val}, {*train, *val})
    if problems:
        raise DatasetError(problems)
    official = {k: root / OFFICIAL_MASKS / f"{k}.png" for k in (*train, *val)}
    # Folders of PNGs hold masks of VOC as well; SBD drew its own for those images.
    chosen = masks | official if archive == SBD_ARCHIVE else official | masks
    place_masks(chosen, root / AUGMENTED_MASKS, workers)
    if not list_file.is_file():
        write_atomically(list_file, "".join(f"{image_id}\n" for image_id in train_aug).encode())
    LOG.info("%s: %d train, %d val, %d train_aug", root, len(train), len(val), len(train_aug))


def official_lists(root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Ids of VOC's `train` and `val`, and the problems found: absent lists, other numbers.

    Raises:
        DatasetError: ``root`` is not VOC 2012's folder.
    """
    folder = root / "ImageSets" / "Segmentation"
    if not folder.is_dir():
        cure = f"unpack {VOC_ARCHIVE} and name its VOCdevkit/VOC2012"
        raise DatasetError([f"{folder}: no such folder; {cure}"])
    lists: dict[str, list[str]] = {}
    problems: list[str] = []
    for name in ("train", "val"):
        found: list[str] = []
        lists[name] = read_list(folder / f"{name}.txt", found)
        problems += found or count_problems(name, len(lists[name]), VOC_ARCHIVE)
    if both := set(lists["train"]) & set(lists["val"]):
        problems.append(f"{folder}: {len(both)} ids are in train and val; unpack {VOC_ARCHIVE}")
    return lists, problems


def count_problems(name: str, count: int, archive: str) -> list[str]:
    """A line where a list has another number of ids than the official one."""
    if count == COUNTS[name]:
        return []
    return [f"{name} has {count} ids, not {COUNTS[name]}; unpack {archive}"]


def augmented_masks(root: Path, sbd: Path | None) -> tuple[dict[str, Path], str, list[str]]:
    """Masks by id, the archive that they come from, and the problems found.

    SBD's ids are those of its two lists; a folder of PNGs gives the names of its files.
    """
    folder = sbd or root / AUGMENTED_MASKS
    data = folder / "dataset" if (folder / "dataset").is_dir() else folder
    if (data / "cls").is_dir():
        problems: list[str] = []
        ids = [k for name in ("train", "val") for k in read_list(data / f"{name}.txt", problems)]
        problems += lacking_line(data / "cls", ".mat", ids, SBD_ARCHIVE)
        return (
            {image_id: data / "cls" / f"{image_id}.mat" for image_id in ids},
            SBD_ARCHIVE,
            problems,
        )
    found = {name: folder / f"{name}.png" for name in sorted(stems(folder, ".png"))}
    if not found:
        line = f"{folder}: neither cls/*.mat nor masks as PNGs; unpack {READY_ARCHIVE}"
        return {}, READY_ARCHIVE, [line]
    return found, READY_ARCHIVE, []


def stems(folder: Path, suffix: str) -> set[str]:
    """Names without ending of the files of ``folder`` that are not empty."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {
            entry.name.removesuffix(suffix)
            for entry in entries
            if entry.name.endswith(suffix) and entry.name[0] != "." and entry.stat().st_size
        }


def lacking_line(folder: Path, suffix: str, ids: Collection[str], archive: str) -> list[str]:
    """A line where ``folder`` lacks files of ``ids``; empty files count as missing."""
    missing = set(ids) - stems(folder, suffix)
    if not missing:
        return []
    return [
        f"{folder} lacks {len(missing)} files (first: {min(missing)}{suffix}); unpack {archive}"
    ]


def lacking(root: Path, ids: Collection[str], official: Collection[str]) -> list[str]:
    """Lines for images and annotations of ``ids`` and masks of ``official`` that are missing."""
    return [
        *lacking_line(root / "JPEGImages", ".jpg", ids, VOC_ARCHIVE),
        *lacking_line(root / "Annotations", ".xml", ids, VOC_ARCHIVE),
        *lacking_line(root / OFFICIAL_MASKS, ".png", official, VOC_ARCHIVE),
    ]


def list_problems(path: Path, ids: Sequence[str]) -> list[str]:
    """A line where the list at ``path`` exists with other ids, in whatever order."""
    if not path.is_file():
        return []
    there = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""}
    more, fewer = there - set(ids), set(ids) - there
    if not more | fewer:
        return []
    first = min(more | fewer)
    line = f"{path}: {len(more)} ids have no mask, {len(fewer)} are not on it (first: {first})"
    return [f"{line}; add the masks, or move the list away"]


def read_sbd_mask(path: Path) -> NDArray[np.uint8]:
    """Labels [H, W] uint8, 0 to 20, of SBD's `GTcls.Segmentation`; ValueError for another file."""
    try:
        labels = np.asarray(loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except Exception as error:  # scipy and zlib raise errors of many kinds on broken files
        raise ValueError(repr(error)) from error
    if labels.ndim != 2 or labels.min() < 0 or labels.max() > len(VOC_CLASSES):
        raise ValueError(f"GTcls.Segmentation is no map of the classes 0 to {len(VOC_CLASSES)}")
    return labels.astype(np.uint8)


def place_mask(work: tuple[Path, Path]) -> list[str]:
    """Write one mask as an indexed PNG unless it lies there; its problem, if it has one.

    Args:
        work: the `.mat` or `.png` file to read, and the file to write.
    """
    source, target = work
    try:
        labels = read_sbd_mask(source) if source.suffix == ".mat" else load_label_png(source)
    except READ_ERRORS as error:
        return [f"{source}: not a readable mask ({error}); unpack its archive again"]
    if target.exists():
        try:
            same = np.array_equal(load_label_png(target), labels)
        except READ_ERRORS:
            same = False
        return [] if same else [f"{target}: differs from {source}; move either one away"]
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    save_label_png(temporary, labels)
    os.replace(temporary, target)
    return []


def place_masks(masks: dict[str, Path], folder: Path, workers: int) -> None:
    """Write the ``masks`` that ``folder`` lacks; raises DatasetError with all that cannot be."""
    work = [
        (source, folder / f"{image_id}.png")
        for image_id, source in masks.items()
        if source.parent != folder
    ]
    folder.mkdir(exist_ok=True)
    placed = map_in_processes(place_mask, work, workers, CHUNK)
    found = list(tqdm(placed, total=len(work), desc=AUGMENTED_MASKS, disable=None))
    if problems := [problem for problems in found for problem in problems]:
        raise DatasetError(problems)
    LOG.info("%s: %d masks written or compared", folder, len(work))
