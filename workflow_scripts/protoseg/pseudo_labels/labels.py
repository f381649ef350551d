"""Localization maps -> pseudo labels: argmax against the background, then denseCRF.

In: an image [H, W, 3] uint8, maps [n, H, W] float32 in [0, 1] and their class ids [n]; id 0 stands
first where the method predicts a background map and is missing where it does not.
Out: label maps [H, W] uint8 of class ids, 0 background, 255 ignored.
Source: IRN (Ahn, Cho, Kwak, CVPR 2019), section 3 and its published code: two CRF passes, one
confident about the foreground and one about the background; SIPE (CVPR 2022) attenuates its own
background map for the second pass; AE-SIPE (JBE 2024) scores the labels of that second pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protoseg.pseudo_labels.crf import CRFParameters, ImageCRF, first_highest, hard_label_unary

BACKGROUND = 0
IGNORED = 255
SCORED_PASSES = ("foreground", "background")  # in the order in which they run


def has_background_map(classes: NDArray[np.integer]) -> bool:
    """Whether the first map is the background's.

    Raises:
        ValueError: id 0 stands elsewhere than first, an id occurs twice or lies outside 0..254.
    """
    ids = [int(identifier) for identifier in classes]
    if BACKGROUND in ids[1:] or len(set(ids)) < len(ids) or any(not 0 <= i < IGNORED for i in ids):
        raise ValueError(
            f"class ids {ids}: ids of maps must differ, lie in 0..254, and 0 must stand first"
        )
    return bool(ids) and ids[0] == BACKGROUND


def argmax_with_background(
    maps: NDArray[np.floating], classes: NDArray[np.integer], background: float
) -> NDArray[np.uint8]:
    """Index [H, W] of the highest map: 0 for the background, i for the i-th foreground map.

    Args:
        maps: [n, H, W], see the module docstring.
        classes: [n] class ids.
        background: without a background map, the background's constant score; with one, the factor
            that the map is multiplied by. At equality the background wins, then the earlier map.

    Raises:
        ValueError: ``maps`` and ``classes`` differ in length; see also `has_background_map`.
    """
    if maps.ndim != 3 or len(maps) != len(classes):
        raise ValueError(f"maps of shape {list(maps.shape)} for {len(classes)} class ids")
    if has_background_map(classes):
        background_map = maps[:1].astype(np.float32) * np.float32(background)
        maps = maps[1:]
    else:
        background_map = np.full((1, *maps.shape[1:]), background, np.float32)
    return first_highest(np.concatenate([background_map, maps], dtype=np.float32))


def combine_ir_labels(
    foreground_pass: NDArray[np.uint8], background_pass: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Labels that train IRN, from the class ids [H, W] of the two passes.

    The class where the foreground pass has one, 0 where both passes see background, 255 where only
    the background pass sees a class.
    """
    undecided = np.where(background_pass == BACKGROUND, BACKGROUND, IGNORED).astype(np.uint8)
    return np.where(foreground_pass != BACKGROUND, foreground_pass, undecided)


def labels_of_passes(
    image: NDArray[np.uint8],
    maps: NDArray[np.floating],
    classes: NDArray[np.integer],
    backgrounds: tuple[float, ...],
    confidence: float,
    parameters: CRFParameters,
) -> list[NDArray[np.uint8]]:
    """Class ids [H, W] after the CRF, one label map per background score; see `pseudo_labels`.

    All passes share the image's lattices and run side by side. 0 iterations skip the CRF.
    """
    passes = [argmax_with_background(maps, classes, score) for score in backgrounds]
    foreground_ids = [identifier for identifier in classes if identifier != BACKGROUND]
    class_ids = np.array([BACKGROUND, *foreground_ids], np.uint8)
    n_labels = len(class_ids)
    if parameters.iterations > 0 and n_labels > 1:
        crf = ImageCRF(image, n_labels, parameters, (len(passes),))
        unaries = [hard_label_unary(local, n_labels, confidence) for local in passes]
        passes = list(crf.labels(np.stack(unaries)))
    return [class_ids[local] for local in passes]


def pseudo_labels(
    image: NDArray[np.uint8],
    maps: NDArray[np.floating],
    classes: NDArray[np.integer],
    *,
    background: float,
    ir_background: float,
    scored_pass: str = "foreground",
    confidence: float,
    parameters: CRFParameters,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scored label, that of one pass, and IRN's training label of one image, both [H, W] uint8.

    Args:
        image: RGB [H, W, 3] uint8.
        maps: [n, H, W] at the image's size.
        classes: [n] class ids; only these classes and the background take part.
        background: background score or factor of the foreground pass, see
            `argmax_with_background`.
        ir_background: the same for the background pass; lower, so that less is background.
        scored_pass: ``foreground`` (the papers' column "+denseCRF") or ``background`` (AE-SIPE).
        confidence: probability that a pixel's label before the CRF is right.
        parameters: of the CRF.

    Raises:
        ValueError: maps and image differ in size, or another ``scored_pass``; see also
            `argmax_with_background`, `ImageCRF`.
    """
    if scored_pass not in SCORED_PASSES:
        raise ValueError(f"unknown pass {scored_pass!r}; known: {', '.join(SCORED_PASSES)}")
    if maps.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"maps of shape {list(maps.shape)} on an image of {list(image.shape[:2])}; "
            "resize the maps to the image first"
        )
    scores = (background, ir_background)
    passes = labels_of_passes(image, maps, classes, scores, confidence, parameters)
    return passes[SCORED_PASSES.index(scored_pass)], combine_ir_labels(*passes)
