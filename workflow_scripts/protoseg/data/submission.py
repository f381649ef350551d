"""The archive that VOC's test server takes, and the reasons for which it refuses one.

In: label maps of a list without ground truth. Out: a gzipped tar of one indexed PNG per image in
`results/VOC2012/Segmentation/comp6_test_cls`, the competition that allows outside training data.
Source: VOC 2012 development kit, section on the segmentation results.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoseg.data.index import DatasetIndex
from protoseg.data.palette import save_label_png, voc_palette
from protoseg.errors import InputError
from protoseg.settings.stage_file import write_atomically

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
HIGHEST_CLASS = 20
GZIP_MAGIC = b"\x1f\x8b"


class SubmissionError(InputError):
    """Every reason at once for which the server would refuse an archive."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        super().__init__("\n  ".join([f"VOC's server would refuse {path}:", *shown]))
        self.problems = problems


def pixel_values(index: DatasetIndex) -> NDArray[np.uint8]:
    """Table [256] from class ids, which a subset of the classes renumbers, to VOC's values."""
    table = np.full(256, 255, np.uint8)
    for value, class_id in index.mask_values.items():
        if class_id != 255:
            table[class_id] = value
    return table


def write_submission(path: Path, labels: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Pack label maps [H, W] of VOC's pixel values by id; equal content gives equal bytes."""
    packed = io.BytesIO()
    with (
        TemporaryDirectory() as folder,
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        file = Path(folder, "label.png")
        for image_id, label in labels:
            save_label_png(file, label)
            entry = tarfile.TarInfo(f"{FOLDER}/{image_id}.png")
            entry.size, entry.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                archive.addfile(entry, content)
    write_atomically(path, packed.getvalue())


def check_submission(path: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Check an archive as the server does.

    Args:
        sizes: (H, W) of every image of the test list, by id.

    Raises:
        SubmissionError: no gzipped tar; ids that are missing, surplus or there twice; files that
            are no indexed PNGs with VOC's palette, of another size, or with values above 20.
    """
    with path.open("rb") as stream:
        if stream.read(2) != GZIP_MAGIC:
            raise SubmissionError(path, ["not gzipped; pack it as .tgz, not as plain tar"])
    wanted = {f"{FOLDER}/{image_id}.png": size for image_id, size in sizes.items()}
    problems = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            files = [member for member in archive.getmembers() if not member.isdir()]
            found = Counter(member.name.removeprefix("./") for member in files)
            problems += [f"{name}: missing" for name in wanted if name not in found]
            problems += [f"{name}: not on the test list" for name in found if name not in wanted]
            problems += [f"{name}: there {n} times" for name, n in found.items() if n > 1]
            for member in files:
                size = wanted.get(name := member.name.removeprefix("./"))
                content = archive.extractfile(member)
                if size is not None and content is not None:
                    problems += [f"{name}: {line}" for line in png_problems(content.read(), size)]
    except (tarfile.TarError, EOFError, OSError) as error:
        problems.append(f"not a whole gzipped tar ({error})")
    if problems:
        raise SubmissionError(path, problems)


def png_problems(content: bytes, size: tuple[int, int]) -> list[str]:
    """What the server refuses in one file, whose image has ``size`` (H, W)."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode != "P":
                return [f"mode {image.mode}; it must be indexed (P)"]
            labels = np.array(image)
            colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    except (OSError, SyntaxError) as error:
        return [f"not a readable PNG ({error})"]
    problems, used = [], np.unique(labels)
    if labels.shape != size:
        problems.append(f"{labels.shape[1]}x{labels.shape[0]}, its image is {size[1]}x{size[0]}")
    if used[-1] > HIGHEST_CLASS:
        problems.append(f"value {used[-1]}; classes end at {HIGHEST_CLASS}")
    known = used[used < len(colours)]
    if len(known) < len(used) or not np.array_equal(colours[known], voc_palette()[known]):
        problems.append("another palette than VOC's")
    return problems
