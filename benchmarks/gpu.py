"""Time the stages that run on a GPU, on made-up inputs of the published sizes.

    make bench-gpu, or PYTHONPATH=workflow_scripts python benchmarks/gpu.py

Prints for each of `gpu_stages` images per second, the GPU's memory at its peak and, where the
arithmetic is bfloat16, TFLOP/s (operations of convolutions and matrix products as torch counts
them, over the measured time) with their share of the device's peak, where that is known. Without a
GPU it ends with status 2.
"""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from gpu_stages import Sizes, Stage, stages

LOG = logging.getLogger("gpu")
PEAKS = {  # name that torch gives -> dense bfloat16 TFLOP/s of the data sheet
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    "NVIDIA H100 80GB HBM3": 989,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H100 NVL": 835,
    "NVIDIA H200": 989,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
}


@dataclass(frozen=True)
class Measured:
    """teraflops: per second, 0 if not counted. gibibytes: at the peak, of the GPU's memory."""

    images_per_second: float
    teraflops: float
    gibibytes: float


def measure(stage: Stage, device: torch.device) -> Measured:
    """Time ``stage.calls`` calls after a fourth as many, and one, that warm up."""
    for _ in range(1 + stage.calls // 4):
        stage.work()
    synchronize(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    for _ in range(stage.calls):
        stage.work()
    synchronize(device)
    seconds = (time.perf_counter() - started) / stage.calls
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Measured(stage.images / seconds, stage.operations / seconds / 1e12, peak / 2**30)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished; on a CPU nothing is left to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def line(stage: Stage, found: Measured, peak: int | None) -> str:
    """One line of the table; ``peak`` in TFLOP/s, None for an unknown device."""
    text = f"{stage.name:<30} {found.images_per_second:9.1f} images/s {found.gibibytes:7.2f} GiB"
    if stage.operations:
        text += f" {found.teraflops:7.1f} TFLOP/s"
        text += f" {found.teraflops / peak:6.1%} of the peak" if peak else ""
    return text


def run(sizes: Sizes, device: torch.device, peak: int | None) -> None:
    """Measure every stage and log its line."""
    with tempfile.TemporaryDirectory() as folder:
        for build in stages(sizes, device, Path(folder)):
            run_stage(build, device, peak)
            gc.collect()
            torch.cuda.empty_cache()


def run_stage(build: partial[Stage], device: torch.device, peak: int | None) -> None:
    """Log the line of one stage, or that the device's memory is too small for it."""
    try:
        stage = build()
        LOG.info("%s", line(stage, measure(stage, device), peak))
    except torch.OutOfMemoryError:
        LOG.info("%s %s: out of memory", build.func.__name__, build.args[-1])


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if not torch.cuda.is_available():
        LOG.error("no CUDA device is visible: these stages are timed on a GPU")
        sys.exit(2)
    name = torch.cuda.get_device_name()
    LOG.info("%s, torch %s", name, torch.__version__)
    run(Sizes(), torch.device("cuda", 0), PEAKS.get(name))


if __name__ == "__main__":
    main()
