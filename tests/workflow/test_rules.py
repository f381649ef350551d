"""The rules as text and as a plan: names, profiles, and what a run from scratch would do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from protoseg.settings.configuration import read_configuration

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "workflow_scripts"
TEXT = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
BLOCKS = {
    match[1]: match[2]
    for match in re.finditer(r"^rule (\w+):\n((?:[ \t]+.*\n|\n)+)", TEXT, re.MULTILINE)
}
WITH_SCRIPT = sorted(name for name, block in BLOCKS.items() if "python {input.script}" in block)
PROFILES = sorted((REPOSITORY / "profiles").glob("*/config.yaml"))
ANIMALS = [
    REPOSITORY / f"experiments/voc_animals{part}.yaml" for part in ("", "_methods", "_segmenters")
]
CONFIGURATIONS = [[REPOSITORY / "config.yaml"], ANIMALS[:1], ANIMALS[:2], ANIMALS]
PLAN = ("--dry-run", "--cores", "1", "--workflow-profile", "none")


def snakemake(
    folder: Path,
    *arguments: str,
    python: Sequence[str] = ("-m", "snakemake"),
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The repository's Snakefile in an empty folder, whatever its status."""
    where = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    return subprocess.run(
        [sys.executable, *python, *arguments, *where],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder), **(environment or {})},
    )


@pytest.mark.parametrize("rule", WITH_SCRIPT)
def test_rule_runs_the_script_of_its_name(rule: str) -> None:
    block = BLOCKS[rule]
    assert re.findall(r'\bscript\("(\w+)"\)', block) == [rule]
    assert set(re.findall(r'code_digest\("(\w+)"\)', block)) <= {rule}
    assert (SCRIPTS / f"{rule}.py").is_file()


@pytest.mark.parametrize("rule", WITH_SCRIPT)
def test_rule_replaces_its_shell_and_keeps_a_log(rule: str) -> None:
    assert re.search(r'"exec python \{input\.script\}', BLOCKS[rule])
    assert "2> {log}" in BLOCKS[rule]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.parent.name)
def test_profile_names_existing_rules(profile: Path) -> None:
    values = yaml.safe_load(profile.read_text())
    for key in ("set-threads", "set-resources"):
        assert set(values.get(key) or {}) <= set(BLOCKS)
    arrays = values.get("slurm-array-jobs", "")
    assert set(filter(None, arrays.split(","))) <= set(BLOCKS)


def test_slurm_profile_knows_the_rules_of_the_local_one() -> None:
    local, slurm = (
        yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text())
        for name in ("default", "slurm")
    )
    assert set(local["set-threads"]) == set(slurm["set-threads"])
    gpu = {name for name, resources in slurm["set-resources"].items() if "gpu" in resources}
    assert set(local["set-resources"]) <= gpu
    assert {name for name in BLOCKS if "{{scatteritem}}" in BLOCKS[name]} - {"merge_shards"} == set(
        slurm["slurm-array-jobs"].split(",")
    )


def test_planning_imports_no_library_of_the_stages(tmp_path: Path) -> None:
    """A login node plans without them; Snakemake's plugin for SLURM has pandas already."""
    code = """
import sys
from snakemake.cli import main
for name in ("torch", "torchvision", "numpy", "pandas", "h5py"):
    sys.modules[name] = None  # importing it is an error from here on
main(sys.argv[1:])
"""
    done = snakemake(tmp_path, "results/demo/settings.json", *PLAN, python=("-c", code))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "write_dataset_settings" in done.stdout + done.stderr


@pytest.mark.parametrize("given", ["option", "variable"])
def test_slurm_profile_leaves_the_local_one_out(tmp_path: Path, given: str) -> None:
    profile = str(REPOSITORY / "profiles" / "slurm")
    option, variable = ["--profile", profile], {"SNAKEMAKE_PROFILE": profile}
    done = snakemake(
        tmp_path,
        *("results/demo/images.csv", "-n", *(option if given == "option" else [])),
        environment=variable if given == "variable" else None,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    used = [line for line in output.splitlines() if line.startswith("Using profile")]
    assert "profiles/default" in used[0]
    assert "profiles/default" not in used[-1]
    for resource in ("slurm_partition=cpu", "mem_mb=8000", "runtime=120"):
        assert resource in output


def test_batch_that_the_gpus_cannot_share_is_refused(tmp_path: Path) -> None:
    options = ["--cores", "1", "--set-resources", "train_affinity:gpu=3"]
    done = snakemake(tmp_path, "results/demo/settings.json", *options)
    assert done.returncode == 1
    assert "a batch of 16 images (or pairs) cannot be shared by 3 GPUs" in done.stderr
    assert not (tmp_path / "results").exists()


def test_slurm_without_its_profile_is_refused(tmp_path: Path) -> None:
    options = ["--executor", "slurm", "--jobs", "1"]
    done = snakemake(tmp_path, "results/demo/settings.json", *options)
    assert done.returncode == 1
    assert "--profile profiles/slurm" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("files", CONFIGURATIONS, ids=lambda files: files[-1].stem)
def test_configuration_is_valid(files: list[Path]) -> None:
    config: dict[str, Any] = {}
    for file in files:
        update_config(config, yaml.safe_load(file.read_text()))
    configuration = read_configuration(config)
    assert configuration.tables


def test_every_configuration_of_the_folder_is_tried() -> None:
    assert set(REPOSITORY.glob("experiments/*.yaml")) == set(ANIMALS)


def test_default_configuration_trains_shared_classifiers_once(tmp_path: Path) -> None:
    experiments = read_configuration(
        yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    ).experiments
    owner = experiments.owner("supervised", "classifier")
    assert owner != "supervised"
    done = snakemake(tmp_path, *PLAN)
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout + done.stderr
    assert output.count(f"train the classifier of {owner}, seed 0") == 1
    assert "train the classifier of supervised" not in output
    assert output.count("train the segmenter of supervised, seed 0") == 1
    assert "denseCRF on the predictions" not in output


def planned(folder: Path, config: dict[str, Any], *targets: str) -> str:
    """What a dry run with ``config`` says."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    done = snakemake(folder, *targets, *PLAN, "--configfile", str(file))
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def test_submission_predicts_on_the_test_list_alone(tmp_path: Path) -> None:
    config = {"dataset": {"test_list": "val"}, "shards": 1, "experiments": {"cam": {}}}
    output = planned(tmp_path, config, "submission")
    for message in (
        "predict with cam, seed 0, test 1-of-1",
        "denseCRF on the predictions of cam, seed 0, test 1-of-1",
        "pack the predictions_crf of cam, seed 0, for VOC's server",
    ):
        assert output.count(message) == 1
    assert "evaluate_labels" not in output


def test_seeds_and_numbers_of_settings_can_come_from_the_command_line(tmp_path: Path) -> None:
    scales = 'defaults={"maps": {"scales": [1.0, 0.5]}}'
    done = snakemake(tmp_path, "experiment_cam", *PLAN, "--config", "seeds=[0, 3]", scales)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    for seed in (0, 3):
        assert output.count(f"train the classifier of cam, seed {seed}") == 1


def test_class_prototypes_are_averaged_where_they_have_a_share(tmp_path: Path) -> None:
    with_share = {"base": "sipe", "maps": {"class_prototype_share": 0.5}}
    experiments = {"sipe": {"classifier": {"prototypes": "image"}}, "classes": with_share}
    output = planned(tmp_path, {"shards": 2, "experiments": experiments}, "maps")
    assert output.count("train the classifier") == 1
    assert output.count("average the prototypes of classes, seed 0, by class") == 1
    assert "average the prototypes of sipe" not in output


def test_test_predictions_score_nothing(tmp_path: Path) -> None:
    config = {"dataset": {"test_list": "val"}, "shards": 1, "experiments": {"cam": {}}}
    output = planned(tmp_path, config, "test_predictions")
    assert output.count("predict with cam, seed 0, test 1-of-1") == 1
    assert "evaluate" not in output
    assert "refine_predictions" not in output


def test_without_tables_every_experiment_runs(tmp_path: Path) -> None:
    supervised = {"base": "cam", "segmenter": {"labels": "ground_truth"}}
    config = {"experiments": {"cam": {}, "full": supervised}}
    output = planned(tmp_path, config)
    for stage in ("maps", "pseudo_labels", "refined_labels", "predictions"):
        assert output.count(f"score the {stage} of cam, seed 0") == 1
    assert output.count("score the predictions of full, seed 0") == 1
    output = planned(tmp_path, config, "experiment_full")
    assert "train the segmenter of full" in output
    assert "train the classifier" not in output
