"""The VOC 2012 folder layout: from annotations, lists and folders to an index.

In: `Annotations/*.xml`, `JPEGImages/*.jpg`, `ImageSets/Segmentation/*.txt`, and masks in
`SegmentationClass` or `SegmentationClassAug`. Out: `DatasetIndex`, or one error with all problems.
Image-level labels are the `<name>`s of the XML's objects, difficult ones included, never of their
parts and never from a mask. The demo data set has the same layout with names of its own.
Source: the VOC 2012 development kit, sections 2 and 5.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from protoseg.data.checks import DatasetError, ImageFiles, check_files
from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.data.selection import named_lists, parse, select
from protoseg.settings.fields import from_mapping
from protoseg.settings.schema import DatasetSettings

LOG = logging.getLogger(__name__)
IGNORED = 255
# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
DEMO_CLASSES = ("ring", "cross", "checker", "plain")
NAMES = {"voc": VOC_CLASSES, "demo": DEMO_CLASSES}
AUGMENTED_MASKS, OFFICIAL_MASKS = "SegmentationClassAug", "SegmentationClass"


@dataclasses.dataclass(frozen=True)
class Annotated:
    """What is known of a data set before images are opened; names: of the mask values 1, 2, ...."""

    classes: Sequence[str]
    names: Sequence[str]
    lists: dict[str, list[str]]
    labels: dict[str, tuple[int, ...]]
    problems: list[str]


def dataset_settings(path: Path) -> DatasetSettings:
    """Settings under `dataset` of a settings file.

    Raises:
        DatasetError: no such group, or an unknown key.
    """
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("dataset", {})
    known = {field.name for field in dataclasses.fields(DatasetSettings)}
    unknown = sorted(set(values) - known)
    if unknown or not values:
        problem = f"unknown settings {', '.join(unknown)}" if unknown else "no settings"
        raise DatasetError([f"{path}: {problem} under dataset; known: {', '.join(sorted(known))}"])
    return from_mapping(DatasetSettings, values)


def mask_values(classes: Sequence[str], names: Sequence[str]) -> dict[int, int]:
    """Pixel value -> class id 0..K, or 255.

    Values follow ``names`` (1 for the first) where all ``classes`` are among them, names outside
    ``classes`` giving 255; other classes have the values 1..K in the order given.
    """
    table = names if set(classes) <= set(names) else classes
    class_ids = {name: position for position, name in enumerate(classes, 1)}
    values = {value: class_ids.get(name, IGNORED) for value, name in enumerate(table, 1)}
    return {0: 0, **values, IGNORED: IGNORED}


def mask_folders(root: Path, masks: str) -> tuple[Path, ...]:
    """Folders of the masks, the first that has one counts; `auto`: VOC's own before SBD's."""
    names = (OFFICIAL_MASKS, AUGMENTED_MASKS) if masks == "auto" else (masks,)
    return tuple(root / name for name in names)


def read_list(path: Path, problems: list[str]) -> list[str]:
    """Ids of a list file, one per line; what is wrong with it is appended to ``problems``."""
    if not path.is_file():
        problems.append(f"{path}: no such list; add it or name another one in the settings")
        return []
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    ids = list(dict.fromkeys(line for line in lines if line))
    doubled = len([line for line in lines if line]) - len(ids)
    if doubled:
        problems.append(f"{path}: {doubled} ids stand there more than once; remove the doubles")
    odd = [image_id for image_id in ids if len(image_id.split()) > 1 or "/" in image_id]
    problems.extend(f"{path}: {line!r} is no id; write one id per line" for line in odd)
    if not ids:
        problems.append(f"{path}: the list is empty; add ids")
    return [image_id for image_id in ids if image_id not in odd]


def annotated_lists(settings: DatasetSettings) -> list[str]:
    """Names of the lists that the settings' expressions use; their images have annotations."""
    chosen = (settings.train_list, settings.labels_list, settings.maps_list, settings.val_list)
    return list(dict.fromkeys(chain.from_iterable(named_lists(parse(one)) for one in chosen)))


def all_lists(settings: DatasetSettings) -> list[str]:
    """The same and those of `test_list`, whose images need no annotation."""
    test = named_lists(parse(settings.test_list)) if settings.test_list else ()
    return list(dict.fromkeys([*annotated_lists(settings), *test]))


def read_lists(root: Path, settings: DatasetSettings) -> tuple[dict[str, list[str]], list[str]]:
    """Ids of the lists that the settings name, the test list too, and the problems found."""
    problems: list[str] = []
    folder = root / "ImageSets" / "Segmentation"
    lists = {name: read_list(folder / f"{name}.txt", problems) for name in all_lists(settings)}
    return lists, problems


def read_names(path: Path) -> list[str]:
    """Names of the objects in an annotation file; raises DatasetError if it cannot be read."""
    try:
        tree = ElementTree.parse(path)
    except OSError as error:
        raise DatasetError(
            [f"{path}: no such annotation; add it or take its id off the lists"]
        ) from error
    except ElementTree.ParseError as error:
        raise DatasetError([f"{path}: not readable XML ({error}); replace it"]) from error
    names = [(node.text or "").strip() for node in tree.getroot().findall("object/name")]
    if not names:
        raise DatasetError([f"{path}: id without a label; add an object or take it off the lists"])
    return names


def read_labels(
    root: Path, ids: Sequence[str], classes: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Sorted class ids per image id, () where none is of ``classes``, and the problems found.

    Ids with a problem have no entry.
    """
    class_ids = {name: position for position, name in enumerate(classes, 1)}
    labels: dict[str, tuple[int, ...]] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for image_id in ids:
        path = root / "Annotations" / f"{image_id}.xml"
        try:
            found = set(read_names(path))
        except DatasetError as error:
            problems += error.problems
            continue
        seen |= found
        outside = sorted(found - set(classes) - set(names))
        for name in outside:
            line = f"{path}: label {name!r} is outside the classes; mend it or dataset.classes"
            problems.append(line)
        if not outside:
            labels[image_id] = tuple(sorted(class_ids[name] for name in found & set(classes)))
    for name in sorted(set(classes) - set(names) - seen):
        problems.append(f"setting dataset.classes: {name!r} is no label of any image; mend it")
    return labels, problems


def keep_labelled(
    lists: dict[str, list[str]], labels: dict[str, tuple[int, ...]]
) -> dict[str, list[str]]:
    """The lists without ids whose labels are all outside the classes; their number is logged."""
    kept = {}
    for name, ids in lists.items():
        kept[name] = [image_id for image_id in ids if labels.get(image_id) != ()]
        left_out = len(ids) - len(kept[name])
        LOG.info("%s: %d images; left out without our classes: %d", name, len(kept[name]), left_out)
    return kept


def find_files(root: Path, masks: Sequence[Path], image_id: str) -> ImageFiles:
    """Files of an image: its mask in the first of the folders ``masks`` that has one, or None."""
    found = (folder / f"{image_id}.png" for folder in masks)
    image = root / "JPEGImages" / f"{image_id}.jpg"
    return ImageFiles(image_id, image, next((mask for mask in found if mask.is_file()), None))


def inspect(
    files: Sequence[ImageFiles], scored: Collection[str], values: Collection[int], workers: int
) -> tuple[list[tuple[int, int]], list[str]]:
    """Sizes (H, W) of the images, and the problems of all files; masks of ``scored`` must exist."""
    reports = check_files(files, values, workers)
    problems = [line for report in reports for line in report.problems]
    for entry in files:
        if entry.mask is None and entry.id in scored:
            problems.append(f"{entry.id}: no mask, but its list is scored; add it to the masks")
    return [report.size or (0, 0) for report in reports], problems


def checked_index(
    settings: DatasetSettings,
    found: Annotated,
    find: Callable[[str], ImageFiles],
    check: Callable[[Sequence[ImageFiles], set[str]], tuple[list[tuple[int, int]], list[str]]],
) -> DatasetIndex:
    """Index of the images on the lists, after a check of their files.

    Images without any of the classes leave the lists, but for ``settings.keep_unlabelled``.
    ``find`` gives an id's files; ``check`` the sizes (H, W) of files, and their problems, from the
    files and the ids that are scored.

    Raises:
        DatasetError: every problem at once, ``found.problems`` included.
    """
    lists, labels = found.lists, found.labels
    if not settings.keep_unlabelled:
        lists = keep_labelled(lists, labels)
    files = [find(image_id) for image_id in dict.fromkeys(chain.from_iterable(lists.values()))]
    train, labelled, scored, val = (
        set(select(lists, expression))
        for expression in (
            settings.train_list,
            settings.labels_list,
            settings.maps_list,
            settings.val_list,
        )
    )
    sizes, file_problems = check(files, scored | val)
    if problems := [*found.problems, *file_problems]:
        raise DatasetError(problems)
    if leak := (train | labelled) & val:
        LOG.warning("%d images of %s are trained on", len(leak), settings.val_list)
    records = [
        ImageRecord(entry.id, entry.image, entry.mask, size, labels.get(entry.id, ()))
        for entry, size in zip(files, sizes, strict=True)
    ]
    values = mask_values(found.classes, found.names)
    return DatasetIndex(settings.name, Path(settings.root), found.classes, values, records, lists)


def index_voc(settings: DatasetSettings, workers: int) -> DatasetIndex:
    """Index of a data set in the VOC layout, after a check of all files of its lists.

    No ``settings.classes`` mean all names of the kind. Training images may lack a mask; those of
    ``maps_list`` and ``val_list`` may not. ``workers``: threads that decode; 0 lets Python choose.

    Raises:
        DatasetError: every problem at once.
    """
    root, names = Path(settings.root), NAMES[settings.kind]
    if not root.is_dir():
        cure = "run draw_demo_set" if settings.kind == "demo" else "mend dataset.root"
        raise DatasetError([f"{root}: no such folder; {cure}"])
    classes, masks = settings.classes or names, mask_folders(root, settings.masks)
    lists, list_problems = read_lists(root, settings)
    ids = list(
        dict.fromkeys(chain.from_iterable(lists[name] for name in annotated_lists(settings)))
    )
    labels, label_problems = read_labels(root, ids, classes, names)
    found = Annotated(classes, names, lists, labels, [*list_problems, *label_problems])
    check = partial(inspect, values=mask_values(classes, names), workers=workers)
    return checked_index(settings, found, partial(find_files, root, masks), check)
