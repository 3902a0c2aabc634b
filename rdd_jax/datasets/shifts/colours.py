"""Shifts by colour: coloured MNIST and CIFAR10-S."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rdd_jax.contracts import Shift
from rdd_jax.datasets.corruptions.base import Pixels, Rng, blocks, from_pixels
from rdd_jax.datasets.shifts.base import (
    by_split,
    check_channels,
    check_classes,
    check_in_unit,
    deal,
    even_counts,
    grouped,
    sizes,
    skewed_counts,
    stored_dtype,
    transformed,
)
from rdd_jax.errors import at_least, check_one_of, choose
from rdd_jax.pixels import as_pixels
from rdd_jax.types import Data

__all__ = ["LUMA", "PALETTE", "TWO", "colour", "grey"]

Colours = dict[str, tuple[int, int, int]]

PALETTE: Colours = {
    "red": (225, 20, 30),
    "orange": (255, 115, 0),
    "yellow": (245, 225, 30),
    "lime": (95, 225, 30),
    "green": (0, 140, 55),
    "cyan": (30, 215, 215),
    "sky": (0, 115, 240),
    "blue": (40, 30, 225),
    "violet": (150, 40, 230),
    "pink": (250, 60, 165),
}
"""Colours apart in hue, so that a darker stroke of one is not another."""

TWO: Colours = {name: PALETTE[name] for name in ("red", "sky")}
"""Of ``two-colours``: large groups on small data."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey, ITU-R BT.601."""


PAINTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "foreground": lambda grey, rgb: grey * rgb,
    "background": lambda grey, rgb: grey + (1 - grey) * rgb,
}
"""``paint(grey [n, h, w, 1], rgb [n, 1, 1, 3]) -> [n, h, w, 3]``, all in [0, 1]."""


def colour(where: str, bias: float = 0.9, palette: Colours = PALETTE) -> Shift:
    """Colours the strokes of grey images, or what is around them, by class: coloured MNIST.

    Group ``g`` is the palette's colour ``g``. In class ``y``, ``round(bias * n_y)`` examples have the class's own
    colour ``y mod k``, where ``k`` is the number of classes or of colours, whichever is smaller, and the others are
    spread evenly over the other ``k - 1``; in test all ``k`` are even. As in Zhou et al. 2025, *FairDD: Fair Dataset
    Distillation*, where ``bias`` is 0.9 and every class has a colour.

    Args:
      where: ``foreground`` or ``background`` (strokes stay white); `PAINTS`.
      bias: in [0, 1]; 1 / k is no skew.
      palette: RGB in 0..255 by name.

    Raises:
      InputError: an unknown part, a bias outside [0, 1], fewer than two colours; images without exactly one
        channel, fewer than two classes.
    """
    paint = choose("part to colour", where, PAINTS)
    check_in_unit("bias", bias)
    at_least("number of colours in the palette", len(palette), 2)
    rgb = np.array(list(palette.values()), np.float32) / 255

    def check(data: Data) -> None:
        check_channels(f"colour-{where}", data, 1)
        check_classes(f"colour-{where}", data, 2)

    def part(rng: Rng, data: Data, test: bool) -> Data:
        k = min(data.classes, len(palette))
        counts = [
            even_counts(rng, n, k) if test else skewed_counts(rng, n, c % k, k, bias) for c, n in enumerate(sizes(data))
        ]
        groups = deal(rng, data.labels, np.array(counts))
        images = np.empty((*data.images.shape[:3], 3), stored_dtype(data.loaded))
        for block in blocks(len(data)):
            grey, fill = as_pixels(data.images[block]), rgb[groups[block]][:, None, None]
            images[block] = from_pixels(paint(grey, fill), images.dtype)
        return grouped(replace(data, images=images), groups, tuple(palette)[:k])

    return by_split(f"colour-{where}", check, part)


def grey(bias: float = 0.9, grey_classes: Sequence[str] | None = None) -> Shift:
    """Takes the colour out of most images of some classes and of few of the others: CIFAR10-S.

    Groups are 0 colour and 1 grey (`LUMA`, copied to three channels). Each class keeps ``round(bias * n_y)``
    examples in its own style; test holds all its images in colour and then all again in grey. As in Wang et
    al. 2020, *Towards Fairness in Visual Recognition*, and FairDD, where ``bias`` is 0.95 and 0.9.

    Args:
      bias: in [0, 1].
      grey_classes: by name; default every second class from the first on, which for CIFAR-10 are the
        published airplane, bird, deer, frog and ship.

    Raises:
      InputError: a bias outside [0, 1], images without exactly three channels, no such class.
    """
    check_in_unit("bias", bias)

    def check(data: Data) -> None:
        check_channels("grey", data, 3)
        for name in grey_classes or ():
            check_one_of("grey class", name, data.class_names)

    def part(rng: Rng, data: Data, test: bool) -> Data:
        if test:
            n = len(data)
            data = data.take(np.tile(np.arange(n), 2))
            groups = np.repeat(np.arange(2, dtype=np.int32), n)
        else:
            chosen = data.class_names[::2] if grey_classes is None else grey_classes
            own = [int(name in chosen) for name in data.class_names]
            counts = [skewed_counts(rng, n, own[c], 2, bias) for c, n in enumerate(sizes(data))]
            groups = deal(rng, data.labels, np.array(counts))
        return transformed(rng, data, groups, _to_grey, ("colour", "grey"))

    return by_split("grey", check, part)


def _to_grey(rng: Rng, pixels: Pixels) -> Pixels:
    return np.repeat(np.clip(pixels @ LUMA, 0, 1)[..., None], 3, -1)
