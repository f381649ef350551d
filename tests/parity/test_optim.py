"""The published optimiser: schedule, and the momentum that it really holds (golden/optim)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files

from protoseg.settings.classifier import ClassifierSettings
from protoseg.training.schedule import POWER, poly_factor


@pytest.mark.parametrize("file", golden_files("optim", "*.npz"))
def test_learning_rates(file: Path) -> None:
    expected = np.load(file)
    steps, rates = expected["lr_steps"], expected["lr_values"]
    assert steps[0] == 0
    after_one = (rates[1, 0] / rates[0, 0]) ** (1 / POWER)  # 1 - step / max_steps
    max_steps = round(steps[1] / (1 - after_one))
    for step, row in zip(steps, rates, strict=True):
        for base, rate in zip(rates[0], row, strict=True):
            assert base * poly_factor(int(step), max_steps) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("file", golden_files("optim", "*.npz"))
def test_trajectory_with_the_default_momentum(file: Path) -> None:
    expected = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(file).items()}
    x = expected["x0"].clone().requires_grad_()
    y = expected["y0"].clone().requires_grad_()
    settings = ClassifierSettings()
    assert settings.momentum == pytest.approx(float(expected["param_group_momentum"].flatten()[0]))
    bases = (0.01, 0.05)
    groups = [{"params": [p], "lr": lr} for p, lr in zip((x, y), bases, strict=True)]
    optimizer = torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=1e-4)
    for step, wanted in enumerate(expected["trajectory_official"]):
        for group, base in zip(optimizer.param_groups, bases, strict=True):
            group["lr"] = base * poly_factor(step, 20)
        optimizer.zero_grad()
        (0.5 * ((expected["A"] @ (x + y) - expected["b"]) ** 2).sum()).backward()
        optimizer.step()
        found = torch.cat([x, y]).detach()
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
