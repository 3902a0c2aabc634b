"""Splits that a source lacks are drawn: stratified, by seed."""

import numpy as np

from rdd_jax.errors import InputError
from rdd_jax.types import Data, Splits

__all__ = ["TEST_FRACTION", "VALIDATION_FRACTION", "complete", "stratified_split"]

VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2


def complete(parts: dict[str, Data], name: str, seed: int) -> Splits:
    """The three splits from those that a source has; raises `InputError` where they do not fit together."""
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
