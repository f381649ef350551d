"""Every stage for real, from drawing the demo set to a table, on 24 images of 64 pixels."""

from __future__ import annotations

import csv
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

REPOSITORY = Path(__file__).resolve().parents[2]
WARM = Path(__file__).parent / "warm_python.py"
STAGES = ("maps", "pseudo_labels", "refined_labels", "predictions", "predictions_crf")
NETWORK = {"backbone": "mobilenet_v2", "batch_size": 8, "crop": 64}
CONFIG: dict[str, Any] = {
    "title": "Tiny",
    "shards": 1,
    "dataset": {
        "name": "tiny",
        "kind": "demo",
        "classes": ["ring", "cross", "checker"],
        "demo_train_images": 20,
        "demo_val_images": 4,
        "demo_size": 64,
    },
    "defaults": {
        "classifier": {
            **NETWORK,
            "prototypes": "image",
            "weights": "random",
            "frozen_stages": 0,
            "batch_norm": "batch",
            "epochs": 1,
            "long_side": [64, 64],
        },
        "maps": {"scales": [1.0]},
        "affinity": {**NETWORK, "weights": "classifier", "epochs": 1, "radius": 3},
        "segmenter": {
            **NETWORK,
            "weights": "classifier",
            "batch_norm": "batch",
            "rates": [1],
            "train_scales": [],
            "iterations": 2,
        },
        "predictions": {"scales": [1.0]},
    },
    "experiments": {"sipe": {}},
    "tables": {"all": {"rows": ["sipe"], "columns": [f"{stage}.miou" for stage in STAGES]}},
}


def snakemake(folder: Path, *arguments: str) -> str:
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "WARM_SOCKET": str(folder / "socket"),
        "OMP_NUM_THREADS": "1",
    }
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    common = ["--configfile", str(folder / "config.yaml"), "--workflow-profile", "none"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "tables", *arguments, "--cores", "1", *where, *common],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    logs = "\n".join(path.read_text() for path in folder.glob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Working directory of the finished run, with `warm_python.py` as its python."""
    path = tmp_path_factory.mktemp("tiny")
    (path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
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
        snakemake(path, "--show-failed-logs")
        yield path
    finally:
        server.terminate()
        server.wait()


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
