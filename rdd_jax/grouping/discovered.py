r"""The grouping that chooses: it looks with several views, and protects what any of them saw, or nothing.

No view sees everything: texture sees colours and styles, a network turned digits and classes within classes. A grouping
that saw nothing does harm, since protecting chance costs the rest. So every candidate is tried, on a model so small
that the trial takes a second: kernel ridge regression on a few hundred Nyström features, under the risk that a robust
run minimises. Its halves are the two sides of the trial: one is fitted, the other tells what protecting the groups
gained and what it cost. It never sees a given group, nor validation or test data. Our own derivation.
"""

from collections.abc import Mapping
from itertools import combinations
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rdd_jax.grouping.base import Grouping, Groups, Subject, cells, crossed
from rdd_jax.grouping.clustered import fine, kmeans
from rdd_jax.grouping.features import nystroem, texture
from rdd_jax.grouping.learned import network
from rdd_jax.grouping.predicted import spurious
from rdd_jax.kernels import fc_ntk
from rdd_jax.progress import each

__all__ = ["Candidate", "discovered"]

LEAST_CLUSTER = 0.005
"""Share of a class: smaller clusters are joined, as with the other groupings."""

LEAST_CELL = 0.001
"""Share of a class: of values of an attribute, and of what is left where two groupings cross."""

VALUES = 1.5
"""Effective number of the values of an attribute, the exponential of their entropy: with fewer it sets one class apart
from the others, such as thin strokes the digit 1, and stands in for none."""

PROTECT = 0.5
"""Share of the risk that is over clusters. Half keeps most of what the whole gains and costs clean
data less; attributes that stand in for the class take the whole, or the shortcut stays."""

SIMPLER = 0.75
"""A candidate of fewer views, or an attribute, wins where it is worth this much of the best."""

WORTH = 1.0
"""Points of held-out accuracy below which protecting is not worth while."""

COST = 1.5
"""Points of average held-out accuracy that protecting clusters may cost. Breaking a shortcut may cost more: the average
is over data that has the shortcut."""

MOST = 50_000
"""Examples that take part in the trial."""


class Candidate(NamedTuple):
    """What a trial told of a candidate; all in points of accuracy, held out.

    Attributes:
      groups: the groupings that are crossed, such as ``spurious:texture+fine:network``.
      cells: (class, group) cells that it makes.
      gain: of the softly worst cell of every view, the mean over the views, over the plain model's.
      cost: what the average over all examples lost.
      chosen: whether it is protected.
    """

    groups: str
    cells: int
    gain: float
    cost: float
    chosen: bool = False

    @property
    def worth(self) -> float:
        """Gain less cost, where it cost anything: a better average is no reason to protect."""
        return self.gain - max(self.cost, 0.0)


def _views() -> dict[str, Grouping]:
    """The groupings that are tried."""
    patches = texture()
    return {
        "spurious:texture": spurious(patches),
        "kmeans:texture": kmeans(patches),
        "fine:network": fine(network()),
    }


def discovered(groupings: Mapping[str, Grouping] | None = None) -> Grouping:
    r"""The groups that are worth protecting, of several groupings or of products of them; one a class where none is.

    A grouping that puts every class into one group saw nothing. For the others, and every product of them, half of the
    examples fit a model under the risk :math:`\frac12 \mathrm{mean} + \frac12 entropic_g`, and the other half measures

    .. math::
        \mathrm{gain} = \mathrm{mean}_v \left( s_v - s_v^{plain} \right), \quad
        s_v = -\tfrac1\tau \log \mathrm{mean}_{g \in v} \, e^{-\tau a_g}, \quad \tau = 5,

    the softly worst of the accuracies :math:`a_g` of the cells of *every* view ``v`` that saw something, so that
    protecting what one view saw may not hurt what another did; and the cost, which is the loss of average accuracy.
    Tiny cells are drawn towards their class as if five more examples of it were in them. The candidate of the largest
    gain less cost is chosen, or one that is worth `SIMPLER` of it and has fewer views, or is an attribute: that is the
    same in every class, also where it is too rare to be found alone. What is worth less than `WORTH` is out, and
    clusters that cost more than `COST`; with none left the run is the plain one. ``evidence`` has a `Candidate` for
    each, `Groups.protect` says how much of the risk is theirs.

    Args:
      groupings: by name; default attributes by texture (`spurious`), and clusters by texture (`kmeans`) and by
        `learned.network` (`fine`). Those whose names begin with ``spurious`` are attributes: their cells may be small,
        for the attribute as a whole is not, and they take the whole risk.
    """

    def fit(seed: int, subject: Subject) -> Groups:
        views = each((groupings or _views()).items(), itemgetter(0))
        found = {name: _tidy(name, one.fit(seed, subject), subject) for name, one in views}
        found = {name: groups for name, groups in found.items() if groups.size > 1}
        nothing = Groups(np.zeros(len(subject.labels), np.int32), 1, protect=0.0)
        if not found:
            return nothing
        sets = [names for count in range(1, len(found) + 1) for names in combinations(found, count)]
        joined = {names: _joined([found[name] for name in names], subject) for names in sets}
        trial = _Trial(subject, [joined[(name,)] for name in found], seed)
        trials = each(sets, lambda names: f"trial of {'+'.join(names)}")
        told = {names: trial.candidate("+".join(names), joined[names]) for names in trials}
        names = _best(told)
        rows = tuple(row._replace(chosen=key == names) for key, row in told.items())
        if names is None:
            return nothing._replace(evidence=rows)
        protect = 1.0 if _attribute(names) else PROTECT
        return joined[names]._replace(protect=protect, evidence=rows)

    return Grouping(fit, found=False)


def _tidy(name: str, groups: Groups, subject: Subject) -> Groups:
    """The groups without those that are too small to be one."""
    if not name.startswith("spurious"):
        return _merged(groups, subject, LEAST_CLUSTER)
    # A value that stands in for classes is about as frequent as they are.
    share = np.bincount(groups.code, minlength=groups.size) / len(groups.code)
    code = np.where(share[groups.code] < 0.25 / subject.classes, share.argmax(), groups.code)
    values, code, counts = np.unique(code, return_inverse=True, return_counts=True)
    share = counts / len(code)
    if np.exp(-np.sum(share * np.log(share))) < VALUES:
        return Groups(np.zeros_like(groups.code), 1)
    return _merged(Groups(code.astype(np.int32), len(values)), subject, LEAST_CELL)


def _merged(groups: Groups, subject: Subject, least: float) -> Groups:
    """Small cells of a class joined; codes within the class."""
    cell, count = cells(groups, subject.labels, subject.classes, least)
    size = count // subject.classes
    return Groups((cell - subject.labels * size).astype(np.int32), size)


def _joined(parts: list[Groups], subject: Subject) -> Groups:
    """The only part, or the crossing of all without what is too small of it."""
    return parts[0] if len(parts) == 1 else _merged(crossed(parts), subject, LEAST_CELL)


def _best(told: dict[tuple[str, ...], Candidate]) -> tuple[str, ...] | None:
    """The candidate that is chosen; None: none is."""
    good = {names: row for names, row in told.items() if _is_open(names, row)}
    if not good:
        return None
    top = max(row.worth for row in good.values())
    return min(
        (names for names, row in good.items() if row.worth >= SIMPLER * top),
        key=lambda names: (len(names), not _attribute(names), -good[names].worth),
    )


def _is_open(names: tuple[str, ...], row: Candidate) -> bool:
    """Whether a candidate may be chosen: it must be worth while, and clusters cheap."""
    return row.worth >= WORTH and (row.cost <= COST or _attribute(names))


def _attribute(names: tuple[str, ...]) -> bool:
    """Whether an attribute that stands in for the class is among the groupings."""
    return any(name.startswith("spurious") for name in names)


class _Trial:
    """Regressions under the robust risk on one half of the examples, measured on the other."""

    ROUNDS, SHARPNESS, RIDGE, LANDMARKS = 6, 5.0, 1e-3, 500
    EXAMPLES = 12
    """Fitted for every landmark, at least: a model that learns its half by heart protects nothing beyond it."""

    def __init__(self, subject: Subject, looked: list[Groups], seed: int):
        rng = np.random.default_rng([seed, 2])
        chosen = np.sort(rng.permutation(len(subject.labels))[:MOST])
        self.chosen, self.labels, self.classes = chosen, subject.labels[chosen], subject.classes
        landmarks = max(1, min(self.LANDMARKS, len(chosen) // (2 * self.EXAMPLES)))
        self.points = nystroem(fc_ntk(3), subject.images[chosen], landmarks, seed)
        self.fitted = rng.permutation(len(chosen)) % 2 == 0
        self.x = self.points[self.fitted]
        self.y = np.eye(self.classes, dtype=np.float32)[self.labels[self.fitted]] - np.float32(1 / self.classes)
        self.plain = self._normal(np.full(len(self.x), 1 / len(self.x), np.float32))
        self.looked = [self._cell(groups) for groups in looked]
        self.before = self._measured(self._solve(*self.plain))

    def candidate(self, name: str, groups: Groups) -> Candidate:
        """What protecting the groups gains and costs."""
        code, count = self._cell(groups)
        worst, average = self._measured(self._protected(code[self.fitted], count))
        gain = float(np.mean(worst - self.before[0]))
        return Candidate(name, len(np.unique(code)), 100 * gain, 100 * (self.before[1] - average))

    def _cell(self, groups: Groups) -> tuple[np.ndarray, int]:
        return self.labels * groups.size + groups.code[self.chosen], self.classes * groups.size

    def _normal(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weighted = self.x * weight[:, None]
        return weighted.T @ self.x, weighted.T @ self.y

    def _solve(self, normal: np.ndarray, moment: np.ndarray) -> Float[np.ndarray, "d k"]:
        normal = normal.astype(np.float64)
        ridge = self.RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
        return np.linalg.solve(normal + ridge, moment).astype(np.float32)

    def _protected(self, code: np.ndarray, count: int) -> Float[np.ndarray, "d k"]:
        """Minimises half the mean and half the entropic risk over the groups, by reweighting the groups.

        The gradient of the entropic risk is that of the losses with the weights ``q_g ~ exp(sharpness l_g)``.
        """
        size = np.bincount(code, minlength=count)
        share = (size > 0) / np.sum(size > 0)
        weights = np.zeros((self.points.shape[1], self.classes), np.float32)
        for _ in range(self.ROUNDS):
            normal, moment = self._normal((share / np.maximum(size, 1))[code].astype(np.float32))
            mixed_normal = PROTECT * normal + (1 - PROTECT) * self.plain[0]
            mixed_moment = PROTECT * moment + (1 - PROTECT) * self.plain[1]
            weights = self._solve(mixed_normal, mixed_moment)
            loss = 0.5 * ((self.x @ weights - self.y) ** 2).sum(1)
            by_group = np.bincount(code, loss, minlength=count) / np.maximum(size, 1)
            tilt = np.where(size > 0, np.exp(self.SHARPNESS * (by_group - by_group.max())), 0)
            share = 0.5 * share + 0.5 * tilt / tilt.sum()  # halfway, or it swings to and fro
        return weights

    def _measured(self, weights: np.ndarray) -> tuple[Float[np.ndarray, " v"], float]:
        """``(softly worst of every view, average)`` accuracy of the half that was not fitted."""
        held = ~self.fitted
        labels = self.labels[held]
        right = ((self.points[held] @ weights).argmax(1) == labels).astype(float)
        of_class = np.bincount(labels, right, self.classes) / np.maximum(np.bincount(labels, minlength=self.classes), 1)
        return np.array([_soft(right, code[held], count, of_class) for code, count in self.looked]), float(right.mean())


def _soft(right: np.ndarray, code: np.ndarray, count: int, of_class: np.ndarray, tau: float = 5.0) -> float:
    """The softly worst accuracy of the cells that occur, each with five examples of its class added."""
    size = np.bincount(code, minlength=count)
    prior = np.repeat(of_class, count // len(of_class))
    accuracy = ((np.bincount(code, right, minlength=count) + 5 * prior) / (size + 5))[size > 0]
    return float(-np.log(np.mean(np.exp(-tau * accuracy))) / tau)
