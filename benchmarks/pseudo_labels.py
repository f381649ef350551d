"""Pseudo labels by denseCRF: IRN's step beside the library's, and the library in several processes.

The published step makes a CRF with its own lattices for each of the two background scores; the
library builds the lattices once and runs both mean fields side by side.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measure import Comparison, command, cost_of, costs_of
from numpy.typing import NDArray
from PIL import Image
from sample import Sample, localization_maps, samples
from textbook.pseudo_labels import ir_label

from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.localization.fusion import fused_maps
from protoseg.processes import map_in_processes
from protoseg.pseudo_labels.crf import crf_parameters
from protoseg.pseudo_labels.generate import make_pseudo_labels
from protoseg.pseudo_labels.labels import pseudo_labels
from protoseg.settings.schema import PseudoLabelsSettings
from protoseg.storage import ResultReader, write_results

IMAGES, ROUNDS = 6, 5
SCATTERED = 144  # images that the processes share; the samples again and again
SETTINGS = PseudoLabelsSettings()
Labels = NDArray[np.uint8]
Inputs = list[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]


def published(inputs: Inputs) -> Labels:
    """IR labels [M, H, W] of M images."""
    return np.stack([ir_label(*one) for one in inputs])


def of_library(inputs: Inputs) -> Labels:
    """The same as the stage makes them, in this process."""
    labels = partial(
        pseudo_labels,
        background=SETTINGS.foreground_threshold,
        ir_background=SETTINGS.background_threshold,
        confidence=SETTINGS.confidence,
        parameters=crf_parameters(SETTINGS),
    )
    made = map_in_processes(lambda one: labels(*one)[1], inputs, workers=1, chunk=1)
    return np.stack(list(made))


def stored(found: list[Sample], folder: Path) -> tuple[DatasetIndex, ResultReader]:
    """Index and maps of `SCATTERED` images in files, as the stage reads them."""
    records = []
    with write_results(folder / "maps.h5", "maps", ["background"], "") as writer:
        for number in range(SCATTERED):
            sample = found[number % len(found)]
            image, maps = folder / f"{number:04}.png", localization_maps(sample, number)
            Image.fromarray(sample.pixels).save(image)
            writer.write_maps(image.stem, maps)
            labels = tuple(int(identifier) for identifier in maps.classes)
            records.append(ImageRecord(image.stem, image, None, maps.size, labels))
    ids = {"train": [record.id for record in records]}
    index = DatasetIndex("samples", folder, [], {}, records, ids)
    return index, ResultReader([folder / "maps.h5"], "maps")


def in_processes(index: DatasetIndex, reader: ResultReader, workers: int) -> Labels:
    """IR labels of all stored images."""
    made = make_pseudo_labels(index, index.ids("train"), reader, SETTINGS, workers)
    return np.stack([label for _, _, label in made])


def compare_steps(found: list[Sample]) -> Comparison:
    """Both forms on one core."""
    inputs = []
    for number, sample in enumerate(found):
        maps = localization_maps(sample, number)
        inputs.append((sample.pixels, fused_maps(maps), maps.classes))
    (expected, textbook), (labels, library) = costs_of(
        partial(published, inputs), partial(of_library, inputs), rounds=ROUNDS, items=len(inputs)
    )
    return Comparison(
        f"IR labels by denseCRF, an image of 500 x 375 (mean of {len(inputs)})",
        textbook,
        library,
        f"{int((labels != expected).sum())} of {labels.size} pixels differ",
        "2 times faster on one core, labels equal",
    )


def compare_processes(found: list[Sample]) -> Comparison:
    """The library's stage in one process beside one process per core."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        index, reader = stored(found, Path(name))
        alone, one = cost_of(partial(in_processes, index, reader, 1), items=SCATTERED)
        together, several = cost_of(partial(in_processes, index, reader, cores), items=SCATTERED)
    equal = "equal" if np.array_equal(alone, together) else "different"
    return Comparison(
        f"make_pseudo_labels on {SCATTERED} images: 1 process (left) beside {cores} (right)",
        one,
        several,
        f"labels {equal}; {one.core_seconds / several.core_seconds:.0%} of the core-seconds used "
        f"as by one process, start of processes included; wall {one.seconds / several.seconds:.2f} "
        "times shorter; memory without that of the processes",
        "at least 90 % of linear in processes",
    )


def compare() -> list[Comparison]:
    """Both comparisons."""
    found = samples(IMAGES)
    return [compare_steps(found), compare_processes(found)]


if __name__ == "__main__":
    command(compare, __doc__ or "")
