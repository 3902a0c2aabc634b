"""Real data by name: the embedded digits, any TFDS set, an ``.npz`` file, a folder of images.

``load("digits" | TFDS name | path) -> Splits``. Readers own data-set names and paths; the rest of the library sees only
`Data`.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rdd_jax.datasets import digits, folder, npz, tfds
from rdd_jax.datasets.images import check_form, formed
from rdd_jax.datasets.preprocess import Prepared, Preprocess, prepare
from rdd_jax.datasets.splits import complete, stratified_split
from rdd_jax.errors import InputError
from rdd_jax.registry import Registry
from rdd_jax.types import Data, Splits

__all__ = ["READERS", "Prepared", "Preprocess", "load", "prepare", "stratified_split"]

READERS: Registry[dict[str, Data] | None] = Registry(
    "reader",
    {
        "digits": digits.read,
        "npz": npz.read,
        "folder": folder.read,
        "tfds": tfds.read,
    },
)
"""`rdd_jax.contracts.Reader`s, asked in this order; the first that knows the name reads it."""


def load(
    name: str | Path,
    seed: int = 0,
    resize: int | None = None,
    mode: str | None = None,
    groups_from: str | None = None,
    leave: Callable[[int], bool] = lambda size: False,
) -> Splits:
    """Loads a data set and splits it.

    A split that the source lacks is drawn with stratification and a fixed seed: validation is 10 % of
    train, and where there is no test either, test is 20 % of everything first.

    Args:
      name: ``digits`` (embedded in scikit-learn, 8x8 grey); a path to an ``.npz`` with ``images`` and
        ``labels`` (and optionally ``groups``, ``class_names``, ``group_names``, the same keys with
        the prefixes ``validation_`` and ``test_``, and ``mirror``, see `Data`; any split may lack groups; without names
        the codes that occur are numbered from 0, with an `InputWarning` where they were not, and are the names); a
        path to a folder with a folder of images a class (or ``train``, ``validation``, ``test`` folders of such);
        otherwise the name of a prepared TFDS image-classification set, such as ``mnist`` or ``cifar10``.
      seed: of the splits that have to be drawn.
      resize: the side of the square that images are cut and scaled to, which may then be of any sizes; None: they are
        of one size. See `rdd_jax.datasets.images.pixels_of`.
      mode: ``grey`` or ``rgb``; None: as they are, and of a folder with both RGB.
      groups_from: of a TFDS set: the feature that says the group of every image, a class or a whole number.
      leave: by the bytes of images, whether they are to stay in their file (`rdd_jax.arrays.Stored`), an ``.npz`` that
        is not compressed, or a copy that is decoded once into the cache. By default all are read into memory.

    Raises:
      InputError: the name is unknown, the set not prepared, the file missing, broken or not as above.
    """
    name = str(name)
    if not name.strip():
        raise InputError(f"data is {name!r}: give {KINDS}")
    check_form(resize, mode)
    try:
        parts = _read(name, resize, mode, groups_from, leave)
        source = Path(name).resolve()
        return complete(parts, source.stem if source.is_file() else source.name or name, seed)
    except OSError as error:
        raise InputError(f"data {name!r} cannot be read: {error}") from error


KINDS = "digits, a prepared TFDS name, an .npz file or a folder of images by class"


def _read(
    name: str, resize: int | None, mode: str | None, groups_from: str | None, leave: Callable[[int], bool]
) -> dict[str, Data]:
    """The splits that the source has."""
    if groups_from is not None:
        return _grouped(name, resize, mode, groups_from, leave)
    form = {"resize": resize, "mode": mode, "leave": leave}
    for kind in READERS:
        reader = READERS[kind]
        taken = {key: form[key] for key in form if key in inspect.signature(reader).parameters}
        if (parts := reader(name, **taken)) is not None:
            for split, part in parts.items():
                if (images := formed(part.images, resize, mode)) is not part.images:
                    parts[split] = replace(part, images=images)
            return parts
    if Path(name).exists():
        raise InputError(f"{name!r} cannot be read as data: give {KINDS} (unpack an archive; np.savez an array)")
    raise InputError(f"no data at {name!r}: no file or folder of that name, and no TFDS set; give {KINDS}")


def _grouped(
    name: str, resize: int | None, mode: str | None, groups_from: str, leave: Callable[[int], bool]
) -> dict[str, Data]:
    """The splits of a TFDS set, with groups."""
    other = name == "digits" or Path(name).suffix.lower() == ".npz" or Path(name).exists()
    parts = None if other else tfds.read(name, resize, mode, groups_from, leave)
    if parts is None:
        raise InputError(
            f"groups_from is {groups_from!r}, a feature of a TFDS set, and {name!r} is none: give one, or leave it out "
            "(an .npz has its groups under the key `groups`)"
        )
    return parts
