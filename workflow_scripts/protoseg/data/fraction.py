"""Fractions of a training list, drawn per class (RPNet table II: 1, 1/2, 1/4, 1/8, 1/16).

In: an index, ids, a fraction and a seed. Out: a subset of the ids, in their order.
Imports no torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError

NO_LABEL = (0,)  # images without labels are drawn as a class of their own


def draw_key(image_id: str, seed: int) -> bytes:
    """Where an image stands in the draw: a function of (seed, id), whatever else is in the list."""
    return hashlib.sha256(f"{seed} {image_id}".encode()).digest()


def draw_fraction(index: DatasetIndex, ids: Sequence[str], fraction: float, seed: int) -> list[str]:
    """The ids that are among the first of any of their classes, in the order of ``ids``.

    All classes share one random order. Each class asks for the first round(fraction * n) of its n
    images, at least one; the union is taken. So no class falls short, a smaller fraction lies
    within a larger one, and the whole exceeds the fraction by little, although images have several
    labels.

    Args:
        fraction: in (0, 1]; 1 is the whole list.

    Raises:
        InputError: a fraction outside.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction {fraction} of the training images; set one above 0, up to 1")
    sizes = Counter(label for image_id in ids for label in labels_of(index, image_id))
    wanted = {label: max(1, round(fraction * size)) for label, size in sizes.items()}
    return draw_by_class(index, ids, wanted, seed)


def labels_of(index: DatasetIndex, image_id: str) -> tuple[int, ...]:
    """Labels of an image, or the class of those that have none."""
    return index[image_id].labels or NO_LABEL


def draw_by_class(
    index: DatasetIndex, ids: Sequence[str], wanted: Mapping[int, int], seed: int
) -> list[str]:
    """The union of the first ``wanted[label]`` images of every class, in the order of ``ids``."""
    labels = {image_id: labels_of(index, image_id) for image_id in ids}
    seen: Counter[int] = Counter()
    kept = set()
    for image_id in sorted(labels, key=lambda image_id: draw_key(image_id, seed)):
        if any(seen[label] < wanted[label] for label in labels[image_id]):
            kept.add(image_id)
        seen.update(labels[image_id])
    return [image_id for image_id in ids if image_id in kept]
