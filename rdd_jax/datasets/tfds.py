"""Image-classification sets prepared for TensorFlow Datasets, read without TensorFlow, decoded once."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np

from rdd_jax.checks import check_codes
from rdd_jax.datasets.images import MODES, PILLOW, Stack, pixels_of
from rdd_jax.errors import InputError, unknown
from rdd_jax.files import read_npz, write_npz
from rdd_jax.progress import each
from rdd_jax.types import Data

__all__ = ["cache_dir", "read"]


def read(
    name: str, resize: int | None = None, mode: str | None = None, groups_from: str | None = None
) -> dict[str, Data] | None:
    """The name of a prepared set, perhaps with a version (``mnist:3.0.1``); see `rdd_jax.contracts.Reader`.

    Sets are looked for in ``$TFDS_DATA_DIR``, or TFDS's own default.

    Args:
      resize, mode: see `rdd_jax.datasets.images.read_image`; without a size images must have one.
      groups_from: the feature that says the group of every image: a class, with its names, or a whole number, of which
        those that occur in any split are the names.

    Raises:
      InputError: a set that cannot be read, or has no such feature.
    """
    if not NAME.fullmatch(name):
        return None
    builder = _builder(name)
    _check_features(builder)
    if groups_from is not None:
        _check_groups(builder, groups_from)
    splits = [split for split in ("train", "validation", "test") if split in builder.info.splits]
    parts = {split: _decoded(builder, split, resize, mode) for split in splits}
    return parts if groups_from is None else _grouped(builder, parts, groups_from)


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(:\d+\.\d+\.\d+)?")


def _builder(name: str):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    directory = os.environ.get("TFDS_DATA_DIR")
    folder = Path(directory or tfds.core.constants.DATA_DIR) / name.partition(":")[0].lower()
    try:
        builder = tfds.builder(name, data_dir=directory)
    # TFDS raises many unrelated types for a version that is not there and for files that are damaged.
    except Exception as error:
        if isinstance(error, DatasetNotFoundError) and not folder.is_dir():
            known = ["digits", *tfds.list_builders(with_community_datasets=False)]
            message = str(unknown("data", name, known)).split("choose from")[0]
            raise InputError(
                f"{message}give digits, a prepared TFDS name, an .npz file or a folder of images by class"
            ) from error
        broken = next((file for file in sorted(folder.rglob("*.json")) if not _is_json(file)), folder)
        raise _damaged(name, str(broken), error) from error
    if not builder.info.splits:
        where = f", data_dir={directory!r}" if directory else ""
        raise InputError(
            f"TFDS set {name!r} is not prepared under {builder.data_path.parent.parent}: prepare it once with "
            f'`python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}{where})'
            ".download_and_prepare(file_format='array_record')\"`, or set TFDS_DATA_DIR"
        )
    return builder


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except ValueError:
        return False
    return True


def _damaged(name: str, where: str, error: Exception, most: int = 200) -> InputError:
    told = " ".join(str(error).split())[:most] or type(error).__name__
    return InputError(f"TFDS set {name!r} cannot be read: {where} lacks what is asked for, or is damaged ({told})")


CLASS_NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""Names for sets whose prepared copies may carry only numbers."""

CHARACTERS = frozenset(
    {"binarized_mnist", "cmaterdb", "emnist", "kmnist", "mnist", "mnist_corrupted", "omniglot", "svhn_cropped"}
)
"""Sets of digits and letters: mirrored, most are something else."""


def cache_dir() -> Path:
    """Where decoded sets are kept, and what is compiled: ``$RDD_CACHE``, or ``~/.cache/rdd_jax``.

    Raises:
      RuntimeError: neither that nor a home is known.
    """
    return Path(os.environ.get("RDD_CACHE") or Path.home() / ".cache" / "rdd_jax")


def _check_features(builder) -> None:
    import tensorflow_datasets as tfds

    name, features = builder.name, dict(builder.info.features or {})
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(isinstance(features.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"TFDS set {name!r} has features {list(features)}: expected an `image` and a class `label`")
    if (channels := features["image"].shape[-1]) not in PILLOW:
        raise InputError(f"TFDS set {name!r} has images of {channels} channels: expected 1 or 3")
    if "train" not in builder.info.splits:
        raise InputError(f"TFDS set {name!r} has splits {list(builder.info.splits)}: expected `train`")


def _check_groups(builder, feature: str) -> None:
    """Raises `InputError` unless the set has that feature, one whole number an image."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    if feature not in features or feature == "image":
        raise unknown("groups_from", feature, sorted(set(features) - {"image"}))
    kind = features[feature]
    is_code = isinstance(kind, tfds.features.Tensor) and kind.shape == () and np.dtype(kind.np_dtype).kind in "biu"
    if not is_code:
        raise InputError(
            f"groups_from is {feature!r}, which TFDS set {builder.name!r} has as {type(kind).__name__}: give a feature "
            "of classes or whole numbers"
        )


def _grouped(builder, parts: dict[str, Data], feature: str) -> dict[str, Data]:
    """The splits with the feature's values as groups."""
    import tensorflow_datasets as tfds

    values = {split: _column(builder, split, feature) for split in parts}
    kind = builder.info.features[feature]
    if isinstance(kind, tfds.features.ClassLabel):
        names = tuple(kind.names)
    else:
        found = np.unique(np.concatenate([*values.values()]))
        values = {split: np.searchsorted(found, codes) for split, codes in values.items()}
        names = tuple(map(str, found.tolist()))
    for split, codes in values.items():
        check_codes(f"feature {feature!r} of split {split!r}", codes, len(parts[split]), len(names))
    return {
        split: replace(part, groups=values[split].astype(np.int32), group_names=names) for split, part in parts.items()
    }


def _decoded(builder, split: str, resize: int | None, mode: str | None) -> Data:
    """A TFDS split, decoded once in every size and mode that is asked for; afterwards read from the cache."""

    def make() -> dict[str, np.ndarray]:
        images, labels = _decode(builder, split, resize, mode)
        return {"images": images, "labels": labels}

    form = f"-{resize}x{resize}" * (resize is not None) + f"-{mode}" * (mode is not None)
    names = CLASS_NAMES.get(builder.name, tuple(builder.info.features["label"].names))
    with _cached(builder, split, form, ("images", "labels"), make) as arrays:
        return Data(arrays["images"], arrays["labels"], names, mirror=builder.name not in CHARACTERS)


def _column(builder, split: str, feature: str) -> np.ndarray:
    """``[n]``: a feature of a TFDS split, kept in a file of its own: the images are kept once, whatever is asked."""

    def make() -> dict[str, np.ndarray]:
        source = _source(builder, split)
        return {"values": np.array([int(record[feature]) for record in _records(source)], np.int64)}

    with _cached(builder, split, f".{quote(feature, safe='')}", ("values",), make) as arrays:
        if (shape := arrays["values"].shape) != (builder.info.splits[split].num_examples,):
            raise InputError(f"values have shape {shape}: expected one an image")
        return arrays["values"]


@contextmanager
def _cached(
    builder, split: str, ending: str, keys: tuple[str, ...], make: Callable[[], dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """What ``make`` makes of a split, the second time from a file; what is wrong with it in the block names that."""
    info = builder.info.splits[split]
    stem = f"{builder.info.full_name.replace('/', '-')}-{split}-{info.num_examples}-{info.num_bytes}"
    file = cache_dir() / f"{stem}{ending}.npz"
    if not file.is_file():
        _write(file, builder, split, make)
    try:
        yield read_npz(file, keys)
    except InputError as error:
        raise InputError(f"{error}; {str(file)!r} is a decoded copy: remove it, and it is made again") from error


def _write(file: Path, builder, split: str, make: Callable[[], dict[str, np.ndarray]]) -> None:
    """Writes what is made, which is let go then: what is read afterwards is the one copy."""
    try:
        arrays = make()
    except InputError:
        raise
    # Readers of records and of images raise many unrelated types for damaged bytes.
    except Exception as error:
        raise _damaged(builder.name, f"{builder.data_path}, split {split!r},", error) from error
    write_npz(file, **arrays)


def _source(builder, split: str):
    import tensorflow_datasets as tfds

    return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})


def _records(source, block: int = 500) -> Iterator[dict]:
    """All records, so many read at a time."""
    count = len(source)
    for start in each(range(0, count, block), lambda start: f"{start:,} of {count:,} images"):
        yield from source.__getitems__(list(range(start, min(start + block, count))))


def _decode(builder, split: str, resize: int | None, mode: str | None) -> tuple[np.ndarray, np.ndarray]:
    """``[n, h, w, c]``, ``uint8``, and ``[n]``: the images and labels of a split."""
    from PIL import Image

    source = _source(builder, split)
    pillow = MODES[mode] if mode else PILLOW[builder.info.features["image"].shape[-1]]
    stack, labels = Stack(len(source), f"images of TFDS set {builder.name!r}"), []
    for number, record in enumerate(_records(source)):
        with Image.open(io.BytesIO(record["image"])) as image:
            stack.add(pixels_of(image, pillow, resize), f"record {number} of {split}")
        labels.append(int(record["label"]))
    return stack.images, np.array(labels, np.int32)
