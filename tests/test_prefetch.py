"""Work ahead in a thread: the same results in the same order, and errors in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from protoseg.prefetch import read_ahead, run_ahead


@pytest.mark.parametrize("ahead", [0, 1, 2, 20])
def test_same_results_in_the_same_order(ahead: int) -> None:
    assert list(read_ahead(str.upper, "abcdefg", ahead)) == list("ABCDEFG")
    assert list(run_ahead(iter(range(7)), ahead)) == list(range(7))
    assert list(read_ahead(str.upper, "", ahead)) == []


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_errors_stand_where_the_result_would(ahead: int) -> None:
    def read(name: str) -> str:
        if name == "c":
            raise OSError("truncated")
        return name

    found = read_ahead(read, "abcd", ahead)
    assert [next(found), next(found)] == ["a", "b"]
    with pytest.raises(OSError, match="truncated") as error:
        next(found)
    assert error.value.__notes__ == ["while reading c"]


@pytest.mark.parametrize(("ahead", "most"), [(0, 1), (1, 2), (3, 4)])
def test_no_more_than_asked_for_lies_ahead(ahead: int, most: int) -> None:
    begun: list[int] = []

    def read(number: int) -> int:
        begun.append(number)
        return number

    for number in read_ahead(read, range(8), ahead):
        time.sleep(0.01)
        assert len(begun) <= number + most
    assert begun == list(range(8))


def test_one_other_thread_works_while_the_first_waits() -> None:
    names, ready = [], threading.Event()

    def results() -> Iterator[int]:
        for number in range(3):
            names.append(threading.current_thread().name)
            if number == 1:
                ready.set()
            yield number

    found = run_ahead(results(), 2)
    assert next(found) == 0
    assert ready.wait(5)  # computed though nobody asked
    assert list(found) == [1, 2]
    assert len(set(names)) == 1
    assert threading.current_thread().name not in names


def test_a_reader_that_stops_ends_the_thread() -> None:
    before = threading.active_count()
    found = run_ahead(iter(range(1000)), 2)
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
