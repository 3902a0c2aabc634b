"""A run folder: what is in it, written so that it is either whole or not there.

``config.json``, ``metrics.jsonl``, ``checkpoints/``, ``synthetic.npz``, ``images.png``, ``curves.png``,
``report.json``, ``report.html``.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rdd_jax.app.config import Distill
from rdd_jax.datasets import integer_labels, preprocess, read_npz, write_npz
from rdd_jax.datasets.preprocess import Prepared, Preprocess
from rdd_jax.errors import InputError
from rdd_jax.types import Splits, Synthetic, as_pixels, centred_one_hot


def write_text(file: Path, text: str) -> None:
    """Replaces a text file in one move."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".part")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(file: Path, value: Any) -> None:
    write_text(file, json.dumps(value, indent=2) + "\n")


def check_new(path: Path) -> None:
    """Raises `InputError` where ``path`` exists: nothing is ever overwritten."""
    if path.exists():
        raise InputError(f"{str(path)!r} exists: give another --out, or remove it")


def fingerprint(data: Splits) -> str:
    """A digest of every image, label and group of every split."""
    digest = hashlib.blake2b(digest_size=16)
    for part in data[:3]:
        for array in (part.images, part.labels, *(() if part.groups is None else (part.groups,))):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Run:
    """The paths and files of one run folder."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def create(self, config: Distill, environment: dict, data: Splits) -> None:
        """Makes the folder with its ``config.json``; raises `InputError` where it exists."""
        check_new(self.folder)
        self.folder.mkdir(parents=True)
        values = {**asdict(config), "environment": environment, "data_fingerprint": fingerprint(data)}
        write_json(self.folder / "config.json", values)

    def check_data(self, data: Splits) -> None:
        """Raises `InputError` where ``data`` is not what the run was started with."""
        values = json.loads((self.folder / "config.json").read_text())
        if values.get("data_fingerprint") != fingerprint(data):
            raise InputError(
                f"{str(self.folder)!r} was started on other data: {values['data']!r} has changed since; "
                "bring the old data back or start a new run"
            )

    def config(self) -> Distill:
        """The configuration of the run; raises `InputError` where the folder is none."""
        file = self.folder / "config.json"
        if not file.is_file():
            raise InputError(f"{str(self.folder)!r} is no run folder: it has no config.json")
        try:
            values = json.loads(file.read_text())
            return Distill(**{field.name: values[field.name] for field in fields(Distill)})
        except (json.JSONDecodeError, KeyError) as error:
            raise InputError(f"{str(file)!r} is broken or of another version ({error!r})") from error

    def report(self) -> dict[str, Any]:
        """The report of a finished run; raises `InputError` where there is none, or a broken one."""
        file = self.folder / "report.json"
        if not file.is_file():
            raise InputError(f"{str(self.folder)!r} has no report.json: it is no run folder, or the run has not ended")
        try:
            return json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"{str(file)!r} is broken ({error})") from error

    def metrics(self) -> list[dict]:
        """The rows of ``metrics.jsonl``; a last line cut short by a kill is dropped."""
        file = self.folder / "metrics.jsonl"
        if not file.is_file():
            return []
        rows = []
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(json.loads(line))
        return rows

    def rewrite_metrics(self, rows: Iterable[dict]) -> None:
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def append_metrics(self, rows: Iterable[dict]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in rows))

    def save_synthetic(self, saved: "SavedSet") -> None:
        write_npz(self.folder / "synthetic.npz", **saved.to_arrays())


@dataclass(frozen=True)
class SavedSet:
    """A synthetic set with all that it needs elsewhere.

    In the file: ``images`` (pixel space, ``[m, h, w, c]`` float32; learned pixels may leave [0, 1]),
    ``images_model`` (model space), ``labels`` (``[m, k]`` float32, centred: zero-sum rows for one-hot),
    ``class_names``, ``preprocess`` and ``preprocess_mean``, ``_scale``, ``_basis`` (see `Preprocess`).
    """

    synthetic: Synthetic
    preprocess: Preprocess
    class_names: tuple[str, ...]

    def to_arrays(self) -> dict[str, np.ndarray]:
        images = np.asarray(self.synthetic.images)
        return {
            "images": self.preprocess.invert(images),
            "images_model": images,
            "labels": np.asarray(self.synthetic.labels),
            "class_names": np.array(self.class_names),
            **self.preprocess.to_arrays(),
        }


def load_synthetic(file: Path) -> SavedSet:
    """A set written by this library; raises `InputError` where the file is missing, broken or another's."""
    arrays = read_npz(file)
    needed = ("images_model", "labels", "class_names", "preprocess", "preprocess_mean", "preprocess_scale")
    if missing := [key for key in needed if key not in arrays]:
        raise InputError(f"{str(file)!r} has no {', '.join(missing)}: it was not written by this library")
    images, labels = arrays["images_model"], arrays["labels"]
    if not (np.isfinite(images).all() and np.isfinite(labels).all()):
        raise InputError(f"{str(file)!r} holds NaN or infinite values")
    synthetic = Synthetic(jnp.asarray(images), jnp.asarray(labels))
    return SavedSet(synthetic, Preprocess.from_arrays(arrays), tuple(str(name) for name in arrays["class_names"]))


def check_source(source: Path) -> None:
    """Raises `InputError` where ``source`` is neither a run folder nor an ``.npz``."""
    if not source.is_dir() and source.suffix != ".npz":
        raise InputError(f"{str(source)!r} is neither a run folder nor an .npz file")


def set_of_run(folder: Path, shape: tuple[int, ...], classes: int, remedy: str) -> SavedSet:
    """The set of a run folder; raises `InputError`, with the ``remedy``, where it is of other images or classes."""
    saved = load_synthetic(folder / "synthetic.npz")
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
        return Synthetic(jnp.asarray(prepared.fitted.apply(images)), saved.synthetic.labels)
    return foreign_set(source, shape, classes, "pixel", prepared.fitted)


def foreign_set(
    file: Path, shape: tuple[int, ...], classes: int, space: str, fitted: preprocess.Preprocess
) -> Synthetic:
    """A set made elsewhere, in model space.

    Args:
      file: an ``.npz`` with ``images`` ``[m, h, w, c]`` or ``[m, c, h, w]`` and ``labels``: ``[m]`` integers, or
        ``[m, k]`` one-hot or soft; and perhaps ``weights`` ``[m]``.
      shape: ``(h, w, c)`` of the real data.
      space: ``"pixel"``: 0..255 integers or [0, 1]; ``"model"``: already preprocessed.
      fitted: what takes pixels to model space.

    Raises:
      InputError: missing keys, shapes that do not fit the data, NaN, labels out of range, weights not positive.
    """
    arrays = read_npz(file)
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise InputError(f"{str(file)!r} has no {' and no '.join(missing)} (it has {', '.join(arrays) or 'nothing'})")
    images = _to_nhwc(arrays["images"], shape, file)
    labels = _centred(arrays["labels"], len(images), classes, file)
    if not np.isfinite(images.astype(np.float32)).all():
        raise InputError(f"{str(file)!r} holds NaN or infinite pixels")
    weight = _weights(arrays["weights"], len(images), file) if "weights" in arrays else None
    if space == "model":
        return Synthetic(jnp.asarray(images, jnp.float32), labels, weight)
    if np.issubdtype(images.dtype, np.integer):
        if images.min() < 0 or images.max() > 255:
            raise InputError(f"{str(file)!r} has integer pixels {images.min()}..{images.max()}: expected 0..255")
        images = images.astype(np.uint8)
    elif np.abs(images).max() > 16:
        raise InputError(
            f"{str(file)!r} has floating-point pixels up to {np.abs(images).max():g}: give [0, 1] "
            "(or integers 0..255), or say --space model if they are already preprocessed"
        )
    return Synthetic(jnp.asarray(fitted.apply(as_pixels(images))), labels, weight)


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


def _centred(labels: np.ndarray, images: int, classes: int, file: Path):
    if len(labels) != images:
        raise InputError(f"{str(file)!r} has {len(labels)} labels for {images} images")
    if labels.ndim == 1:
        labels = integer_labels(labels, "labels")
        if labels.min() < 0 or labels.max() >= classes:
            bad = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(f"{str(file)!r} has label {bad}: the data has classes 0..{classes - 1}")
        return centred_one_hot(labels, classes)
    if labels.shape != (images, classes):
        raise InputError(
            f"{str(file)!r} has labels of shape {labels.shape}: expected ({images},) or ({images}, {classes})"
        )
    labels = labels.astype(np.float32)
    if not np.isfinite(labels).all():
        raise InputError(f"{str(file)!r} holds NaN or infinite labels")
    # Rows that sum to one are distributions; regression targets, which sum to zero, are centred already.
    return jnp.asarray(labels - labels.sum(1, keepdims=True) / classes)
