"""Real data by name: the embedded digits, any TFDS set, an ``.npz`` file, a folder of images.

``load("digits" | TFDS name | path) -> Splits``. This module owns data-set names and paths; the rest
of the library sees only `Data`.
"""

import io
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from rdd_jax.errors import InputError, unknown
from rdd_jax.types import Data, Splits

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})


def load(name: str, seed: int = 0, tfds_dir: str | None = None) -> Splits:
    """Loads a data set and splits it.

    A split that the source lacks is drawn with stratification and a fixed seed: validation is 10 % of
    train, and where there is no test either, test is 20 % of everything first.

    Args:
      name: ``digits`` (embedded in scikit-learn, 8x8 grey); a path to an ``.npz`` with ``images`` and
        ``labels`` (and optionally ``groups``, ``class_names``, ``group_names`` and the same keys with
        the prefixes ``validation_`` and ``test_``; any split may lack groups); a path to a folder with a
        folder of images a class (or ``train``, ``validation``, ``test`` folders of such); otherwise the
        name of a prepared TFDS image-classification set, such as ``mnist`` or ``cifar10``.
      seed: of the splits that have to be drawn.
      tfds_dir: where TFDS sets were prepared; default ``$TFDS_DATA_DIR`` or TFDS's own default.

    Raises:
      InputError: the name is unknown, the set not prepared, the file missing, broken or not as above.
    """
    path = Path(name)
    if name == "digits":
        parts = {"train": _digits()}
    elif path.suffix == ".npz":
        parts = _npz(path)
    elif path.is_dir():
        parts = _folder(path)
    elif os.sep in name:
        raise InputError(f"no data at {name!r}: there is no such folder, and files must end in .npz")
    else:
        parts = _tfds(name, tfds_dir)
    return _complete(parts, path.stem or name, seed)


def _complete(parts: dict[str, Data], name: str, seed: int) -> Splits:
    if "test" not in parts:
        parts["train"], parts["test"] = stratified_split(parts["train"], TEST_FRACTION, seed)
    if "validation" not in parts:
        parts["train"], parts["validation"] = stratified_split(parts["train"], VALIDATION_FRACTION, seed)
    splits = Splits(parts["train"], parts["validation"], parts["test"], name)
    shapes = {part.images.shape[1:] for part in splits[:3]}
    if len(shapes) > 1:
        raise InputError(f"{name!r}: train, validation and test have images of different shapes {sorted(shapes)}")
    _every_class(splits.train, name)
    return splits


def _every_class(train: Data, name: str) -> None:
    counts = np.bincount(train.labels, minlength=train.classes)
    if empty := [train.class_names[c] for c in np.flatnonzero(counts == 0)]:
        raise InputError(f"{name!r}: no training example of class {', '.join(empty)}: add some or drop the class name")


def stratified_split(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """``(rest, part)`` with ``round(fraction * count)``, at least 1, of every class in ``part``.

    Within each half the order of the data is kept. A class needs two examples.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(data), bool)
    for c, name in enumerate(data.class_names):
        members = np.flatnonzero(data.labels == c)
        if len(members) < 2:
            raise InputError(f"class {name!r} has {len(members)} examples: splitting off a test set needs 2 or more")
        count = max(1, round(fraction * len(members)))
        chosen[rng.choice(members, count, replace=False)] = True
    return data.take(np.flatnonzero(~chosen)), data.take(np.flatnonzero(chosen))


def _digits() -> Data:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return Data(images, bunch.target.astype(np.int32), tuple("0123456789"))


# --- npz ---------------------------------------------------------------------------------------------


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an ``.npz``; pickled ones are refused, never loaded.

    Raises:
      InputError: the file is missing, truncated, no ``.npz``, or holds object arrays.
    """
    if not path.is_file():
        raise InputError(f"no file {str(path)!r}")
    try:
        # Opened here, not by NumPy, which leaves a file that it cannot read open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{str(path)!r} is truncated or no .npz file ({error}): write it again") from error
    except ValueError as error:
        raise InputError(
            f"{str(path)!r} holds an array that cannot be read ({error}): pickled (object) arrays are never "
            "loaded; save plain numbers and strings"
        ) from error


def integer_labels(labels: np.ndarray, what: str) -> np.ndarray:
    """Labels ``[n]`` as int32; whole-numbered floats are taken, anything else refused."""
    if labels.ndim != 1:
        raise InputError(f"{what} have shape {labels.shape}: expected one integer an image")
    if np.issubdtype(labels.dtype, np.floating) and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{what} are {labels.dtype}: give one integer an image")
    return labels.astype(np.int32)


def _npz(path: Path) -> dict[str, Data]:
    arrays = read_npz(path)
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise InputError(f"{str(path)!r} has no {' and no '.join(missing)} (it has {', '.join(arrays) or 'nothing'})")
    labels = integer_labels(arrays["labels"], "labels")
    class_names = _names(arrays, "class_names", labels)
    # Of all splits together: only some may have groups.
    given = [key for key in ("groups", "validation_groups", "test_groups") if key in arrays]
    codes = [integer_labels(arrays[key], key) for key in given]
    group_names = _names(arrays, "group_names", np.concatenate(codes)) if codes else ()
    parts = {}
    for split, prefix in (("train", ""), ("validation", "validation_"), ("test", "test_")):
        if f"{prefix}images" not in arrays:
            continue
        if f"{prefix}labels" not in arrays:
            raise InputError(f"{str(path)!r} has {prefix}images but no {prefix}labels")
        groups = arrays.get(f"{prefix}groups")
        parts[split] = Data(
            arrays[f"{prefix}images"],
            integer_labels(arrays[f"{prefix}labels"], f"{prefix}labels"),
            class_names,
            None if groups is None else integer_labels(groups, f"{prefix}groups"),
            group_names,
        )
    return parts


def _names(arrays: dict[str, np.ndarray], key: str, codes: np.ndarray) -> tuple[str, ...]:
    if key in arrays:
        return tuple(str(name) for name in arrays[key])
    return tuple(str(code) for code in range(int(codes.max(initial=0)) + 1))


# --- a folder of images ------------------------------------------------------------------------------


def _folder(path: Path) -> dict[str, Data]:
    inside = {child.name for child in path.iterdir() if child.is_dir()}
    if "train" not in inside:
        return {"train": _class_folders(path, _class_names(path))}
    names = _class_names(path / "train")
    return {split: _class_folders(path / split, names) for split in ("train", "validation", "test") if split in inside}


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(child.name for child in path.iterdir() if child.is_dir()))
    if not names:
        raise InputError(f"{str(path)!r} has no folders: expected one a class, with the images in it")
    return names


def _class_folders(path: Path, class_names: tuple[str, ...]) -> Data:
    from PIL import Image, UnidentifiedImageError

    images, labels = [], []
    first = None
    for label, name in enumerate(class_names):
        for file in sorted((path / name).glob("*")):
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            try:
                with Image.open(file) as image:
                    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
            except (UnidentifiedImageError, OSError) as error:
                raise InputError(f"{str(file)!r} is truncated or no image ({error}): mend or remove it") from error
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            first = first or (file, pixels.shape)
            if pixels.shape != first[1]:
                raise InputError(
                    f"{str(file)!r} is {pixels.shape}, but {str(first[0])!r} is {first[1]}: "
                    "resize all images to one size and mode first"
                )
            images.append(pixels)
            labels.append(label)
    if not images:
        raise InputError(
            f"no images under {str(path)!r}: expected files ({', '.join(sorted(IMAGE_SUFFIXES))}) a class folder"
        )
    return Data(np.stack(images), np.array(labels, np.int32), class_names)


# --- TFDS --------------------------------------------------------------------------------------------


def _tfds(name: str, tfds_dir: str | None) -> dict[str, Data]:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    directory = tfds_dir or os.environ.get("TFDS_DATA_DIR")
    try:
        builder = tfds.builder(name, data_dir=directory)
    except DatasetNotFoundError as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        message = str(unknown("data", name, known)).split("choose from")[0]
        raise InputError(
            f"{message}give digits, a prepared TFDS name, an .npz file or a folder of images by class"
        ) from error
    if not builder.info.splits:
        where = f"data_dir={directory!r}" if directory else ""
        raise InputError(
            f"TFDS set {name!r} is not prepared under {builder.data_path.parent.parent}: prepare it once with "
            f'`python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, {where})'
            ".download_and_prepare(file_format='array_record')\"`, or set TFDS_DATA_DIR"
        )
    features = dict(builder.info.features or {})
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(isinstance(features.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"TFDS set {name!r} has features {list(features)}: expected an `image` and a class `label`")
    if (channels := features["image"].shape[-1]) not in MODES:
        raise InputError(f"TFDS set {name!r} has images of {channels} channels: expected 1 or 3")
    class_names = CLASS_NAMES.get(name, tuple(features["label"].names))
    if "train" not in builder.info.splits:
        raise InputError(f"TFDS set {name!r} has splits {list(builder.info.splits)}: expected `train`")
    return {
        split: _decoded(builder, split, class_names)
        for split in ("train", "validation", "test")
        if split in builder.info.splits
    }


MODES = {1: "L", 3: "RGB"}
"""Pillow's name for images of so many channels."""

CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""Names for sets whose prepared copies may carry only numbers."""


def cache_dir() -> Path:
    """Where decoded sets are kept: ``$RDD_CACHE``, or ``~/.cache/rdd_jax``."""
    return Path(os.environ.get("RDD_CACHE", Path.home() / ".cache" / "rdd_jax"))


def _decoded(builder, split: str, class_names: tuple[str, ...]) -> Data:
    """A TFDS split, decoded once; afterwards read from the cache."""
    info = builder.info.splits[split]
    stem = f"{builder.info.full_name.replace('/', '-')}-{split}-{info.num_examples}-{info.num_bytes}"
    file = cache_dir() / f"{stem}.npz"
    if not file.is_file():
        images, labels = _decode(builder, split)
        write_npz(file, images=images, labels=labels)
    arrays = read_npz(file)
    return Data(arrays["images"], arrays["labels"], class_names)


def _decode(builder, split: str, block: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds
    from PIL import Image

    source = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
    channels = builder.info.features["image"].shape[-1]
    mode = MODES[channels]
    images, labels = [], []
    for start in range(0, len(source), block):
        for record in source.__getitems__(list(range(start, min(start + block, len(source))))):
            with Image.open(io.BytesIO(record["image"])) as image:
                images.append(np.asarray(image.convert(mode)).reshape(image.height, image.width, channels))
            labels.append(int(record["label"]))
    if len({image.shape for image in images}) > 1:
        raise InputError(f"TFDS set {builder.name!r} has images of different sizes: resize them into an .npz first")
    return np.stack(images), np.array(labels, np.int32)


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    """``np.savez`` that either writes the whole file or leaves what was there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".npz.part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
