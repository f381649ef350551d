"""Measured work hands back its result, and its costs are all there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from measure import Cost, cost_of, costs_of, least


def test_tensors_come_back_from_the_process() -> None:
    result, cost = cost_of(lambda: [torch.arange(3)], repeats=2)
    assert torch.equal(result[0], torch.arange(3))
    assert cost.seconds >= 0


def busy_child() -> int:
    """Process id of a child that has taken half a second of processor time, and still runs."""
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ntime.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def test_time_of_a_child_that_still_runs_counts() -> None:
    child, cost = cost_of(busy_child)
    os.kill(child, signal.SIGKILL)
    assert cost.core_seconds > 0.45


def test_works_are_measured_in_turn(tmp_path: Path) -> None:
    def write(name: str) -> str:
        with (tmp_path / "order").open("a") as file:
            file.write(name)
        return name

    found = costs_of(partial(write, "a"), partial(write, "b"), rounds=2, repeats=2)
    assert [result for result, _ in found] == ["a", "b"]
    assert (tmp_path / "order").read_text() == "aabbaabb"


def test_the_least_time_and_the_first_memory() -> None:
    assert least([Cost(3, 2, 10), Cost(2, 3, 20)]) == Cost(2, 2, 10)
