"""The README's table "Run a part again": every line of it does what it says.

The commands are the README's, with the tiny workflow's data set and its finished experiment in the
place of the demo's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from workflow.tiny_workflow import END, FROM_MAPS, REPOSITORY, SEGMENTER, WHOLE, Workflow

Change = Callable[[dict[str, Any]], None]
STAGES_FROM_MAPS = {rule: count for rule, count in FROM_MAPS.items() if rule not in END}
TABLES = {"make_table": 1, "tables": 1}


def readme_commands() -> dict[str, list[str]]:
    """What a line promises -> the arguments of its command."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Run a part again\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.+?) \| `snakemake ?(.*?)`", section, re.MULTILINE)
    there = {"demo": "tiny", "sipe": "cam"}
    return {
        what: shlex.split(re.sub("|".join(there), lambda name: there[name[0]], arguments))
        for what, arguments in lines
    }


COMMANDS = readme_commands()


def nothing(config: dict[str, Any]) -> None:
    """Everything is up to date."""


def other_maps(config: dict[str, Any]) -> None:
    config["experiments"]["cam"] = {"maps": {"scales": [1.0]}}


def other_segmenter(config: dict[str, Any]) -> None:
    """Of `supervised` alone."""
    config["experiments"]["supervised"]["segmenter"]["iterations"] = 7


def both(config: dict[str, Any]) -> None:
    other_maps(config)
    other_segmenter(config)


def other_shards(config: dict[str, Any]) -> None:
    config["shards"] = 3


def new_row(config: dict[str, Any]) -> None:
    """Differs from `cam` in the random walk, so that everything before it is there."""
    config["experiments"]["short_walk"] = {"base": "cam", "refined_labels": {"log2_steps": 5}}
    config["tables"]["all"]["rows"].append("short_walk")


PLANNED: dict[str, tuple[Change, dict[str, int]]] = {
    # The maps of `sipe` are those that are missing.
    "one stage of all experiments": (
        other_maps,
        {"train_classifier": 1, "export_maps": 2, "merge_shards": 2, "evaluate_maps": 2, "maps": 1},
    ),
    "one experiment": (both, STAGES_FROM_MAPS | {"experiment_cam": 1}),
    "only what a new row of a table needs": (
        new_row,
        SEGMENTER | {"refine_labels": 2, "merge_shards": 3, "evaluate_labels": 2} | END,
    ),
    "one stage of one experiment again": (other_segmenter, {"train_segmenter": 1}),
    "everything after the classifier again": (nothing, FROM_MAPS),
    "the same of one experiment": (other_segmenter, STAGES_FROM_MAPS | {"experiment_cam": 1}),
    "only the tables": (other_segmenter, SEGMENTER | TABLES),
    "the tables from the scores that are there, whatever changed since": (both, TABLES),
    "background factors of the prototype methods": (
        nothing,
        {"train_classifier": 1, "sweep_background_factor": 1, "background_factors": 1},
    ),
    "go on with other `shards`, without making again what is there": (
        other_shards,
        {"make_report": 1},
    ),
    "on a SLURM cluster ([docs/slurm.md](docs/slurm.md))": (other_segmenter, SEGMENTER | END),
}
WHY = "what would run, and why"
KEEP_GOING = "the other experiments where one fails"
GO_ON = "go on where a killed run stopped"


def test_every_line_is_tested() -> None:
    assert set(COMMANDS) == set(PLANNED) | {WHY, KEEP_GOING, GO_ON}


@pytest.mark.parametrize("what", PLANNED, ids=lambda what: re.sub(r"\W+", "_", what))
def test_line_plans_what_it_promises(what: str, workflow: Workflow) -> None:
    change, expected = PLANNED[what]
    change(workflow.config)
    assert workflow.reruns(*COMMANDS[what]) == expected


def test_dry_run_says_why(workflow: Workflow) -> None:
    other_segmenter(workflow.config)
    said = workflow.snakemake(*COMMANDS[WHY])
    run = "results/tiny/supervised/seed0/segmenter"
    changed = rf"output: {run}/settings.json\n(?: .*\n)*? +reason: Params have changed"
    assert re.search(changed, said)
    assert re.search(rf"Reason: Input files updated by another job: {run}/settings.json", said)
    assert "This was a dry-run" in said


def test_others_finish_where_one_experiment_fails(workflow: Workflow) -> None:
    workflow.config["tables"]["all"]["rows"].append("sipe")
    other_segmenter(workflow.config)
    repository = workflow.folder / "repository"
    scores = repository / "results/tiny/supervised/seed0/predictions/metrics.json"
    weights = "results/tiny/sipe/seed0/classifier/weights.pt"
    before = scores.read_text()
    said = workflow.snakemake(
        *COMMANDS[KEEP_GOING],
        *("--prioritize", weights),  # so that the others come after the failure
        profile="profiles/default",
        failing="sipe/seed0/classifier",
        status=1,
    )
    assert re.search(r"Error in rule train_classifier", said)
    assert scores.read_text() != before
    assert not (repository / weights).exists()
    assert workflow.reruns(*COMMANDS[GO_ON]) == WHOLE


def test_a_list_that_no_training_reads_leaves_what_is_there(workflow: Workflow) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    block = text.partition("A change of any list")[2].split("```")[1]
    index, touch, target = (
        shlex.split(line)[1:] for line in block.splitlines() if line.startswith("snakemake ")
    )
    workflow.config["dataset"]["test_list"] = "val"
    assert workflow.reruns(*target)["train_segmenter"] == 3
    workflow.snakemake(*(argument.replace("voc12", "tiny") for argument in index))
    workflow.snakemake(*touch)
    # The segmenter of `sipe`, with all before it, was not there.
    assert workflow.reruns(*target)["train_segmenter"] == 1
    cam = "results/tiny/cam/seed0/predictions_crf/submission.tgz"
    needed = {"predict": 1, "refine_predictions": 1, "make_submission": 1, "merge_shards": 2}
    assert workflow.reruns("--", cam) == needed
