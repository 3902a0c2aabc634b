"""Groups that look different: k-means clusters, within every class or of all classes together."""

import jax
import numpy as np
from jaxtyping import Float, Int

from rdd_jax.contracts import Features
from rdd_jax.errors import at_least
from rdd_jax.grouping.base import Grouping, Groups, Subject
from rdd_jax.grouping.features import pixels, texture
from rdd_jax.kmeans import kmeans as kmeans_all
from rdd_jax.kmeans import kmeans_within

__all__ = ["clusters", "kmeans"]

CLUSTERS = 10
"""Of `clusters`, as many as RDD's Cluster-min has."""

RESTARTS = 3
"""Seedings of k-means: a small group is easily missed by one."""

PIECES = 10
"""Clusters that a class is cut into before they are joined; fewer where that leaves `LEAST_PIECE` examples a piece."""

LEAST_PIECE = 20
"""Pieces of fewer examples look apart by chance."""


def kmeans(
    features: Features | None = None, k: int | None = None, temperature: float = 0.0, gap: float = 6.0
) -> Grouping:
    r"""K-means clusters within every class.

    With ``k = None`` the number of groups is found, without any group label: a class is cut into `PIECES` clusters,
    and clusters are joined again unless a gap lies between them, measured by Ashman's
    :math:`D = \sqrt2 |\mu_1 - \mu_2| / \sqrt{\sigma_1^2 + \sigma_2^2}` of the two along the line through their
    means (Ashman et al. 1994). Two halves of one normal distribution have ``D = 2.7``; ``gap = 6`` asks for an empty
    stretch between. Joining is transitive, so that a group may have any shape. Cutting finely first keeps small groups
    from hiding in large ones; our own derivation.

    Args:
      features: default `features.texture`.
      k: clusters a class.
      temperature: above 0 the assignment is soft: each example's cluster is drawn with probability proportional to
        :math:`\exp(-d_j^2 / (2 T v))`, ``d_j`` the distance to centre ``j`` and ``v`` the mean squared distance to
        the nearest, anew whenever the grouping is refitted.

    Raises:
      InputError: ``k < 1``, ``temperature < 0``; on fitting, a class with fewer than ``k`` examples.
    """
    features = features or texture()
    if k is not None:
        at_least("groups_per_class", k, 1)
    at_least("temperature", temperature, 0)

    def fit(seed: int, subject: Subject) -> Groups:
        points, labels = subject.described(features), subject.labels
        smallest = int(np.bincount(labels, minlength=subject.classes).min())
        pieces = k or max(1, min(PIECES, smallest // LEAST_PIECE))
        found = kmeans_within(jax.random.key(seed), points, labels, subject.classes, pieces, restarts=RESTARTS)
        code = np.array(found.assignment, np.int32)
        if temperature > 0:
            code = _draw(seed, points, np.asarray(found.centres), labels, temperature)
        if k is None:
            for c in range(subject.classes):
                code[labels == c] = _merged(points[labels == c], code[labels == c], gap)
        return Groups(code, pieces)

    return Grouping(fit, moves=temperature > 0)


def _draw(seed: int, points: np.ndarray, centres: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    code = np.empty(len(points), np.int32)
    rng = np.random.default_rng(seed)
    for c, own in enumerate(centres):
        members = np.flatnonzero(labels == c)
        x = points[members]
        distance = np.maximum((x**2).sum(1)[:, None] - 2 * x @ own.T + (own**2).sum(1)[None, :], 0)
        scale = 2 * temperature * max(float(distance.min(1).mean()), 1e-12)
        code[members] = (rng.gumbel(size=distance.shape) - distance / scale).argmax(1)
    return code


def clusters(features: Features | None = None, k: int | None = None) -> Grouping:
    """K-means clusters of all classes together: groups that cut across the classes, as those of RDD's Cluster-min do.

    Args:
      features: default `features.pixels`.
      k: clusters; None: `CLUSTERS`.

    Raises:
      InputError: ``k < 1``; on fitting, fewer than ``k`` examples.
    """
    features, count = features or pixels, CLUSTERS if k is None else k
    at_least("groups_per_class", count, 1)

    def fit(seed: int, subject: Subject) -> Groups:
        found = kmeans_all(jax.random.key(seed), subject.described(features), count)
        return Groups(np.asarray(found.assignment, np.int32), count)

    return Grouping(fit)


def _merged(points: Float[np.ndarray, "n d"], code: Int[np.ndarray, " n"], gap: float) -> Int[np.ndarray, " n"]:
    """Clusters of one class, joined wherever no gap of `gap` lies between two of them."""
    k = int(code.max()) + 1
    part = np.arange(k)
    means = np.stack([points[code == j].mean(0) if (code == j).any() else np.zeros(points.shape[1]) for j in range(k)])
    for i in range(k):
        for j in range(i):
            axis = means[i] - means[j]
            a, b = points[code == i] @ axis, points[code == j] @ axis
            if not (a.size and b.size):
                continue
            if np.sqrt(2) * abs(a.mean() - b.mean()) < gap * np.sqrt(a.var() + b.var()):
                part[part == part[i]] = part[j]
    return np.unique(part, return_inverse=True)[1][code]
