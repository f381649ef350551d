"""Learning-rate schedules as functions of the step, from 0: factors in [0, 1]."""

from __future__ import annotations

POWER = 0.9


def poly_factor(step: int, max_steps: int, *, block: int = 1, hold: bool = True) -> float:
    """(1 - step / max_steps) ** 0.9, constant within blocks of ``block`` steps.

    Sources: the published optimisers of SIPE and IRN (block 1) and DeepLabV2 (block 10). A second
    public DeepLab divides by max_steps + 1, which is this function with one step more.

    Args:
        hold: from ``max_steps`` on, keep the last step's factor (SIPE, IRN) or be 0 (DeepLabV2).
    """
    last = max_steps - 1 if hold else max_steps
    return float((1.0 - min(step, last) // block * block / max_steps) ** POWER)
