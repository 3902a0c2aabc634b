"""Group shifts that any labelled images can be given: ``shift(seed, splits) -> splits`` with groups.

Train and validation are skewed alike, test is balanced over groups. ``groups`` holds the attribute alone, such
as the colour: the subgroups of a report are the cells of class and group. Every split draws from a generator of
its own, so that none depends on another.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from rdd_jax.corruptions import Corruption, Pixels, Rng, apply, blocks, blur, from_pixels, invert, noise
from rdd_jax.errors import InputError, at_least, check_one_of, choose
from rdd_jax.types import Data, Splits, as_pixels

Shift = Callable[[int, Splits], Splits]
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


def none(seed: int, splits: Splits) -> Splits:
    """The splits as they are."""
    return splits


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
    _in_unit("bias", bias)
    at_least("number of colours in the palette", len(palette), 2)
    rgb = np.array(list(palette.values()), np.float32) / 255

    def check(data: Data) -> None:
        _channels(f"colour-{where}", data, 1)
        _classes(f"colour-{where}", data, 2)

    def part(rng: Rng, data: Data, test: bool) -> Data:
        k = min(data.classes, len(palette))
        counts = [_even(rng, n, k) if test else _skewed(rng, n, c % k, k, bias) for c, n in enumerate(_sizes(data))]
        groups = _deal(rng, data.labels, np.array(counts))
        images = np.empty((*data.images.shape[:3], 3), _stored(data.images))
        for block in blocks(len(data)):
            grey, fill = as_pixels(data.images[block]), rgb[groups[block]][:, None, None]
            images[block] = from_pixels(paint(grey, fill), images.dtype)
        return Data(images, data.labels, data.class_names, groups, tuple(palette)[:k])

    return _shift(f"colour-{where}", check, part)


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
    _in_unit("bias", bias)

    def check(data: Data) -> None:
        _channels("grey", data, 3)
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
            counts = [_skewed(rng, n, own[c], 2, bias) for c, n in enumerate(_sizes(data))]
            groups = _deal(rng, data.labels, np.array(counts))
        return _transformed(rng, data, groups, _to_grey, ("colour", "grey"))

    return _shift("grey", check, part)


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
    _share("share", share, 0.5)

    def check(data: Data) -> None:
        height, width = data.images.shape[1:3]
        if transform == "rotate" and height != width:
            raise InputError(f"rare-rotate on images of {data.images.shape[1:]}: crop or pad them to squares first")

    def part(rng: Rng, data: Data, test: bool) -> Data:
        sizes = _sizes(data)
        few = sizes // 2 if test else np.array([_kept(share, n) for n in sizes])
        groups = _deal(rng, data.labels, np.stack([sizes - few, few], 1))
        return _transformed(rng, data, groups, apply_to, ("plain", transform))

    return _shift(f"rare-{transform}", check, part)


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
    _share("share", share, 0.5)

    def check(data: Data) -> None:
        _classes("hidden-strata", data, 4)
        if rare_class is not None and rare_class not in range(data.classes):
            raise InputError(f"rare class is {rare_class}: give 0..{data.classes - 1}")

    def part(rng: Rng, data: Data, test: bool) -> Data:
        sizes = _sizes(data)
        if test:
            keep = np.minimum(sizes, sizes[sizes > 0].min())
        else:
            keep = sizes.copy()
            scarce = data.classes - 1 if rare_class is None else rare_class
            keep[scarce] = _kept(share, sizes[scarce])
        data = _cut(rng, data, keep)
        names, half = data.class_names, (data.classes + 1) // 2
        merged = (f"{names[0]}..{names[half - 1]}", f"{names[half]}..{names[-1]}")
        return Data(data.images, (data.labels >= half).astype(np.int32), merged, data.labels.astype(np.int32), names)

    return _shift("hidden-strata", check, part)


def long_tail(ratio: float = 0.05) -> Shift:
    """Thins the classes of train and validation out: of class ``c`` of ``k`` stays ``ratio ** (c / (k - 1))``.

    At least two examples stay where there were. Test is left as it is, and so are groups (None): the class
    itself is the subgroup. As in Cui et al. 2019, *Class-Balanced Loss Based on Effective Number of Samples*.

    Args:
      ratio: the last class's share, in (0, 1].

    Raises:
      InputError: a ratio outside (0, 1], fewer than two classes.
    """
    _share("ratio", ratio, 1.0)

    def part(rng: Rng, data: Data, test: bool) -> Data:
        if test:
            return data
        keep = [_kept(ratio ** (c / (data.classes - 1)), n, 2) for c, n in enumerate(_sizes(data))]
        return _cut(rng, data, np.array(keep))

    return _shift("long-tail", lambda data: _classes("long-tail", data, 2), part)


# --- transforms --------------------------------------------------------------------------------------


def rotate(rng: Rng, pixels: Pixels) -> Pixels:
    """A quarter turn, anticlockwise."""
    return np.rot90(pixels, axes=(1, 2))


def _to_grey(rng: Rng, pixels: Pixels) -> Pixels:
    return np.repeat(np.clip(pixels @ LUMA, 0, 1)[..., None], 3, -1)


TRANSFORMS: dict[str, Corruption] = {"invert": invert, "blur": blur, "rotate": rotate, "noise": noise}
"""What `rare` can do to an image."""


def _transformed(rng: Rng, data: Data, groups: np.ndarray, transform: Corruption, names: tuple[str, str]) -> Data:
    """The data with ``transform`` applied where the group is 1."""
    images = data.images.astype(_stored(data.images))
    where = np.flatnonzero(groups)
    for block in blocks(len(where)):
        images[where[block]] = apply(transform, rng, images[where[block]])
    return Data(images, data.labels, data.class_names, groups, names)


def _stored(images: np.ndarray) -> np.dtype:
    return np.dtype(np.uint8 if images.dtype == np.uint8 else np.float32)


# --- counts and draws --------------------------------------------------------------------------------


def _sizes(data: Data) -> Int[np.ndarray, " k"]:
    return np.bincount(data.labels, minlength=data.classes)


def _kept(share: float, n: int | np.integer, least: int = 1) -> int:
    """``round(share * n)``, but at least ``least`` where there are so many."""
    return min(int(n), max(least, round(share * int(n))))


def _even(rng: Rng, n: int | np.integer, parts: int) -> Int[np.ndarray, " parts"]:
    """``n`` as ``parts`` counts that differ by at most one; which are the larger is drawn."""
    counts = np.full(parts, n // parts)
    counts[rng.permutation(parts)[: n % parts]] += 1
    return counts


def _skewed(rng: Rng, n: int | np.integer, own: int, groups: int, bias: float) -> Int[np.ndarray, " groups"]:
    """``round(bias * n)`` for group ``own``, the rest spread evenly over the others."""
    kept = round(bias * int(n))
    return np.insert(_even(rng, n - kept, groups - 1), own, kept)


def _deal(rng: Rng, labels: np.ndarray, counts: Int[np.ndarray, "k g"]) -> Int[np.ndarray, " n"]:
    """A group an example, ``counts[y, g]`` of them ``g`` in class ``y``."""
    groups = np.empty(len(labels), np.int32)
    for c, row in enumerate(counts):
        groups[labels == c] = rng.permutation(np.repeat(np.arange(len(row)), row))
    return groups


def _cut(rng: Rng, data: Data, keep: Int[np.ndarray, " k"]) -> Data:
    """``keep[y]`` examples of class ``y``, in the order of the data."""
    kept = [rng.choice(np.flatnonzero(data.labels == c), count, replace=False) for c, count in enumerate(keep)]
    return data.take(np.sort(np.concatenate(kept)))


# --- what every shift shares -------------------------------------------------------------------------


def _shift(name: str, check: Callable[[Data], None], part: Callable[[Rng, Data, bool], Data]) -> Shift:
    """The shift that checks every split, then applies ``part(rng, data, test)`` to each split."""

    def shift(seed: int, splits: Splits) -> Splits:
        for split in splits[:3]:
            if split.groups is not None:
                raise InputError(
                    f"{splits.name!r} already has groups {', '.join(split.group_names)}: a shift would replace them; "
                    "drop the groups or the shift"
                )
            check(split)
        train, validation, test = (
            part(np.random.default_rng([seed, i]), split, i == 2) for i, split in enumerate(splits[:3])
        )
        return Splits(train, validation, test, f"{splits.name} {name}")

    return shift


def _channels(name: str, data: Data, channels: int) -> None:
    if data.images.shape[3] != channels:
        remedy = "give grey images (or use grey, for colour ones)" if channels == 1 else "give RGB images"
        raise InputError(f"{name} on images of {data.images.shape[1:]}: it needs {channels} channel(s), {remedy}")


def _classes(name: str, data: Data, least: int) -> None:
    if data.classes < least:
        raise InputError(f"{name} on {data.classes} class(es): it needs {least} or more, choose another shift")


def _in_unit(what: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{what} is {value}: it must lie in [0, 1]")


def _share(what: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise InputError(f"{what} is {value}: it must lie in (0, {most:g}]")


BY_BIAS: dict[str, Callable[[float], Shift]] = {
    "colour-foreground": lambda bias: colour("foreground", bias),
    "colour-background": lambda bias: colour("background", bias),
    "two-colours": lambda bias: colour("foreground", bias, TWO),
    "grey": grey,
}
"""Shifts whose strength is the share of a class that has the class's own attribute."""

BY_SHARE: dict[str, Callable[[float], Shift]] = {
    "rare-invert": lambda share: rare("invert", share),
    "rare-blur": lambda share: rare("blur", share),
    "rare-rotate": lambda share: rare("rotate", share),
    "rare-noise": lambda share: rare("noise", share),
    "hidden-strata": strata,
    "long-tail": long_tail,
}
"""Shifts whose strength is the share of the rare part."""

SHIFTS = ("none", *BY_BIAS, *BY_SHARE)


def shift_by_name(name: str, bias: float = 0.9, share: float = 0.05) -> Shift:
    """The shift of that name.

    Raises:
      InputError: an unknown name; a bias outside [0, 1] or a share outside (0, 0.5] ((0, 1] for ``long-tail``),
        used or not.
    """
    check_one_of("shift", name, SHIFTS)
    _in_unit("bias", bias)
    _share("share", share, 1.0 if name == "long-tail" else 0.5)
    if name == "none":
        return none
    return BY_BIAS[name](bias) if name in BY_BIAS else BY_SHARE[name](share)


def described(data: str, name: str, bias: float, share: float) -> str:
    """The data set with its shift, in words."""
    if name == "none":
        return data
    return f"{data}, {name} ({f'bias {bias:g}' if name in BY_BIAS else f'share {share:g}'})"
