"""Measured work hands back its result, and its costs are all there."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch
from measure import Cost, cost_of, costs_of, least

from protoseg.processes import map_in_processes


def test_tensors_come_back_from_the_process() -> None:
    result, cost = cost_of(lambda: [torch.arange(3)], repeats=2)
    assert torch.equal(result[0], torch.arange(3))
    assert cost.seconds >= 0


def busy(seconds: float) -> float:
    """Take processor time; the processor time of this process."""
    while time.process_time() < seconds:
        pass
    return time.process_time()


def test_time_of_processes_counts() -> None:
    result, cost = cost_of(lambda: list(map_in_processes(busy, [0.5, 0.5], 2, chunk=1)))
    assert cost.core_seconds > min(result) >= 0.5


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
