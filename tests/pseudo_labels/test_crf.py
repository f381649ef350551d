"""denseCRF: unaries against the formulas, one lattice for several unaries, awkward inputs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

from protoseg.pseudo_labels.crf import (
    CRFParameters,
    ImageCRF,
    first_highest,
    hard_label_unary,
    refine_probabilities,
    soft_unary,
)

PARAMETERS = CRFParameters(3, 3, 20, 5, 10, iterations=5)
HEIGHT, WIDTH = 24, 31


@pytest.fixture
def image() -> NDArray[np.uint8]:
    """A dark left and a bright right half, with a little noise."""
    noise = np.random.default_rng(0).integers(0, 4, (HEIGHT, WIDTH, 3))
    noise[:, WIDTH // 2 :] += 180
    return noise.astype(np.uint8)


@pytest.fixture
def probabilities() -> NDArray[np.float32]:
    """Five classes; the last two are nowhere more probable than 0.001."""
    scores = np.random.default_rng(1).random((5, HEIGHT, WIDTH)).astype(np.float32)
    scores[3:] *= 0.0005
    return scores / scores.sum(axis=0)


def test_hard_unary_by_hand() -> None:
    unary = hard_label_unary(np.array([[0, 2]]), n_labels=3, confidence=0.7)
    likely, unlikely = -np.log(0.7), -np.log(0.15)
    expected = [[[likely, unlikely]], [[unlikely, unlikely]], [[unlikely, likely]]]
    assert unary.dtype == np.float32
    np.testing.assert_allclose(unary, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "n_labels", "confidence", "message"),
    [
        ([[0]], 1, 0.7, "at least 2 labels"),
        ([[0]], 2, 1.0, "confidence"),
        ([[0]], 2, 0.0, "confidence"),
        ([[2]], 2, 0.7, "labels from 2 to 2"),
        ([[-1]], 2, 0.7, "labels from -1"),
    ],
)
def test_hard_unary_refuses(
    labels: list[list[int]], n_labels: int, confidence: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hard_label_unary(np.array(labels), n_labels, confidence)


def test_soft_unary_is_clipped() -> None:
    unary = soft_unary(np.array([[[0.0, 1e-7, 0.5, 1.0]]]))
    assert unary.dtype == np.float32
    np.testing.assert_allclose(unary.ravel(), -np.log([1e-5, 1e-5, 0.5, 1.0]), rtol=1e-6)


def test_without_iterations_marginals_are_the_softmax(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> None:
    crf = ImageCRF(image, len(probabilities), replace(PARAMETERS, iterations=0))
    clipped = probabilities.clip(1e-5, 1.0)
    found = crf.marginals(soft_unary(probabilities))
    np.testing.assert_allclose(found, clipped / clipped.sum(axis=0), atol=1e-6)


def test_one_mean_field_update_of_a_single_pixel() -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    unary = np.array([0.2, 1.0], np.float32).reshape(2, 1, 1)
    crf = ImageCRF(image, 2, replace(PARAMETERS, iterations=1, bilateral_weight=0))
    # One pixel alone: the normalised kernel returns the pixel's own marginal.
    marginal = np.exp(-unary.ravel())
    marginal /= marginal.sum()
    expected = np.exp(-unary.ravel() + PARAMETERS.gaussian_weight * marginal)
    expected /= expected.sum()
    np.testing.assert_allclose(crf.marginals(unary).ravel(), expected, atol=1e-4)


@pytest.mark.parametrize("energy", [1.0, 100.0, 10_000.0])
def test_large_energies_stay_finite(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], energy: float
) -> None:
    unary = energy * soft_unary(probabilities)
    found = ImageCRF(image, len(unary), replace(PARAMETERS, iterations=1)).marginals(unary)
    plain = DenseCRF2D(WIDTH, HEIGHT, len(unary))
    plain.setUnaryEnergy(unary.reshape(len(unary), -1))
    plain.addPairwiseGaussian(sxy=3, compat=3)
    plain.addPairwiseBilateral(sxy=20, srgb=5, rgbim=image, compat=10)
    expected = np.array(plain.inference(1)).reshape(unary.shape)
    np.testing.assert_allclose(found, expected, atol=1e-3 if energy > 1000 else 1e-5)


@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_the_first_of_the_highest_scores_wins(n_labels: int) -> None:
    ranks = np.random.default_rng(2).integers(0, 3, (n_labels, 2, HEIGHT, WIDTH))
    scores = ranks.astype(np.float32)
    expected = scores.argmax(axis=0)
    assert n_labels == 1 or (scores == scores.max(axis=0)).sum() > expected.size  # ties
    found = first_highest(scores)
    assert found.dtype == np.uint8
    assert (found == expected).all()


def test_labels_snap_to_the_image_edge(image: NDArray[np.uint8]) -> None:
    shifted = np.zeros((HEIGHT, WIDTH), np.int64)
    shifted[:, WIDTH // 2 + 3 :] = 1
    shifted[2, 2] = 1
    found = ImageCRF(image, 2, PARAMETERS).labels(hard_label_unary(shifted, 2, 0.7))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, WIDTH // 2 :] = 1
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_second_unary_on_one_lattice_equals_a_fresh_one(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> None:
    first, second = soft_unary(probabilities), soft_unary(probabilities[::-1])
    shared = ImageCRF(image, len(first), PARAMETERS)
    found = [shared.marginals(unary) for unary in (first, second, first)]
    fresh = [ImageCRF(image, len(first), PARAMETERS).marginals(unary) for unary in (first, second)]
    np.testing.assert_array_equal(found[0], fresh[0])
    np.testing.assert_array_equal(found[1], fresh[1])
    np.testing.assert_array_equal(found[2], fresh[0])


@pytest.mark.parametrize("n_labels", [2, 3, 5])
def test_unaries_side_by_side_equal_single_ones(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], n_labels: int
) -> None:
    kept = soft_unary(probabilities[:n_labels])
    unaries = np.stack([kept, kept[::-1]])
    found = ImageCRF(image, n_labels, PARAMETERS, (2,)).marginals(unaries)
    single = ImageCRF(image, n_labels, PARAMETERS)
    expected = np.stack([single.marginals(unary) for unary in unaries])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("n_labels", [2, 3, 5])
def test_differences_give_what_all_labels_give(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32], n_labels: int
) -> None:
    unary = soft_unary(probabilities[:n_labels])
    plain = DenseCRF2D(WIDTH, HEIGHT, n_labels)
    plain.addPairwiseGaussian(sxy=3, compat=3)
    plain.addPairwiseBilateral(sxy=20, srgb=5, rgbim=image, compat=10)
    plain.setUnaryEnergy(unary.reshape(n_labels, -1))
    expected = np.array(plain.inference(5)).reshape(unary.shape)
    found = ImageCRF(image, n_labels, PARAMETERS).marginals(unary)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_awkward_arrays(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    unary = soft_unary(probabilities)
    expected = ImageCRF(image, len(unary), PARAMETERS).marginals(unary)
    frozen_image, frozen_unary = image.copy(), unary.astype(np.float64)
    frozen_image.setflags(write=False)
    frozen_unary.setflags(write=False)
    found = ImageCRF(frozen_image, len(unary), PARAMETERS).marginals(frozen_unary)
    np.testing.assert_array_equal(found, expected)
    strided_image = np.repeat(image, 2, axis=1)[:, ::2]
    strided_unary = np.asfortranarray(unary)
    found = ImageCRF(strided_image, len(unary), PARAMETERS).marginals(strided_unary)
    np.testing.assert_array_equal(found, expected)


def test_arguments_are_not_mutated(
    image: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> None:
    image_before, before = image.copy(), probabilities.copy()
    refine_probabilities(image, probabilities, PARAMETERS)
    np.testing.assert_array_equal(image, image_before)
    np.testing.assert_array_equal(probabilities, before)


def test_a_single_class(image: NDArray[np.uint8]) -> None:
    assert not refine_probabilities(image, np.ones((1, HEIGHT, WIDTH)), PARAMETERS).any()


def test_shapes_are_checked(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="convert"):
        ImageCRF(image[..., 0], 2, PARAMETERS)
    with pytest.raises(ValueError, match="convert"):
        ImageCRF(image.astype(np.float32), 2, PARAMETERS)
    with pytest.raises(ValueError, match="expected"):
        ImageCRF(image, 2, PARAMETERS).marginals(np.zeros((2, WIDTH, HEIGHT), np.float32))


def test_parameters_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        PARAMETERS.iterations = 3  # type: ignore[misc]
