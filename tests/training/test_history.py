"""Rows of the history: means, and a clock whose share of waiting is what a loader took."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from protoseg.errors import InputError
from protoseg.training.history import EpochClock, epoch_row, summary


class Time:
    """Stands in for the clock: it moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    stopped = Time()
    monkeypatch.setattr(time, "perf_counter", stopped)
    return stopped


def slow_loader(clock: Time, seconds: list[float]) -> Iterator[int]:
    """The last of ``seconds`` is what it takes to find that there is nothing more."""
    for number, wait in enumerate(seconds[:-1]):
        clock.now += wait
        yield number
    clock.now += seconds[-1]


def test_waiting_is_apart_from_working(clock: Time) -> None:
    epoch = EpochClock()
    found = []
    for number in epoch.timed(slow_loader(clock, [3.0, 0.5, 0.5, 1.0])):
        found.append(number)
        clock.now += 5.0
    assert found == [0, 1, 2]
    assert epoch.read() == {"seconds": 20.0, "data_wait": 0.25}


def test_a_loop_that_stops_early_keeps_what_it_waited(clock: Time) -> None:
    epoch = EpochClock()
    for number in epoch.timed(slow_loader(clock, [1.0, 1.0, 1.0, 1.0])):
        clock.now += 3.0
        if number == 1:
            break
    assert epoch.read() == {"seconds": 8.0, "data_wait": 0.25}


def test_row_of_an_epoch(clock: Time) -> None:
    epoch = EpochClock()
    clock.now += 2.0
    rows = [{"total": torch.tensor(value), "odd": torch.tensor(-value)} for value in (1.0, 2.0)]
    row = epoch_row(rows, 4, 0.1, epoch)
    assert list(row) == [
        "epoch",
        "steps",
        "seconds",
        "data_wait",
        "learning_rate",
        "total",
        "odd",
    ]
    assert list(row.values()) == [5, 2, 2.0, 0.0, 0.1, 1.5, -1.5]
    expected = "steps 2, seconds 2, data_wait 0, learning_rate 0.1, total 1.5, odd -1.5"
    assert summary(row) == expected


def test_losses_that_are_not_finite_are_named() -> None:
    rows = [{"total": torch.tensor(value)} for value in (1.0, 2.0, float("nan"))]
    with pytest.raises(InputError, match="loss total is not finite at step 2 of epoch 1; lower"):
        epoch_row(rows, 0, 0.1, EpochClock())
