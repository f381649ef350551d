"""The report: tables, figures, run times and provenance in one HTML file.

In: a specification `{"title", "tables": [{"name", "file"}], "figures": [{"title", "caption",
"file"}], "benchmarks": {stage: {experiment: file or files}}, "experiments": {name: differences}}`.
Tables are fragments of `table_formats.to_html`, benchmarks are Snakemake's (tab separated, seconds
in column `s`). Out: the text of a page that holds everything, images included, and needs no
network.
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from protoseg.errors import InputError
from protoseg.report.inputs import paths_of, required
from protoseg.settings.stage_file import write_atomically

TEMPLATE = Path(__file__).with_name("template.html")
PACKAGES = ("torch", "torchvision", "numpy", "h5py", "pydensecrf2", "snakemake")
MEDIA = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}
ABSENT = "\N{EN DASH}"


def write_report(spec: dict[str, Any], commit: str, path: Path) -> None:
    """Write the report that ``spec`` asks for to ``path``.

    Raises:
        InputError: a table or figure that cannot be read.
    """
    write_atomically(path, render_report(spec, commit).encode())


def render_report(spec: dict[str, Any], commit: str) -> str:
    """The page; ``commit`` is the git commit of the code, empty if unknown."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    benchmarks = spec.get("benchmarks") or {}
    return template.render(
        title=required(spec, "title", "the report"),
        experiments=[
            {
                "name": name,
                "base": (values or {}).get("base", ""),
                "differences": flat(values or {}),
            }
            for name, values in (spec.get("experiments") or {}).items()
        ],
        tables=[
            {"name": table["name"], "html": read_fragment(Path(table["file"]))}
            for table in spec.get("tables") or []
        ],
        figures=[
            {**figure, "data": data_uri(Path(figure["file"]))}
            for figure in spec.get("figures") or []
        ],
        times=time_table(benchmarks) if benchmarks else None,
        provenance=provenance(commit),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Pairs (`classifier.method`, value) of nested mappings, without base and title."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += flat(value, f"{path}.")
        elif path not in ("base", "title"):
            pairs.append((path, plain(value)))
    return pairs


def plain(value: Any) -> str:
    """A value as it is written in a configuration."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(plain(entry) for entry in value)}]"
    return "null" if value is None else str(value)


def read_fragment(path: Path) -> Markup:
    """HTML of a table as it is; its text was escaped when it was made."""
    try:
        return Markup(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"table {path} cannot be read ({error}); rerun make_table") from error


def data_uri(path: Path) -> str:
    """An image file as the address of its own content."""
    if path.suffix not in MEDIA:
        raise InputError(f"figure {path}: only {', '.join(MEDIA)} can be placed in the report")
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"figure {path} cannot be read ({error}); rerun draw_*") from error
    return f"data:{MEDIA[path.suffix]};base64,{content}"


def time_table(benchmarks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Wall-clock per stage (rows) and experiment (columns), with the experiments' totals."""
    names = list(dict.fromkeys(name for files in benchmarks.values() for name in files))
    seconds = {
        stage: [benchmark_seconds(files.get(name)) for name in names]
        for stage, files in benchmarks.items()
    }
    totals = []
    for column in zip(*seconds.values(), strict=True):
        known = [value for value in column if value is not None]
        totals.append(sum(known) if known else None)
    rows = {stage: [duration(value) for value in values] for stage, values in seconds.items()}
    return {"names": names, "rows": rows, "totals": [duration(total) for total in totals]}


def benchmark_seconds(files: str | list[str] | None) -> float | None:
    """Seconds of one stage: files (shards) add up, repetitions within a file are averaged.

    A missing file counts as nothing: Snakemake does not rerun a stage for its benchmark.
    """
    found = [file for file in paths_of(files) if file.exists()]
    try:
        parts = [float(pd.read_csv(file, sep="\t")["s"].mean()) for file in found]
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"no benchmark of Snakemake with a column 's' in {found}") from error
    return sum(parts) if parts else None


def duration(seconds: float | None) -> str:
    """`0.4 s`, `37 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds is None:
        return ABSENT
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def provenance(commit: str) -> dict[str, str]:
    """What the results were made with: code, Python, packages, machine type."""
    versions = {"commit": commit or "unknown", "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions | {"system": f"{platform.system()} {platform.machine()}"}
