"""COCO instances -> one label map per image; how overlaps are painted is a named rule.

In: an image's entries of ``annotations`` in COCO's instances JSON (polygons, compressed or
uncompressed run lengths) and its size. Out: a label map [H, W] uint8.
Source: pycocotools rasterises; the two rules are those of published COCO masks for weakly
supervised segmentation. They give different scores, so a table names its rule.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rasteriser

PaintingRule = Literal["annotation_order", "smaller_on_top"]
PAINTING_RULES: tuple[PaintingRule, ...] = get_args(PaintingRule)

BORDER_REACH = 3
IGNORED = 255
_NONE, _BORDER = -1, -2


def contiguous_category_ids(category_ids: Iterable[int]) -> dict[int, int]:
    """COCO's category ids (1 to 90 with gaps) -> 1 to K in ascending order; 0 is the background."""
    return {category: label for label, category in enumerate(sorted(category_ids), start=1)}


def instance_mask(annotation: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels [H, W] of one annotation; the parts of a polygon list are united."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        encoded = rasteriser.merge(rasteriser.frPyObjects(shape, height, width))
    elif isinstance(shape["counts"], list):
        encoded = rasteriser.frPyObjects(shape, height, width)
    else:
        encoded = shape
    with warnings.catch_warnings():
        # pycocotools' own arrays lack NumPy 2's copy keyword; nothing a caller could change.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        pixels = np.asarray(rasteriser.decode(encoded))
    if pixels.shape != (height, width):
        raise ValueError(
            f"annotation {annotation.get('id')}: mask of {list(pixels.shape)} in an image of "
            f"{[height, width]}; the JSON's image sizes and segmentations disagree"
        )
    return pixels.astype(np.bool_)


def ring_around(mask: NDArray[np.bool_], reach: int = BORDER_REACH) -> NDArray[np.bool_]:
    """Pixels outside ``mask`` [H, W] within a square of ``reach`` pixels to each side of it."""
    side = 2 * reach + 1
    grown: NDArray[np.bool_] = np.pad(mask, reach)
    for axis in (0, 1):
        grown = np.lib.stride_tricks.sliding_window_view(grown, side, axis=axis).max(axis=-1)
    return grown & ~mask


def visible_annotation(
    annotations: Sequence[Mapping[str, Any]],
    height: int,
    width: int,
    rule: PaintingRule,
    border: bool = False,
) -> NDArray[np.int64]:
    """Which annotation shows at each pixel [H, W]: its place in ``annotations``, -1 for none.

    Args:
        annotations: of one image, in the file's order.
        height, width: of the image, pixels.
        rule: ``annotation_order``: crowds are left out and later annotations cover earlier ones;
            ``smaller_on_top``: crowds are included and the smaller ``area`` stays visible, the
            earlier annotation at equal areas.
        border: mark a ring of 3 pixels around each annotation with -2. It is drawn in turn with
            the masks, so it cuts into those painted before, and later ones do not cover it.

    Raises:
        ValueError: an unknown rule.
    """
    if rule not in PAINTING_RULES:
        raise ValueError(f"painting rule {rule!r}; choose one of {', '.join(PAINTING_RULES)}")
    places = list(range(len(annotations)))
    smaller_on_top = rule == "smaller_on_top"
    if smaller_on_top:
        places.sort(key=lambda place: annotations[place]["area"])
    else:
        places = [place for place in places if not annotations[place].get("iscrowd", 0)]
    visible = np.full((height, width), _NONE, np.int64)
    for place in places:
        mask = instance_mask(annotations[place], height, width)
        visible[mask & (visible == _NONE) if smaller_on_top else mask] = place
        if border:
            visible[ring_around(mask)] = _BORDER
    return visible


def paint_label_map(
    annotations: Sequence[Mapping[str, Any]],
    height: int,
    width: int,
    labels: Mapping[int, int],
    rule: PaintingRule,
    border: bool = False,
) -> NDArray[np.uint8]:
    """Label map [H, W] uint8 of one image: 0 background, 255 on borders.

    Args:
        annotations, height, width, rule, border: see `visible_annotation`.
        labels: category id -> label (0 to 255), for instance `contiguous_category_ids`.

    Raises:
        ValueError: a category without a label, or an unknown rule.
    """
    missing = sorted({entry["category_id"] for entry in annotations} - set(labels))
    if missing:
        raise ValueError(
            f"category ids {missing} have no label; give every category of the JSON one (255 for "
            "classes that take no part)"
        )
    visible = visible_annotation(annotations, height, width, rule, border)
    # Negative places pick the two appended entries: -1 background, -2 border.
    by_place = [labels[entry["category_id"]] for entry in annotations] + [IGNORED, 0]
    return np.array(by_place, np.uint8)[visible]
