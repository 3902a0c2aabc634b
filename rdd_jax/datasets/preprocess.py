"""From pixels to what models see, and back: fitted on train, travelling with the synthetic set.

Every preprocessing here is the affine map ``z = A (x - mean)`` of pixels ``x`` in [0, 1], so one class
with an exact inverse holds them all.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from rdd_jax.checks import check_pixels
from rdd_jax.devices import host_memory
from rdd_jax.errors import InputError, check_one_of, unknown
from rdd_jax.pixels import Images, Mapped, PixelMap, Pixels, as_pixels, on_device, parts, rows_of
from rdd_jax.types import Data, Examples, Splits, centred_one_hot

__all__ = ["PREPROCESSINGS", "WHITENED", "Prepared", "Preprocess", "check_space", "fit", "prepare"]

PREPROCESSINGS = ("standardise", "zca", "none")


@dataclass(frozen=True)
class Preprocess:
    """``z = basis^T diag(scale) basis (x - mean)``, or ``z = scale * (x - mean)`` without a basis.

    Attributes:
      kind: one of `PREPROCESSINGS`.
      mean: ``[1, 1, c]`` (standardise, none) or ``[h, w, c]`` (ZCA), float32, in pixel units.
      scale: ``[1, 1, c]`` or, with a basis, ``[d]``; positive.
      basis: ``[d, d]`` orthonormal rows (eigenvectors of the covariance), ``d = h * w * c``, or None.
    """

    kind: str
    mean: np.ndarray
    scale: np.ndarray
    basis: np.ndarray | None = None

    def apply(self, pixels: Pixels) -> np.ndarray:
        """Pixels ``[n, h, w, c]`` to model space, float32: ``uint8`` in 0..255, or floating point in [0, 1].

        Learned pixels leave [0, 1] and are taken up to 16 either way.

        Raises:
          InputError: pixels further out, other integers, or images of another shape than it was fitted on.
        """
        check_pixels(pixels)
        return self._map(pixels, -self.mean, self.scale, 0)

    def over(self, pixels: Pixels) -> Images:
        """Pixels in model space without a second copy of them: `pixels.Mapped`.

        Only whitened ones are held, up to `WHITENED` bytes: a product with ``[d, d]`` for every image that is looked
        at would cost more than what is done with it.
        """
        held = self.basis is not None and isinstance(pixels, np.ndarray) and 4 * pixels.size <= WHITENED
        return self.apply(pixels) if held else Mapped(pixels, self)

    @property
    def on_device(self) -> PixelMap:
        """The same map inside ``jit``."""
        matrix = None if self.basis is None else jnp.asarray(self._matrix_of(self.scale))
        return PixelMap(jnp.asarray(self.mean), jnp.asarray(self.scale), matrix)

    def _matrix_of(self, scale: np.ndarray) -> np.ndarray:
        assert self.basis is not None
        return (self.basis.T * scale) @ self.basis

    def invert(self, images: np.ndarray) -> np.ndarray:
        """Model space back to pixels; learned images may leave [0, 1]."""
        return self._map(images, 0, 1 / self.scale, self.mean)

    def _map(self, images, before, scale, after):
        if not self.fits(images.shape[1:]):
            raise InputError(f"images are {images.shape[1:]}, but the {self.kind} was fitted on {self.mean.shape}")
        matrix, result = None if self.basis is None else self._matrix_of(scale), np.empty(images.shape, np.float32)
        for where, block in parts(images):
            part = as_pixels(block) + before
            if matrix is None:
                result[where] = part * scale + after
            else:
                result[where] = (part.reshape(-1, len(matrix)) @ matrix).reshape(block.shape) + after
        return result

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it maps images of that shape, ``(h, w, c)``."""
        if self.basis is not None:
            return shape == self.mean.shape
        return len(shape) == 3 and all(ours in (1, size) for ours, size in zip(self.mean.shape, shape, strict=True))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The fields as plain arrays, for an ``.npz``; `from_arrays` takes them back."""
        arrays = {"preprocess": np.array(self.kind), "preprocess_mean": self.mean, "preprocess_scale": self.scale}
        return arrays if self.basis is None else {**arrays, "preprocess_basis": self.basis}

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray]) -> "Preprocess":
        """What `to_arrays` made; raises `InputError` where the arrays are no such map."""
        kind, mean, scale = str(arrays["preprocess"]), arrays["preprocess_mean"], arrays["preprocess_scale"]
        basis = arrays.get("preprocess_basis")
        check_one_of("preprocess", kind, PREPROCESSINGS)
        shapes = [mean.shape, scale.shape, None if basis is None else basis.shape]
        fits = [mean.shape, (mean.size,), (mean.size, mean.size)] if kind == "zca" else [(1, 1, mean.size)] * 2 + [None]
        if mean.ndim != 3 or shapes != fits:
            raise InputError(f"preprocess {kind!r} has mean, scale and basis of shapes {shapes}, which do not fit")
        numbers = [mean, scale] if basis is None else [mean, scale, basis]
        if not all(each.dtype.kind == "f" and np.isfinite(each).all() for each in numbers) or not (scale > 0).all():
            raise InputError(f"preprocess {kind!r} holds values that are not finite, or a scale that is not positive")
        return Preprocess(kind, mean, scale, basis)


WHITENED = 2**30
"""Bytes of whitened images that are held in float32; more are whitened batch by batch."""


def fit(kind: str, pixels: Pixels, regularisation: float = 0.1) -> Preprocess:
    """Fits a preprocessing on training pixels ``[n, h, w, c]``, ``uint8`` or in [0, 1], a block of them at a time.

    - ``standardise``: mean 0 and standard deviation 1 a channel.
    - ``zca``: with the covariance ``V diag(v) V^T`` over pixels, ``A = s V diag(v + r mean(v))^-1/2 V^T``,
      where ``r`` is ``regularisation`` (Nguyen et al. 2021, *Dataset Distillation with Infinitely Wide
      Convolutional Networks*, use 0.1) and ``s`` makes the mean square of a feature 1.
    - ``none``: the pixels themselves.

    Raises:
      InputError: an unknown kind, data in which no pixel varies, or what `check_space` raises.
    """
    check_space(kind, pixels.shape[1:])
    if kind == "none":
        return Preprocess(kind, np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32))
    if kind == "standardise":
        axes, count = (0, 1, 2), math.prod(pixels.shape[:3])
        total = lambda value: np.sum([np.sum(value(as_pixels(part)), axes) for _, part in parts(pixels)], 0)  # noqa: E731
        mean = total(lambda part: part.astype(np.float64)) / count
        std = np.sqrt(total(lambda part: (part - mean) ** 2) / count)
        mean, std = mean.reshape(1, 1, -1), std.reshape(1, 1, -1)
        _varies(std)
        return Preprocess(kind, mean.astype(np.float32), (1 / np.maximum(std, 1e-8)).astype(np.float32))
    if kind == "zca":
        return _zca(pixels, regularisation)
    raise unknown("preprocessing", kind, PREPROCESSINGS)


FITTING = 32
"""Bytes that the fit of ZCA takes for every entry of its matrix: the covariance, its eigenvectors and what LAPACK works
in, of double precision."""


def check_space(kind: str, shape: tuple[int, ...]) -> None:
    """Raises `InputError` where ZCA of images of ``shape = (h, w, c)`` needs more memory than this machine has."""
    dim = math.prod(shape)
    needed, there = FITTING * dim**2, host_memory()
    if kind == "zca" and needed > there:
        raise InputError(
            f"preprocess is 'zca', whose matrix for images of {' x '.join(map(str, shape))} has {dim:,} rows and "
            f"columns: fitting it needs {needed / 2**30:.1f} GiB, and there are {there / 2**30:.1f}: take "
            "'standardise', or smaller images (resize)"
        )


def _zca(pixels: Pixels, regularisation: float) -> Preprocess:
    mean = sum(np.sum(as_pixels(block), 0, np.float64) for _, block in parts(pixels)) / len(pixels)
    mean = np.asarray(mean, np.float32)
    dim = mean.size
    covariance = np.zeros((dim, dim), np.float64)
    for _, block in parts(pixels):
        part = (as_pixels(block) - mean).reshape(-1, dim)
        covariance += part.T @ part
    covariance /= len(pixels)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0)
    _varies(values)
    scale = 1 / np.sqrt(values + regularisation * values.mean())
    scale /= np.sqrt(np.mean(values * scale**2))
    return Preprocess("zca", mean, scale.astype(np.float32), np.ascontiguousarray(vectors.T, dtype=np.float32))


def _varies(spread: np.ndarray) -> None:
    if not spread.max() > 0:
        raise InputError("no pixel of the training images varies: there is nothing to standardise")


@dataclass(frozen=True)
class Prepared:
    """Real data in model space on the host, with all that was fitted on it."""

    splits: Splits
    fitted: Preprocess
    train: Images
    """``[n, h, w, c]`` float32, model space; see `Preprocess.over`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.splits.train.class_names

    @property
    def one_hot(self) -> np.ndarray:
        """Centred one-hot labels of train, ``[n, k]``."""
        return np.asarray(centred_one_hot(self.splits.train.labels, self.splits.train.classes))

    def examples(self, streamed: bool = False) -> Examples:
        """The training examples on the device; ``streamed``: but one image, for `rdd_jax.streaming` hands them over."""
        train = self.splits.train
        groups = np.zeros(len(train), np.int32) if train.groups is None else train.groups
        images, space = on_device(rows_of(self.train, slice(0, 1 if streamed else None)))
        held = jnp.zeros(1, jnp.int32) if streamed else None
        labels, groups = jnp.asarray(self.one_hot), jnp.asarray(groups)
        return Examples(images, labels, groups, space=space, held=held, group_count=train.cell_shape[1])

    def model_space(self, part: Data) -> Images:
        """The images of a split; see `Preprocess.over`."""
        return self.fitted.over(part.images)


def prepare(splits: Splits, kind: str, zca_reg: float = 0.1, fitted: Preprocess | None = None) -> Prepared:
    """Preprocesses the training images, with ``fitted`` where it is given."""
    pixels = splits.train.images
    fitted = fitted or fit(kind, pixels, zca_reg)
    return Prepared(splits, fitted, fitted.over(pixels))
