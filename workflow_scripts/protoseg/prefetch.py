"""Work ahead in a background thread, so that a GPU never waits for a disk.

In: items and a function that reads one of them, or any iterator. Out: the same results in the same
order. One thread is enough: decoding, resizing, torch's operators and HDF5 release Python's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2


def read_ahead(
    read: Callable[[Item], Result], items: Iterable[Item], ahead: int = AHEAD
) -> Iterator[Result]:
    """``read(item)`` of every item, in order.

    What ``read`` raises is raised in the place of its result, with the item as a note.

    Args:
        ahead: results that wait at most until they are asked for; 0 reads when they are.
    """

    def noted(item: Item) -> Result:
        try:
            return read(item)
        except Exception as error:
            error.add_note(f"while reading {item}")
            raise

    return run_ahead(map(noted, items), ahead)


def run_ahead(results: Iterable[Result], ahead: int = AHEAD) -> Iterator[Result]:
    """Pass ``results`` on, in order, each computed by the thread before it is asked for.

    Args:
        ahead: as in `read_ahead`.
    """
    if not ahead:
        yield from results
        return
    iterator = iter(results)
    with ThreadPoolExecutor(1) as pool:

        def one_more() -> list[Result]:
            return list(islice(iterator, 1))

        waiting = deque(pool.submit(one_more) for _ in range(ahead))
        try:
            while found := waiting.popleft().result():
                waiting.append(pool.submit(one_more))
                yield found[0]
        finally:
            for future in waiting:
                future.cancel()
