"""Image-classification sets prepared for TensorFlow Datasets, read without TensorFlow, decoded once."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from rdd_jax.arrays import write_npz
from rdd_jax.checks import check_codes
from rdd_jax.datasets.decoded import cache_dir, from_cache, write_decoded
from rdd_jax.datasets.images import MODES, PILLOW, pixels_of
from rdd_jax.errors import InputError, T, unknown
from rdd_jax.progress import each
from rdd_jax.types import Data

__all__ = ["read"]


def read(
    name: str,
    resize: int | None = None,
    mode: str | None = None,
    groups_from: str | None = None,
    leave: Callable[[int], bool] = lambda size: False,
) -> dict[str, Data] | None:
    """The name of a prepared set, perhaps with a version (``mnist:3.0.1``); see `rdd_jax.contracts.Reader`.

    Sets are looked for in ``$TFDS_DATA_DIR``, or TFDS's own default.

    Args:
      resize, mode: see `rdd_jax.datasets.images.read_image`; without a size images must have one.
      groups_from: the feature that says the group of every image: a class, with its names, or a whole number, of which
        those that occur in any split are the names.
      leave: see `rdd_jax.datasets.load`.

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
    parts = {split: _decoded(builder, split, resize, mode, leave) for split in splits}
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


def _decoded(builder, split: str, resize: int | None, mode: str | None, leave: Callable[[int], bool]) -> Data:
    """A TFDS split, decoded once in every size and mode that is asked for; afterwards read from the cache."""

    def make(file: Path) -> None:
        source, labels = _source(builder, split), []
        pillow = MODES[mode] if mode else PILLOW[builder.info.features["image"].shape[-1]]
        images = _readable(builder, split, _decode(source, split, pillow, resize, labels))
        what = f"images of TFDS set {builder.name!r}"
        write_decoded(file, len(source), images, what, lambda: np.array(labels, np.int32))

    form = f"-{resize}x{resize}" * (resize is not None) + f"-{mode}" * (mode is not None)
    names = CLASS_NAMES.get(builder.name, tuple(builder.info.features["label"].names))
    with _cached(builder, split, form, ("images", "labels"), make, leave) as arrays:
        return Data(arrays["images"], arrays["labels"], names, mirror=builder.name not in CHARACTERS)


def _column(builder, split: str, feature: str) -> np.ndarray:
    """``[n]``: a feature of a TFDS split, kept in a file of its own: the images are kept once, whatever is asked."""

    def make(file: Path) -> None:
        records = _readable(builder, split, _records(_source(builder, split)))
        write_npz(file, values=np.array([int(record[feature]) for record in records], np.int64))

    with _cached(builder, split, f".{quote(feature, safe='')}", ("values",), make) as arrays:
        if (shape := arrays["values"].shape) != (builder.info.splits[split].num_examples,):
            raise InputError(f"values have shape {shape}: expected one an image")
        return arrays["values"]


@contextmanager
def _cached(
    builder,
    split: str,
    ending: str,
    keys: tuple[str, ...],
    make: Callable[[Path], None],
    leave: Callable[[int], bool] = lambda size: False,
) -> Iterator[dict[str, Any]]:
    """What ``make`` writes of a split, the second time from its file; see `from_cache`."""

    info = builder.info.splits[split]
    stem = f"{builder.info.full_name.replace('/', '-')}-{split}-{info.num_examples}-{info.num_bytes}"
    with from_cache(cache_dir() / f"{stem}{ending}.npz", keys, make, leave) as arrays:
        yield arrays


def _source(builder, split: str):
    import tensorflow_datasets as tfds

    return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})


def _records(source, block: int = 500) -> Iterator[dict]:
    """All records, so many read at a time."""
    count = len(source)
    for start in each(range(0, count, block), lambda start: f"{start:,} of {count:,} images"):
        yield from source.__getitems__(list(range(start, min(start + block, count))))


def _readable(builder, split: str, items: Iterator[T]) -> Iterator[T]:
    """The items of a split; raises `InputError` where they cannot be read."""
    try:
        yield from items
    except InputError:
        raise
    # Readers of records and of images raise many unrelated types for damaged bytes.
    except Exception as error:
        raise _damaged(builder.name, f"{builder.data_path}, split {split!r},", error) from error


def _decode(source, split: str, pillow: str, resize: int | None, labels: list[int]) -> Iterator[tuple[np.ndarray, str]]:
    """The images of a split, ``[h, w, c]``, ``uint8``, and their names; ``labels`` are filled on the way."""
    from PIL import Image

    for number, record in enumerate(_records(source)):
        with Image.open(io.BytesIO(record["image"])) as image:
            labels.append(int(record["label"]))
            yield pixels_of(image, pillow, resize), f"record {number} of {split}"
