"""Sets and states as files, to be taken up again here or elsewhere."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rdd_jax.arrays import read_npz, write_npz
from rdd_jax.checks import PIXELS_MOST, check_codes, check_names, check_pixels, whole_numbers
from rdd_jax.datasets.preprocess import Prepared, Preprocess
from rdd_jax.errors import InputError
from rdd_jax.files import check_new
from rdd_jax.networks import recipe_files
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import State, Synthetic, centred_one_hot

__all__ = [
    "SavedSet",
    "check_source",
    "foreign_set",
    "load_set",
    "load_state",
    "save_set",
    "save_state",
    "set_from",
    "set_of_run",
]


@dataclass(frozen=True)
class SavedSet:
    """A synthetic set with all that it needs elsewhere.

    In the file: ``images`` (pixel space, ``[m, h, w, c]`` float32; learned pixels may leave [0, 1]),
    ``images_model`` (model space), ``labels`` (``[m, k]`` float32, centred: zero-sum rows for one-hot), ``classes``
    (``[m]``, what each is an image of, whatever its label has become),
    ``class_names``, ``preprocess`` and ``preprocess_mean``, ``_scale``, ``_basis`` (see `Preprocess`),
    ``weights`` where the set has any, and ``recipe`` where it has one: how networks are to learn from it, as JSON.
    """

    synthetic: Synthetic
    preprocess: Preprocess
    class_names: tuple[str, ...]
    recipe: Recipe | None = None

    def to_arrays(self) -> dict[str, np.ndarray]:
        images, weight = np.asarray(self.synthetic.images), self.synthetic.weight
        more = {} if weight is None else {"weights": np.asarray(weight)}
        if self.recipe is not None:
            more["recipe"] = recipe_files.to_array(self.recipe)
        return {
            "images": self.preprocess.invert(images),
            "images_model": images,
            "labels": np.asarray(self.synthetic.labels),
            "classes": np.asarray(self.synthetic.of_class),
            "class_names": np.array(self.class_names),
            **more,
            **self.preprocess.to_arrays(),
        }


def save_set(file: Path | str, saved: SavedSet) -> None:
    """Writes a set, whole or not at all; `load_set` reads it."""
    write_npz(Path(file), **saved.to_arrays())


def load_set(file: Path | str) -> SavedSet:
    """A set written by this library; raises `InputError` where the file is missing, broken or another's."""
    file = Path(file)
    arrays = read_npz(file)
    needed = ("images_model", "labels", "class_names", "preprocess", "preprocess_mean", "preprocess_scale")
    if missing := [key for key in needed if key not in arrays]:
        raise InputError(f"{str(file)!r} has no {', '.join(missing)}: it was not written by this library")
    images, labels, names = arrays["images_model"], arrays["labels"], arrays["class_names"]
    if images.ndim != 4 or not images.size or labels.shape != (len(images), len(names.ravel())) or names.ndim != 1:
        raise InputError(
            f"{str(file)!r} has images, labels and class_names of shapes {images.shape}, {labels.shape} and "
            f"{names.shape}: they do not fit together"
        )
    if images.dtype.kind != "f" or labels.dtype.kind != "f" or names.dtype.kind != "U":
        raise InputError(f"{str(file)!r} has images {images.dtype}, labels {labels.dtype}, class_names {names.dtype}")
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        raise InputError(f"{str(file)!r} holds NaN or infinite values")
    class_names = tuple(names.tolist())
    check_names(f"{str(file)!r}: class_names", class_names)
    weight = _weights(arrays["weights"], len(images), file) if "weights" in arrays else None
    classes = None  # of older sets, whose labels still say them
    if "classes" in arrays:
        check_codes(f"{str(file)!r}: classes", arrays["classes"], len(images), len(class_names))
        classes = jnp.asarray(arrays["classes"], jnp.int32)
    synthetic = Synthetic(jnp.asarray(images), jnp.asarray(labels), weight, classes)
    try:
        preprocess = Preprocess.from_arrays(arrays)
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error
    if not preprocess.fits(images.shape[1:]):
        raise InputError(f"{str(file)!r} has images of {images.shape[1:]}, which its {preprocess.kind} does not fit")
    recipe = recipe_files.from_array(arrays["recipe"], repr(str(file))) if "recipe" in arrays else None
    return SavedSet(synthetic, preprocess, class_names, recipe)


def save_state(folder: Path | str, state: State) -> None:
    """Writes the state of a distiller into a new folder, with Orbax.

    Raises:
      InputError: the folder exists.
    """
    import orbax.checkpoint as ocp

    folder = Path(folder).absolute()
    check_new(folder)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state)


def load_state(folder: Path | str, like: State) -> State:
    """The state that `save_state` wrote, in the form, and on the devices, of ``like``: that of ``distiller.init``.

    Raises:
      InputError: no such folder, or one that holds a state of another form, a broken one or none.
    """
    import orbax.checkpoint as ocp

    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"no state at {str(folder)!r}")
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            # Looked at beforehand: a restoration that fails on the way leaves threads that complain later.
            _check_form(checkpointer.metadata(folder).item_metadata.tree, like)
            return checkpointer.restore(folder, jax.tree.map(ocp.utils.to_shape_dtype_struct, like))
        # Orbax and TensorStore raise a dozen unrelated types for a file that is cut short or missing.
        except Exception as error:
            raise InputError(f"{str(folder)!r} holds no state of this form: {error}") from error


def _check_form(found: Any, like: State) -> None:
    """Raises `ValueError` where the arrays of the two are not of the same shapes and dtypes."""
    has, wanted = (
        Counter(f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" for leaf in jax.tree.leaves(tree))
        for tree in (found, like)
    )
    if has != wanted:
        here, there = (
            ", ".join(sorted((one - other).elements())) or "none" for one, other in ((has, wanted), (wanted, has))
        )
        raise ValueError(f"of its arrays {here} are not wanted, and {there} are not there")


# --- sets made elsewhere -----------------------------------------------------------------------------


def check_source(source: Path) -> None:
    """Raises `InputError` where ``source`` is neither a run folder nor an ``.npz``."""
    if not source.is_dir() and source.suffix.lower() != ".npz":
        raise InputError(f"{str(source)!r} is neither a run folder nor an .npz file")


def set_of_run(folder: Path, shape: tuple[int, ...], classes: int, remedy: str) -> SavedSet:
    """The set of a run folder; raises `InputError`, with the ``remedy``, where it is of other images or classes."""
    saved = load_set(folder / "synthetic.npz")
    has, of = saved.synthetic.images.shape[1:], saved.synthetic.labels.shape[1]
    if has != shape or of != classes:
        raise InputError(f"the set has images of {has} and {of} classes, the data {shape} and {classes}: {remedy}")
    return saved


def set_from(source: Path, prepared: Prepared) -> Synthetic:
    """The set of a run folder, or of an ``.npz`` in pixel space, in the model space of ``prepared``.

    Raises:
      InputError: neither of the two, or a set of other images or classes; see `foreign_set`.
    """
    shape, classes = prepared.train.shape[1:], len(prepared.class_names)
    check_source(source)
    if source.is_dir():
        saved = set_of_run(source, shape, classes, "start from a set of such images")
        images = saved.preprocess.invert(np.asarray(saved.synthetic.images))
        return saved.synthetic._replace(images=jnp.asarray(prepared.fitted.apply(images)))
    return foreign_set(source, shape, classes, "pixel", prepared.fitted)


def foreign_set(file: Path, shape: tuple[int, ...], classes: int, space: str, fitted: Preprocess) -> Synthetic:
    """A set made elsewhere, in model space.

    Args:
      file: an ``.npz`` with ``images`` ``[m, h, w, c]`` or ``[m, c, h, w]`` and ``labels``: ``[m]`` integers, or
        ``[m, k]`` one-hot or soft; and perhaps ``weights`` ``[m]``.
      shape: ``(h, w, c)`` of the real data.
      space: ``"pixel"``: 0..255 integers or [0, 1]; ``"model"``: already preprocessed.
      fitted: what takes pixels to model space.

    Raises:
      InputError: missing keys, shapes that do not fit the data, NaN, labels out of range or that say nothing, a class
        without an image, weights not positive, images that are plainly in another space.
    """
    arrays = read_npz(file, ("images", "labels"), ("weights",))
    images = _to_nhwc(arrays["images"], shape, file)
    labels = _centred(arrays["labels"], len(images), classes, file)
    if images.dtype.kind not in "iuf":
        raise InputError(f"{str(file)!r} has images {images.dtype}: give numbers")
    if not np.isfinite(images).all():
        raise InputError(f"{str(file)!r} holds NaN or infinite pixels")
    weight = _weights(arrays["weights"], len(images), file) if "weights" in arrays else None
    if space == "model":
        return Synthetic(jnp.asarray(images, jnp.float32), labels, weight)
    return Synthetic(jnp.asarray(fitted.apply(_pixels(images, file, fitted))), labels, weight)


OUTSIDE_MOST = 0.25
"""How far pixels may lie outside [0, 1], by the root of the mean square, where their mean is not the data's either.

Standardised images are at 0.7, images in [-1, 1] at 0.37 and more. So are sets that matching has learned for long, but
those keep the data's mean.
"""


def _pixels(images: np.ndarray, file: Path, fitted: Preprocess) -> np.ndarray:
    """Images of a set in pixel space; raises `InputError` where they are plainly in another one."""
    what, low, high = f"{str(file)!r}: images", images.min(), images.max()
    elsewhere = "; or say --space model if they are already preprocessed"
    if images.dtype.kind in "iu":
        if low < 0 or high > 255:
            raise InputError(f"{what} have integer pixels {low}..{high}: expected 0..255{elsewhere}")
        if high <= PIXELS_MOST:
            raise InputError(f"{what} have integer pixels {low}..{high}, where white is 255: give images / {high or 1}")
        return images.astype(np.uint8)
    check_pixels(images, what, elsewhere)
    outside = np.sqrt(np.mean((images - np.clip(images, 0, 1)).astype(np.float64) ** 2))
    mean, of_data = images.mean(dtype=np.float64), fitted.mean.mean()
    if fitted.kind != "none" and outside > OUTSIDE_MOST and abs(mean - of_data) > of_data / 2:
        raise InputError(
            f"{what} hold pixels {low:g} to {high:g}, outside [0, 1] by {outside:.2g} in root mean square, of mean "
            f"{mean:.2g} where the data has {of_data:.2g}: scale them to [0, 1]{elsewhere}"
        )
    return images.astype(np.float32)


def _weights(weights: np.ndarray, images: int, file: Path) -> Array:
    if weights.shape != (images,) or weights.dtype.kind not in "fiu":
        raise InputError(f"{str(file)!r} has weights {weights.dtype} of shape {weights.shape} for {images} images")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError(f"{str(file)!r} has weights from {weights.min()} to {weights.max()}: all must be positive")
    return jnp.asarray(weights, jnp.float32)


def _to_nhwc(images: np.ndarray, shape: tuple[int, ...], file: Path) -> np.ndarray:
    height, width, channels = shape
    if images.shape[1:] == shape:
        return images
    if images.shape[1:] == (channels, height, width):
        return np.moveaxis(images, 1, -1)
    raise InputError(
        f"{str(file)!r} has images of shape {images.shape}, the data of {shape}: expected "
        f"[m, {height}, {width}, {channels}] or [m, {channels}, {height}, {width}]"
    )


def _centred(labels: np.ndarray, images: int, classes: int, file: Path) -> Array:
    """Centred labels ``[m, k]`` from integers, one-hot or soft ones."""
    if labels.ndim == 1:
        codes = whole_numbers(labels, f"{str(file)!r}: labels")
        check_codes(f"{str(file)!r}: labels", codes, images, classes)
        centred = np.asarray(centred_one_hot(codes.astype(np.int32), classes))
    else:
        centred = _soft(labels, images, classes, file)
    if (most := (centred - centred.mean(1, keepdims=True)).max(0)).min() <= 0:
        raise InputError(
            f"{str(file)!r} has no image of class {most.argmin()} of 0..{classes - 1}: give every class one"
        )
    return jnp.asarray(centred)


def _soft(labels: np.ndarray, images: int, classes: int, file: Path) -> np.ndarray:
    if labels.shape != (images, classes):
        raise InputError(
            f"{str(file)!r} has labels of shape {labels.shape}: expected ({images},) or ({images}, {classes})"
        )
    if labels.dtype.kind not in "biuf" or not np.isfinite(labels).all():
        raise InputError(f"{str(file)!r} holds labels that are NaN, infinite or no numbers ({labels.dtype})")
    labels = labels.astype(np.float32)
    totals = labels.sum(1, keepdims=True)
    if (blank := np.flatnonzero(np.ptp(labels, 1) == 0)).size:
        raise InputError(f"{str(file)!r}: the label of image {blank[0]} is {labels[blank[0], 0]:g} for every class")
    # Rows that sum to one are distributions; others are targets of a regression, and stay as they are.
    distribution = np.abs(totals - 1) < 1e-3
    if (wrong := (distribution & (labels < -1e-3)) | (labels.max(1, keepdims=True) <= 0)).any():
        raise InputError(
            f"{str(file)!r} has soft labels down to {labels[wrong].min():g} in rows that are neither distributions nor "
            "centred: give probabilities (no logarithms of them), or rows that sum to 0"
        )
    return labels - np.where(distribution, totals / classes, 0)
