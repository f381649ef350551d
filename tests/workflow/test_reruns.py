"""What reruns after which change: the real Snakefile, with `stand_in.py` in the place of python.

A tiny workflow runs once; every test makes one change in a copy of it and reads off a dry run how
often each rule would run again. Settings files, specifications and target rules are left out of the
counts: they are local and take no time.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
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

    def snakemake(self, *arguments: str) -> str:
        """Run in the repository; returns what it said."""
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.config))
        search = f"{self.folder.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
        common = ["--cores", "1", "--workflow-profile", "none", "--configfile", str(config)]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, *common],
            cwd=self.folder / "repository",
            env=os.environ | {"PATH": search},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reruns(self, *targets: str) -> dict[str, int]:
        """How often each rule would run."""
        output = self.snakemake("--dry-run", *targets)
        stats = re.search(r"^job +count\n-+ +-+\n(.*?)\n\n", output, re.MULTILINE | re.DOTALL)
        if stats is None:
            assert "Nothing to be done" in output
            return {}
        counts = dict(line.split() for line in stats[1].splitlines())
        return {rule: int(count) for rule, count in counts.items() if rule not in LOCAL}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The tiny workflow after its first run."""
    base = tmp_path_factory.mktemp("workflow")
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
    workflow = Workflow(base / "finished", copy.deepcopy(CONFIG))
    workflow.snakemake()
    return workflow


@pytest.fixture
def workflow(finished: Workflow, request: pytest.FixtureRequest) -> Workflow:
    """A copy of the finished workflow, with equal times, for one test to change."""
    folder = finished.folder.parent / request.node.name
    shutil.copytree(finished.folder, folder)
    return Workflow(folder, copy.deepcopy(CONFIG))


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Rewrite a file, and make sure that its text did change."""
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)


def test_nothing_changed(finished: Workflow) -> None:
    assert finished.reruns() == {}


def test_new_times_of_every_file_in_a_moved_checkout(workflow: Workflow) -> None:
    for path in workflow.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    assert workflow.reruns() == {}


def test_comments_docstrings_and_layout(workflow: Workflow) -> None:
    for module in workflow.library.rglob("*.py"):
        module.write_text(f"# A comment.\n{module.read_text()}\n\n# Another one.\n")
    losses = workflow.library / "localization" / "losses.py"
    edit(losses, lambda text: text.replace('    """General-specific', '    """The'))
    script = workflow.library.parent / "train_classifier.py"
    edit(
        script,
        lambda text: text.replace(
            "settings, seed, fingerprint =", "(settings, seed, fingerprint) ="
        ),
    )
    assert workflow.reruns() == {}


def test_code_of_the_loss(workflow: Workflow) -> None:
    losses = workflow.library / "localization" / "losses.py"
    edit(losses, lambda text: text.replace(".abs().mean()", ".abs().mean() * 2.0"))
    both = {"train_segmenter": 2, "predict": 2, "merge_shards": 9, "evaluate_labels": 4}
    assert workflow.reruns() == WHOLE | both


def test_equal_results_of_changed_code_stop_there(workflow: Workflow) -> None:
    losses = workflow.library / "localization" / "losses.py"
    edit(losses, lambda text: text.replace(".abs().mean()", ".abs().sum()"))
    maps = [f"results/tiny/cam/seed0/maps/{part}.h5" for part in ("scored", "rest")]
    assert "train the classifier" in workflow.snakemake(*maps)
    assert workflow.reruns() == {}


def test_code_of_the_scores(workflow: Workflow) -> None:
    metrics = workflow.library / "metrics.py"
    edit(metrics, lambda text: text.replace("IGNORED = 255", "IGNORED = 250 + 5"))
    assert workflow.reruns() == {"evaluate_maps": 1, "evaluate_labels": 4} | END


def test_setting_of_the_classifier(workflow: Workflow) -> None:
    workflow.config["experiments"]["cam"] = {"classifier": {"epochs": 1}}
    both = {"train_segmenter": 2, "predict": 2, "merge_shards": 9, "evaluate_labels": 4}
    assert workflow.reruns() == WHOLE | both


def test_setting_of_the_maps(workflow: Workflow) -> None:
    workflow.config["experiments"]["cam"] = {"maps": {"scales": [1.0]}}
    assert workflow.reruns() == FROM_MAPS


def test_setting_of_the_segmenter(workflow: Workflow) -> None:
    workflow.config["experiments"]["supervised"]["segmenter"]["iterations"] = 7
    assert workflow.reruns() == SEGMENTER | END


def test_setting_of_the_predictions(workflow: Workflow) -> None:
    workflow.config["experiments"]["cam"] = {"predictions": {"flip": True}}
    twice = {name: 2 for name in SEGMENTER if name != "train_segmenter"}
    assert workflow.reruns() == twice | {"make_table": 1, "make_report": 1}


def test_new_row_runs_its_missing_stages(workflow: Workflow) -> None:
    workflow.config["tables"]["all"]["rows"].append("sipe")
    assert workflow.reruns() == WHOLE


def test_new_column_and_new_title_run_no_stage(workflow: Workflow) -> None:
    workflow.config["tables"]["all"]["columns"].append("maps.best_threshold_miou")
    workflow.config["tables"]["all"]["title"] = "Another title"
    assert workflow.reruns("tables") == {"make_table": 1, "tables": 1}
