"""List expressions."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_set import small_index

from protoseg.data.selection import Term, named_lists, parse, select, select_ids
from protoseg.errors import InputError

LISTS = {"a": ["3", "1", "2", "4"], "b": ["5", "2"], "empty": []}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a", "3124"),
        ("a + b", "31245"),
        ("b + a", "52314"),
        ("a - b", "314"),
        ("a - b + b", "31452"),
        ("a + b - a", "5"),
        ("a[2]", "34"),
        ("a[1]", "3"),
        ("a[3]", "324"),
        ("a[9]", "3124"),
        ("a - a[2]", "12"),
        ("a[0]", ""),
        ("empty[3]", ""),
        ("empty + b", "52"),
        ("(a)[2]", "34"),
        ("(a + b)[2]", "35"),
        ("a - (a - b)", "2"),
        ("(a[3])[1] + b", "352"),
        ("b + ((a) - b)[1]", "523"),
    ],
)
def test_expressions(expression: str, expected: str) -> None:
    assert select(LISTS, expression) == list(expected)


def test_terms() -> None:
    assert parse("a - b_1[6]") == (Term("+", "a", None), Term("-", "b_1", 6))
    assert parse("(a + b)[2]") == (Term("+", (Term("+", "a", None), Term("+", "b", None)), 2),)
    assert list(named_lists(parse("a - (b + c[1])[2]"))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "a +",
        "a b",
        "+ a",
        "a * b",
        "a[",
        "a[-1]",
        "a-b",
        "(a",
        "a)",
        "()",
        "(a) b",
        "a[1][2]",
        "[2]",
    ],
)
def test_malformed_expressions(expression: str) -> None:
    with pytest.raises(InputError, match="list "):
        select(LISTS, expression)


def test_unknown_list_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="no list 'c', only a, b, empty; mend the setting"):
        select(LISTS, "a + c")


def test_lists_of_an_index(tmp_path: Path) -> None:
    index = small_index(tmp_path)
    assert select_ids(index, "train - val") == [f"image{number}" for number in range(2, 6)]
    assert index.ids("train") == [f"image{number}" for number in range(6)]
