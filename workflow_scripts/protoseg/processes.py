"""Work on many items in processes: for libraries that run on one thread or hold Python's lock.

Processes are forked from a server that has imported torch alone: that import is most of what a
fresh process takes to start, and they share its memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch"])
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def map_in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, chunk: int
) -> Iterator[Result]:
    """Results of ``work``, in the order of ``items``.

    Args:
        workers: processes; 0 or 1: this one. chunk: items that a process takes at a time.
    """
    if workers <= 1:
        keep_freed_memory()
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers, CONTEXT, keep_freed_memory) as pool:
        yield from pool.map(work, items, chunksize=chunk)


def keep_freed_memory() -> None:
    """From now on this process keeps memory that is freed, for the arrays of the next item.

    Given back to the kernel, its pages have to be fetched and zeroed again for every image: a tenth
    of the denseCRF's time. Nothing changes where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes: larger arrays go back
