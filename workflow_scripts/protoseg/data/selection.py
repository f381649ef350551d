"""Image lists as short expressions: `train_aug - train`, `val + train[6]`.

`a + b` is the union, `a - b` the difference, `a[n]` takes n ids evenly spaced from a; read from the
left. Settings and the workflow name images by expression, because neither reads the index.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError

TERM = re.compile(r"(?P<name>[A-Za-z0-9_]+)(\[(?P<count>\d+)\])?$")


def parse(expression: str) -> list[tuple[str, str, int | None]]:
    """Terms of an expression: sign (`+` or `-`), list name, count or None."""
    tokens = ["+", *expression.split()]
    if len(tokens) % 2:
        raise InputError(f"list {expression!r}: a list name is missing at its end")
    terms = []
    for sign, token in zip(tokens[::2], tokens[1::2], strict=True):
        match = TERM.match(token)
        if sign not in ("+", "-") or match is None:
            raise InputError(f"list {expression!r}: write `a`, `a[count]`, `a + b` or `a - b`")
        terms.append((sign, match["name"], int(match["count"]) if match["count"] else None))
    return terms


def select(lists: Mapping[str, Sequence[str]], expression: str) -> list[str]:
    """Ids of an expression over ``lists``, each once, in the order of the lists."""
    chosen: dict[str, None] = {}
    for sign, name, count in parse(expression):
        if name not in lists:
            raise InputError(f"no list {name!r}, only {', '.join(lists)}; mend the setting")
        ids = list(lists[name])
        if count is not None and ids:
            places = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
            ids = [ids[place] for place in places]
        if sign == "+":
            chosen |= dict.fromkeys(ids)
        else:
            dropped = set(ids)
            chosen = {image_id: None for image_id in chosen if image_id not in dropped}
    return list(chosen)


def select_ids(index: DatasetIndex, expression: str) -> list[str]:
    """Ids of an expression over the lists of ``index``."""
    return select(index.lists, expression)
