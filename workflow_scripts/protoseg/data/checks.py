"""Checks of a data set's files: every problem is found and reported at once.

In: where each image and its mask should lie. Out: the images' sizes, and one line per problem that
names the file and says what to do. Every image is decoded to its end, so a truncated download is
found here and not in the middle of a training. Threads share the work: PIL decodes without the GIL.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from protoseg.data.palette import load_label_png
from protoseg.errors import InputError

LOG = logging.getLogger(__name__)
READ_ERRORS = (OSError, SyntaxError, ValueError)  # what PIL raises on broken files
DRAFT = 8  # a JPEG scaled by 1/8 is still read to its end, in a third of the time


class DatasetError(InputError):
    """Every problem of a data set at once, one per line."""

    def __init__(self, problems: Sequence[str]) -> None:
        lines = list(problems)
        if len(lines) == 1:
            super().__init__(lines[0])
        else:
            super().__init__("\n  ".join([f"{len(lines)} problems in the data set:", *lines]))
        self.problems = lines


@dataclass(frozen=True)
class ImageFiles:
    """Files of one image: mask is None where there is none to check."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class FileReport:
    """What was found. size: (H, W), None where the image cannot be read; problems: lines."""

    size: tuple[int, int] | None
    problems: tuple[str, ...]


def check_image(path: Path) -> FileReport:
    """Decode an image to its end; its size, or the problem."""
    if not path.is_file():
        return FileReport(None, (f"{path}: no such image; add it or take its id off the lists",))
    try:
        with Image.open(path) as image:
            width, height = image.size
            image.draft(image.mode, (max(1, width // DRAFT), max(1, height // DRAFT)))
            image.load()
    except READ_ERRORS as error:
        line = f"{path}: not a whole image ({error}); replace it or take its id off the lists"
        return FileReport(None, (line,))
    return FileReport((height, width), ())


def check_mask(path: Path, size: tuple[int, int] | None, known: Collection[int]) -> list[str]:
    """Problems of a mask: unreadable, not one byte a pixel, of another size, unknown values.

    Args:
        size: (H, W) of the image, None if unknown.
        known: values that a pixel may have.
    """
    try:
        values = load_label_png(path)
    except READ_ERRORS as error:
        return [f"{path}: not a readable mask ({error}); replace it"]
    problems = []
    if size is not None and values.shape != size:
        of_mask, of_image = (f"{width}x{height}" for height, width in (values.shape, size))
        problems.append(f"{path}: mask is {of_mask}, its image {of_image}; mend either one")
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    unknown = [str(value) for value in found if value not in known]
    if unknown:
        problems.append(
            f"{path}: mask holds {', '.join(unknown)}, which no class has; mend the mask or the "
            "setting dataset.classes"
        )
    return problems


def check_files(
    files: Sequence[ImageFiles], known: Collection[int], workers: int
) -> list[FileReport]:
    """One report per entry of ``files``, in their order.

    Args:
        known: values that a mask's pixel may have.
        workers: threads; 0 lets Python choose.
    """

    def check(entry: ImageFiles) -> FileReport:
        report = check_image(entry.image)
        if entry.mask is None:
            return report
        problems = check_mask(entry.mask, report.size, known)
        return FileReport(report.size, (*report.problems, *problems))

    start = time.perf_counter()
    with ThreadPoolExecutor(workers or None) as pool:
        done = tqdm(pool.map(check, files), total=len(files), desc="files", disable=None)
        reports = list(done)
    seconds = time.perf_counter() - start
    LOG.info("checked %d images and their masks in %.1f s", len(files), seconds)
    return reports
