"""Work on many items in processes: for libraries that run on one thread or hold Python's lock.

Processes are forked from a server. Where this process uses torch, so does its work, and the server
has imported it: that import is most of what a fresh process takes to start, and they share its
memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CONTEXT = get_context("forkserver")
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
    CONTEXT.set_forkserver_preload(["torch"] if "torch" in sys.modules else [])
    with ProcessPoolExecutor(workers, CONTEXT, _start) as pool:
        yield from pool.map(work, items, chunksize=chunk)


def _start() -> None:
    """Of each process, before its first item."""
    keep_freed_memory()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its processes: they would wait for items for ever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def keep_freed_memory() -> None:
    """From now on this process keeps memory that is freed, for the arrays of the next item.

    Given back to the kernel, its pages have to be fetched and zeroed again for every image: a tenth
    of the denseCRF's time. Nothing changes where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes: larger arrays go back
