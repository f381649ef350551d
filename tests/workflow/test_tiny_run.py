"""Every stage for real, from drawing the demo set to a table, on 24 images of 64 pixels.

Twice: with a shard per part and no loader processes, and with eight shards and four processes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_config import CLASSIFIER, DATASET, DEFAULTS

REPOSITORY = Path(__file__).resolve().parents[2]
WARM = Path(__file__).parent / "warm_python.py"
STAGES = ("maps", "pseudo_labels", "refined_labels", "predictions", "predictions_crf")
TRAININGS = ("train_classifier", "train_affinity", "train_segmenter")
RESULTS = {
    "maps": ("scored.h5", "rest.h5", "class_prototypes.npz"),
    "pseudo_labels": ("scored.h5", "ir_scored.h5", "ir_rest.h5"),
    "refined_labels": ("scored.h5", "rest.h5"),
    "predictions": ("predictions.h5",),
    "predictions_crf": ("predictions.h5",),
    **{stage: ("weights.pt",) for stage in ("classifier", "affinity", "segmenter")},
}
CONFIG: dict[str, Any] = {
    "title": "Tiny",
    "shards": 1,
    "dataset": DATASET,
    "defaults": DEFAULTS
    | {
        "classifier": CLASSIFIER | {"prototypes": "image"},
        "maps": {"scales": [1.0], "class_prototype_share": 0.5},
    },
    "experiments": {"sipe": {}},
    "tables": {"all": {"rows": ["sipe"], "columns": [f"{stage}.miou" for stage in STAGES]}},
}


def snakemake(folder: Path, *arguments: str, cores: int = 1) -> str:
    environment = os.environ | {
        "PATH": f"{folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "WARM_SOCKET": str(folder.parent / "socket"),
        "OMP_NUM_THREADS": "1",
    }
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    common = ["--configfile", str(folder / "config.yaml"), "--workflow-profile", "none"]
    command = [sys.executable, "-m", "snakemake", "tables", *arguments, "--cores", str(cores)]
    done = subprocess.run(
        [*command, *where, *common], capture_output=True, text=True, cwd=folder, env=environment
    )
    logs = "\n".join(path.read_text() for path in folder.glob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def run_all(folder: Path, shards: int, workers: int) -> Path:
    """All of CONFIG in a new folder, trained with so many loader processes."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"shards": shards}))
    options = ["--show-failed-logs", "--printshellcmds", "--set-threads"]
    threads = [f"{rule}={workers}" for rule in TRAININGS]
    said = snakemake(folder, *options, *threads, cores=max(workers, 1))
    assert said.count(f" --workers {workers} --code ") == len(TRAININGS)
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs, with `warm_python.py` as their python."""
    path = tmp_path_factory.mktemp("tiny")
    python = path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!{sys.executable} -S\n{WARM.read_text()}")
    python.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, str(WARM), str(path / "socket")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        while not (path / "socket").exists():
            assert server.poll() is None
            time.sleep(0.05)
        yield path
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def folder(warm: Path) -> Path:
    """Working directory of the finished run."""
    return run_all(warm / "whole", shards=1, workers=0)


def test_table_holds_the_scores_of_every_stage(folder: Path) -> None:
    run = folder / "results" / "tiny" / "sipe" / "seed0"
    scores = [json.loads((run / stage / "metrics.json").read_text()) for stage in STAGES]
    assert [score["list"] for score in scores] == ["train", "train", "train", "val", "val"]
    assert all(0 <= score["miou"] <= 100 for score in scores)
    with (folder / "results" / "tables" / "all.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert any("sipe" in row for row in rows)


def test_no_shard_and_no_checkpoint_is_left(folder: Path) -> None:
    assert [path for path in folder.glob("results/**/shards/*") if path.is_file()] == []
    assert [path for path in folder.glob("checkpoints/**/*") if path.is_file()] == []
    assert list(folder.glob("results/**/*.tmp")) == []


def test_second_run_has_nothing_to_do(folder: Path) -> None:
    assert "Nothing to be done" in snakemake(folder, "--dry-run")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of RESULTS."""
    results = folder / "results" / "tiny" / "sipe" / "seed0"
    files = [Path(stage, name) for stage, names in RESULTS.items() for name in names]
    return {str(f): hashlib.sha256((results / f).read_bytes()).hexdigest() for f in files}


def test_shards_and_loader_processes_change_no_byte(folder: Path, warm: Path) -> None:
    scattered = run_all(warm / "scattered", shards=8, workers=4)
    assert len(list(scattered.glob("logs/export_maps/**/*-of-8.log"))) == 16
    assert digests(scattered) == digests(folder)
