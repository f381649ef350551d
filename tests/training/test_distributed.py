"""Several ranks: two train as one does, resume, and end together. gloo on the CPU, by torchrun."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from rank_job import CLASSIFIERS, Result, train_all
from torch import nn

from protoseg.errors import InputError
from protoseg.localization.pair_training import kept_statistics
from protoseg.training.distributed import (
    on_all_gpus,
    seed_rank,
    share_statistics,
    sum_over_ranks,
)

TESTS = Path(__file__).resolve().parents[1]
SCRIPTS = TESTS.parent / "workflow_scripts"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TRAININGS = [*CLASSIFIERS, "affinity", "cross_entropy", "balanced", "dsrg"]


def started(job: str, folder: Path, *launcher: str) -> subprocess.Popen[str]:
    """The job by two ranks; without ``launcher`` it becomes one itself."""
    options = ["--job", job, "--output", str(folder / "found.pt"), "--processes", "2"]
    paths = os.pathsep.join([str(SCRIPTS), str(TESTS)])
    return subprocess.Popen(
        [sys.executable, *launcher, str(TESTS / "rank_job.py"), *options],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("two")
    process = started("everything", folder, *TORCHRUN)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert log.count("epoch 1/2:") == len(TRAININGS)  # rank 0 alone writes the log
    found: Result = torch.load(folder / "found.pt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return train_all(tmp_path_factory.mktemp("alone") / "rank0")


@pytest.mark.parametrize("name", TRAININGS)
def test_two_ranks_train_as_one_does(name: str, two_ranks: Result, alone: Result) -> None:
    """Up to float32's rounding, though the ranks' counts of labelled pixels differ."""
    found, expected = two_ranks[name], alone[name]
    torch.testing.assert_close(found["total"], expected["total"], rtol=1e-5, atol=1e-6)
    assert found["state"].keys() == expected["state"].keys()
    for key, value in expected["state"].items():
        torch.testing.assert_close(found["state"][key], value, rtol=1e-4, atol=1e-6, msg=key)


def test_resumed_equals_uninterrupted(two_ranks: Result) -> None:
    torch.testing.assert_close(two_ranks["resumed"], two_ranks["whole"], rtol=0, atol=0)


def test_a_rank_that_fails_ends_the_job(tmp_path: Path) -> None:
    begin, process = time.monotonic(), started("fail", tmp_path, *TORCHRUN)
    _, log = process.communicate(timeout=60)
    assert time.monotonic() - begin < 60
    assert process.returncode != 0
    assert "rank 1: memory is full" in log
    assert 'raise ValueError("memory is full")' in log


def test_termination_reaches_every_rank(tmp_path: Path) -> None:
    process = started("for_ever", tmp_path)
    folders = [tmp_path / f"rank{number}" for number in range(2)]
    limit = time.monotonic() + 60
    while not all((folder / "trains").exists() for folder in folders):
        assert time.monotonic() < limit
        time.sleep(0.1)
    process.terminate()
    _, log = process.communicate(timeout=60)
    assert process.returncode != 0, log
    assert all((folder / "left").exists() for folder in folders)
    assert (tmp_path / "c.pt").exists()


def test_bad_input_is_one_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Bad input meets every rank; those after the first wait to be ended before they speak."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    monkeypatch.setattr(os, "_exit", sys.exit)

    def bad_input(arguments: Namespace) -> None:
        raise InputError("mend the setting")

    for number in range(2):
        monkeypatch.setenv("RANK", str(number))
        with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match="1"):
            on_all_gpus(bad_input)(Namespace(processes=2))
        assert caplog.records[-1].getMessage() == f"rank {number}: mend the setting"
        assert not caplog.records[-1].exc_info
        assert len(slept) == number


@pytest.mark.parametrize(
    ("gpus", "asked", "slurm", "expected"),
    [
        (0, None, True, 1),
        (4, None, True, 4),
        (4, 2, True, 2),
        (4, None, False, 1),
        (4, 4, False, 4),
    ],
)
def test_one_process_for_each_gpu_of_a_slurm_job(
    gpus: int, asked: int | None, slurm: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = []
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "execv", lambda program, arguments: replaced.append(arguments))
    monkeypatch.setattr(sys, "argv", ["train.py", "--list", "train"])
    on_all_gpus(lambda arguments: None)(Namespace(processes=asked))
    if expected == 1:
        assert not replaced
    else:
        options = ["--nproc-per-node", str(expected), "train.py", "--list", "train"]
        assert replaced[0][-5:] == options


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="--processes 3 needs as many GPUs, 2 are visible"):
        on_all_gpus(lambda arguments: None)(Namespace(processes=3))


def test_random_state_is_a_function_of_seed_epoch_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int, epoch: int, rank: str) -> float:
        monkeypatch.setenv("RANK", rank)
        torch.manual_seed(0)
        seed_rank(seed, epoch)
        return float(torch.rand(()))

    first = drawn(0, 0, "0")
    assert drawn(0, 1, "0") == first  # rank 0 keeps its state
    assert drawn(0, 0, "1") == drawn(0, 0, "1")
    assert (
        len({first, *(drawn(*key, rank) for key in [(0, 0), (0, 1), (1, 0)] for rank in "12")}) == 7
    )


def test_alone_nothing_is_added() -> None:
    values = torch.rand(3)
    assert sum_over_ranks(values) is values


def test_statistics_are_shared_where_batchnorm_learns() -> None:
    frozen, learning = nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(3)
    inner = nn.Sequential(learning)
    network = nn.Sequential(frozen, inner)
    keys = list(network.state_dict())
    share_statistics(network)
    assert network[0] is frozen
    shared = inner[0]
    assert isinstance(shared, nn.SyncBatchNorm)
    assert shared.weight is learning.weight
    assert list(network.state_dict()) == keys
    with kept_statistics(network):
        assert shared.momentum == 0.0
