"""A tiny workflow in a copy of the repository: the real Snakefile, with `stand_in.py` as python.

CONFIG has a table of two experiments, `cam` and `supervised`, and a third, `sipe`, that no table
asks for. The counts say how often each rule runs again after a change. Settings files,
specifications and `all` are left out of them: they are local and take no time.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "config.yaml", "rules", "workflow_scripts", "profiles", "envs")
LOCAL = {"all", "total", "write_spec", "write_stage_settings", "write_dataset_settings"}
COLUMNS = [f"{s}.miou" for s in ("maps", "pseudo_labels", "refined_labels", "predictions")]
CONFIG: dict[str, Any] = {
    "title": "Tiny",
    "shards": 1,
    "dataset": {"name": "tiny", "kind": "demo", "classes": ["ring", "cross", "checker"]},
    "defaults": {
        "classifier": {"weights": "random"},
        "affinity": {"weights": "random"},
        "segmenter": {"weights": "classifier", "backbone": "resnet50"},
    },
    "experiments": {
        "cam": {},
        "supervised": {"base": "cam", "segmenter": {"labels": "ground_truth"}},
        "sipe": {"base": "cam", "classifier": {"prototypes": "image"}},
    },
    "tables": {"all": {"rows": ["cam", "supervised"], "columns": COLUMNS}},
}
END = {"draw_curves": 1, "make_table": 1, "make_report": 1}
SEGMENTER = {"train_segmenter": 1, "predict": 1, "merge_shards": 1, "evaluate_labels": 1}
FROM_MAPS = {
    "export_maps": 2,
    "evaluate_maps": 1,
    "make_pseudo_labels": 2,
    "train_affinity": 1,
    "refine_labels": 2,
    "train_segmenter": 1,
    "predict": 1,
    "merge_shards": 8,  # maps 2, pseudo and IR labels 3, refined labels 2, predictions 1
    "evaluate_labels": 3,
    "draw_curves": 3,  # affinity, segmenter, threshold sweep
    "make_table": 1,
    "make_report": 1,
}
WHOLE = FROM_MAPS | {"train_classifier": 1, "draw_curves": 4}


@dataclass
class Workflow:
    """A copy of the repository with a configuration beside it."""

    folder: Path
    config: dict[str, Any]

    @property
    def library(self) -> Path:
        return self.folder / "repository" / "workflow_scripts" / "protoseg"

    def snakemake(
        self, *arguments: str, profile: str = "none", status: int = 0, failing: str = ""
    ) -> str:
        """Run in the repository; returns what it said. Commands that name ``failing`` fail."""
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        search = f"{self.folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
        # In front, where each of them ends with a single value: a README's `-- TARGET` comes last.
        common = ["--configfile", str(config), "--workflow-profile", profile, "--cores", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *common, *arguments],
            cwd=self.folder / "repository",
            env=os.environ | {"PATH": search, "STAND_IN_FAILS": failing},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reruns(self, *arguments: str) -> dict[str, int]:
        """How often each rule would run."""
        output = self.snakemake("--dry-run", *arguments)
        stats = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", output, re.MULTILINE | re.DOTALL)
        if stats is None:
            assert "Nothing to be done" in output
            return {}
        counts = dict(line.split() for line in stats[1].splitlines())
        return {rule: int(count) for rule, count in counts.items() if rule not in LOCAL}


def copied_repository(base: Path) -> Workflow:
    """A workflow that never ran, in ``base``/finished, with its python in ``base``/bin."""
    stand_in = base / "bin" / "python"
    stand_in.parent.mkdir()
    source = (Path(__file__).parent / "stand_in.py").read_text()
    stand_in.write_text(f"#!{sys.executable} -SI\n{source}")
    stand_in.chmod(0o755)
    for part in PARTS:
        path, target = REPOSITORY / part, base / "finished" / "repository" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, target)
    return Workflow(base / "finished", copy.deepcopy(CONFIG))
