"""What a deliberately plain model makes of every example that it was not fitted to."""

import numpy as np
from jaxtyping import Float, Int

from rdd_jax.errors import InputError, at_least

__all__ = ["outputs", "squared_errors"]

BLOCK = 8192
"""Examples at a time: nothing of the size of the data is made in double precision."""


def outputs(
    points: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], classes: int, seed: int, ridge: float = 0.1
) -> Float[np.ndarray, "n k"]:
    r"""Out-of-fold ridge regression to centred one-hot labels, in two halves; the largest output is the prediction.

    The examples are dealt into two halves at random. With the points :math:`X` of one half and its labels
    :math:`Y = onehot - 1/k`, the other half :math:`Z` has the outputs

    .. math::
        Z (X^T X + \lambda I)^{-1} X^T Y, \qquad \lambda = ridge \cdot \mathrm{tr}(X^T X) / d .

    No example is told by a model that saw it, so that a loss says what is hard and not what was learned by heart.

    Args:
      points: features of the examples, such as `rdd_jax.grouping.kernel_map` gives.
      labels: ``0..classes-1``.
      seed: of the halves.
      ridge: as a fraction of the mean diagonal of the normal matrix; above 0.

    Raises:
      InputError: fewer than two examples, other labels than that, or no ridge.
    """
    n = len(points)
    at_least("examples of the reference", n, 2)
    if not ridge > 0:
        raise InputError(f"ridge is {ridge}: it must be above 0")
    if labels.shape != (n,) or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels have shape {labels.shape}: give {n} of them, in 0..{classes - 1}")
    half = np.random.default_rng(seed).permutation(n) % 2
    found = np.empty((n, classes), np.float32)
    for fold in (0, 1):
        fitted = _weights(points, labels, classes, np.flatnonzero(half == fold), ridge).astype(points.dtype)
        for rows in _blocks(np.flatnonzero(half != fold)):
            found[rows] = points[rows] @ fitted
    return found


def _weights(points: np.ndarray, labels: np.ndarray, classes: int, rows: np.ndarray, ridge: float) -> np.ndarray:
    """``[d, k]``: ridge regression on those examples."""
    d = points.shape[1]
    normal, moment = np.zeros((d, d)), np.zeros((d, classes))
    for block in _blocks(rows):
        x = points[block].astype(np.float64)
        normal += x.T @ x
        moment += x.T @ (np.eye(classes)[labels[block]] - 1 / classes)
    size = np.trace(normal) / d
    return np.linalg.solve(normal + ridge * (size or 1.0) * np.eye(d), moment)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]


def squared_errors(found: Float[np.ndarray, "n k"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    r"""The loss of every example: :math:`\sum_j (found_j - onehot_j + 1/k)^2`; ``1 - 1/k`` where nothing is known."""
    error = found + np.float32(1 / found.shape[1])
    error[np.arange(len(labels)), labels] -= 1
    return (error**2).sum(1)
