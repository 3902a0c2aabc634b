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
from rdd_jax.progress import each

__all__ = ["clusters", "fine", "kmeans"]

CLUSTERS = 10
"""Of `clusters`, as many as RDD's Cluster-min has."""

RESTARTS = 3
"""Seedings of k-means: a small group is easily missed by one."""

PIECES = 10
"""Clusters that a class is cut into before they are joined; fewer where that leaves `LEAST_PIECE` examples a piece."""

LEAST_PIECE = 20
"""Pieces of fewer examples look apart by chance."""

GAP = 6.0
"""Ashman's D between groups: 2.7 between the halves of a normal distribution; an empty stretch between."""

FINE_PIECES, FINE_PIECE, FINE_GAP = 40, 135, 4.0
"""Of `fine`: pieces a class, more where those had above so many examples, and the gap. Set on training images alone:
with a smaller gap classes of CIFAR-10 and MNIST fall into hundreds of pieces, with one above 4.2 turned and rare digits
are joined to others."""

MOST_PIECES = 100
"""Cutting a class of 100,000 by `FINE_PIECE` would take minutes and give more groups than a risk can tell apart."""


def kmeans(
    features: Features | None = None,
    k: int | None = None,
    temperature: float = 0.0,
    gap: float = GAP,
    pieces: int = PIECES,
    largest: int | None = None,
) -> Grouping:
    r"""K-means clusters within every class.

    With ``k = None`` the number of groups is found, without any group label: a class is cut into ``pieces`` clusters,
    and clusters are joined again unless a gap lies between them, measured by Ashman's
    :math:`D = \sqrt2 |\mu_1 - \mu_2| / \sqrt{\sigma_1^2 + \sigma_2^2}` of the two along the line through their
    means (Ashman et al. 1994). The line is drawn by one half of the examples and the gap measured on the other, and
    the other way round, for in many dimensions a line through two means sets the points apart that drew it. Two
    halves of one normal distribution have ``D = 2.7``; ``gap = 6`` asks for an empty stretch between. Joining is
    transitive, so that a group may have any shape. Cutting finely first keeps small groups from hiding in large ones;
    our own derivation.

    Args:
      features: default `features.texture`.
      k: clusters a class.
      pieces: clusters that a class is cut into before they are joined, fewer where they would have under
        `LEAST_PIECE` examples; ``largest``: more, at most `MOST_PIECES`, where they would have above so many.
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
        finer = min(smallest // (largest or smallest), MOST_PIECES)
        count = k or max(1, min(max(pieces, finer), smallest // LEAST_PIECE))
        found = kmeans_within(jax.random.key(seed), points, labels, subject.classes, count, restarts=RESTARTS)
        code = np.array(found.assignment, np.int32)
        if temperature > 0:
            code = _draw(seed, points, np.asarray(found.centres), labels, temperature)
        if k is not None:
            return Groups(code, count)
        joined = np.empty_like(code)
        for c in each(range(subject.classes), lambda c: f"gaps in class {c + 1} of {subject.classes}"):
            joined[labels == c] = _merged(points[labels == c], code[labels == c], gap)
        return Groups(joined, count, pieces=code)

    return Grouping(fit, moves=temperature > 0)


def fine(features: Features | None = None) -> Grouping:
    """`kmeans` that cuts finer and joins sooner: for a view in which classes are compact, such as `learned.network`.

    There a rare part of a class is a small cluster near a large one, which ten pieces do not cut off.
    """
    return kmeans(features, gap=FINE_GAP, pieces=FINE_PIECES, largest=FINE_PIECE)


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
    """Clusters of one class, joined wherever no gap of ``gap`` lies between two of them."""
    k = int(code.max()) + 1
    part = np.arange(k)
    # Every second example of a cluster, so that both halves have of every cluster that has two.
    halves = [[points[code == j][start::2] for j in range(k)] for start in (0, 1)]
    means = [[own.mean(0) if len(own) else None for own in half] for half in halves]
    for i in range(k):
        for j in range(i):
            if part[i] == part[j] or not (code == i).any() or not (code == j).any():
                continue
            apart = [_gap(means[h][i], means[h][j], halves[1 - h][i], halves[1 - h][j]) for h in (0, 1)]
            if sum(apart) / 2 < gap:
                part[part == part[i]] = part[j]
    return np.unique(part, return_inverse=True)[1][code]


def _gap(mean: np.ndarray | None, other: np.ndarray | None, points: np.ndarray, others: np.ndarray) -> float:
    """Ashman's D of two clusters along the line through two means; 0 where there is nothing to tell it by."""
    if mean is None or other is None or not (len(points) and len(others)):
        return 0.0
    axis = mean - other
    a, b = points @ axis, others @ axis
    spread = np.sqrt(a.var() + b.var())
    return float(np.sqrt(2) * (a.mean() - b.mean()) / spread) if spread > 0 else float("inf")
