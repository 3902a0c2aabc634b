"""Splits that a source lacks are drawn: stratified, by seed."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from rdd_jax.arrays import Stored
from rdd_jax.errors import InputError
from rdd_jax.types import Data, Splits

__all__ = ["FRACTIONS", "complete", "stratified_split"]

FRACTIONS = {"test": 0.2, "validation": 0.1}
"""What is drawn of train, in this order, where a source lacks it."""


def complete(parts: dict[str, Data], name: str, seed: int) -> Splits:
    """The three splits from those that a source has.

    The parts are given away: what is drawn is moved to the end of the training images, and all that comes of them are
    views of one array. Images that are read-only, in a file, or shared between parts are copied instead.

    Raises:
      InputError: the parts do not fit together, or a class has too few examples to draw from.
    """
    _alike(parts, name)
    drawn = [split for split in ("test", "validation") if split not in parts]
    _enough(parts["train"], name, drawn[::-1])
    cut = _moved if _is_free(parts) else _copied
    for split in drawn:
        train = parts["train"]
        parts["train"], parts[split] = cut(train, _chosen(train, FRACTIONS[split], seed))
    return Splits(parts["train"], parts["validation"], parts["test"], name)


def _alike(parts: dict[str, Data], name: str) -> None:
    """Raises `InputError` where the images of the parts differ in shape."""
    shapes = sorted({part.images.shape[1:] for part in parts.values()})
    if len(shapes) > 1:
        remedies = [f"--resize {min(shapes[0][:2])}"] * (len({shape[:2] for shape in shapes}) > 1)
        remedies += ["--mode rgb (or grey)"] * (len({shape[2] for shape in shapes}) > 1)
        raise InputError(
            f"{name!r}: train, validation and test have images of different shapes {shapes}: "
            f"give {' and '.join(remedies)}"
        )


def _enough(train: Data, name: str, drawn: list[str]) -> None:
    """Raises `InputError` where a class has too few examples for train and the splits that are drawn from it."""
    counts, needed = np.bincount(train.labels, minlength=train.classes), 1 + len(drawn)
    few = int(counts.argmin())
    if counts[few] < needed:
        splits = f" to draw {' and '.join(drawn)} from" if drawn else ""
        remedy = f", or give {' and '.join(drawn)} images of your own" if drawn and counts[few] else ""
        raise InputError(
            f"{name!r}: class {train.class_names[few]!r} has {counts[few]} training examples, but {needed} or more are "
            f"needed{splits}: add some, or drop the class from every split and from the class names{remedy}"
        )


def stratified_split(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """``(rest, part)`` with ``round(fraction * count)``, at least 1, of every class in ``part``.

    Within each half the order of the data is kept. A class needs two examples. Both are copies.
    """
    return _copied(data, _chosen(data, fraction, seed))


def _chosen(data: Data, fraction: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which examples are drawn, see `stratified_split`."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(data), bool)
    for c, name in enumerate(data.class_names):
        members = np.flatnonzero(data.labels == c)
        if len(members) < 2:
            raise InputError(f"class {name!r} has {len(members)} examples: splitting off a test set needs 2 or more")
        count = max(1, round(fraction * len(members)))
        chosen[rng.choice(members, count, replace=False)] = True
    return chosen


def _copied(data: Data, chosen: Bool[np.ndarray, " n"]) -> tuple[Data, Data]:
    """``(rest, part)``, both copies."""
    return data.take(np.flatnonzero(~chosen)), data.take(np.flatnonzero(chosen))


def _moved(data: Data, chosen: Bool[np.ndarray, " n"]) -> tuple[Data, Data]:
    """``(rest, part)`` as `_copied` has them, with images that are views of the data's, which change places."""
    rest, part = np.flatnonzero(~chosen), np.flatnonzero(chosen)
    _partition(data.loaded, rest, part)
    halves = []
    for index, images in ((rest, data.images[: len(rest)]), (part, data.images[len(rest) :])):
        groups = None if data.groups is None else data.groups[index]
        halves.append(replace(data, images=images, labels=data.labels[index], groups=groups))
    return halves[0], halves[1]


def _partition(images: np.ndarray, rest: np.ndarray, part: np.ndarray, memory: int = 2**20) -> None:
    """Moves the images at ``rest`` to the front and those at ``part`` behind them; only the latter are held twice.

    Args:
      memory: bytes of the others that are held at a time, or one image.
    """
    held = images[part]
    block = max(1, memory // images[0].nbytes)
    for start in range(0, len(rest), block):
        index = rest[start : start + block]  # none lies before its new place, so that none is overwritten
        images[start : start + len(index)] = images[index]
    images[len(rest) :] = held


def _is_free(parts: dict[str, Data]) -> bool:
    """Whether the training images may change places: they are in memory, writable, and no other part's."""
    images = parts["train"].images
    if isinstance(images, Stored) or not images.flags.writeable:
        return False
    if any(
        isinstance(part.images, np.ndarray) and np.may_share_memory(images, part.images)
        for split, part in parts.items()
        if split != "train"
    ):
        return False
    owner: object = images
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base  # of a mapped file this ends at what is no array
    return isinstance(owner, np.ndarray)
