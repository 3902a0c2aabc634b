"""Arrays of your own in an ``.npz``."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax.arrays import read_npz
from rdd_jax.checks import check_codes, whole_numbers
from rdd_jax.errors import InputError, InputWarning
from rdd_jax.types import Data

__all__ = ["read"]

PREFIXES = {"train": "", "validation": "validation_", "test": "test_"}


def read(name: str, leave: Callable[[int], bool] = lambda size: False) -> dict[str, Data] | None:
    """An ``.npz`` with ``images`` and ``labels``, see `rdd_jax.datasets.load`; see `rdd_jax.contracts.Reader`.

    Args:
      leave: see `rdd_jax.datasets.load`.

    Raises:
      InputError: arrays that do not fit together or cannot be read.
    """
    path = Path(name)
    if path.suffix.lower() != ".npz" or path.is_dir():
        return None
    kinds = ("images", "labels", "groups")
    optional = [prefix + kind for prefix in PREFIXES.values() for kind in kinds]
    known = [*optional, "class_names", "group_names", "mirror"]
    arrays = read_npz(path, ("images", "labels"), known, lambda key, size: key.endswith("images") and leave(size))
    for prefix in PREFIXES.values():
        has = [f"{prefix}{kind}" for kind in kinds if f"{prefix}{kind}" in arrays]
        if missing := [key for key in (f"{prefix}images", f"{prefix}labels") if has and key not in has]:
            raise InputError(f"{name!r} has {' and '.join(has)} but no {' and no '.join(missing)}")
    splits = {split: prefix for split, prefix in PREFIXES.items() if f"{prefix}images" in arrays}
    keys = [f"{prefix}labels" for prefix in splits.values()]
    labels, class_names = _numbered(name, arrays, keys, "class_names", ["labels"])
    given = [f"{prefix}groups" for prefix in splits.values() if f"{prefix}groups" in arrays]
    groups, group_names = _numbered(name, arrays, given, "group_names", given) if given else ({}, ())
    mirror = arrays.get("mirror", np.array(True))
    if mirror.shape or mirror.dtype.kind != "b":
        raise InputError(f"{name!r} has mirror {mirror.dtype} of shape {mirror.shape}: give True or False")
    return {
        split: Data(
            arrays[f"{prefix}images"],
            labels[f"{prefix}labels"],
            class_names,
            groups.get(f"{prefix}groups"),
            group_names,
            bool(mirror),
        )
        for split, prefix in splits.items()
    }


def _numbered(
    name: str, arrays: dict[str, Any], keys: list[str], names_key: str, known: list[str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The codes of all splits as ``0..k-1``, int32, and the names of those.

    With names, codes are indices into them. Without, the codes that occur under the keys ``known`` are numbered in
    their order, and are the names themselves; where they were not ``0..k-1`` already, that is said.
    """
    codes = {key: whole_numbers(arrays[key], key) for key in keys}
    if names_key in arrays:
        names = arrays[names_key]
        if names.ndim != 1 or names.dtype.kind not in "Uiu" or not len(names):
            raise InputError(f"{name!r} has {names_key} {names.dtype} of shape {names.shape}: give one text a code")
        for key, each in codes.items():
            if len(each):
                check_codes(key, each, len(each), len(names))
        return {key: each.astype(np.int32) for key, each in codes.items()}, tuple(str(one) for one in names)
    found = np.unique(np.concatenate([codes[key] for key in known]))
    if found.min(initial=0) < 0:
        raise InputError(f"{name!r}: {keys[0]} hold {found[0]}: number them from 0, and drop what has none")
    for key, each in codes.items():
        if (strange := np.setdiff1d(each, found)).size:
            raise InputError(f"{name!r}: {key} hold {strange[0]}, of which train has no example: drop or relabel them")
    if not np.array_equal(found, np.arange(len(found))):
        shown = ", ".join(map(str, found[:5])) + f", ... {found[-1]}" * (len(found) > 5)
        warnings.warn(
            f"{name!r} has {keys[0]} {shown}: taken as 0..{len(found) - 1}, with the old numbers as names",
            InputWarning,
            stacklevel=2,
        )
    numbered = {key: np.searchsorted(found, each).astype(np.int32) for key, each in codes.items()}
    return numbered, tuple(str(code) for code in found.tolist())
