"""Image lists as short expressions: `train_aug - train`, `val + train[6]`, `(train + val)[6]`.

`a + b` is the union, `a - b` the difference, `a[n]` takes n ids evenly spaced from a; read from the
left, parentheses first. Settings and the workflow name images by expression, because neither reads
the index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError

TOKEN = re.compile(r"[A-Za-z0-9_]+|\[\d+\]|[()]|(?<=\s)[+-](?=\s)|\s+|(?P<unknown>.)")
NAME = re.compile(r"[A-Za-z0-9_]+$")


@dataclass(frozen=True)
class Term:
    """A list or an expression in parentheses, added (`+`) or taken away (`-`); count: `[n]`."""

    sign: str
    operand: str | tuple[Term, ...]
    count: int | None


def parse(expression: str) -> tuple[Term, ...]:
    """Terms of an expression; raises InputError where it is none."""
    matches = list(TOKEN.finditer(expression))
    known = not any(match["unknown"] for match in matches)
    tokens = [match.group() for match in matches if match.group().strip()]
    terms, rest = _terms(tokens) if known else (None, [])
    if terms is None or rest:
        raise InputError(
            f"list {expression!r}: write `a`, `a[count]`, `a + b`, `a - b` or `(a + b)[count]`"
        )
    return terms


def _terms(tokens: list[str]) -> tuple[tuple[Term, ...] | None, list[str]]:
    """Terms at the start of ``tokens``, None where there are none, and the tokens after them."""
    found: list[Term] = []
    sign = "+"
    while tokens:
        operand: str | tuple[Term, ...] | None
        first, *tokens = tokens
        if first == "(":
            operand, tokens = _terms(tokens)
            closing, tokens = tokens[:1], tokens[1:]
            if operand is None or closing != [")"]:
                return None, tokens
        elif NAME.match(first):
            operand = first
        else:
            return None, tokens
        count = None
        if tokens and tokens[0].startswith("["):
            count, tokens = int(tokens[0][1:-1]), tokens[1:]
        found.append(Term(sign, operand, count))
        if not tokens or tokens[0] not in ("+", "-"):
            return tuple(found), tokens
        sign, *tokens = tokens
    return None, tokens


def named_lists(terms: Sequence[Term]) -> Iterator[str]:
    """Names of the lists in ``terms``, in order."""
    for term in terms:
        if isinstance(term.operand, str):
            yield term.operand
        else:
            yield from named_lists(term.operand)


def select(lists: Mapping[str, Sequence[str]], expression: str) -> list[str]:
    """Ids of an expression over ``lists``, each once, in the order of the lists."""
    return _select(lists, parse(expression))


def _select(lists: Mapping[str, Sequence[str]], terms: Sequence[Term]) -> list[str]:
    chosen: dict[str, None] = {}
    for term in terms:
        if not isinstance(term.operand, str):
            ids = _select(lists, term.operand)
        elif term.operand in lists:
            ids = list(lists[term.operand])
        else:
            raise InputError(f"no list {term.operand!r}, only {', '.join(lists)}; mend the setting")
        if term.count is not None and ids:
            places = np.linspace(0, len(ids) - 1, min(term.count, len(ids))).round().astype(int)
            ids = [ids[place] for place in places]
        if term.sign == "+":
            chosen |= dict.fromkeys(ids)
        else:
            dropped = set(ids)
            chosen = {image_id: None for image_id in chosen if image_id not in dropped}
    return list(chosen)


def select_ids(index: DatasetIndex, expression: str) -> list[str]:
    """Ids of an expression over the lists of ``index``."""
    return select(index.lists, expression)
