"""Groups that need no model: one a class, those that came with the data, the nearest synthetic image."""

import numpy as np

from rdd_jax.errors import InputError
from rdd_jax.grouping.base import Grouping, Groups, Subject
from rdd_jax.kmeans import assign

__all__ = ["given", "nearest", "single"]


def single() -> Grouping:
    """Every class is one group."""
    return Grouping(lambda seed, subject: Groups(np.zeros(len(subject.labels), np.int32), 1))


def given() -> Grouping:
    """The groups that came with the data: the reference that groupings without labels are measured against.

    Raises:
      InputError: the data has none.
    """

    def fit(seed: int, subject: Subject) -> Groups:
        if subject.given is None:
            raise InputError(
                "grouping 'labels' needs group labels and the training data has none: put `groups` into the .npz, "
                "choose a --shift, or a grouping that needs no labels (spurious+kmeans)"
            )
        return Groups(subject.given.astype(np.int32), int(subject.given.max()) + 1)

    return Grouping(fit, found=False)


def nearest(ipc: int) -> Grouping:
    """The synthetic image of the example's class that lies nearest in pixels: RDD's groups, without a network.

    Raises:
      InputError: on fitting, no synthetic set, or one that has not ``ipc`` images of every class in order.
    """

    def fit(seed: int, subject: Subject) -> Groups:
        if subject.synthetic is None or len(subject.synthetic.images) != ipc * subject.classes:
            raise InputError(f"grouping 'nearest' needs a synthetic set of {ipc} images of {subject.classes} classes")
        centres = np.asarray(subject.synthetic.images).reshape(subject.classes, ipc, -1)
        code = np.empty(len(subject.labels), np.int32)
        for c in range(subject.classes):
            members = np.flatnonzero(subject.labels == c)
            code[members] = np.asarray(assign(subject.images[members].reshape(len(members), -1), centres[c]))
        return Groups(code, ipc)

    return Grouping(fit, moves=True)
