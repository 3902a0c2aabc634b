"""What images, codes and names have to be, wherever they come from."""

import unicodedata
from collections import Counter

import numpy as np
from jaxtyping import Array

from rdd_jax.errors import InputError
from rdd_jax.pixels import Pixels, parts

__all__ = [
    "PIXELS_MOST",
    "are_distributions",
    "check_codes",
    "check_images",
    "check_names",
    "check_pixels",
    "whole_numbers",
]

FLOAT_MOST = 2.0**53
"""Beyond it a float64 need not be the integer that was meant."""


def check_images(images: Pixels) -> None:
    """Raises `InputError` unless images are as `Data` has them: ``[n, h, w, c]``, with ``c`` 1 or 3, finite."""
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"images have shape {images.shape}: expected [n, height, width, channels], none of them 0")
    if (channels := images.shape[3]) not in (1, 3):
        remedy = "drop the alpha channel, as by images[..., :3]" if channels == 4 else "give grey or RGB images, NHWC"
        raise InputError(f"images of shape {images.shape} have {channels} channels, not 1 or 3: {remedy}")
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"images are {images.dtype}: give uint8 in 0..255 or floating point in [0, 1]")
    strange, low, high = 0, np.inf, -np.inf
    for _, part in parts(images):
        strange += np.count_nonzero(~np.isfinite(part))
        low, high = min(low, float(np.fmin.reduce(part, None))), max(high, float(np.fmax.reduce(part, None)))
    if strange:
        raise InputError(f"images hold {strange} NaN or infinite pixels: mend or drop them")
    if low < 0 or high > 1:
        raise InputError(f"images hold pixels {low:g} to {high:g}: give [0, 1], or uint8 in 0..255")


PIXELS_MOST = 16
"""Learned pixels leave [0, 1], but not by as much as this; 0..255 goes far beyond."""


def check_pixels(images: Pixels, what: str = "images", remedy: str = "") -> None:
    """Raises `InputError` where images, learned ones perhaps, are neither ``uint8`` nor anywhere near [0, 1]."""
    if images.dtype == np.uint8 or not images.size:
        return
    if images.dtype.kind in "biu":
        raise InputError(f"{what} are {images.dtype}: give uint8 in 0..255 or floating point in [0, 1]")
    low, high = np.min(images), np.max(images)
    if low < -PIXELS_MOST or high > PIXELS_MOST:
        raise InputError(f"{what} hold pixels {low:g} to {high:g}: give [0, 1] (divide by 255), or uint8{remedy}")


def check_names(what: str, names: tuple[str, ...]) -> None:
    """Raises `InputError` unless names differ and can be shown."""
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{what} hold {twice!r} more than once: give each its own name")
    for name in names:
        # Control characters, surrogates and ends of lines break the files and tables of a report.
        if not name.strip() or any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name):
            raise InputError(f"{what} hold {name!r}: give names of characters that can be shown")


def check_codes(what: str, codes: np.ndarray, n: int, count: int) -> None:
    """Raises `InputError` unless codes are ``[n]`` integers in ``0..count-1``."""
    if codes.shape != (n,):
        raise InputError(f"{what} have shape {codes.shape} for {n} images: expected ({n},)")
    if not np.issubdtype(codes.dtype, np.integer):
        raise InputError(f"{what} are {codes.dtype}: give integers 0..{count - 1}")
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= count:
        remedy = ": subtract 1" if (low, high) == (1, count) else ""
        raise InputError(
            f"{what} hold {low if low < 0 else high}: they must lie in 0..{count - 1} ({count} names){remedy}"
        )


def whole_numbers(codes: np.ndarray, what: str) -> np.ndarray:
    """Codes ``[n]`` as integers; whole-numbered floats are taken, anything else raises `InputError`."""
    if codes.ndim != 1:
        raise InputError(f"{what} have shape {codes.shape}: expected one integer an image")
    if codes.dtype.kind == "f" and (np.abs(codes) <= FLOAT_MOST).all() and (codes == np.round(codes)).all():
        return codes.astype(np.int64)
    if codes.dtype.kind == "f":
        odd = codes[~(np.abs(codes) <= FLOAT_MOST) | (codes != np.round(codes))][0]
        raise InputError(f"{what} are {codes.dtype} and hold {odd:g}: give one integer an image")
    if codes.dtype.kind not in "iu":
        raise InputError(f"{what} are {codes.dtype}: give one integer an image (and its name in class_names)")
    if codes.size and codes.max() > np.iinfo(np.int64).max:
        raise InputError(f"{what} hold {codes.max()}: give smaller integers, best 0, 1, 2, ...")
    return codes.astype(np.int64)


def are_distributions(labels: np.ndarray | Array, tolerance: float = 1e-4) -> bool:
    """Whether every row of ``labels + 1/k``, of centred labels ``[n, k]``, is a distribution over the classes."""
    p = np.asarray(labels) + 1 / labels.shape[1]
    return bool((p > -tolerance).all() and np.allclose(p.sum(1), 1, atol=tolerance))
