"""Learning-rate schedules as functions of the step, from 0: factors in [0, 1]."""

from __future__ import annotations

POWER = 0.9


def poly_factor(step: int, max_steps: int, power: float = POWER, block: int = 1) -> float:
    """(1 - step / max_steps) ** power, constant within blocks of ``block`` steps.

    From ``max_steps`` on it stays at its last value. Source: the published optimisers of SIPE and
    IRN (block 1) and DeepLabV2 (block 10).
    """
    step = min(step, max_steps - 1) // block * block
    return float((1.0 - step / max_steps) ** power)
