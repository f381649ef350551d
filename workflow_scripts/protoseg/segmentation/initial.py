"""Start a segmenter from a trained one, such as DeepLab trained on COCO: network and file in.

Files: the weights of another run of this pipeline, or torchvision's DeepLabV3, whose `classifier`
is the head here. Layers that give logits start anew where the file has another number of classes.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from torch import Tensor

from protoseg.backbones.weights import load_checked, read_state_dict
from protoseg.segmentation.deeplab import Segmenter

LOG = logging.getLogger(__name__)
AUXILIARY = "aux_classifier."  # of torchvision, for training alone


def start_from_segmenter(network: Segmenter, path: Path, num_classes: int) -> None:
    """Load backbone and head of the segmenter in ``path`` into ``network``, in place.

    Raises:
        WeightsError: a file of another head or backbone, with the keys that do not fit.
    """
    own = network.state_dict()
    state = {
        re.sub(r"^classifier\.", "head.", key): value
        for key, value in read_state_dict(path).items()
        if not key.startswith(AUXILIARY)
    }
    new = [
        key
        for key in own.keys() & state.keys()
        if key.startswith("head.") and differ_in_classes(own[key], state[key], num_classes)
    ]
    if len({len(state[key]) for key in new}) == 1:
        LOG.info("%s has other classes; these start anew: %s", path, ", ".join(sorted(new)))
        state |= {key: own[key] for key in new}
    load_checked(network, state, str(path))


def differ_in_classes(own: Tensor, stored: Tensor, num_classes: int) -> bool:
    """Whether the tensors' shapes differ in their first side alone, which counts classes."""
    same = own.ndim > 0 and own.shape[1:] == stored.shape[1:]
    return same and len(own) == num_classes and len(stored) != num_classes
