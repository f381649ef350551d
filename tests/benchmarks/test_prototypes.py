"""The broadcast forms of SIPE's prototypes and of PAMR give what the library gives."""

from __future__ import annotations

import pytest
import torch
from prototypes import difference, library_step, random_step, textbook_step
from textbook import prototypes as textbook

from protoseg.localization.pamr import pamr


def test_losses_and_gradients_of_a_step_are_equal() -> None:
    step = random_step(batch=2, classes=3, grid=8, semantic=6, sides=(2, 3))
    found, expected = library_step(step), textbook_step(step)
    assert max(difference(found, expected)) < 1e-5
    assert [gradient is None for gradient in found[1]] == [False, True, False]


def test_a_gradient_that_one_form_lacks_is_an_error() -> None:
    loss, gradient = torch.zeros(2), torch.ones(2)
    with pytest.raises(ValueError, match="the other lacks"):
        difference((loss, [gradient]), (loss, [None]))


def test_refined_masks_are_equal() -> None:
    generator = torch.Generator().manual_seed(0)
    image, mask = (torch.rand(2, c, 6, 7, generator=generator) for c in (3, 4))
    found, expected = pamr(image, mask, (1, 3), 2), textbook.pamr(image, mask, (1, 3), 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
