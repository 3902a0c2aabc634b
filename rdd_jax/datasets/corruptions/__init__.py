"""Corruptions ``corrupt(rng, pixels) -> pixels`` of test images, by name and severity.

Two sets. `RDD` are the three shifts of the test set of Vahidian et al. 2024, *Group Distributionally Robust
Dataset Distillation with Risk Minimization*. The others are families of CIFAR-10-C (Hendrycks and Dietterich
2019, *Benchmarking Neural Network Robustness to Common Corruptions and Perturbations*) with the constants of
its 32x32 version, in the authors' order of severity. Its motion blur, snow, frost and spatter are not here:
they need ImageMagick, OpenCV or photographs of frost. The implementation is ours and vectorised over images,
so the pixels are not those of the published files.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import ImageFilter

from rdd_jax.contracts import Corruption
from rdd_jax.datasets.corruptions.base import Pixels, Rng, apply, blocks, planes
from rdd_jax.datasets.corruptions.families import (
    brightness,
    contrast,
    defocus_blur,
    elastic,
    fog,
    gaussian_blur,
    gaussian_noise,
    glass_blur,
    impulse_noise,
    jpeg,
    pixelate,
    saturate,
    shot_noise,
    speckle_noise,
    zoom_blur,
)
from rdd_jax.errors import InputError
from rdd_jax.registry import Registry

__all__ = ["CORRUPTIONS", "RDD", "Corruption", "apply", "blur", "corrupt", "corruption_by_name", "invert", "noise"]

SMALLEST = 8
"""Fewest pixels a side that the families of CIFAR-10-C take."""


def noise(rng: Rng, pixels: Pixels, variance: float = 0.005) -> Pixels:
    """Gaussian noise a value, clipped."""
    return gaussian_noise(rng, pixels, variance**0.5)


def blur(rng: Rng, pixels: Pixels, radius: float = 2) -> Pixels:
    """Pillow's ``GaussianBlur``, in 8 bits."""
    return planes(pixels, lambda image: image.filter(ImageFilter.GaussianBlur(radius)))


def invert(rng: Rng, pixels: Pixels) -> Pixels:
    """``1 - x``."""
    return 1 - pixels


def _severity(severity: int) -> int:
    if severity not in range(1, 6):
        raise InputError(f"severity is {severity}: give 1, 2, 3, 4 or 5")
    return severity


def _fixed(corruption: Corruption) -> Callable[[int], Corruption]:
    def at(severity: int) -> Corruption:
        _severity(severity)
        return corruption

    return at


def _family(
    name: str, function: Callable[[Rng, Pixels, Any], Pixels], levels: Sequence[Any], channels: tuple[int, ...] = ()
) -> Callable[[int], Corruption]:
    """``function`` with a level a severity, in blocks; ``channels`` where not every number of them will do."""

    def at(severity: int) -> Corruption:
        level = levels[_severity(severity) - 1]

        def corrupt(rng: Rng, pixels: Pixels) -> Pixels:
            _check(name, pixels.shape[1:], channels)
            return np.concatenate([function(rng, pixels[block], level) for block in blocks(len(pixels))])

        return corrupt

    return at


def _check(name: str, shape: tuple[int, ...], channels: tuple[int, ...]) -> None:
    if min(shape[:2]) < SMALLEST:
        raise InputError(f"corruption {name!r} on images of {shape}: it needs {SMALLEST}x{SMALLEST} pixels or more")
    if channels and shape[2] not in channels:
        wanted = " or ".join(map(str, channels))
        raise InputError(f"corruption {name!r} on images of {shape}: it needs {wanted} channels, choose another")


RDD = ("noise", "blur", "invert")
"""RDD's three; they come in one strength, and severity is checked but changes nothing."""

_FAMILIES = {
    "gaussian-noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot-noise": (shot_noise, (500.0, 250.0, 100.0, 75.0, 50.0)),
    "impulse-noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle-noise": (speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian-blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "defocus-blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
    "glass-blur": (glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    # Their ranges 1..1.06 and 1..1.11 in steps of 0.01 hold the end, by rounding; the others do not.
    "zoom-blur": (zoom_blur, (7, 12, 16, 21, 26)),
    "fog": (fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (1, 3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": (saturate, ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)), (3,)),
    "elastic": (
        elastic,
        ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40), (1, 3)),
}

CORRUPTIONS: Registry[Corruption] = Registry(
    "corruption",
    {
        "noise": _fixed(noise),
        "blur": _fixed(blur),
        "invert": _fixed(invert),
        **{name: _family(name, *family) for name, family in _FAMILIES.items()},
    },
)
"""A corruption a severity 1 (weak) to 5 (strong), by name."""


def corruption_by_name(name: str, severity: int = 3) -> Corruption:
    """The corruption of that name and severity 1..5 (without effect on `RDD`'s).

    The corruption itself raises `InputError` on images that it cannot take: ``saturate`` needs 3 channels,
    ``brightness`` and ``jpeg`` 1 or 3, and all but `RDD`'s 8x8 pixels or more.

    Raises:
      InputError: an unknown name, a severity that is none of 1..5.
    """
    return CORRUPTIONS.make(name, severity=severity)


def corrupt(name: str, seed: int, images: np.ndarray, severity: int = 3) -> np.ndarray:
    """``uint8`` (or floating-point, in [0, 1]) images ``[n, h, w, c]``, corrupted; ``uint8`` (or float32) again."""
    return apply(corruption_by_name(name, severity), np.random.default_rng(seed), images)
