"""Result tables: metrics files of experiments and the papers' figures -> numbers, text and notes.

In: a specification `{"name", "title", "note", "columns", "rows", "reported", "share_of"}`. A column
is `{stage}.{metric}`: `maps.miou`, `predictions.iou.dog`, `predictions.iou.*` (every class). A row
is `{"name", "title", "metrics": {stage: [metrics.json of each seed]}}`; `reported` maps row and
column to a paper's figure. Rows and columns may be reported alone: other work, a test server.
`share_of` is the row whose mIoU is 100 %, or maps rows to such rows of their own. Out: a `Table`;
its files are written by `table_formats`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from protoseg.errors import InputError
from protoseg.report.inputs import STAGE_TITLES, as_number, required
from protoseg.report.rows import CLASSES, Row, expand_columns, read_rows, values_of

METRIC_TITLES = {"miou": "mIoU", "best_threshold_miou": "mIoU at best threshold"}
DECIMALS = {"best_threshold": 2, "images": 0, "classes_counted": 0}
ABSENT = "\N{EN DASH}"


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        name: of its files. title: above it. notes: sentences under it.
        headings: of the text columns, the first is the row's.
        text: one list of cells per row, rates with one decimal.
        numbers: one line per row with `{column}.mean`, `.std` (n - 1), `.n`, and where they exist
            `.reported` and `.share`, unrounded, NaN where there is no value.
    """

    name: str
    title: str
    notes: tuple[str, ...]
    headings: tuple[str, ...]
    text: list[list[str]]
    numbers: pd.DataFrame


def build_table(spec: dict[str, Any]) -> Table:
    """Read every metrics file of ``spec`` and lay the table out.

    Raises:
        InputError: a metrics file that is missing or of another stage, an unknown column, a
            reported figure without a column, or a `share_of` that is no row.
    """
    name = required(spec, "name", "a table")
    reported: dict[str, dict[str, float]] = spec.get("reported") or {}
    rows = read_rows(required(spec, "rows", name), reported)
    columns = expand_columns(required(spec, "columns", name), rows, reported)
    references = reference_rows(name, spec.get("share_of") or {}, rows)
    numbers = table_numbers(rows, columns, reported, references)
    headings, text = table_text(rows, columns, numbers, references)
    notes = table_notes(spec.get("note") or "", rows, columns, numbers, references)
    return Table(name, spec.get("title") or name, notes, headings, text, numbers)


def reference_rows(
    table: str, share_of: str | dict[str, str], rows: Sequence[Row]
) -> dict[str, str]:
    """Row -> the row that is its 100 %; rows without one are left out.

    Raises:
        InputError: a name that is none of the rows.
    """
    names = [row.name for row in rows]
    pairs = share_of if isinstance(share_of, dict) else dict.fromkeys(names, share_of)
    for name in [*pairs, *pairs.values()]:
        if name not in names:
            raise InputError(f"table {table}: share_of {name!r} is none of its rows")
    return pairs


def table_numbers(
    rows: Sequence[Row],
    columns: Sequence[str],
    reported: dict[str, dict[str, float]],
    references: dict[str, str],
) -> pd.DataFrame:
    """The unrounded numbers, see `Table`."""
    numbers: dict[str, list[Any]] = {
        "row": [row.name for row in rows],
        "title": [row.title for row in rows],
    }
    for column in columns:
        values = [values_of(row, column) for row in rows]
        means = [statistics.fmean(seeds) if seeds else math.nan for seeds in values]
        numbers[f"{column}.mean"] = means
        numbers[f"{column}.std"] = [
            statistics.stdev(seeds) if len(seeds) > 1 else math.nan for seeds in values
        ]
        numbers[f"{column}.n"] = [len(seeds) for seeds in values]
        if any(column in figures for figures in reported.values()):
            numbers[f"{column}.reported"] = [
                as_number(reported.get(row.name, {}).get(column)) for row in rows
            ]
        if column.endswith(".miou"):
            mean_of = {row.name: mean for row, mean in zip(rows, means, strict=True)}
            wholes = [mean_of.get(references.get(row.name, ""), math.nan) for row in rows]
            shares = [
                100 * mean / whole if whole > 0 else math.nan
                for mean, whole in zip(means, wholes, strict=True)
            ]
            if not all(map(math.isnan, shares)):
                numbers[f"{column}.share"] = shares
    return pd.DataFrame(numbers)


def table_text(
    rows: Sequence[Row],
    columns: Sequence[str],
    numbers: pd.DataFrame,
    references: dict[str, str],
) -> tuple[tuple[str, ...], list[list[str]]]:
    """Headings and cells of every row; a stage that no row was measured in is reported alone."""
    one_stage = len({column.partition(".")[0] for column in columns}) == 1
    measured = {stage for row in rows for stage, seeds in row.metrics.items() if seeds}
    wholes = {row.title for row in rows if row.name in references.values()}
    share_title = f"% of {wholes.pop()}" if len(wholes) == 1 else "% of its reference"
    laid_out = [("Experiment", [row.title for row in rows])]
    for column in columns:
        stage, _, metric = column.partition(".")
        digits = DECIMALS.get(metric, 1)
        title = METRIC_TITLES.get(metric, metric.removeprefix(CLASSES).replace("_", " "))
        heading = title if one_stage else f"{STAGE_TITLES.get(stage, stage)} {title}"
        further = {"reported": "reported", "share": share_title}
        if stage in measured:
            pairs = zip(numbers[f"{column}.mean"], numbers[f"{column}.std"], strict=True)
            laid_out.append((heading, [cell_text(mean, digits, std) for mean, std in pairs]))
        else:
            further["reported"] = f"{heading}, reported" if measured else heading
        for kind, name in further.items():
            if f"{column}.{kind}" in numbers:
                cells = [cell_text(value, digits) for value in numbers[f"{column}.{kind}"]]
                laid_out.append((name, cells))
    headings = tuple(heading for heading, _ in laid_out)
    return headings, [list(cells) for cells in zip(*(c for _, c in laid_out), strict=True)]


def cell_text(mean: float, digits: int, std: float = math.nan) -> str:
    """`58.6`, `58.6 ± 0.2`, or a dash."""
    if math.isnan(mean):
        return ABSENT
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def table_notes(
    note: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    numbers: pd.DataFrame,
    references: dict[str, str],
) -> tuple[str, ...]:
    """What a reader needs to know: note, units, seeds, lists and readings of every stage."""
    notes = [note] if note else []
    notes.append("IoU in percent.")
    counts = {int(n) for column in columns for n in numbers[f"{column}.n"] if n > 1}
    if counts:
        seeds = " or ".join(str(count) for count in sorted(counts))
        notes.append(f"Mean ± standard deviation (n - 1) over {seeds} seeds.")
    for stage in dict.fromkeys(column.partition(".")[0] for column in columns):
        scored = [(row.title, row.metrics[stage]) for row in rows if row.metrics.get(stage)]
        if scored:
            title = STAGE_TITLES.get(stage, stage)
            notes.append(f"{title} scored on {grouped(scored, scored_on)}.")
        if scored and stage == "maps":
            notes.append(f"Maps read by {grouped(scored, lambda m: str(m['reading']))}.")
    if len(set(references.values())) > 1:
        titles = {row.name: row.title for row in rows}
        pairs = [f"{titles[whole]} for {titles[row]}" for row, whole in references.items()]
        notes.append(f"100 %: {', '.join(pairs)}.")
    if any(f"{column}.reported" in numbers for column in columns):
        notes.append("Reported: figures of the papers, not measured here.")
    return tuple(notes)


def scored_on(metrics: dict[str, Any]) -> str:
    """`list train, 287 images, 7 of 7 classes`, and by which rule COCO's masks were painted."""
    classes = f"{metrics['classes_counted']} of {len(metrics['class_names'])} classes"
    painting = f", coco_painting {metrics['painting']}" if "painting" in metrics else ""
    return f"list {metrics['list']}, {metrics['images']} images, {classes}{painting}"


def grouped(
    rows: Sequence[tuple[str, list[dict[str, Any]]]], text_of: Callable[[dict[str, Any]], str]
) -> str:
    """The text where all rows agree; else each text with the rows that it holds for."""
    groups: dict[str, list[str]] = {}
    for title, seeds in rows:
        text = " / ".join(dict.fromkeys(text_of(metrics) for metrics in seeds))
        groups.setdefault(text, []).append(title)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{text} ({', '.join(titles)})" for text, titles in groups.items())
