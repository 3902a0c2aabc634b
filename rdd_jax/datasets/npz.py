"""Arrays of your own in an ``.npz``."""

from pathlib import Path

import numpy as np

from rdd_jax.errors import InputError
from rdd_jax.files import read_npz
from rdd_jax.types import Data

__all__ = ["integer_labels", "read"]


def read(name: str) -> dict[str, Data] | None:
    """An ``.npz`` with ``images`` and ``labels``, see `rdd_jax.datasets.load`; see `rdd_jax.contracts.Reader`."""
    path = Path(name)
    if path.suffix != ".npz":
        return None
    arrays = read_npz(path)
    if missing := [key for key in ("images", "labels") if key not in arrays]:
        raise InputError(f"{str(path)!r} has no {' and no '.join(missing)} (it has {', '.join(arrays) or 'nothing'})")
    labels = integer_labels(arrays["labels"], "labels")
    class_names = _names(arrays, "class_names", labels)
    # Of all splits together: only some may have groups.
    given = [key for key in ("groups", "validation_groups", "test_groups") if key in arrays]
    codes = [integer_labels(arrays[key], key) for key in given]
    group_names = _names(arrays, "group_names", np.concatenate(codes)) if codes else ()
    mirror = bool(arrays.get("mirror", True))
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
            mirror,
        )
    return parts


def _names(arrays: dict[str, np.ndarray], key: str, codes: np.ndarray) -> tuple[str, ...]:
    if key in arrays:
        return tuple(str(name) for name in arrays[key])
    return tuple(str(code) for code in range(int(codes.max(initial=0)) + 1))


def integer_labels(labels: np.ndarray, what: str) -> np.ndarray:
    """Labels ``[n]`` as int32; whole-numbered floats are taken, anything else refused."""
    if labels.ndim != 1:
        raise InputError(f"{what} have shape {labels.shape}: expected one integer an image")
    if np.issubdtype(labels.dtype, np.floating) and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{what} are {labels.dtype}: give one integer an image")
    return labels.astype(np.int32)
