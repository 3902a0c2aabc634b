"""Groups that need no model: one a class, those that came with the data or a file, the nearest synthetic image."""

from pathlib import Path

import numpy as np

from rdd_jax.arrays import read_npz
from rdd_jax.checks import whole_numbers
from rdd_jax.errors import InputError
from rdd_jax.grouping.base import Grouping, Groups, Subject
from rdd_jax.kmeans import assign
from rdd_jax.pixels import flat, parts, rows_of

__all__ = ["from_file", "given", "is_file", "listed", "nearest", "single", "split_names"]


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
                "choose a --shift, or a grouping that needs no labels (discovered)"
            )
        return Groups(subject.given.astype(np.int32), int(subject.given.max()) + 1)

    return Grouping(fit, found=False)


def listed(
    codes: np.ndarray, labels: np.ndarray | None = None, where: str = "codes", weights: np.ndarray | None = None
) -> Grouping:
    """The groups ``codes [n]``, one for every training example in its order; as `given`, they are never merged.

    Args:
      labels: of the examples that the codes were made for; where they are given, those of the subject must be the same.
      where: what the codes are called in messages.
      weights: ``[n]``, at least 0 and about 1 in the mean: how much every example counts, where that protects the
        groups, as with `discovered`.

    Raises:
      InputError: codes that are no integers from 0 on, or are above ``n - 1``; weights of another length, below 0, all
        0 or not finite; on fitting, another number of examples, or other labels.
    """
    code = whole_numbers(codes, where)
    n = len(code)
    if n == 0 or code.min() < 0:
        raise InputError(f"{where} hold {code.min() if n else 'nothing'}: give a number from 0 on for every example")
    if code.max() >= n:
        raise InputError(f"{where} hold {code.max()}, but there are {n} of them: number the groups from 0 on")
    weight = None if weights is None else _checked(np.asarray(weights), n, where)
    groups = Groups(code.astype(np.int32), int(code.max()) + 1, weight=weight)

    def fit(seed: int, subject: Subject) -> Groups:
        if n != len(subject.labels):
            raise InputError(
                f"{where} are {n}, but there are {len(subject.labels)} training examples: give one for each, in the "
                "order of train"
            )
        if labels is not None and not np.array_equal(labels, subject.labels):
            raise InputError(
                f"{where} were made for examples of other classes than these, in this order: give the same data, "
                "--seed and --shift"
            )
        return groups

    return Grouping(fit, found=False)


def _checked(weights: np.ndarray, n: int, where: str) -> np.ndarray:
    """Weights ``[n]`` as float32."""
    if weights.shape != (n,) or weights.dtype.kind not in "iuf":
        raise InputError(
            f"weights beside {where} are {weights.dtype} of shape {weights.shape}: give a number for each of the {n}"
        )
    if (wrong := weights[~((weights >= 0) & (weights <= np.finfo(np.float32).max))]).size or not weights.any():
        found = f"{wrong[0]:g}" if wrong.size else "only 0"
        raise InputError(f"weights beside {where} hold {found}: give finite numbers, 0 or more and about 1 in the mean")
    return weights.astype(np.float32)


def from_file(path: Path) -> Grouping:
    """The groups that an ``.npz`` has under ``codes``, such as ``rdd groups`` writes; see `listed`.

    ``labels``, where it has them, are the classes that the examples must have, and ``weights`` how much they count.

    Raises:
      InputError: no such file, one that is damaged or has no codes, and what `listed` raises.
    """
    arrays = read_npz(path, ("codes",), ("labels", "weights"))
    labels = arrays.get("labels")
    if labels is not None:
        labels = whole_numbers(labels, f"labels of {str(path)!r}")
    return listed(arrays["codes"], labels, f"codes of {str(path)!r}", arrays.get("weights"))


def is_file(name: str) -> bool:
    """Whether the name of a grouping means a file: it ends in ``.npz``."""
    return name.lower().endswith(".npz")


def split_names(names: str) -> list[str]:
    """The parts of a product such as ``"spurious+kmeans"``; a plus within the path of a file is one of the path.

    >>> split_names("kmeans + /data/c++/mine.npz+spurious")
    ['kmeans', '/data/c++/mine.npz', 'spurious']
    """
    parts: list[str] = []
    for piece in names.split("+"):
        if parts and "/" in parts[-1] and not is_file(parts[-1].strip()):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return [part.strip() for part in parts]


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
            points = flat(rows_of(subject.images, members))
            for where, part in parts(points):
                code[members[where]] = np.asarray(assign(part, centres[c]))
        return Groups(code, ipc)

    return Grouping(fit, moves=True)
