"""Scores: how much each example matters to a cost, ``[n]``, not negative, float64."""

import jax
import numpy as np
from jaxtyping import Float

from rdd_jax.errors import InputError
from rdd_jax.grouping.features import sample
from rdd_jax.kernels.gram import ROWS, gram_trace, pad
from rdd_jax.kmeans import kmeans
from rdd_jax.pixels import Images, parts
from rdd_jax.selection.base import Pool
from rdd_jax.selection.sensitivity import (
    LANDMARKS,
    Sensitivity,
    from_landmarks,
    krr_sensitivity,
    krr_sensitivity_bound,
    sensitivity,
)

__all__ = [
    "Sensitivity",
    "check_scores",
    "kmeans_sensitivity",
    "krr_sensitivity",
    "krr_sensitivity_bound",
    "lightweight",
    "regression_loss",
    "relative_loss",
    "sensitivity",
]


def kmeans_sensitivity(points: Images, k: int, seed: int = 0) -> Float[np.ndarray, " n"]:
    r"""Upper bounds of the share that a point can have of the cost of any ``k`` centres.

    With centres ``B`` whose cost is at most :math:`a / 2` times the least, clusters :math:`P_b`, distances ``d`` and
    the mean cost ``c``,

    .. math::
        n s(p) \le a \frac{d(p, b)^2}{c} + \frac{2a}{|P_b|} \sum_{q \in P_b} \frac{d(q, b)^2}{c}
        + \frac{4n}{|P_b|}, \quad a = 16 (\log_2 k + 2),

    from :math:`d(p, Q)^2 \le 2 d(p, b)^2 + 2 d(b, Q)^2` and the mean of the same over the cluster (Bachem, Lucic &
    Krause 2017, *Practical Coreset Constructions for Machine Learning*). ``B`` is seeded by k-means++, which has that
    factor in expectation (Arthur & Vassilvitskii 2007), and bettered by Lloyd's iterations; of many points on a
    `features.sample` of them, for which alone the factor then is known.

    Args:
      points: ``[n, d]``.

    Raises:
      InputError: fewer points than ``k``.
    """
    from sklearn.cluster import kmeans_plusplus

    n = len(points)
    if n <= k:
        return np.ones(n)  # every point may be all that a query pays for
    some = np.ascontiguousarray(points[sample(*points.shape)], np.float32)
    seeds, _ = kmeans_plusplus(some, k, n_local_trials=1, random_state=seed)
    padded = pad(some, ROWS)  # with points that weigh nothing, so that few sizes are compiled
    found = kmeans(jax.random.key(seed), padded, k, (np.arange(len(padded)) < len(some)).astype(np.float32), seeds)
    centres = np.asarray(found.centres, np.float64)
    cluster, distance = np.empty(n, int), np.empty(n)
    for where, part in parts(points):
        apart = np.sum(centres**2, 1) - 2 * part @ centres.T
        cluster[where] = apart.argmin(1)
        distance[where] = np.sum((part - centres[cluster[where]]) ** 2, 1)
    size, cost = np.bincount(cluster, minlength=k), np.bincount(cluster, distance, minlength=k)
    a = 16 * (np.log2(k) + 2)
    mean = distance.mean()
    relative = np.zeros(n) if mean == 0 else a * distance / mean + 2 * a * (cost / np.maximum(size, 1) / mean)[cluster]
    return np.minimum(relative / n + 4 / size[cluster], 1)


def lightweight(points: Images) -> Float[np.ndarray, " n"]:
    r""":math:`q(p) = \frac{1}{2n} + \frac{d(p, \mu)^2}{2 \sum_q d(q, \mu)^2}` about the mean; sums to 1.

    ``16 q`` bounds the share of a point in the mean of the costs of any ``k`` centres and of the mean alone (Bachem,
    Lucic & Krause 2018, *Scalable k-Means Clustering via Lightweight Coresets*).
    """
    n = len(points)
    mean = np.sum([part.sum(0, dtype=np.float64) for _, part in parts(points)], 0) / n
    distance = np.concatenate([np.sum((part - mean) ** 2, 1, dtype=np.float64) for _, part in parts(points)])
    total = distance.sum()
    far = distance / total if total > 0 else np.full(n, 1 / n)
    return 0.5 / n + 0.5 * far


def regression_loss(pool: Pool, seed: int = 0) -> Float[np.ndarray, " n"]:
    """The squared error of every example under the regression on ``LANDMARKS`` random ones, itself left out."""
    z = min(pool.landmarks or LANDMARKS, len(pool))
    ridge = pool.ridge * gram_trace(pool.kernel, pool.images) * z / len(pool)
    chosen = np.random.default_rng(seed).permutation(len(pool))[:z]
    return from_landmarks(pool.kernel, pool.images, pool.one_hot.astype(np.float64), ridge, chosen)[1]


def relative_loss(losses: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """``l_i / sum l``; even where all losses are zero.

    Raises:
      InputError: losses that are negative or not finite.
    """
    losses = np.asarray(losses, np.float64)
    check_scores("losses", losses)
    total = losses.sum()
    return losses / total if total > 0 else np.full(len(losses), 1 / len(losses))


def check_scores(what: str, values: np.ndarray) -> None:
    """Raises `InputError` where one is negative, NaN or infinite."""
    bad = ~((values >= 0) & (values < np.inf))
    if bad.any():
        raise InputError(
            f"{what} hold {values[bad][0]:g} (and {bad.sum() - 1} more): none may be negative or not finite"
        )
