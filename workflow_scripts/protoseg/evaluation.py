"""Scores of maps and of label maps against the masks: what metrics.json holds.

In: an index with masks, ids, and a result file. Out: a mapping with rates in percent, the list and
how the maps were read. Besides it, masks are opened by `sweep`, the panels and the fully supervised
segmenter; no score comes back to a training.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from protoseg.data.index import DatasetIndex
from protoseg.localization.fusion import fused_maps
from protoseg.metrics import Confusion, Scores, ThresholdSweep, compute_scores
from protoseg.pseudo_labels.labels import argmax_with_background, has_background_map
from protoseg.storage import ResultReader

LOG = logging.getLogger(__name__)
THRESHOLDS = tuple(float(t) for t in np.arange(5, 61) / 100.0)  # IRN's and SIPE's convention


def percent(value: float) -> float | None:
    """Rate in percent; None for NaN, which JSON does not have."""
    return None if math.isnan(value) else 100.0 * value


def describe(scores: Scores, index: DatasetIndex, ids: Sequence[str]) -> dict[str, Any]:
    """The part of metrics.json that every stage has; `painting` is how COCO's masks were drawn."""
    return {
        "images": len(ids),
        "classes_counted": int(scores.classes_counted),
        "class_names": index.class_names,
        "miou": percent(float(scores.mean_iou)),
        "iou": [percent(float(rate)) for rate in scores.iou],
        **({"painting": index.painting} if index.painting else {}),
    }


def evaluate_labels(
    index: DatasetIndex, ids: Sequence[str], list_name: str, stage: str, reader: ResultReader
) -> dict[str, Any]:
    """Scores of label maps; unknown pixels (255) of a prediction count as background."""
    reader.check_ids(ids, list_name)
    confusion = Confusion(len(index.classes) + 1)
    for image_id in ids:
        confusion.update(index.read_mask(image_id), reader.label(image_id))
    scores = describe(confusion.compute(), index, ids)
    return {"stage": stage, "list": list_name, "reading": "label", **scores}


def evaluate_maps(
    index: DatasetIndex,
    ids: Sequence[str],
    list_name: str,
    reader: ResultReader,
    background_factor: float = 1.0,
) -> dict[str, Any]:
    """Scores of localization maps, in one pass.

    Maps with a background map are read by argmax, the background map times ``background_factor``
    (AE-SIPE's 0.8). The others need a background score: the best one on these very masks, IRN's
    convention for the CAM baseline. Both kinds report that sweep.
    """
    reader.check_ids(ids, list_name)
    estimated, sweep = count_maps(index, ids, reader, background_factor)
    threshold, best = sweep.best_threshold()
    scores = sweep_scores(sweep)
    if estimated is not None:
        scaled = "" if background_factor == 1 else f" times {background_factor:g}"
        reading, chosen = f"estimated background{scaled}", estimated.compute()
    else:
        reading, chosen = f"best threshold {threshold:.2f}", scores[THRESHOLDS.index(threshold)]
    return {
        "stage": "maps",
        "list": list_name,
        "reading": reading,
        **describe(chosen, index, ids),
        "best_threshold": threshold,
        "best_threshold_miou": percent(best),
        "sweep": {
            "thresholds": list(THRESHOLDS),
            "miou": [percent(float(score.mean_iou)) for score in scores],
        },
    }


def count_maps(
    index: DatasetIndex, ids: Sequence[str], reader: ResultReader, background_factor: float
) -> tuple[Confusion | None, ThresholdSweep]:
    """Counts of the argmax, None where no image has a background map, and of the sweep."""
    classes = len(index.classes) + 1
    confusion, sweep = Confusion(classes), ThresholdSweep(classes, THRESHOLDS)
    estimated = False
    for image_id in ids:
        mask, stored = index.read_mask(image_id), reader.maps(image_id)
        maps = fused_maps(stored)
        first = int(has_background_map(stored.classes))
        sweep.update(mask, maps[first:], stored.classes[first:])
        if first:
            estimated = True
            winners = argmax_with_background(maps, stored.classes, background_factor)
            confusion.update(mask, stored.classes.astype(np.uint8)[winners])
    return confusion if estimated else None, sweep


def sweep_scores(sweep: ThresholdSweep) -> list[Scores]:
    """Scores at every threshold of a sweep."""
    return [compute_scores(matrix) for matrix in sweep.matrices()]


def to_json(metrics: dict[str, Any]) -> bytes:
    """Indented JSON of metrics, keys in their order."""
    return (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode()
