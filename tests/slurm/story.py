"""The tiny run that `test_slurm.py` interrupts: settings, start, interruptions, traces.

In: a folder. Out: a run of the repository's Snakefile there, and what its jobs recorded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from slurm.cluster import NODES, wait_for
from tiny_config import CLASSIFIER, DATASET, DEFAULTS

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("recording_python.py")
STAGES = ("maps", "pseudo_labels", "refined_labels", "predictions")
CONFIG: dict[str, Any] = {
    "title": "Tiny",
    "seeds": [0, 1, 2, 3, 4, 5],
    "shards": 2,
    "dataset": DATASET,
    "defaults": DEFAULTS | {"classifier": CLASSIFIER | {"epochs": 9, "precision": "float32"}},
    "experiments": {"cam": {}},
    "tables": {"all": {"rows": ["cam"], "columns": [f"{stage}.miou" for stage in STAGES]}},
    "panels": {"images": 1, "maps": ["cam"], "labels": "cam"},
}
Record = dict[str, Any]


@dataclass
class Story:
    """The run: its folder, the local run's folder, and what befell which seeds."""

    folder: Path
    local: Path
    requeued: int
    out_of_time: int
    on_lost_node: list[int]
    hanging: int
    node_lost: float = 0.0

    def records(self, command: str | None = None, seed: int | None = None) -> list[Record]:
        """What the jobs recorded, in the order of their starts."""
        found = read_records(self.folder)
        return [
            record
            for record in found
            if command in (None, record["command"]) and seed in (None, record["seed"])
        ]

    def log(self, seed: int) -> str:
        """Log of a training's last attempt."""
        return (self.folder / f"logs/train_classifier/tiny/cam-seed{seed}.log").read_text()


def read_records(folder: Path) -> list[Record]:
    records = [json.loads(path.read_text()) for path in folder.glob("records/*.json")]
    for record in records:
        text = " ".join(record["arguments"])
        seeds = [seed for seed in CONFIG["seeds"] if f"/seed{seed}/" in text]
        record["seed"] = seeds[0] if seeds else None
    return sorted(records, key=lambda record: record["started"])


def checkpoint(folder: Path, seed: int) -> Path:
    return folder / f"checkpoints/tiny/cam/seed{seed}/classifier.pt"


def weights(folder: Path, seed: int) -> Path:
    return folder / f"results/tiny/cam/seed{seed}/classifier/weights.pt"


def start(folder: Path, *arguments: str, pause: float = 0) -> subprocess.Popen[bytes]:
    """Snakemake in ``folder``, its output in `run.log`, with the stand-in as the jobs' python."""
    for name in ("bin", "records"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    python = folder / "bin" / "python"
    one_thread = "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1"  # Snakemake sets both to the rule's threads
    python.write_text(f'#!/bin/sh\n{one_thread} exec {sys.executable} {STAND_IN} "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "RECORDS": str(folder / "records"),
        "PAUSE": str(pause),
    }
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    common = ["--configfile", str(folder / "config.yaml"), *where]
    with (folder / "run.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments, *common],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment,
        )


def finish(run: subprocess.Popen[bytes], folder: Path, seconds: float = 900) -> None:
    """Wait for a run of `start`, which must succeed."""
    try:
        run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
    assert run.returncode == 0, (folder / "run.log").read_text()[-5000:]


def scontrol(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True)


def interrupt(story: Story, trainings: dict[int, Record]) -> None:
    """Requeue one training of the second node, end the other's time, set the first node down.

    Then let one of those that waited hang until SLURM ends it.
    """
    (story.folder / "records" / "hangs").write_text(str(checkpoint(Path(), story.hanging)))
    scontrol("update", f"JobId={trainings[story.out_of_time]['SLURM_JOB_ID']}", "TimeLimit=1")
    scontrol("requeue", trainings[story.requeued]["SLURM_JOB_ID"])
    story.node_lost = time.time()
    scontrol("update", f"NodeName={NODES[0]}", "State=DOWN", "Reason=test")
    time.sleep(10)
    scontrol("update", f"NodeName={NODES[0]}", "State=RESUME")
    hanging = checkpoint(story.folder, story.hanging)
    wait_for(hanging.is_file, "the checkpoint of the training that hangs", seconds=240)
    (record,) = story.records("train_classifier", story.hanging)
    scontrol("update", f"JobId={record['SLURM_JOB_ID']}", "TimeLimit=1")


def end_processes(*folders: Path) -> None:
    """Kill what still runs in the folders: there are no cgroups that would keep jobs together."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(link)) in folders:
                os.kill(int(link.parent.name), signal.SIGKILL)


def memory_of(job: str) -> int:
    """Megabytes that a job asked for."""
    number, unit = in_record_of(job, r"MinMemoryNode=([\d.]+)([MG])").groups()
    return round(float(number) * (1024 if unit == "G" else 1))


def state_of(job: str) -> str:
    """How a job stands or ended, in SLURM's words."""
    return in_record_of(job, r"JobState=(\w+)")[1]


def in_record_of(job: str, pattern: str) -> re.Match[str]:
    """What matches in SLURM's record of a job."""
    done = subprocess.run(
        ["scontrol", "show", "job", job], check=True, capture_output=True, text=True
    )
    match = re.search(pattern, done.stdout)
    assert match, done.stdout
    return match
