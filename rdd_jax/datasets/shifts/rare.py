"""Shifts by size: a rare part of every class, a rare class hidden in a merged one, a long tail of classes."""

from dataclasses import replace

import numpy as np

from rdd_jax.contracts import Corruption, Shift
from rdd_jax.datasets.corruptions import blur, invert, noise
from rdd_jax.datasets.corruptions.base import Pixels, Rng
from rdd_jax.datasets.shifts.base import (
    by_split,
    check_classes,
    check_share,
    cut,
    deal,
    grouped,
    kept,
    sizes,
    transformed,
)
from rdd_jax.errors import InputError, choose
from rdd_jax.types import Data

__all__ = ["TRANSFORMS", "long_tail", "rare", "rotate", "strata"]


def rotate(rng: Rng, pixels: Pixels) -> Pixels:
    """A quarter turn, anticlockwise."""
    return np.rot90(pixels, axes=(1, 2))


TRANSFORMS: dict[str, Corruption] = {"invert": invert, "blur": blur, "rotate": rotate, "noise": noise}
"""What `rare` can do to an image."""


def rare(transform: str, share: float = 0.05) -> Shift:
    """Transforms a few images of every class: ``round(share * n_y)``, at least one; half (rounded down) in test.

    Groups are 0 plain and 1 transformed.

    Args:
      transform: one of `TRANSFORMS`.
      share: in (0, 0.5].

    Raises:
      InputError: an unknown transform, a share outside (0, 0.5], images to be rotated that are not square.
    """
    apply_to = choose("transform", transform, TRANSFORMS)
    check_share("share", share, 0.5)

    def check(data: Data) -> None:
        height, width = data.images.shape[1:3]
        if transform == "rotate" and height != width:
            raise InputError(f"rare-rotate on images of {data.images.shape[1:]}: crop or pad them to squares first")

    def part(rng: Rng, data: Data, test: bool) -> Data:
        count = sizes(data)
        few = count // 2 if test else np.array([kept(share, n) for n in count])
        groups = deal(rng, data.labels, np.stack([count - few, few], 1))
        return transformed(rng, data, groups, apply_to, ("plain", transform))

    return by_split(f"rare-{transform}", check, part)


def strata(share: float = 0.05, rare_class: int | None = None) -> Shift:
    """Merges the classes into two, the first half against the rest, one of them rare: hidden strata.

    Groups are the original classes. Of ``rare_class`` train and validation keep ``round(share * n)`` examples,
    at least one; test is cut to the same number of every original class. As in Sohoni et al. 2020, *No Subclass
    Left Behind*.

    Args:
      share: in (0, 0.5].
      rare_class: a class of the original data; default the last.

    Raises:
      InputError: a share outside (0, 0.5], fewer than four classes, no such class.
    """
    check_share("share", share, 0.5)

    def check(data: Data) -> None:
        check_classes("hidden-strata", data, 4)
        if rare_class is not None and rare_class not in range(data.classes):
            raise InputError(f"rare class is {rare_class}: give 0..{data.classes - 1}")

    def part(rng: Rng, data: Data, test: bool) -> Data:
        count = sizes(data)
        if test:
            keep = np.minimum(count, count[count > 0].min())
        else:
            keep = count.copy()
            scarce = data.classes - 1 if rare_class is None else rare_class
            keep[scarce] = kept(share, count[scarce])
        data = cut(rng, data, keep)
        names, half = data.class_names, (data.classes + 1) // 2
        merged = (f"{names[0]}..{names[half - 1]}", f"{names[half]}..{names[-1]}")
        labels = (data.labels >= half).astype(np.int32)
        return grouped(replace(data, labels=labels, class_names=merged), data.labels.astype(np.int32), names)

    return by_split("hidden-strata", check, part)


def long_tail(ratio: float = 0.05) -> Shift:
    """Thins the classes of train and validation out: of class ``c`` of ``k`` stays ``ratio ** (c / (k - 1))``.

    At least two examples stay where there were. Test is left as it is, and so are groups (None): the class
    itself is the subgroup. As in Cui et al. 2019, *Class-Balanced Loss Based on Effective Number of Samples*.

    Args:
      ratio: the last class's share, in (0, 1].

    Raises:
      InputError: a ratio outside (0, 1], fewer than two classes.
    """
    check_share("ratio", ratio, 1.0)

    def part(rng: Rng, data: Data, test: bool) -> Data:
        if test:
            return data
        keep = [kept(ratio ** (c / (data.classes - 1)), n, 2) for c, n in enumerate(sizes(data))]
        return cut(rng, data, np.array(keep))

    return by_split("long-tail", lambda data: check_classes("long-tail", data, 2), part)
