r"""How much every example counts where a robust risk over groups is least, of a convex model: ridge regression.

A robust risk over many small groups is noisy when it is estimated from a batch: the worst of hundreds of means of two
examples each is chance. Over all examples it is exact, and at its minimum it is a weighted mean. So a convex model on
all examples finds the weights, and whoever learns a set draws by them. Our own derivation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Part", "Reweighted", "reweighted", "solve"]

RIDGE = 1e-3
"""Of the mean diagonal of the normal matrix."""

ROUNDS = 8


class Part(NamedTuple):
    """Groups that a share of the risk is over.

    Attributes:
      cell: of every example, below ``size``; some may be empty.
      share: of the risk; those of all parts are 1 at most, the rest is the plain mean.
      sharpness: of the entropic risk over the cells, in 1 / loss.
    """

    cell: Int[np.ndarray, " n"]
    size: int
    share: float
    sharpness: float


class Reweighted(NamedTuple):
    """The model and what it was fitted to.

    Attributes:
      coefficients: of the regression.
      density: of every part, how often its share of the risk takes an example of each cell, over how often the mean
        does; 1 for cells without examples.
    """

    coefficients: Float[np.ndarray, "d k"]
    density: list[Float[np.ndarray, " c"]]

    def weight(self, parts: Sequence[Part]) -> Float[np.ndarray, " n"]:
        """Of examples in the cells of ``parts``, which may be others than those of the fit; about 1 in the mean."""
        return _weight(parts, self.density)


def reweighted(
    points: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"], parts: Sequence[Part]
) -> Reweighted:
    r"""Ridge regression under a robust risk over groups, and the weights of its examples.

    With the losses :math:`l_i = \tfrac12 \|W^T x_i - y_i\|^2` and their means :math:`l_g` in the cells ``g`` of part
    ``v``,

    .. math::
        \min_W \; (1 - \textstyle\sum_v s_v)\, \mathrm{mean}_i\, l_i
        + \sum_v s_v \tfrac1{t_v} \log \mathrm{mean}_g\, e^{t_v l_g} + \tfrac\lambda2 \|W\|^2 .

    The gradient is that of the mean of the losses with the weights

    .. math::
        w_i = 1 - \sum_v s_v + \sum_v s_v \frac{n}{n_g}\, q^v_g, \quad q^v_g \propto e^{t_v l_g},

    so the minimum is a fixed point of weighted ridge regression, with :math:`\lambda` `RIDGE` times the mean diagonal
    of its normal matrix. `ROUNDS` fits are made, after fit ``r`` from 0 on the share ``2 / (r + 3)`` of the way to the
    new ``q``, as in the method of Frank and Wolfe: whole steps would swing to and fro.
    """
    counts = [np.bincount(part.cell, minlength=part.size) for part in parts]
    tilts = [(count > 0) / np.sum(count > 0) for count in counts]

    def fitted() -> Reweighted:
        density = [
            np.where(count > 0, tilt * len(points) / np.maximum(count, 1), 1.0)
            for tilt, count in zip(tilts, counts, strict=True)
        ]
        return Reweighted(solve(points, targets, _weight(parts, density)), density)

    found = fitted()
    for turn in range(ROUNDS - 1):
        step = 2 / (turn + 3)
        loss = 0.5 * ((points @ found.coefficients - targets) ** 2).sum(1)
        for at, (part, count) in enumerate(zip(parts, counts, strict=True)):
            mean = np.bincount(part.cell, loss, minlength=part.size) / np.maximum(count, 1)
            tilt = np.where(count > 0, np.exp(part.sharpness * (mean - mean.max())), 0)
            tilts[at] = (1 - step) * tilts[at] + step * tilt / tilt.sum()
        found = fitted()
    return found


def _weight(parts: Sequence[Part], density: Sequence[np.ndarray]) -> Float[np.ndarray, " n"]:
    """How much every example counts under the plain mean and the parts, whose cells count so much."""
    rest = 1 - sum(part.share for part in parts)
    found = np.full(len(parts[0].cell), rest, np.float32)
    for part, own in zip(parts, density, strict=True):
        found += np.float32(part.share) * own[part.cell].astype(np.float32)
    return found


def solve(
    points: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "d k"]:
    """Ridge regression with weights, float32 sums and a float64 solution."""
    weighted = points * (weight / np.float32(len(points)))[:, None].astype(points.dtype)
    normal = (weighted.T @ points).astype(np.float64)
    ridge = RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.linalg.solve(normal + ridge, weighted.T @ targets).astype(points.dtype)
