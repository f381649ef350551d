"""A folder of images with a table of image-level labels: the user's own data.

In: `labels.csv` with the columns `image` (a file name under `images/`) and `labels` (class names,
separated by `|`, or by spaces where no row has a `|`), perhaps `lists` (names of the image's lists,
by spaces or `|`). A list may also be `lists/<name>.txt`, an image per line. Masks are optional:
`masks/<image without ending>.png`, with `classes.txt` that names the classes of the pixel values
1, 2, ..., one per line; without masks nothing can be scored. Images of `dataset.test_list` need
neither labels nor masks.
Out: `DatasetIndex`, or one error with all problems. Ids are the file names without ending.
"""

from __future__ import annotations

import csv
import logging
from itertools import chain
from pathlib import Path

from protoseg.data.checks import DatasetError, ImageFiles
from protoseg.data.index import DatasetIndex
from protoseg.data.voc import (
    Annotated,
    all_lists,
    annotated_lists,
    checked_index,
    inspect,
    mask_values,
    read_list,
)
from protoseg.settings.schema import DatasetSettings

LOG = logging.getLogger(__name__)
TABLE, CLASSES, MASKS = "labels.csv", "classes.txt", "masks"


def read_table(path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Rows of the table by image id, and the problems found.

    Raises:
        DatasetError: no such table, or without its columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="", skipinitialspace=True)
            rows, columns = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError([f"{path}: no readable table ({error}); mend dataset.root"]) from error
    if not {"image", "labels"} <= set(columns) or not rows:
        found_columns = ", ".join(columns) or "none"
        raise DatasetError(
            [
                f"{path}: {len(rows)} rows with the columns {found_columns}; write the columns "
                "image and labels, parted by commas, and a row per image"
            ]
        )
    found: dict[str, dict[str, str]] = {}
    problems = []
    for row in rows:
        name, image_id = row["image"], Path(row["image"]).stem
        if not name or "/" in name or len(name.split()) > 1:
            problems.append(f"{path}: {name!r} is no file name; leave out folders and spaces")
        elif image_id in found:
            problems.append(f"{path}: {image_id} stands there more than once; remove the doubles")
        else:
            found[image_id] = row
    return found, problems


def read_labels(rows: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Class names per image id; one separator for all rows."""
    separator = "|" if any("|" in row["labels"] for row in rows.values()) else None
    cells = {image_id: row["labels"].split(separator) for image_id, row in rows.items()}
    return {image_id: [n.strip() for n in cell if n.strip()] for image_id, cell in cells.items()}


def read_names(root: Path, labels: dict[str, list[str]], problems: list[str]) -> list[str]:
    """All class names in the order of the masks' values; problems are appended to ``problems``."""
    path, found = root / CLASSES, sorted(set(chain.from_iterable(labels.values())))
    if not path.is_file():
        if (root / MASKS).is_dir():
            problems.append(f"{path}: no such file; name the class of each mask value, one a line")
        return found
    names = [name for line in path.read_text("utf-8").splitlines() if (name := line.strip())]
    problems += [f"{path}: {n!r} of {TABLE} is not in it; add it" for n in found if n not in names]
    return names


def read_lists(
    root: Path, rows: dict[str, dict[str, str]], settings: DatasetSettings, problems: list[str]
) -> dict[str, list[str]]:
    """Ids of the lists that the settings name; problems are appended to ``problems``."""
    ids = {name: image_id for image_id, row in rows.items() for name in (image_id, row["image"])}
    named = {i: row.get("lists", "").replace("|", " ").split() for i, row in rows.items()}
    lists = {}
    for name in all_lists(settings):
        path = root / "lists" / f"{name}.txt"
        members = [image_id for image_id, names in named.items() if name in names]
        if path.is_file() or not members:
            members = read_list(path, problems)
        problems += [f"{path}: {m} has no row in {TABLE}; add it" for m in members if m not in ids]
        lists[name] = [ids[member] for member in members if member in ids]
    return lists


def index_folder(settings: DatasetSettings, workers: int) -> DatasetIndex:
    """Index of the user's images; empty ``settings.classes`` take all, ``workers`` threads decode.

    Where there are masks, images of ``maps_list`` and ``val_list`` must have one.

    Raises:
        DatasetError: every problem at once.
    """
    root, masks = Path(settings.root), Path(settings.root) / MASKS
    rows, problems = read_table(root / TABLE)
    tags = read_labels(rows)
    names = read_names(root, tags, problems)
    classes = settings.classes or tuple(names)
    for name in sorted(set(classes) - set(names)):
        problems.append(f"setting dataset.classes: {name!r} is no label; mend it")
    places = {name: position for position, name in enumerate(classes, 1)}
    labels = {i: tuple(sorted({places[t] for t in of if t in places})) for i, of in tags.items()}
    lists, values = read_lists(root, rows, settings, problems), mask_values(classes, names)
    annotated = set(chain.from_iterable(lists[name] for name in annotated_lists(settings)))
    labels = {i: of for i, of in labels.items() if i in annotated}
    if not masks.is_dir():
        LOG.warning("%s: no such folder; nothing of this data set can be scored", masks)

    def find(image_id: str) -> ImageFiles:
        image, mask = root / "images" / rows[image_id]["image"], masks / f"{image_id}.png"
        return ImageFiles(image_id, image, mask if mask.is_file() else None)

    return checked_index(
        settings,
        Annotated(classes, names, lists, labels, problems),
        find,
        lambda files, scored: inspect(files, scored if masks.is_dir() else (), values, workers),
    )
