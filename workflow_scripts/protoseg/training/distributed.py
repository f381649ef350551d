"""Training on several GPUs: one process (a rank) for each, started by torchrun.

A command wrapped by `on_all_gpus` starts itself again once per GPU of its SLURM job. Ranks know
their number from torchrun's environment; they are joined while `fit` runs, and there gradients are
averaged over them (DistributedDataParallel). Each has its share of every batch, so a loss that is a
mean over images stays what it is; one divided by another count takes `world_size` and
`sum_over_ranks`.
Alone, one process joins nobody and every function here is the identity.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from protoseg.errors import InputError

LOG = logging.getLogger(__name__)
TIMEOUT = timedelta(minutes=10)  # of one exchange; the longest wait is for rank 0's checkpoint
REPEAT_AFTER = 5.0  # seconds


def rank() -> int:
    """Number of this process, from 0; rank 0 writes."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Number of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_all_gpus(main: Callable[[Namespace], None]) -> Callable[[Namespace], None]:
    """``main`` run by ``arguments.processes`` ranks.

    None asks for one per GPU in a SLURM job, for one elsewhere.

    A rank that fails takes the others with it: torchrun ends them. What a rank raises is logged
    with its number, an InputError as its message alone.

    Raises:
        InputError: more processes than visible GPUs.
    """

    def run(arguments: Namespace) -> None:
        if "RANK" in os.environ:
            _run_rank(main, arguments)
            return
        # A SLURM job sees what it asked for; elsewhere visible GPUs may be others' too.
        own = torch.cuda.device_count() if "SLURM_JOB_ID" in os.environ else 1
        processes = arguments.processes or own
        if processes > 1:
            _start_ranks(processes)
        main(arguments)

    return run


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other ranks, by NCCL on GPUs and gloo on CPUs.

    All ranks leave together; those that had joined before stay. After an error the group stays too:
    leaving it waits for the others.
    """
    if world_size() == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=TIMEOUT)
    yield
    dist.barrier()
    dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Elementwise sum of ``values`` over ranks, without gradient; alone ``values`` themselves."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def averaged_over_ranks(losses: nn.Module, groups: list[dict[str, Any]], unused: bool) -> nn.Module:
    """``losses`` (batch -> losses) with gradients averaged over ranks; alone ``losses`` itself.

    Parameters outside the optimiser's ``groups`` get no gradient. BatchNorm in training mode takes
    its statistics over all ranks on GPUs; on CPUs, where torch cannot, each rank has its own, and
    rank 0's are the ones that are kept.

    Args:
        unused: whether parameters of ``groups`` may have no part in a loss; looking for them costs
            a walk through the graph at every step.
    """
    if world_size() == 1:
        return losses
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in losses.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    if next(losses.parameters()).is_cuda:
        share_statistics(losses)
    return DistributedDataParallel(losses, find_unused_parameters=unused)


def share_statistics(module: nn.Module) -> None:
    """Replace, in place, every BatchNorm2d in training mode by SyncBatchNorm; frozen ones stay."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child.training:
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


def seed_rank(seed: int, epoch: int) -> None:
    """Random state (dropout) of the ranks after the first: a function of (seed, epoch, rank).

    Rank 0 goes on from its own state, which the checkpoint holds.
    """
    if rank() > 0:
        torch.manual_seed(int(np.random.default_rng((seed, epoch, rank())).integers(2**63)))


def _start_ranks(processes: int) -> None:
    """Become torchrun, which starts this command once per rank and passes TERM on to them."""
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise InputError(f"--processes {processes} needs as many GPUs, {gpus} are visible")
    options = ["--standalone", "--nproc-per-node", str(processes)]
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *options, *sys.argv])


def _run_rank(main: Callable[[Namespace], None], arguments: Namespace) -> None:
    if rank() > 0:
        logging.getLogger().setLevel(logging.WARNING)
    try:
        main(arguments)
    except Exception as error:
        expected = isinstance(error, InputError)
        if expected and rank() > 0:
            # Bad input meets all ranks: torchrun ends this one before it repeats rank 0's message.
            time.sleep(REPEAT_AFTER)
        LOG.error("rank %d: %s", rank(), error, exc_info=not expected)
        logging.shutdown()
        os._exit(1)  # an orderly exit would wait for exchanges that the others never answer
