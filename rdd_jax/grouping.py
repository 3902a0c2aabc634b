r"""Groupings: which examples of a class belong together, so that a risk can protect every group.

A grouping looks at the training data, never at the given groups unless it is `given`, and numbers the groups *within
every class*: ``fit(seed, subject) -> Groups(code [n], size)`` with codes ``0..size-1``. The subgroups that a risk
sees are the **(class, group) cells**; `cells` numbers them. Groupings whose ``moves`` is true
look at the synthetic set and are fitted again as it moves.

`spurious` is the one that finds hidden groups best where a class and an attribute go together (a colour, a style);
`kmeans` finds groups that merely look different (inverted images); ``product(spurious(), kmeans())`` finds both and is
what ``--robust`` uses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from rdd_jax.errors import InputError, at_least, unknown
from rdd_jax.features import Features, kernel_map, pixels, texture
from rdd_jax.kernels.fully_connected import fc_ntk
from rdd_jax.kmeans import assign, kmeans_within
from rdd_jax.kmeans import kmeans as kmeans_all
from rdd_jax.types import Synthetic


@dataclass(frozen=True)
class Subject:
    """What a grouping may look at.

    Attributes:
      images: ``[n, h, w, c]`` in model space; ``labels``: ``[n]`` integers in ``0..classes-1``.
      given: ``[n]`` integers, the groups that came with the data, or None.
      synthetic: the set as it is now; None where there is none yet.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    given: np.ndarray | None = None
    synthetic: Synthetic | None = None
    _described: dict[Features, np.ndarray] = field(default_factory=dict, repr=False)

    def described(self, features: Features) -> np.ndarray:
        """``features(images)``, computed once however many groupings ask, and again after ``replace``."""
        if features not in self._described:
            self._described[features] = features(self.images)
        return self._described[features]


class Groups(NamedTuple):
    """A group ``0..size-1`` within its class for every example."""

    code: Int[np.ndarray, " n"]
    size: int


class Grouping(NamedTuple):
    """A way of grouping.

    Attributes:
      moves: whether it depends on the synthetic set, or is drawn anew every time.
      found: whether its groups are guesses, of which tiny ones had better be merged; False for given ones.
    """

    fit: Callable[[int, Subject], Groups]
    moves: bool = False
    found: bool = True


def cells(
    groups: Groups, labels: np.ndarray, classes: int, least: float = 0.005, count: int = 0
) -> tuple[Int[np.ndarray, " n"], int]:
    """``(cell [n], count)``: the (class, group) cell of every example, and how many there are: as many of each class.

    Groups of a class that hold less than the share ``least`` of it are merged: with one another if together they hold
    that much, otherwise into the largest. A handful of examples that a grouping got wrong would else weigh as much as
    a real group. Class ``c`` has the cells from ``c * count / classes`` on, as many as the most groups of any class;
    those with examples come first, in the order of their codes. (Most codes of a `product` have none, but batches and
    distances are dealt out by cell.)

    Args:
      count: the least number of cells.

    Raises:
      InputError: ``least`` outside [0, 1).
    """
    check_least(least)
    code, size = np.empty(len(labels), np.int32), -(-count // classes)
    for c in range(classes):
        members = np.flatnonzero(labels == c)
        own = groups.code[members]
        counts = np.bincount(own, minlength=groups.size)
        small = (counts > 0) & (counts < least * len(members))
        if small.any():
            enough = counts[small].sum() >= least * len(members)
            own = np.where(small[own], np.flatnonzero(small)[0] if enough else counts.argmax(), own)
        found, code[members] = np.unique(own, return_inverse=True)
        size = max(size, len(found))
    return (labels * size + code).astype(np.int32), classes * size


def check_least(least: float) -> None:
    """Raises `InputError` where ``least`` is outside [0, 1)."""
    if not 0 <= least < 1:
        raise InputError(f"min_group is {least}: it is a share of a class, at least 0 and below 1")


RESTARTS = 3
"""Seedings of k-means: a small group is easily missed by one."""

PIECES = 10
"""Clusters that a class is cut into before they are joined; fewer where that leaves `LEAST_PIECE` examples a piece."""

LEAST_PIECE = 20
"""Pieces of fewer examples look apart by chance."""


# --- members -----------------------------------------------------------------------------------------


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


def clusters(features: Features | None = None, k: int = 10) -> Grouping:
    """K-means clusters of all classes together: groups that cut across the classes, as those of RDD's Cluster-min do.

    Args:
      features: default `features.pixels`.

    Raises:
      InputError: ``k < 1``; on fitting, fewer than ``k`` examples.
    """
    features = features or pixels
    at_least("groups_per_class", k, 1)

    def fit(seed: int, subject: Subject) -> Groups:
        found = kmeans_all(jax.random.key(seed), subject.described(features), k)
        return Groups(np.asarray(found.assignment, np.int32), k)

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


def predicted(features: Features | None = None, rounds: int = 0) -> Grouping:
    """The class that a deliberately simple model predicts, cross-fitted: what an example is *mistaken for*.

    The model is ridge regression on 500 Nyström features of an NTK on ``features`` (default `features.texture`), too
    weak to learn the class where an easier attribute goes with it. ``rounds`` of self-training fit it to its own
    predictions again; see `spurious`.
    """
    features = features or texture()
    at_least("rounds", rounds, 0)

    def fit(seed: int, subject: Subject) -> Groups:
        code, _ = _self_train(subject.described(features), subject.labels, subject.classes, seed, rounds)
        return Groups(code, subject.classes)

    return Grouping(fit)


def errors(features: Features | None = None) -> Grouping:
    """Two groups a class: what the model of `predicted` gets right and wrong (the idea of JTT, Liu et al. 2021)."""
    base = predicted(features)

    def fit(seed: int, subject: Subject) -> Groups:
        return Groups((base.fit(seed, subject).code != subject.labels).astype(np.int32), 2)

    return Grouping(fit)


def spurious(features: Features | None = None, rounds: int = 6, cut: float = 0.98) -> Grouping:
    r"""The values of the attribute that stands in for the class, found by self-training; our own derivation.

    1. A model that sees only `features.texture` is fitted to the classes and predicts every example, cross-fitted.
       Where an attribute goes with the class, the rare examples are mistaken for the class that their attribute
       belongs to.
    2. It is fitted to *its own predictions* again, ``rounds - 1`` times. The attribute explains them better than the
       class does, so the predictions turn from noisy classes into clean values of the attribute.
    3. The flow :math:`F_{ij}` counts examples that moved from prediction ``i`` to ``j`` in the last three rounds.
       Values that are really apart keep their examples; a boundary without a gap leaks. The eigenvalues above ``cut``
       of the symmetric random walk :math:`D^{-1/2} (F + F^T) D^{-1/2}` count the parts that do not leak, and k-means
       of its eigenvectors joins predictions into them. A single part means that no such attribute was found: every
       class stays one group.

    The ten colours of coloured MNIST are nine or ten parts, the two styles of CIFAR10-S two, plain CIFAR-10 is one: the
    number is found, not given. No group label is used.

    Args:
      features: default `features.texture`, which hardly sees shape; what it sees decides what can be found.
      rounds: of fitting, at least 3.
    """
    features = features or texture()
    at_least("rounds", rounds, 3)

    def fit(seed: int, subject: Subject) -> Groups:
        code, flow = _self_train(subject.described(features), subject.labels, subject.classes, seed, rounds - 1)
        part = _parts(flow, cut, seed)
        return Groups(part[code], int(part.max()) + 1)

    return Grouping(fit)


def product(*groupings: Grouping) -> Grouping:
    """Examples are together where all groupings put them together."""

    def fit(seed: int, subject: Subject) -> Groups:
        code, size = np.zeros(len(subject.labels), np.int32), 1
        for grouping in groupings:
            found = grouping.fit(seed, subject)
            code, size = code * found.size + found.code, size * found.size
        return Groups(code, size)

    return Grouping(fit, any(g.moves for g in groupings), any(g.found for g in groupings))


# --- self-training -----------------------------------------------------------------------------------

RIDGE = 0.1
"""Of the simple model, as a fraction of the mean diagonal of its normal matrix."""


def _self_train(
    points: Float[np.ndarray, "n d"], labels: np.ndarray, classes: int, seed: int, rounds: int
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "k k"]]:
    """``(code [n], flow [k, k])``: predictions after ``rounds`` of self-training, and what moved in the last three."""
    mapped = kernel_map(fc_ntk(), seed=seed)(points[:, None, None, :])
    fold = np.random.default_rng([seed, 1]).permutation(len(labels)) % 2
    # Everything that does not depend on the targets, once: every round is then two small products.
    halves = [mapped[fold == f] for f in (0, 1)]
    solvers = []
    for half in halves:
        normal = (half.T @ half).astype(np.float64)
        ridge = RIDGE * np.trace(normal) / len(normal)
        solvers.append(np.linalg.inv(normal + ridge * np.eye(len(normal))))
    code, flow = labels.astype(np.int32), np.zeros((classes, classes))
    for step in range(rounds + 1):
        new = np.empty_like(code)
        for f, half in enumerate(halves):
            target = np.eye(classes, dtype=np.float32)[code[fold == f]] - 1 / classes
            new[fold != f] = (halves[1 - f] @ (solvers[f] @ (half.T @ target)).astype(np.float32)).argmax(1)
        if step > rounds - 3:
            np.add.at(flow, (code, new), 1)
        code = new
    return code, flow


def _parts(flow: Float[np.ndarray, "k k"], cut: float, seed: int) -> Int[np.ndarray, " k"]:
    """The part that each prediction belongs to; see `spurious`."""
    both = flow + flow.T
    live = np.flatnonzero(both.sum(1) > 1e-3 * both.sum())  # values that self-training has given up
    both = both[np.ix_(live, live)]
    degree = both.sum(1)
    values, vectors = np.linalg.eigh(both / np.sqrt(degree[:, None] * degree[None, :]))
    count = int(np.sum(values > cut))
    part = np.zeros(len(flow), np.int32)
    if count > 1:
        points = (vectors[:, -count:] / np.sqrt(degree / degree.sum())[:, None]).astype(np.float32)
        same = np.zeros(len(live), np.int32)
        part[live] = kmeans_within(jax.random.key(seed), points, same, 1, count, restarts=RESTARTS).assignment
    return part


# --- names -------------------------------------------------------------------------------------------

GROUPINGS = ("none", "class", "labels", "kmeans", "clusters", "nearest", "predicted", "errors", "spurious")


def grouping_by_name(
    name: str, features: Features, ipc: int, groups_per_class: int = 0, temperature: float = 0.0
) -> Grouping | None:
    """A grouping of `GROUPINGS`, or the `product` of several joined by ``+``; None for ``none``: all are one group.

    Args:
      groups_per_class: of k-means; 0 finds the number.

    Raises:
      InputError: an unknown name, or a parameter that its grouping cannot have.
    """
    members = {
        "class": single,
        "labels": given,
        "kmeans": lambda: kmeans(features, groups_per_class or None, temperature),
        "clusters": lambda: clusters(features, groups_per_class or 10),
        "nearest": lambda: nearest(ipc),
        "predicted": lambda: predicted(features),
        "errors": lambda: errors(features),
        "spurious": lambda: spurious(features),
    }
    at_least("groups_per_class", groups_per_class, 0)
    if name == "none":
        return None
    parts = []
    for part in name.split("+"):
        if part not in members:
            raise unknown("grouping", part, GROUPINGS if part == name else members)
        parts.append(members[part]())
    return parts[0] if len(parts) == 1 else product(*parts)
