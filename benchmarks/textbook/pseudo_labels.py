"""IRN's labels by denseCRF as its published step makes them: a new CRF for every pass.

In: an image [H, W, 3] uint8 and CAMs [K, H, W] float32 of the K classes in its label. Out: label
map [H, W] uint8: a class, 0 background, 255 undecided. Source: IRN (CVPR 2019), section 3; the two
background scores, the kernels and the unary are those of its published code.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_labels

FOREGROUND_SCORE, BACKGROUND_SCORE = 0.30, 0.05


def refined(
    image: NDArray[np.uint8], labels: NDArray[np.int64], n_labels: int
) -> NDArray[np.int64]:
    """Labels [H, W] after 10 updates, of labels 0 to n_labels - 1 that are right with p = 0.7."""
    height, width = labels.shape
    crf = DenseCRF2D(width, height, n_labels)
    crf.setUnaryEnergy(unary_from_labels(labels, n_labels, gt_prob=0.7, zero_unsure=False))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=50, srgb=5, rgbim=image.copy(), compat=10)
    marginals = np.array(crf.inference(10)).reshape(n_labels, height, width)
    return marginals.argmax(axis=0)


def ir_label(
    image: NDArray[np.uint8], cams: NDArray[np.float32], classes: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """IRN's training label [H, W] of CAMs [K, H, W] in [0, 1] and their class ids [K]."""
    ids = np.concatenate([[0], classes])
    passes = []
    for score in (FOREGROUND_SCORE, BACKGROUND_SCORE):
        scored = np.pad(cams, ((1, 0), (0, 0), (0, 0)), constant_values=score)
        passes.append(ids[refined(image, scored.argmax(axis=0), len(ids))])
    foreground, background = passes
    label = foreground.copy()
    label[foreground == 0] = 255
    label[foreground + background == 0] = 0
    return label.astype(np.uint8)
