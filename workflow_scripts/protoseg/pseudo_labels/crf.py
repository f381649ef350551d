"""Fully connected CRF on one image: unary energies -> labels that follow the image's edges.

In: an RGB image [H, W, 3] uint8 and, for n labels, either a label map [H, W] (hard) or
probabilities [n, H, W] (soft). Out: marginals [n, H, W] or labels [H, W].
Source: Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials, NIPS 2011: a Gaussian smoothness kernel and a bilateral appearance kernel, Potts
compatibility, symmetric normalisation, mean-field updates on the permutohedral lattice. The
library is pydensecrf.

pydensecrf holds the GIL and runs on one thread, so images are spread over processes. Its cost
grows with the number of labels: pass only those that take part. It filters here, the softmax is
ours: a filter is linear and the softmax sees differences of labels alone, so Q_i - Q_0, one channel
less than there are labels, gives all that an update needs; several unaries are more channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D

SMALLEST_PROBABILITY = 1e-5
LARGEST_EXPONENT = 60.0  # a sum of a hundred such terms is far from the largest float32
PIXELS = 4096  # at a time in the softmax, which so stays in the processor's cache


@dataclass(frozen=True)
class CRFParameters:
    """Kernels and length of the inference; defaults live in the settings' schema.

    ``gaussian_sxy``, ``bilateral_sxy`` in pixels, ``bilateral_srgb`` in grey levels (0 to 255); a
    kernel of weight 0 is left out; ``iterations`` counts mean-field updates.
    """

    gaussian_sxy: float
    gaussian_weight: float
    bilateral_sxy: float
    bilateral_srgb: float
    bilateral_weight: float
    iterations: int


def crf_parameters(settings: object) -> CRFParameters:
    """Those of a stage's settings, which have the same names."""
    return CRFParameters(**{f.name: getattr(settings, f.name) for f in fields(CRFParameters)})


class ImageCRF:
    """The two lattices of one image, built once and used for any number of unaries.

    Args:
        image: RGB [H, W, 3] uint8, as stored in the file (no mean subtracted); read-only is fine.
        n_labels: labels of every later unary.
        parameters: kernels and iterations.
        batch: leading dimensions of every later unary, whose mean fields run side by side.

    Raises:
        ValueError: the image is not [H, W, 3] uint8.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        n_labels: int,
        parameters: CRFParameters,
        batch: tuple[int, ...] = (),
    ) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"the CRF needs an RGB image [H, W, 3] of uint8, got {list(image.shape)} of "
                f"{image.dtype}; convert it with PIL's Image.convert('RGB')"
            )
        height, width, _ = image.shape
        self.shape = (*batch, n_labels, height, width)
        self.iterations = parameters.iterations
        self._crf = DenseCRF2D(width, height, _channels(math.prod(batch) * (n_labels - 1)))
        if parameters.gaussian_weight > 0:
            self._crf.addPairwiseGaussian(
                sxy=parameters.gaussian_sxy, compat=parameters.gaussian_weight
            )
        if parameters.bilateral_weight > 0:
            self._crf.addPairwiseBilateral(
                sxy=parameters.bilateral_sxy,
                srgb=parameters.bilateral_srgb,
                # pydensecrf takes writable, contiguous buffers only.
                rgbim=np.require(image, requirements=["C", "W"]),
                compat=parameters.bilateral_weight,
            )

    def marginals(self, unary: NDArray[np.floating]) -> NDArray[np.float32]:
        """Mean-field marginals [..., n, H, W], each pixel summing to 1, of energies of this shape.

        Raises:
            ValueError: the unary's shape is not that of batch, number of labels and image.
        """
        marginals = self._updated_logits(unary)
        for part in self._parts():
            marginals[..., part] = _softmax(marginals[..., part])
        return marginals.swapaxes(0, 1).reshape(self.shape)

    def labels(self, unary: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Most probable label [..., H, W] uint8 of energies [..., n, H, W]; see `marginals`."""
        batch, image_size = self.shape[:-3], self.shape[-2:]
        return first_highest(self._updated_logits(unary)).reshape(*batch, *image_size)

    def _updated_logits(self, unary: NDArray[np.floating]) -> NDArray[np.float32]:
        """Log marginals [n, B, N] after all updates, but for a constant of each pixel."""
        if unary.shape != self.shape:
            raise ValueError(f"unary of shape {list(unary.shape)}, expected {list(self.shape)}")
        n_labels, height, width = self.shape[-3:]
        energies = unary.astype(np.float32, copy=False).reshape(-1, n_labels, height * width)
        energies = energies.swapaxes(0, 1)
        logits = np.subtract(energies[:1], energies, order="C")  # [n, B, N], 0 for label 0
        field, message, spare = self._matrices()
        channels = slice(0, (n_labels - 1) * logits.shape[1])
        differences = np.asarray(field)[channels].reshape(logits[1:].shape)
        filtered = np.asarray(message)[channels].reshape(logits[1:].shape)  # 0 before the first
        for _ in range(self.iterations):
            for part in self._parts():
                updated = logits[1:, :, part] + filtered[..., part]
                _differences(updated, out=differences[..., part])
            self._crf.stepInference(field, message, spare)
        logits[1:] += filtered
        return logits

    def _parts(self) -> list[slice]:
        """Slices of the image's pixels."""
        pixels = self.shape[-2] * self.shape[-1]
        return [slice(at, at + PIXELS) for at in range(0, pixels, PIXELS)]

    def _matrices(self) -> tuple[Any, Any, Any]:
        """pydensecrf's buffers [channels, N] of a step: what it filters, the result, a spare.

        A step overwrites the first with a softmax of its own, which nothing reads.
        """
        field, _, spare = self._crf.startInference()
        message, _, _ = self._crf.startInference()
        return field, message, spare


def _channels(needed: int) -> int:
    """Channels for the lattices: from 3 on a multiple of 4, to which pydensecrf rounds inside.

    Matrices of other widths are not aligned, and a step on them takes longer.
    """
    return max(needed, 1) if needed < 3 else math.ceil(needed / 4) * 4


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the first axis."""
    marginals = logits - logits.max(axis=0)
    np.exp(marginals, out=marginals)
    marginals /= marginals.sum(axis=0)
    return marginals


def _differences(logits: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Marginals less that of label 0, [n - 1, ...], of logits [n - 1, ...] where label 0 has 0.

    Overwrites ``logits``.
    """
    lowest = np.float32(0.0)
    if logits.max(initial=0.0) > LARGEST_EXPONENT:
        lowest = -np.maximum(logits.max(axis=0), 0.0)
        logits += lowest
    marginals = np.exp(logits, out=logits)
    first = np.exp(lowest)
    total = first + marginals.sum(axis=0)
    marginals -= first
    np.divide(marginals, total, out=out)


def first_highest(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Index [...] uint8 of the highest of scores [n, ...], the first where several are.

    numpy's argmax over a first axis of few entries takes several times as long.
    """
    highest, index = scores[0].copy(), np.zeros(scores.shape[1:], np.uint8)
    for number, score in enumerate(scores[1:], start=1):
        np.copyto(index, np.uint8(number), where=score > highest)
        np.maximum(highest, score, out=highest)
    return index


def hard_label_unary(
    labels: NDArray[np.integer], n_labels: int, confidence: float
) -> NDArray[np.float32]:
    """Energies [n, H, W] of a map [H, W] of labels 0 to n - 1 that is right with ``confidence``.

    -log(confidence) for the pixel's label, -log((1 - confidence) / (n - 1)) for each other one.
    Label 0 is a label like the others (pydensecrf's ``zero_unsure=False``).

    Raises:
        ValueError: fewer than two labels, a confidence outside (0, 1), or a label outside 0..n-1.
    """
    if n_labels < 2:
        raise ValueError(f"a hard-label unary needs at least 2 labels, got {n_labels}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, both excluded, got {confidence}")
    if labels.size and (labels.min() < 0 or labels.max() >= n_labels):
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()} in a map of {n_labels} labels"
        )
    own = np.float32(-np.log(confidence))
    other = np.float32(-np.log((1.0 - confidence) / (n_labels - 1)))
    is_own = labels == np.arange(n_labels).reshape(-1, 1, 1)  # [n, H, W]
    return np.where(is_own, own, other)


def soft_unary(probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
    """Energies -log(p) [n, H, W] of probabilities [n, H, W], clipped to [1e-5, 1]."""
    clipped = np.clip(probabilities.astype(np.float32), SMALLEST_PROBABILITY, 1.0)
    return -np.log(clipped)


def refine_probabilities(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    parameters: CRFParameters,
) -> NDArray[np.uint8]:
    """CRF labels [H, W], 0 to K - 1, of class probabilities [K, H, W] (a segmenter's softmax).

    0 iterations give the plain argmax.
    """
    if parameters.iterations == 0:
        return first_highest(probabilities)
    return ImageCRF(image, len(probabilities), parameters).labels(soft_unary(probabilities))
