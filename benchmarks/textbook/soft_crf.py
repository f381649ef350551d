"""denseCRF on a segmenter's probabilities as DeepLabV2's common PyTorch code runs it: all classes.

In: an image [H, W, 3] uint8 and probabilities [C, H, W] float32. Out: label map [H, W].
Source: Krähenbühl and Koltun (NIPS 2011); parameters of DeepLabV2 (TPAMI 2018), section 3.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax


def refined(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels [H, W] after 10 updates with probabilities [C, H, W] of every class."""
    classes, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probabilities)))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(image), compat=4)
    return np.array(crf.inference(10)).reshape(classes, height, width).argmax(axis=0)
