"""Images as arrays: files upright, opaque and eight bits deep; all grey or RGB, and of the size that is asked for."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from rdd_jax.aligned import aligned
from rdd_jax.arrays import Stored
from rdd_jax.datasets.shifts.colours import LUMA
from rdd_jax.errors import InputError, T, check_one_of
from rdd_jax.pixels import Pixels
from rdd_jax.progress import each

__all__ = [
    "MODES",
    "PILLOW",
    "SUFFIXES",
    "Sizes",
    "Stack",
    "check_form",
    "each_image",
    "formed",
    "pixels_of",
    "read_image",
]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
"""How the names of images end, in any case."""

MODES = {"grey": "L", "rgb": "RGB"}
"""What channels images may be asked for in, and Pillow's names of them."""

PILLOW = {1: "L", 3: "RGB"}
"""Pillow's name of images of so many channels."""

CHANNELS = {name: count for count, name in PILLOW.items()}

RESIZE_MOST = 4096
"""Pixels of the longest side that images can be scaled to."""


def check_form(resize: int | None, mode: str | None) -> None:
    """Raises `InputError` unless ``resize`` is a side that images may have, and ``mode`` one of `MODES`, or None."""
    if resize is not None and not 1 <= resize <= RESIZE_MOST:
        raise InputError(f"resize is {resize}: it must lie in 1..{RESIZE_MOST}")
    if mode is not None:
        check_one_of("mode", mode, MODES)


# --- one image ---------------------------------------------------------------------------------------


def read_image(file: Path, resize: int | None = None, mode: str | None = None) -> np.ndarray:
    """An image ``[h, w, c]``, ``uint8``, with one channel where it is grey in the file, and three otherwise.

    It is turned as its EXIF data say, laid on white where it is transparent, and 16 bits are scaled to eight. Of many
    frames the first is taken.

    Args:
      resize: see `pixels_of`.
      mode: one of `MODES`.

    Raises:
      InputError: no image, a truncated one, one of more than Pillow's limit of pixels, or of no fixed range.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody needs
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                image = _opaque(_eight_bits(ImageOps.exif_transpose(opened)))
                return pixels_of(image, MODES[mode] if mode else "L" if image.mode in ("1", "L") else "RGB", resize)
    except PermissionError:
        raise
    # Pillow's plugins raise a dozen unrelated types for damaged bytes.
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{str(file)!r} is truncated or no image ({told}): mend or remove it") from error


def pixels_of(image, mode: str, resize: int | None = None) -> np.ndarray:
    """Pillow's image as ``[h, w, c]``, ``uint8``.

    Args:
      mode: Pillow's name of the channels, ``L`` or ``RGB``.
      resize: the side of a square. What sticks out at the longer sides is cut off, half at each end; the rest is scaled
        by Lanczos' filter, which averages where it shrinks.
    """
    pixels = np.array(_fit(image.convert(mode), resize))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _fit(image, resize: int | None):
    """The square in the middle, scaled; the image as it is where there is no size."""
    from PIL import Image, ImageOps

    return image if resize is None else ImageOps.fit(image, (resize, resize), Image.Resampling.LANCZOS)


def _eight_bits(image):
    """Images of 16 bits, which Pillow would clip, scaled; others as they are."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels, of no fixed range: save eight or sixteen bits")
    if not image.mode.startswith("I"):
        return image
    pixels = np.array(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"pixels {pixels.min()}..{pixels.max()}: save eight or sixteen bits")
    return Image.fromarray(np.round(pixels / 257).astype(np.uint8))


def _opaque(image):
    """Transparent images on white; others as they are."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    grey, image = image.mode in ("1", "L", "LA", "La"), image.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


# --- many images -------------------------------------------------------------------------------------


def each_image(items: Sequence[T], block: int = 100) -> Iterator[T]:
    """The items, one an image; after so many it is told how many are done."""
    for start in each(range(0, len(items), block), lambda start: f"{start:,} of {len(items):,} images"):
        yield from items[start : start + block]


class Sizes:
    """How many images there are of which size; all are to be of one.

    Args:
      what: the images, for messages.
    """

    def __init__(self, what: str = "images"):
        self._what = what
        self._found: dict[tuple[int, ...], tuple[int, str]] = {}
        """Of every size how many there are, and an example."""

    def add(self, image: np.ndarray, name: str) -> None:
        size = image.shape[:2]
        count, example = self._found.get(size, (0, name))
        self._found[size] = count + 1, example

    @property
    def differ(self) -> bool:
        return len(self._found) > 1

    def check(self) -> None:
        """Raises `InputError` where there are none, or of different sizes, with how many there are of which."""
        if not self._found:
            raise InputError(f"{self._what}: there are none")
        if not self.differ:
            return
        kinds = sorted(self._found.items(), key=lambda kind: -kind[1][0])
        shown = [f"{count} of {h}x{w} (such as {example})" for (h, w), (count, example) in kinds[:5]]
        more = [f"{sum(count for _, (count, _) in kinds[5:])} of {len(kinds) - 5} other sizes"] * (len(kinds) > 5)
        raise InputError(
            f"{self._what} are of different sizes: {', '.join(shown + more)}: give --resize {min(kinds[0][0])}"
        )


class Stack:
    """Images of one size, put one after another into one array ``[n, h, w, c]``, ``uint8``, that is made for all.

    It is grey until an RGB image comes. The grey ones are then repeated over the channels, and for that time a third of
    the array is held in addition.

    Args:
      count: ``n``.
    """

    def __init__(self, count: int):
        self._count, self._done, self._sizes = count, 0, Sizes()
        self._array: np.ndarray | None = None

    def add(self, image: np.ndarray, name: str) -> None:
        """Puts the next image ``[h, w, c]``, ``uint8``, behind the others. Of different sizes, it only counts them.

        Raises:
          InputError: there is no memory for so many.
        """
        self._sizes.add(image, name)
        if self._sizes.differ:
            self._array = None
            return
        if self._array is None:
            self._array = _room((self._count, *image.shape), np.dtype(np.uint8))
        if image.shape[2] > self._array.shape[3]:
            wide = _room((self._count, *image.shape), np.dtype(np.uint8))
            wide[: self._done] = self._array[: self._done]
            self._array = wide
        self._array[self._done] = image
        self._done += 1

    @property
    def images(self) -> np.ndarray:
        """``[n, h, w, c]``, ``uint8``: those that were put in.

        Raises:
          InputError: there are none, or of different sizes.
        """
        self._sizes.check()
        assert self._array is not None
        return self._array[: self._done]


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array to be filled."""
    try:
        return aligned(shape, dtype)
    except MemoryError as error:
        raise InputError(f"images of shape {shape} need more memory than there is: give a smaller --resize") from error


def formed(images: Pixels, resize: int | None = None, mode: str | None = None) -> Pixels:
    """Images ``[n, h, w, c]``, ``uint8`` or floating point in [0, 1], in that size and those channels, of their dtype.

    Args:
      resize: see `pixels_of`; floating-point pixels are scaled as such, and clipped to [0, 1].
      mode: one of `MODES`.

    Returns:
      Another array, or ``images`` themselves where they have that size and those channels.

    Raises:
      InputError: there is no memory for so many, or they are to stay in their file and have another form.
    """
    height, width, channels = images.shape[1:]
    wanted = MODES[mode] if mode else PILLOW[channels]
    shape = (resize or height, resize or width, CHANNELS[wanted])
    if images.shape[1:] == shape:
        return images
    if isinstance(images, Stored):
        raise InputError(
            f"images of {str(images.file)!r} are {images.shape[1:]} and stay there: save them as {shape}, or give "
            "--data-on host"
        )
    result = _room((len(images), *shape), images.dtype)
    one = _formed_bytes if images.dtype == np.uint8 else _formed_floats
    for i in each_image(range(len(images))):
        result[i] = one(images[i], wanted, resize)
    return result


def _formed_bytes(pixels: np.ndarray, mode: str, resize: int | None) -> np.ndarray:
    from PIL import Image

    return pixels_of(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), mode, resize)


def _formed_floats(pixels: np.ndarray, mode: str, resize: int | None) -> np.ndarray:
    """Pillow has floating-point images of one channel only."""
    from PIL import Image

    pixels = pixels.astype(np.float32)
    if pixels.shape[2] > CHANNELS[mode]:
        pixels = (pixels @ LUMA)[..., None]
    planes = [np.asarray(_fit(Image.fromarray(pixels[..., c]), resize)) for c in range(pixels.shape[2])]
    return np.clip(np.stack(planes, 2), 0, 1)
