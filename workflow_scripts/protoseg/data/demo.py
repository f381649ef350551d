"""Images of the generated demo data set: small, with tags, parts and masks known exactly.

In: classes, size, random generator. Out: an image and its mask. `demo_set` writes a folder of them.

An object is a large body and a small head. The head alone carries the emblem that tells its class,
so a classifier's CAM marks the head. Colour and texture of the body belong to the image, hardly to
the class; the head shares them and the background does not. This is what a prototype of SIPE picks
up, and the body's edge is what denseCRF and the random walk of IRN follow. The class `plain` is a
body without emblem: left out of the classes, its images keep a network from telling the last class
by the absence of the others.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protoseg.data.voc import DEMO_CLASSES

Pixels = NDArray[np.floating]
Mask = NDArray[np.bool_]

# Lengths are shares of the longest side, wavelengths pixels, hues turns, colours in [0, 1].
SHORT_SIDE = 0.75  # of images that are not square
ODD_SIZES = 0.15  # share of images with sides that are no multiple of 16
SECOND_OBJECT = 0.4  # share of images with two objects
MAPS_SHARE = 3  # one training image in so many is on the list `train`
BODY_LENGTH = (0.22, 0.32)  # half axes
BODY_WIDTH = (0.55, 0.75)  # of the length
BODY_WOBBLE = 0.10  # amplitude of the outline
HEAD_AREA = 0.20  # of the body's area
HEAD_OFFSET = 0.86  # of the body's length, along its axis
EMBLEM_OPACITY = 0.95
OVERLAP = 0.06  # of an object that the next one may hide
OUTSIDE = 0.20  # of an object that may lie outside the image, and half as much of its head
BODY_WAVELENGTH = (5.0, 8.0)
BODY_CONTRAST = 0.25
STRIPES_OF_CLASS = 0.5  # 0: direction of the stripes independent of the class, 1: given by it
BODY_SATURATION = (0.25, 0.45)
BODY_VALUE = (0.50, 0.80)
SECOND_HUE = 0.20  # from the first body's
BACKGROUND_HUE = (0.42, 0.62)  # from the first body's
BACKGROUND_SATURATION = (0.15, 0.35)
BACKGROUND_VALUE = (0.35, 0.75)
BACKGROUND_CONTRAST = 0.35
BACKGROUND_GRAIN = (6, 14)  # side of a blotch, pixels
CLUTTER = (2, 6)
CLUTTER_SIZE = (0.03, 0.08)
EMBLEM_COLOURS = {  # `plain` has no emblem
    "ring": (1.00, 0.05, 0.05),
    "cross": (0.05, 0.90, 0.05),
    "checker": (0.10, 0.15, 1.00),
}
EMBLEM_JITTER = 0.06
EDGE_SHADE = 0.85  # darkening along an object's outline
EDGE_WIDTH = 3.0  # pixels
LIGHT = (0.75, 1.15)  # brightness of the image
SLOPE = 0.2  # brightness from one side to the other
NOISE = 0.02
TRIES = 60
MARGIN = 0.15  # of the image, in which no object has its centre


@dataclass(frozen=True)
class Scene:
    """Colour and texture of an image's bodies. hue: turns; wavelength: of the stripes, pixels."""

    hue: float
    saturation: float
    value: float
    wavelength: float


def colour(hue: float, saturation: float, value: float) -> Pixels:
    """RGB [3] of a hue in turns."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def blotches(shape: tuple[int, int], grain: int, random: np.random.Generator) -> Pixels:
    """Smooth noise [H, W] in [0, 1] whose spots are about ``grain`` pixels wide."""
    height, width = shape
    coarse = random.random((height // grain + 2, width // grain + 2)).astype(np.float32)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, np.float64), 0, 1)


def emblem(name: str, along: Pixels, across: Pixels) -> Mask:
    """Where the emblem of a class is; coordinates [H, W] in radii of the head."""
    radius = np.hypot(along, across)
    if name == "ring":
        return (radius > 0.35) & (radius < 0.90)
    if name == "cross":
        return ((np.abs(along) < 0.30) | (np.abs(across) < 0.30)) & (radius < 0.90)
    squares = np.floor(along * 1.25) + np.floor(across * 1.25)
    return (squares % 2 == 0) & (radius < 0.90)


@dataclass(frozen=True)
class Figure:
    """One object in an image.

    body, head: about the distance [H, W] in pixels to the outline, below 0 inside; along, across:
    coordinates [H, W] from the head's centre in its radii; angle: of the axis; area and head_area:
    pixels of the whole and of the head, also where they lie outside the image.
    """

    class_id: int
    body: Pixels
    head: Pixels
    along: Pixels
    across: Pixels
    angle: float
    area: float
    head_area: float

    @property
    def outline(self) -> Pixels:
        return np.minimum(self.body, self.head)

    def fits(self, taken: Mask) -> bool:
        """Whether nearly all of it lies in the image, and hardly on what is ``taken``."""
        inside = self.outline < 0
        hidden = int((inside & taken).sum())
        whole = inside.sum() >= (1 - OUTSIDE) * self.area
        head = (self.head < 0) & ~taken
        free = head.sum() >= (1 - OUTSIDE / 2) * self.head_area
        return bool(whole and free and hidden <= OVERLAP * max(1, taken.sum()))


def place(class_id: int, shape: tuple[int, int], random: np.random.Generator) -> Figure:
    """An object of random size, rotation and outline anywhere in an image of ``shape``."""
    angle = random.uniform(0, 2 * np.pi)
    length = random.uniform(*BODY_LENGTH) * max(shape)
    width = random.uniform(*BODY_WIDTH) * length
    head_radius = np.sqrt(HEAD_AREA * length * width)
    y, x = np.indices(shape, dtype=np.float64)
    y -= random.uniform(MARGIN, 1 - MARGIN) * shape[0]
    x -= random.uniform(MARGIN, 1 - MARGIN) * shape[1]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    turn = np.arctan2(across, along)
    waves = [np.cos(n * turn + random.uniform(0, 2 * np.pi)) / n for n in (2, 3, 4)]
    radius = np.hypot(along / length, across / width) - BODY_WOBBLE * np.sum(waves, axis=0)
    along = (along - HEAD_OFFSET * length) / head_radius
    across = across / head_radius
    return Figure(
        class_id,
        body=(radius - 1) * width,
        head=(np.hypot(along, across) - 1) * head_radius,
        along=along,
        across=across,
        angle=angle,
        area=np.pi * length * width * (1 + HEAD_AREA / 2),  # half of the head juts out, about
        head_area=np.pi * head_radius**2,
    )


def arrange(
    class_ids: Sequence[int], shape: tuple[int, int], random: np.random.Generator
) -> list[Figure]:
    """Objects of these classes; the second is left out where there is no room."""
    taken = np.zeros(shape, bool)
    figures: list[Figure] = []
    for class_id in class_ids:
        tries = (place(class_id, shape, random) for _ in range(TRIES))
        figure = next((trial for trial in tries if trial.fits(taken)), None)
        if figure is None and not figures:
            raise ValueError(f"no room for an object in {shape[0]}x{shape[1]}; mend the constants")
        if figure is not None:
            figures.append(figure)
            taken |= figure.outline < 0
    return figures


def blend(image: Pixels, paint: Pixels, amount: Pixels | Mask) -> Pixels:
    """``image`` [H, W, 3] where ``amount`` [H, W] is 0, ``paint`` (same or [3]) where it is 1."""
    return image + (paint - image) * np.asarray(amount, np.float64)[..., None]


def background(shape: tuple[int, int], scene: Scene, random: np.random.Generator) -> Pixels:
    """Blotches of two tones and clutter [H, W, 3], far from the bodies' colours."""
    hue = scene.hue + random.uniform(*BACKGROUND_HUE)
    saturation = random.uniform(*BACKGROUND_SATURATION)
    light = colour(hue, saturation, random.uniform(*BACKGROUND_VALUE))
    dark = light * (1 - BACKGROUND_CONTRAST)
    tones = blotches(shape, int(random.integers(*BACKGROUND_GRAIN)), random)
    image: Pixels = dark + (light - dark) * tones[..., None]
    y, x = np.indices(shape, dtype=np.float64)
    for _ in range(random.integers(*CLUTTER)):
        tall, wide = random.uniform(*CLUTTER_SIZE, 2) * max(shape)
        top, left = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        paint = colour(hue + random.uniform(-0.1, 0.1), saturation, random.uniform(0.2, 0.9))
        distance = np.hypot((y - top) / tall, (x - left) / wide)
        image = blend(image, paint, distance < 1)
    return image


def paint_figure(
    image: Pixels, figure: Figure, scene: Scene, random: np.random.Generator
) -> Pixels:
    """The image with one object: striped body and head, emblem on the head, shaded edge."""
    by_class = np.pi * (figure.class_id - 1) / len(DEMO_CLASSES)
    by_chance = random.uniform(-np.pi / 2, np.pi / 2) * (1 - STRIPES_OF_CLASS)
    direction = figure.angle + by_class + by_chance
    y, x = np.indices(figure.body.shape, dtype=np.float64)
    phase = 2 * np.pi * (x * np.cos(direction) + y * np.sin(direction)) / scene.wavelength
    tones = 1 - BODY_CONTRAST * (0.5 + 0.5 * np.sin(phase + random.uniform(0, 2 * np.pi)))
    ground = colour(scene.hue, scene.saturation, scene.value) * tones[..., None]
    name = DEMO_CLASSES[figure.class_id - 1]
    if name in EMBLEM_COLOURS:
        jitter = random.uniform(-EMBLEM_JITTER, EMBLEM_JITTER, 3)
        sign = np.clip(np.array(EMBLEM_COLOURS[name]) + jitter, 0, 1)
        where = emblem(name, figure.along, figure.across)
        ground = blend(ground, sign, EMBLEM_OPACITY * where)
    rim = np.clip(EDGE_WIDTH + figure.outline, 0, 1)
    ground = ground * (1 - EDGE_SHADE * rim[..., None])
    return blend(image, ground, np.clip(0.5 - figure.outline, 0, 1))


def draw_image(
    class_ids: Sequence[int], shape: tuple[int, int], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    """One image.

    Returns:
        pixels [H, W, 3], mask [H, W] with 0 for background and 1..K, and the objects' classes.
    """
    figures = arrange(class_ids, shape, random)
    scene = Scene(
        random.random(),
        random.uniform(*BODY_SATURATION),
        random.uniform(*BODY_VALUE),
        random.uniform(*BODY_WAVELENGTH),
    )
    image, mask = background(shape, scene, random), np.zeros(shape, np.uint8)
    for position, figure in enumerate(figures):
        own = replace(scene, hue=scene.hue + SECOND_HUE * position)
        image = paint_figure(image, figure, own, random)
        mask[figure.outline < 0] = figure.class_id
    slope = np.linspace(-SLOPE, SLOPE, shape[1])[:, None] * random.choice([-1, 1])
    image = image * (random.uniform(*LIGHT) + slope) + random.normal(0, NOISE, image.shape)
    pixels = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels, mask, [figure.class_id for figure in figures]


def image_shape(size: int, random: np.random.Generator) -> tuple[int, int]:
    """(H, W): square, upright or lying, or now and then of odd sides; ``size`` is the longest."""
    short = round(size * SHORT_SIDE)
    if random.random() < ODD_SIZES:
        short, size = sorted(int(side) for side in random.integers(short, size + 1, 2))
    return ((size, size), (size, short), (short, size))[random.integers(3)]
