"""Rows of a table: an experiment's metrics of every stage and seed, and which columns they fill.

In: rows and columns of a table's specification, see `tables`. Out: `Row`s, and values by column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoseg.errors import InputError
from protoseg.report.inputs import as_number, read_metrics

CLASSES = "iou."


@dataclass(frozen=True)
class Row:
    """One line. metrics: stage -> metrics of each seed; empty for a row that is only reported."""

    name: str
    title: str
    metrics: dict[str, list[dict[str, Any]]]


def read_rows(rows: Iterable[dict[str, Any]], reported: Iterable[str]) -> list[Row]:
    """Rows with their metrics, then one row per name that is in ``reported`` alone."""
    read = []
    for row in rows:
        metrics = {
            stage: [read_metrics(Path(file), stage) for file in files]
            for stage, files in (row.get("metrics") or {}).items()
        }
        read.append(Row(row["name"], row.get("title") or row["name"], metrics))
    names = {row.name for row in read}
    return read + [Row(name, name, {}) for name in reported if name not in names]


def expand_columns(
    columns: Sequence[str], rows: Sequence[Row], reported: dict[str, dict[str, float]]
) -> list[str]:
    """Columns with `iou.*` replaced by every class, in the order of the metrics files.

    Raises:
        InputError: a column that no row has, or a reported figure that is no column.
    """
    known = {key: None for row in rows for key in available(row)}
    known |= {key: None for figures in reported.values() for key in figures}
    expanded: list[str] = []
    for column in columns:
        if column.endswith(f".{CLASSES}*"):
            found = [key for key in known if key.startswith(column[:-1])]
        else:
            found = [column] if column in known else []
        if not found:
            have = ", ".join(known) or "nothing: no row has metrics"
            raise InputError(f"column {column!r}: no row has it; there is {have}")
        expanded += found
    for name, figures in reported.items():
        for key in figures:
            if key not in expanded:
                raise InputError(f"reported.{name}.{key} is no column of the table")
    return expanded


def available(row: Row) -> Iterable[str]:
    """Columns that the metrics of a row can fill."""
    for stage, seeds in row.metrics.items():
        for metrics in seeds:
            yield from (f"{stage}.{CLASSES}{name}" for name in metrics["class_names"])
            scalars = (
                key for key, v in metrics.items() if v is None or isinstance(v, (int, float))
            )
            yield from (f"{stage}.{key}" for key in scalars)


def values_of(row: Row, column: str) -> list[float]:
    """The column's value in each seed that has one."""
    stage, _, metric = column.partition(".")
    values = []
    for metrics in row.metrics.get(stage, []):
        if metric.startswith(CLASSES):
            rates = dict(zip(metrics["class_names"], metrics["iou"], strict=True))
            values.append(as_number(rates.get(metric.removeprefix(CLASSES))))
        else:
            values.append(as_number(metrics.get(metric)))
    return [value for value in values if not math.isnan(value)]
