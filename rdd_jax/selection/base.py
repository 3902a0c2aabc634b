"""What a selection looks at and gives: the pool, its strata, the chosen examples with their weights."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rdd_jax.choices import Selection, Strata
from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError, at_least, check_one_of
from rdd_jax.kernels import fc_ntk
from rdd_jax.pixels import Images, rows_of
from rdd_jax.types import centred_one_hot

__all__ = ["RIDGE", "STRATA", "Pool", "Selection", "Strata", "check_ipc", "strata_of"]

RIDGE = 1e-3
"""Default ridge of the regression that sensitivities are about, as a fraction of the Gram matrix's trace."""


@dataclass(frozen=True)
class Pool:
    """The real examples to choose from.

    Attributes:
      images: ``[n, h, w, c]`` in model space; ``labels``: ``[n]`` integers in ``0..classes-1``.
      groups: ``[n]`` integers, any numbering of the (class, group) cells; None where there are none.
      kernel: of the regression that the choice is for; any ``kernel(x1, x2) -> [n1, n2]``.
      ridge: of that regression, as a fraction of the trace of its Gram matrix over the pool.
      landmarks: 0: sensitivities are exact up to `sensitivity.EXACT` examples, and a bound from 1,000 landmarks beyond;
        otherwise always the bound, from so many.
    """

    images: Images
    labels: np.ndarray
    classes: int
    groups: np.ndarray | None = None
    kernel: Kernel = field(default_factory=fc_ntk)
    ridge: float = RIDGE
    landmarks: int = 0
    known: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `scores.sensitivity` and `described` have found out already."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def one_hot(self) -> Float[np.ndarray, "n k"]:
        """Centred one-hot labels."""
        return np.asarray(centred_one_hot(jnp.asarray(self.labels), self.classes))

    def described(self, features: Callable[[Images], np.ndarray]) -> np.ndarray:
        """``features(images)``, computed once however many selections ask."""
        if features not in self.known:
            self.known[features] = features(self.images)
        return self.known[features]

    def take(self, index: np.ndarray) -> "Pool":
        """The examples at ``index``."""
        groups = None if self.groups is None else self.groups[index]
        return replace(self, images=rows_of(self.images, index), labels=self.labels[index], groups=groups)


def check_ipc(labels: np.ndarray, ipc: int, class_names: tuple[str, ...]) -> None:
    """Raises `InputError` where ``ipc < 1`` or a class has fewer than ``ipc`` examples."""
    at_least("ipc", ipc, 1)
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < ipc:
        name = class_names[counts.argmin()]
        raise InputError(f"ipc is {ipc}, but class {name!r} has {counts.min()} training examples: lower ipc")


STRATA = ("class", "group", "all")


def strata_of(pool: Pool, what: str, ipc: int) -> Strata:
    """``ipc`` examples a class, drawn by class, evenly over the groups of a class, or from all together.

    By ``group`` every (class, group) cell gets the same number, what is left over goes to the largest; what a cell
    cannot give goes to the others of its class. With more cells than ``ipc`` the largest are covered.

    Raises:
      InputError: an unknown name; ``ipc < 1`` or beyond a class; ``group`` where the pool has no groups.
    """
    check_one_of("strata", what, STRATA)
    check_ipc(pool.labels, ipc, tuple(map(str, range(pool.classes))))
    if what == "all":
        return Strata(np.zeros(len(pool), int), np.array([ipc * pool.classes]))
    if what == "class":
        return Strata(pool.labels, np.full(pool.classes, ipc))
    if pool.groups is None:
        raise InputError("strata 'group' needs groups and there are none: choose a grouping, or strata 'class'")
    pairs = np.stack([pool.labels, pool.groups], 1)
    cells, code, size = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    count = np.zeros(len(cells), int)
    for c in range(pool.classes):
        own = np.flatnonzero(cells[:, 0] == c)
        count[own] = _even(size[own], ipc)
    return Strata(code.reshape(-1), count, apart=True)


def _even(size: np.ndarray, total: int) -> np.ndarray:
    """``total`` handed out one by one, each to the cell that has least so far, the largest first, while it has any."""
    count = np.zeros(len(size), int)
    for _ in range(total):
        open_ = np.flatnonzero(count < size)
        count[min(open_, key=lambda i: (count[i], -size[i]))] += 1
    return count
