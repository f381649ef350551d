"""What tables, figures and the report read: specifications and metrics files.

In: JSON files. Out: plain mappings, checked so far that an error names the file and the cure.

`metrics.json` of one stage: stage, list, images, class_names, classes_counted, miou, iou (a rate or
null per class), reading; of maps also sweep (thresholds, miou), best_threshold and
best_threshold_miou. Rates are in percent.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from protoseg.errors import InputError

STAGE_TITLES = {
    "maps": "Maps",
    "pseudo_labels": "Pseudo labels",
    "refined_labels": "Refined labels",
    "predictions": "Predictions",
    "predictions_crf": "Predictions + denseCRF",
    "test": "Test server",
    "test_crf": "Test server + denseCRF",
}
REQUIRED = ("list", "images", "class_names", "classes_counted", "miou", "iou", "reading")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); rerun the rule that makes it"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold a JSON object; rerun the rule that makes it")
    return values


def required(spec: dict[str, Any], key: str, what: str) -> Any:
    """Entry ``key`` of a specification; InputError that names ``what`` lacks it."""
    if key not in spec:
        raise InputError(f"the specification of {what} lacks {key!r}")
    return spec[key]


def read_metrics(path: Path, stage: str) -> dict[str, Any]:
    """Metrics of one stage.

    Raises:
        InputError: not the metrics of ``stage``, or entries are missing.
    """
    values = read_json(path)
    if values.get("stage") != stage:
        raise InputError(f"{path} holds metrics of {values.get('stage')!r}, not of {stage!r}")
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; rerun evaluate_{stage}")
    if len(values["iou"]) != len(values["class_names"]):
        raise InputError(f"{path}: iou and class_names differ in length; rerun evaluate_{stage}")
    return values


def paths_of(files: str | list[str] | None) -> list[Path]:
    """Paths of an entry that is one file, several, or none."""
    return [Path(file) for file in ([files] if isinstance(files, str) else files or [])]


def as_number(value: float | None) -> float:
    """A rate as float; null, which stands for an absent class, becomes NaN."""
    return math.nan if value is None else float(value)
