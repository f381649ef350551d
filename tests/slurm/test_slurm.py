"""The pipeline on a real SLURM, through the shipped profile, while its jobs are interrupted.

One run on the cluster of `cluster.py`: six trainings on four GPUs, then all other stages of one of
them. Once four trainings have a checkpoint, one is requeued, one is put before its time limit, and
the node of the two others is set down; of the two that waited, one hangs until SLURM ends it at its
limit. A second run makes table and report of one seed from what is there. The tests read what the
jobs recorded, and compare with an uninterrupted run without SLURM.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.cluster import GPUS, NODES, Cluster, Unavailable, wait_for
from slurm.story import (
    CONFIG,
    REPOSITORY,
    STAGES,
    Story,
    checkpoint,
    end_processes,
    finish,
    interrupt,
    memory_of,
    read_records,
    start,
    state_of,
    weights,
)

PROFILE = REPOSITORY / "profiles" / "slurm"
RUN = "results/tiny/cam/seed0"
SCORES = [f"{RUN}/{stage}/metrics.json" for stage in STAGES]
GPU_RULES = {
    "train_classifier",
    "export_maps",
    "train_affinity",
    "refine_labels",
    "train_segmenter",
    "predict",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a socket's path must be short
    folder.chmod(0o755)
    try:
        cluster = Cluster(folder)
    except Unavailable as reason:
        pytest.skip(str(reason))
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def story(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The interrupted run, after its end."""
    folder, local = (tmp_path_factory.mktemp(name) for name in ("slurm", "local"))
    try:
        waiting = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
        cluster_run = ["--profile", str(PROFILE), *waiting]
        run = start(folder, "classifier", *SCORES, *cluster_run, pause=6)
        wait_for(
            lambda: (
                run.poll() is not None
                or sum(checkpoint(folder, seed).is_file() for seed in CONFIG["seeds"]) == 4
            ),
            "four checkpoints",
            seconds=240,
        )
        assert run.poll() is None, (folder / "run.log").read_text()
        trainings = {r["seed"]: r for r in read_records(folder) if r["seed"] is not None}
        lost = [seed for seed, r in trainings.items() if r["SLURMD_NODENAME"] == NODES[0]]
        requeued, out_of_time = (seed for seed in trainings if seed not in lost)
        hanging = max(set(CONFIG["seeds"]) - set(trainings))  # the further stages are of seed 0
        story = Story(folder, local, requeued, out_of_time, lost, hanging)
        interrupt(story, trainings)
        alone = start(local, "classifier", *SCORES, "--workflow-profile", "none", "--cores", "1")
        finish(alone, local)
        finish(run, folder)
        finish(start(folder, "report", *cluster_run, "--config", "seeds=[0]"), folder)
        yield story
    finally:
        end_processes(folder, local)


def test_jobs_land_on_both_nodes(story: Story) -> None:
    assert {record["SLURMD_NODENAME"] for record in story.records()} == set(NODES)


def test_gpu_rules_get_one_gpu_and_the_others_none(story: Story) -> None:
    for record in story.records():
        gpus = record["CUDA_VISIBLE_DEVICES"]
        assert gpus in (map(str, range(GPUS)) if record["command"] in GPU_RULES else [None])


def test_no_gpu_is_shared(story: Story) -> None:
    uses: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in story.records():
        if record["command"] in GPU_RULES:
            place = record["SLURMD_NODENAME"], record["CUDA_VISIBLE_DEVICES"]
            end = record.get("ended", story.node_lost)
            uses.setdefault(place, []).append((record["started"], end))
    assert len(uses) == GPUS * len(NODES)
    for spans in uses.values():
        for (_, ended), (started, _) in itertools.pairwise(sorted(spans)):
            assert ended <= started


def test_requeued_training_resumes_in_the_same_job(story: Story) -> None:
    first, *_, last = story.records("train_classifier", story.requeued)
    assert first["SLURM_JOB_ID"] == last["SLURM_JOB_ID"]
    assert_resumed(story, story.requeued)


def test_training_out_of_time_is_tried_again_and_resumes(story: Story) -> None:
    first, second = story.records("train_classifier", story.out_of_time)
    assert "ended" in first
    memory = [memory_of(record["SLURM_JOB_ID"]) for record in (first, second)]
    assert memory[1] == 2 * memory[0]
    assert_resumed(story, story.out_of_time)


def test_training_that_hangs_is_ended_tried_again_and_resumes(story: Story) -> None:
    first, second = story.records("train_classifier", story.hanging)
    assert "ended" not in first
    assert state_of(first["SLURM_JOB_ID"]) == "TIMEOUT"
    assert state_of(second["SLURM_JOB_ID"]) == "COMPLETED"
    assert_resumed(story, story.hanging)


def test_lost_node_is_survived(story: Story) -> None:
    assert len(story.on_lost_node) == 2
    for seed in story.on_lost_node:
        jobs = [record["SLURM_JOB_ID"] for record in story.records("train_classifier", seed)]
        assert jobs == [jobs[0]] * 2
        assert_resumed(story, seed)


def test_uninterrupted_training_equals_the_local_one(story: Story) -> None:
    touched = {story.requeued, story.out_of_time, story.hanging, *story.on_lost_node}
    (seed,) = set(CONFIG["seeds"]) - touched
    assert len(story.records("train_classifier", seed)) == 1
    assert weights(story.folder, seed).read_bytes() == weights(story.local, seed).read_bytes()


def test_results_made_on_the_cluster_equal_the_local_ones(story: Story) -> None:
    made = [*story.local.glob(f"{RUN}/*/*.h5"), *story.local.glob(f"{RUN}/*/weights.pt")]
    assert {path.parent.name for path in made} >= {*STAGES, "affinity", "segmenter"}
    for path in made:
        there = story.folder / path.relative_to(story.local)
        assert there.read_bytes() == path.read_bytes(), there


def test_every_stage_ran_on_the_cluster(story: Story) -> None:
    assert {record["command"] for record in story.records()} >= GPU_RULES | {"make_pseudo_labels"}
    for stage in STAGES:
        scores = json.loads((story.folder / RUN / stage / "metrics.json").read_text())
        assert 0 <= scores["miou"] <= 100


def test_table_and_report_of_one_seed_are_made_from_what_is_there(story: Story) -> None:
    commands = [record["command"] for record in story.records()]
    assert {"make_table", "draw_panels", "draw_curves", "make_report"} <= set(commands)
    assert commands.index("make_table") > len(commands) - commands[::-1].index("train_classifier")
    table = (story.folder / "results/tables/all.csv").read_text()
    (row,) = csv.DictReader(table.splitlines())
    for stage in STAGES:
        scores = json.loads((story.folder / RUN / stage / "metrics.json").read_text())
        assert float(row[f"{stage}.miou.mean"]) == pytest.approx(scores["miou"])
    assert "<table" in (story.folder / "results/report.html").read_text()


def test_shards_are_tasks_of_one_array(story: Story) -> None:
    shards = story.records("export_maps")
    assert len(shards) == 2 * CONFIG["shards"]  # of the scored images and of the rest
    assert len({record["SLURM_JOB_ID"] for record in shards}) == len(shards)
    assert None not in {record["SLURM_ARRAY_JOB_ID"] for record in shards}
    assert len({record["SLURM_ARRAY_JOB_ID"] for record in shards}) == 1


def test_tasks_of_an_array_do_not_wait_for_the_first(story: Story) -> None:
    tasks = {r["SLURM_ARRAY_TASK_ID"]: r["ended"] for r in story.records("make_pseudo_labels")}
    first = tasks.pop("1")
    assert min(tasks.values()) + 5 < first  # --latency-wait
    assert "Error in rule make_pseudo_labels" not in (story.folder / "run.log").read_text()


def test_logs_are_found_by_rule_and_wildcards(story: Story) -> None:
    logs = story.folder / "logs"
    assert list(logs.glob("export_maps/tiny/cam-seed0-scored-*-of-2.log"))
    for seed in CONFIG["seeds"]:
        assert list(logs.glob(f"slurm/rule_train_classifier/cam_{seed}/*.log"))
        assert "epoch 9/9" in story.log(seed)


def assert_resumed(story: Story, seed: int) -> None:
    """The last attempt began after the first epoch, and made the same weights bit for bit."""
    resumed = re.search(r"resuming from \S+ after epoch (\d+)", story.log(seed))
    assert resumed
    assert 1 <= int(resumed[1]) < CONFIG["defaults"]["classifier"]["epochs"]
    assert "epoch 1/9" not in story.log(seed)
    assert weights(story.folder, seed).read_bytes() == weights(story.local, seed).read_bytes()
