"""What reruns after which change.

A tiny workflow runs once; every test makes one change in a copy of it and reads off a dry run how
often each rule would run again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workflow.tiny_workflow import END, FROM_MAPS, SEGMENTER, WHOLE, Workflow


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
