"""Pseudo labels of many images by denseCRF, in processes (stage `make_pseudo_labels`).

pydensecrf runs on one thread and holds the interpreter's lock, so images go to processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from protoseg.data.images import read_image
from protoseg.data.index import DatasetIndex
from protoseg.localization.fusion import fused_maps
from protoseg.processes import map_in_processes
from protoseg.pseudo_labels.crf import crf_parameters
from protoseg.pseudo_labels.labels import has_background_map, pseudo_labels
from protoseg.settings.schema import PseudoLabelsSettings
from protoseg.storage import ResultReader

Labels = NDArray[np.uint8]


def labels_of_image(
    image_id: str, index: DatasetIndex, reader: ResultReader, settings: PseudoLabelsSettings
) -> tuple[str, Labels, Labels]:
    """Id, scored label and IR label [H, W] of one image."""
    maps = reader.maps(image_id)
    if has_background_map(maps.classes):
        backgrounds = (settings.background_factor, settings.ir_background_factor)
    else:
        backgrounds = (settings.foreground_threshold, settings.background_threshold)
    scored, ir_label = pseudo_labels(
        np.asarray(read_image(index[image_id].image)),
        fused_maps(maps),
        maps.classes,
        background=backgrounds[0],
        ir_background=backgrounds[1],
        scored_pass=settings.scored_pass,
        confidence=settings.confidence,
        parameters=crf_parameters(settings),
    )
    return image_id, scored, ir_label


def make_pseudo_labels(
    index: DatasetIndex,
    ids: Sequence[str],
    reader: ResultReader,
    settings: PseudoLabelsSettings,
    workers: int,
) -> Iterator[tuple[str, Labels, Labels]]:
    """Labels of every image of ``ids``, in order, from ``workers`` processes (0 or 1: this one)."""
    work = partial(labels_of_image, index=index, reader=reader, settings=settings)
    yield from map_in_processes(work, ids, workers, chunk=8)
