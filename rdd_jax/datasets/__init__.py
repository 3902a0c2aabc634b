"""Real data by name: the embedded digits, any TFDS set, an ``.npz`` file, a folder of images.

``load("digits" | TFDS name | path) -> Splits``. Readers own data-set names and paths; the rest of the library sees only
`Data`.
"""

from pathlib import Path

from rdd_jax.datasets import digits, folder, npz, tfds
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


def load(name: str, seed: int = 0) -> Splits:
    """Loads a data set and splits it.

    A split that the source lacks is drawn with stratification and a fixed seed: validation is 10 % of
    train, and where there is no test either, test is 20 % of everything first.

    Args:
      name: ``digits`` (embedded in scikit-learn, 8x8 grey); a path to an ``.npz`` with ``images`` and
        ``labels`` (and optionally ``groups``, ``class_names``, ``group_names``, the same keys with
        the prefixes ``validation_`` and ``test_``, and ``mirror``, see `Data`; any split may lack groups); a path to a
        folder with a folder of images a class (or ``train``, ``validation``, ``test`` folders of such); otherwise the
        name of a prepared TFDS image-classification set, such as ``mnist`` or ``cifar10``.
      seed: of the splits that have to be drawn.

    Raises:
      InputError: the name is unknown, the set not prepared, the file missing, broken or not as above.
    """
    for kind in READERS:
        if (parts := READERS[kind](name)) is not None:
            return complete(parts, Path(name).stem or name, seed)
    raise InputError(f"no data at {name!r}: there is no such folder, and files must end in .npz")
