"""What protecting groups would gain and cost on held-out examples: told by small models, then by learned sets.

Our own derivation.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from rdd_jax.grouping.base import Groups, Subject
from rdd_jax.grouping.features import nystroem
from rdd_jax.grouping.rehearsal import learned
from rdd_jax.grouping.reweighted import Part, Reweighted, reweighted, solve
from rdd_jax.kernels import fc_ntk
from rdd_jax.pixels import rows_of

__all__ = ["SURE", "Candidate", "Trial", "View"]

SURE = 2.0
"""Standard errors that a gain must have, as they are where there is none."""

FEW = 5
"""Examples in a cell that say little."""

HARD = 0.1
"""Share of the cells of a view that are its hard ones."""

MOST = 50_000
"""Examples that take part in the trial."""


BLOCK = 4096
"""Images of which a copy is made to be predicted."""


class Candidate(NamedTuple):
    """What the trial told of a candidate, the rehearsal where there was one; all in points of accuracy, held out.

    Attributes:
      groups: the groupings that are protected together, such as ``spurious:texture+fine:network``.
      cells: (class, group) cells that the risk is over.
      sharpness: of the risk over clusters.
      gain: on the hard cells of every view, the mean over the views; ``gain_error``: its standard error.
      cost: what the average over all examples lost; ``cost_error``. NaN, all four, of a view that saw nothing.
      rehearsed: whether that was measured on sets that were learned, not on the small models.
      chosen: whether it is protected.
    """

    groups: str
    cells: int
    sharpness: float
    gain: float = np.nan
    gain_error: float = np.nan
    cost: float = np.nan
    cost_error: float = np.nan
    rehearsed: bool = False
    chosen: bool = False

    @property
    def worth(self) -> float:
        """Gain less cost, where it cost anything: a better average is no reason to protect."""
        return self.gain - max(self.cost, 0.0)


class View(NamedTuple):
    """What a grouping found.

    Attributes:
      shown: the groups to be shown.
      cell: of every example, below ``size``: what a risk is over, the values of an attribute or pieces of clusters.
      apart: of every example, its class and shown group, where these are clusters that a gap sets apart; else None.
    """

    shown: Groups
    cell: Int[np.ndarray, " n"]
    size: int
    attribute: bool
    apart: Int[np.ndarray, " n"] | None = None


class Trial:
    """Models under the robust risk on one half of the examples, measured on the other."""

    LANDMARKS = 500
    EXAMPLES = 12
    """Fitted for every landmark, at least: a model that learns its half by heart protects nothing beyond it."""

    def __init__(self, subject: Subject, looked: Sequence[View], seed: int):
        rng = np.random.default_rng([seed, 2])
        chosen = np.sort(rng.permutation(len(subject.labels))[:MOST])
        self.subject, self.seed = subject, seed
        self.chosen, self.labels, self.classes = chosen, subject.labels[chosen], subject.classes
        landmarks = max(1, min(self.LANDMARKS, len(chosen) // (2 * self.EXAMPLES)))
        self.points = nystroem(fc_ntk(3), rows_of(subject.images, chosen), landmarks, seed)
        self.targets = np.eye(self.classes, dtype=np.float32)[self.labels] - np.float32(1 / self.classes)
        self.fitted = rng.permutation(len(chosen)) % 2 == 0
        x, y = self.points[self.fitted], self.targets[self.fitted]
        plain = solve(x, y, np.ones(len(x), np.float32))
        loss = 0.5 * ((x @ plain - y) ** 2).sum(1)
        self.before = self._right(plain)
        hard = [_hard(view.cell[chosen], view.size, self.fitted, loss) for view in looked]
        self.gaps = [_surely(share - 1 / len(share), -self.before) for share in hard]
        seen = [share for share, gap in zip(hard, self.gaps, strict=True) if gap]
        self.share = sum(seen, np.zeros(len(self.before))) / max(1, len(seen))

    def candidate(self, name: str, parts: Sequence[Part], sharpness: float) -> Candidate:
        """What protecting the groups gains and costs."""
        size = sum(len(np.unique(part.cell)) for part in parts)
        fitted, _ = self._reweighted(parts)
        return self._told(Candidate(name, size, sharpness), self._right(fitted.coefficients) - self.before)

    def rehearsed(self, candidate: Candidate, parts: Sequence[Part]) -> Candidate:
        """What it gains and costs a set that is learned from the one half, beside the plain one."""
        fitted, own = self._reweighted(parts)
        change = self._learned(fitted.weight(own)) - self.plainly_learned
        return self._told(candidate._replace(rehearsed=True), change)

    @cached_property
    def plainly_learned(self) -> Float[np.ndarray, " h"]:
        """Of every example that was not fitted, 1 where the plain learned set predicts its class."""
        return self._learned(np.ones(int(self.fitted.sum()), np.float32))

    def _learned(self, weight: Float[np.ndarray, " f"]) -> Float[np.ndarray, " h"]:
        """The same of a set that is learned by weights."""
        rows, held = self.chosen[self.fitted], self.chosen[~self.fitted]
        images, labels = self.subject.images, self.subject.labels
        regression = learned(rows_of(images, rows), labels[rows], self.classes, weight, self.seed)
        # A few at a time: images are large beside the features that all else here looks at.
        blocks = np.array_split(held, math.ceil(len(held) / BLOCK))
        return np.concatenate([regression(images[block]).argmax(1) == labels[block] for block in blocks]).astype(float)

    def _reweighted(self, parts: Sequence[Part]) -> tuple[Reweighted, list[Part]]:
        """The small model of the half that is fitted, and the parts there."""
        own = [part._replace(cell=part.cell[self.chosen][self.fitted]) for part in parts]
        return reweighted(self.points[self.fitted], self.targets[self.fitted], own), own

    def _told(self, candidate: Candidate, change: Float[np.ndarray, " h"]) -> Candidate:
        """The candidate with what follows from the change of every prediction that is right."""
        gain, gain_error = _estimate(self.share, 100 * change)
        cost, cost_error = _estimate(np.full(len(change), 1 / len(change)), -100 * change)
        return candidate._replace(gain=gain, gain_error=gain_error, cost=cost, cost_error=cost_error)

    def weight(self, parts: Sequence[Part]) -> Float[np.ndarray, " n"]:
        """Of all examples, by both halves; 1 in the mean."""
        own = [part._replace(cell=part.cell[self.chosen]) for part in parts]
        found = reweighted(self.points, self.targets, own).weight(parts)
        return found / found.mean()

    def _right(self, coefficients: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " h"]:
        """Of every example that was not fitted, 1 where its class is predicted."""
        held = ~self.fitted
        return ((self.points[held] @ coefficients).argmax(1) == self.labels[held]).astype(float)


def _estimate(share: Float[np.ndarray, " h"], value: Float[np.ndarray, " h"]) -> tuple[float, float]:
    """A weighted sum of independent values, and its standard error as if they had mean 0."""
    return float(share @ value), float(np.sqrt(share**2 @ value**2))


def _surely(share: Float[np.ndarray, " h"], value: Float[np.ndarray, " h"]) -> bool:
    """Whether a sum is above 0 by `SURE` standard errors."""
    found, error = _estimate(share, value)
    return found > SURE * error


def _hard(
    cell: Int[np.ndarray, " n"], size: int, fitted: Bool[np.ndarray, " n"], loss: Float[np.ndarray, " f"]
) -> Float[np.ndarray, " h"]:
    """The share of every example that was not fitted in the mean over the hard cells.

    Hard are the share `HARD` of the cells whose mean ``loss`` is the largest, of the examples that were fitted. All
    count the same, but for tiny ones, which are drawn towards the rest as if `FEW` more examples were in them.
    """
    count, held = np.bincount(cell[fitted], minlength=size), np.bincount(cell[~fitted], minlength=size)
    mean = (np.bincount(cell[fitted], loss, minlength=size) + FEW * loss.mean()) / (count + FEW)
    mean[(count == 0) | (held == 0)] = -np.inf
    number = math.ceil(HARD * np.sum(mean > -np.inf))
    share = np.zeros(size)
    hard = np.argsort(-mean, kind="stable")[:number]
    share[hard] = 1 / (held[hard] + FEW)
    found = share[cell[~fitted]]
    return found / found.sum()
