"""The history of a training: the losses of an epoch's steps and a stopwatch in, one row out.

A row of history.csv has epoch, steps, seconds, data_wait, learning_rate (first group), and the mean
of every loss. data_wait is the share of the seconds in which the loop waited for the loader.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from protoseg.errors import InputError
from protoseg.training.distributed import sum_over_ranks, world_size

Batch = TypeVar("Batch")


class EpochClock:
    """Seconds of one epoch, and how many of them the loop waited for batches; this rank's.

    A GPU works on queued steps while the loop waits, so it idles at most as long as the loop does.
    """

    def __init__(self) -> None:
        self.started, self.waited = time.perf_counter(), 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass ``batches`` on; the start of loader processes is part of the first one's wait."""
        asked = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - asked
            yield batch
            asked = time.perf_counter()
        self.waited += time.perf_counter() - asked

    def read(self) -> dict[str, float]:
        """`seconds` so far, and `data_wait` in [0, 1]."""
        seconds = time.perf_counter() - self.started
        return {"seconds": round(seconds, 2), "data_wait": round(self.waited / seconds, 4)}


def epoch_row(
    rows: list[dict[str, Tensor]], epoch: int, learning_rate: float, clock: EpochClock
) -> dict[str, float]:
    """Row of ``epoch`` (from 0): means over its steps and ranks.

    The clock is read when the means are there, so a GPU has finished the epoch.

    Args:
        rows: per step, named scalars on the device.

    Raises:
        InputError: a loss that is not finite, with its name and step.
    """
    stacked = {name: torch.stack([row[name] for row in rows]).float() for name in rows[0]}
    means = {name: sum_over_ranks(values) / world_size() for name, values in stacked.items()}
    for name, values in means.items():
        if not torch.isfinite(values).all():
            step = int((~torch.isfinite(values)).nonzero()[0])
            raise InputError(
                f"loss {name} is not finite at step {step} of epoch {epoch + 1}; "
                "lower the learning rate or use precision: float32"
            )
    losses = {name: float(values.mean()) for name, values in means.items()}
    first = {"epoch": epoch + 1, "steps": len(rows)} | clock.read()
    return first | {"learning_rate": learning_rate} | losses


def summary(row: dict[str, float]) -> str:
    """A row as one line of a log, without its epoch."""
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
