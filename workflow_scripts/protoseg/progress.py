"""Progress of long work: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

LOG = logging.getLogger(__name__)
Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Pass ``items`` on; a bar where stderr is a terminal, else a line every tenth of them."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, unit=unit)
        return
    every = max(1, total // 10)
    for number, item in enumerate(items, 1):
        yield item
        if number % every == 0 or number == total:
            LOG.info("%s: %d of %d", unit, number, total)
