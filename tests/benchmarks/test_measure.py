"""Measured work hands back its result."""

from __future__ import annotations

import torch
from measure import cost_of


def test_tensors_come_back_from_the_process() -> None:
    result, cost = cost_of(lambda: [torch.arange(3)], repeats=2)
    assert torch.equal(result[0], torch.arange(3))
    assert cost.seconds >= 0
