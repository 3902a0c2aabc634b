"""The values that travel through the library, in the order in which they do.

`Data` lives on the host in pixel space; `Examples` on the device in model space (after
preprocessing); a sampler draws a `Batch` from them; an objective returns `Losses`; what is
learned is a `Synthetic` set.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from rdd_jax.errors import InputError

__all__ = [
    "Batch",
    "Data",
    "Examples",
    "Losses",
    "PRNGKey",
    "Splits",
    "Synthetic",
    "as_pixels",
    "centred_one_hot",
]


class Examples(NamedTuple):
    """Real examples on the device, in model space."""

    images: Float[Array, "n h w c"]
    labels: Float[Array, "n k"]
    """Centred one-hot: ``onehot - 1/k``."""
    groups: Int[Array, " n"]
    """A group per example; all zero where none were given."""
    loss: Float[Array, " n"] | None = None
    """The loss of every example when it was last looked at, not negative; for samplers that ask for it."""


class Batch(NamedTuple):
    """What a sampler drew. ``weight`` is 1 unless the draw was not uniform."""

    images: Float[Array, "b h w c"]
    labels: Float[Array, "b k"]
    group: Int[Array, " b"]
    weight: Float[Array, " b"]


class Synthetic(NamedTuple):
    """A distilled set in model space, or any small set that stands in for a large one."""

    images: Float[Array, "m h w c"]
    labels: Float[Array, "m k"]
    weight: Float[Array, " m"] | None = None
    """How many real examples each stands for, for learners that can weigh; None: all the same."""


class Losses(NamedTuple):
    """Losses that a risk turns into one number: one an example, or one a group."""

    value: Float[Array, " l"]
    group: Int[Array, " l"]
    weight: Float[Array, " l"]


PRNGKey = Key[Array, ""]


def centred_one_hot(labels: np.ndarray | Array, classes: int) -> Float[Array, "n k"]:
    """``onehot(labels) - 1/classes``, float32: the labels that ridge regression fits."""
    return jax.nn.one_hot(jnp.asarray(labels), classes, dtype=jnp.float32) - 1.0 / classes


@dataclass(frozen=True)
class Data:
    """One split of a labelled image data set, in pixel space, on the host.

    Attributes:
      images: ``[n, H, W, C]``, ``uint8`` in 0..255 or floating point in [0, 1].
      labels: ``[n]`` int32 in ``0..len(class_names)-1``.
      class_names: one a class.
      groups: ``[n]`` int32 or None; ``group_names`` names them.
      mirror: whether a mirrored image is still one of its class: true of most photographs, not of digits or letters.

    Raises:
      InputError: shapes, ranges or types that do not fit, naming the value.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    mirror: bool = True

    def __post_init__(self):
        _check_images(self.images)
        n = len(self.images)
        _check_codes("labels", self.labels, n, len(self.class_names))
        if self.groups is not None:
            _check_codes("groups", self.groups, n, len(self.group_names))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def cell_shape(self) -> tuple[int, int]:
        """``(classes, groups)`` of a table of cells."""
        return self.classes, max(1, len(self.group_names))

    @property
    def cell_counts(self) -> Int[np.ndarray, "c g"]:
        """How many examples each (class, group) has; all in one group where there are none."""
        groups = np.zeros_like(self.labels) if self.groups is None else self.groups
        count = np.zeros(self.cell_shape, int)
        np.add.at(count, (self.labels, groups), 1)
        return count

    @property
    def pixels(self) -> Float[np.ndarray, "n h w c"]:
        """The images as float32 in [0, 1]."""
        return as_pixels(self.images)

    def take(self, index: np.ndarray) -> "Data":
        """The examples at ``index``, in its order."""
        groups = None if self.groups is None else self.groups[index]
        return replace(self, images=self.images[index], labels=self.labels[index], groups=groups)


def as_pixels(images: np.ndarray) -> np.ndarray:
    """``uint8`` images divided by 255, floating-point ones as they are; float32."""
    if images.dtype == np.uint8:
        return np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    return np.asarray(images, np.float32)


class Splits(NamedTuple):
    """The three splits of a data set and its name. Selection never sees ``test``."""

    train: Data
    validation: Data
    test: Data
    name: str


def _check_images(images: np.ndarray) -> None:
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(f"images have shape {images.shape}: expected [n, height, width, channels], none of them 0")
    if images.dtype == np.uint8:
        return
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"images are {images.dtype}: give uint8 in 0..255 or floating point in [0, 1]")
    if not np.isfinite(images).all():
        raise InputError(
            f"images hold {np.count_nonzero(~np.isfinite(images))} NaN or infinite pixels: mend or drop them"
        )
    if images.min() < 0 or images.max() > 1:
        raise InputError(f"images hold pixels {images.min():g} to {images.max():g}: give [0, 1], or uint8 in 0..255")


def _check_codes(what: str, codes: np.ndarray, n: int, count: int) -> None:
    if codes.shape != (n,):
        raise InputError(f"{what} have shape {codes.shape} for {n} images: expected ({n},)")
    if not np.issubdtype(codes.dtype, np.integer):
        raise InputError(f"{what} are {codes.dtype}: give integers 0..{count - 1}")
    if codes.min() < 0 or codes.max() >= count:
        bad = codes.min() if codes.min() < 0 else codes.max()
        raise InputError(f"{what} hold {bad}: they must lie in 0..{count - 1} ({count} names)")
