"""Device and arithmetic of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import nn

from protoseg.training.distributed import local_rank

Network = TypeVar("Network", bound=nn.Module)


def default_device() -> torch.device:
    """The rank's own GPU where there is one, else the CPU."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Automatic mixed precision in bfloat16, or plain float32; the same names on CPU and GPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def place(network: Network, device: torch.device) -> Network:
    """The network on ``device``, weights in channels_last, which CPU and GPU convolve fastest."""
    return network.to(device).to(memory_format=torch.channels_last)
