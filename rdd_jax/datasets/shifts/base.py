"""What every shift shares: counts, draws, checks, and a generator a split."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from rdd_jax.contracts import Corruption, Shift
from rdd_jax.datasets.corruptions import apply
from rdd_jax.datasets.corruptions.base import Rng, blocks
from rdd_jax.errors import InputError
from rdd_jax.types import Data, Splits

__all__ = [
    "by_split",
    "check_channels",
    "check_classes",
    "check_in_unit",
    "check_share",
    "cut",
    "deal",
    "even_counts",
    "grouped",
    "kept",
    "sizes",
    "skewed_counts",
    "stored_dtype",
    "transformed",
]


def sizes(data: Data) -> Int[np.ndarray, " k"]:
    """Examples of every class."""
    return np.bincount(data.labels, minlength=data.classes)


def kept(share: float, n: int | np.integer, least: int = 1) -> int:
    """``round(share * n)``, but at least ``least`` where there are so many."""
    return min(int(n), max(least, round(share * int(n))))


def even_counts(rng: Rng, n: int | np.integer, parts: int) -> Int[np.ndarray, " parts"]:
    """``n`` as ``parts`` counts that differ by at most one; which are the larger is drawn."""
    counts = np.full(parts, n // parts)
    counts[rng.permutation(parts)[: n % parts]] += 1
    return counts


def skewed_counts(rng: Rng, n: int | np.integer, own: int, groups: int, bias: float) -> Int[np.ndarray, " groups"]:
    """``round(bias * n)`` for group ``own``, the rest spread evenly over the others."""
    kept = round(bias * int(n))
    return np.insert(even_counts(rng, n - kept, groups - 1), own, kept)


def deal(rng: Rng, labels: np.ndarray, counts: Int[np.ndarray, "k g"]) -> Int[np.ndarray, " n"]:
    """A group an example, ``counts[y, g]`` of them ``g`` in class ``y``."""
    groups = np.empty(len(labels), np.int32)
    for c, row in enumerate(counts):
        groups[labels == c] = rng.permutation(np.repeat(np.arange(len(row)), row))
    return groups


def cut(rng: Rng, data: Data, keep: Int[np.ndarray, " k"]) -> Data:
    """``keep[y]`` examples of class ``y``, in the order of the data."""
    kept = [rng.choice(np.flatnonzero(data.labels == c), count, replace=False) for c, count in enumerate(keep)]
    return data.take(np.sort(np.concatenate(kept)))


def transformed(rng: Rng, data: Data, groups: np.ndarray, transform: Corruption, names: tuple[str, str]) -> Data:
    """The data with ``transform`` applied where the group is 1, in these groups."""
    images = data.loaded.astype(stored_dtype(data.loaded))
    where = np.flatnonzero(groups)
    for block in blocks(len(where)):
        images[where[block]] = apply(transform, rng, images[where[block]])
    return grouped(replace(data, images=images), groups, names)


def grouped(data: Data, groups: Int[np.ndarray, " n"], names: Sequence[str]) -> Data:
    """The data in these groups; where it has some already, in all pairs of the two."""
    if data.groups is None:
        return replace(data, groups=groups, group_names=tuple(names))
    pairs = tuple(f"{before}, {name}" for before in data.group_names for name in names)
    return replace(data, groups=(data.groups * len(names) + groups).astype(np.int32), group_names=pairs)


def stored_dtype(images: np.ndarray) -> np.dtype:
    """What images are kept in: ``uint8`` as it is, all else float32."""
    return np.dtype(np.uint8 if images.dtype == np.uint8 else np.float32)


def by_split(name: str, check: Callable[[Data], None], part: Callable[[Rng, Data, bool], Data]) -> Shift:
    """The shift that checks every split, then applies ``part(rng, data, test)`` to each split."""

    def shift(seed: int, splits: Splits) -> Splits:
        for split in splits[:3]:
            check(split)
        train, validation, test = (
            part(np.random.default_rng([seed, i]), split, i == 2) for i, split in enumerate(splits[:3])
        )
        return Splits(train, validation, test, f"{splits.name} {name}")

    return shift


def check_channels(name: str, data: Data, channels: int) -> None:
    """Raises `InputError` where the images have another number of channels."""
    if data.images.shape[3] != channels:
        remedy = "give grey images (or use grey, for colour ones)" if channels == 1 else "give RGB images"
        raise InputError(f"{name} on images of {data.images.shape[1:]}: it needs {channels} channel(s), {remedy}")


def check_classes(name: str, data: Data, least: int) -> None:
    """Raises `InputError` where there are fewer classes than ``least``."""
    if data.classes < least:
        raise InputError(f"{name} on {data.classes} class(es): it needs {least} or more, choose another shift")


def check_in_unit(what: str, value: float) -> None:
    """Raises `InputError` outside [0, 1]."""
    if not 0 <= value <= 1:
        raise InputError(f"{what} is {value}: it must lie in [0, 1]")


def check_share(what: str, value: float, most: float) -> None:
    """Raises `InputError` outside (0, most]."""
    if not 0 < value <= most:
        raise InputError(f"{what} is {value}: it must lie in (0, {most:g}]")
