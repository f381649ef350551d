"""The learning-rate schedule against numbers by hand."""

from __future__ import annotations

import pytest

from protoseg.training.schedule import poly_factor


def test_values_by_hand() -> None:
    assert poly_factor(0, 10) == 1.0
    assert poly_factor(5, 10) == pytest.approx(0.5**0.9)
    assert poly_factor(9, 10) == pytest.approx(0.1**0.9)


def test_end_of_the_schedule() -> None:
    assert poly_factor(12, 10) == poly_factor(9, 10)
    assert poly_factor(12, 10, hold=False) == 0.0


def test_blocks_are_constant() -> None:
    factors = [poly_factor(step, 30, block=10) for step in range(30)]
    assert factors == [poly_factor(step // 10 * 10, 30) for step in range(30)]
    assert len(set(factors)) == 3


def test_it_never_rises() -> None:
    factors = [poly_factor(step, 57) for step in range(80)]
    assert factors == sorted(factors, reverse=True)
    assert min(factors) > 0
