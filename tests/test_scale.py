"""At COCO's size, 120,000 images, no step needs much memory or time besides that of the pixels.

Memory is what a process needs above that of Python with its libraries; time is the processor's. The
limits of memory are firm, those of time are five times what was measured on two busy cores: they
find a search through all ids for each of them, not a slow machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pytest
from coco_scale import STEPS, costs
from measure import Cost


class Limit(NamedTuple):
    mebibytes: float
    core_seconds: float


# 1.2 KiB a record, with two paths; pandas and the csv text hold the table a second time.
INDEX = 200
# HDF5 keeps up to 32 MiB of names and headers for each open file, and frees little of it.
HDF5 = 100
LIMITS = {
    "make_index": Limit(INDEX, 25),
    "select_and_split": Limit(INDEX, 15),
    "write_labels": Limit(HDF5, 25),
    # Two files open at a time, although there are 64 shards, and 120,000 ids with their shard.
    "merge_labels": Limit(2 * HDF5, 35),
    "score_labels": Limit(INDEX + HDF5, 200),
    "write_maps": Limit(HDF5, 5),
    "merge_maps": Limit(2 * HDF5, 10),
    "read_maps": Limit(HDF5, 45),
}


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, Cost]]:
    """Cost of every step, in a process without threads: the steps are forked from it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
    ):
        yield pool.submit(costs, Path(folder)).result()


@pytest.mark.parametrize("step", STEPS)
def test_step_keeps_its_limits(measured: dict[str, Cost], step: str) -> None:
    assert measured[step].mebibytes < LIMITS[step].mebibytes
    assert measured[step].core_seconds < LIMITS[step].core_seconds
