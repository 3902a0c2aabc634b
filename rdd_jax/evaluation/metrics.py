"""Metrics of predictions, as fractions: over all examples, over the (class, group) cells, over clusters, of groups.

The subgroups of a test set are its **cells**: the examples of one class and one group, a group being an attribute
(the colour of a digit) coded 0..G-1. Predictions are counted into a table of `Cells`, of which the other metrics are
functions. Cells without examples are left out of all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from rdd_jax.errors import InputError, at_least

__all__ = [
    "Cells",
    "Metric",
    "accuracy",
    "adjusted",
    "average",
    "bootstrap",
    "cells",
    "cluster_accuracies",
    "correct",
    "cvar_error",
    "deo",
    "group_match",
    "minority",
    "worst",
    "worst_cell",
]


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of ``outputs [n, k]`` whose largest entry is at ``labels [n]``; a row with a NaN is wrong."""
    return float(np.mean(correct(outputs, labels)))


def correct(outputs: np.ndarray, labels: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Whether the largest entry of each row of ``outputs [n, k]`` is at ``labels [n]``; a row with a NaN is wrong."""
    return (outputs.argmax(1) == labels) & ~np.isnan(outputs).any(1)


# --- cells -------------------------------------------------------------------------------------------


Metric = float | Float[np.ndarray, "..."]
"""A metric of one table of cells, or of a stack of tables the array ``[...]`` of theirs."""


class Cells(NamedTuple):
    """How many test examples each (class, group) cell has, and how many of them are predicted correctly.

    A table, or a stack ``[..., c, g]`` of tables, of which `average`, `worst`, `adjusted`, `deo` and `cvar_error` are
    taken side by side.
    """

    correct: Int[np.ndarray, "... c g"]
    count: Int[np.ndarray, "... c g"]  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def accuracy(self) -> Float[np.ndarray, "... c g"]:
        """``correct / count``; NaN where a cell has no examples."""
        return np.divide(self.correct, self.count, out=np.full(self.count.shape, np.nan), where=self.count > 0)


def cells(correct: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int, groups_count: int) -> Cells:
    """The table of ``correct [n]`` (bool) by ``labels [n]`` in 0..classes-1 and ``groups [n]`` in 0..groups_count-1.

    >>> table = cells(np.array([True, False, True]), np.array([0, 0, 1]), np.array([0, 0, 1]), 2, 2)
    >>> table.accuracy.tolist()
    [[0.5, nan], [nan, 1.0]]

    Raises:
      InputError: no examples, arrays of different lengths or types, or codes out of range.
    """
    _check_correct(correct)
    _check_codes("labels", labels, len(correct), classes)
    _check_codes("groups", groups, len(correct), groups_count)
    shape = (classes, groups_count)
    return Cells(_count(labels[correct], groups[correct], shape), _count(labels, groups, shape))


def average(cells: Cells) -> Metric:
    """The share of examples that are predicted correctly: cells weigh as they do in the test set."""
    return cells.correct.sum((-2, -1)) / cells.count.sum((-2, -1))


def worst(cells: Cells) -> Metric:
    """The accuracy of the worst cell."""
    return np.nanmin(cells.accuracy, (-2, -1))


def worst_cell(cells: Cells) -> tuple[int, int]:
    """``(class, group)`` of the worst cell of one table, the first of equals."""
    label, group = np.unravel_index(np.nanargmin(cells.accuracy), cells.count.shape)
    return int(label), int(group)


def adjusted(cells: Cells, train_count: Int[np.ndarray, "c g"]) -> Metric:
    r"""The average that the test would have had with the cells of the training set ("adjusted" accuracy).

    :math:`\sum_{c,g} n_{cg} a_{cg} / \sum_{c,g} n_{cg}` with the training counts :math:`n_{cg}` and the accuracies
    :math:`a_{cg}` of the cells that have test examples.

    Raises:
      InputError: counts of another shape, negative ones, or none in any cell that the test set has.
    """
    if train_count.shape != cells.count.shape[-2:]:
        raise InputError(f"train_count has shape {train_count.shape}: the test cells have {cells.count.shape[-2:]}")
    at_least("the smallest of train_count", int(train_count.min()), 0)
    weight = train_count * (cells.count > 0)
    total = weight.sum((-2, -1))
    if not np.all(total):
        raise InputError("train_count is 0 in every cell that has test examples: count the training set's own cells")
    return (weight * np.nan_to_num(cells.accuracy)).sum((-2, -1)) / total


def deo(cells: Cells) -> tuple[Metric, Metric]:
    """``(DEO_M, DEO_A)``, the difference in equalised opportunity between groups, as in FairDD; 0 is fair.

    The largest and the mean, over classes, of the spread (largest minus smallest) over groups of the true-positive
    rate, which is the accuracy of the cell. Classes with fewer than two groups are left out; 0 if none is left.
    """
    tested, rate = cells.count > 0, cells.accuracy
    highest = np.max(rate, -1, where=tested, initial=0)
    lowest = np.min(rate, -1, where=tested, initial=1)
    comparable = tested.sum(-1) >= 2
    spread = np.where(comparable, highest - lowest, 0)
    return spread.max(-1), spread.sum(-1) / np.maximum(comparable.sum(-1), 1)


def cvar_error(cells: Cells, tau: float) -> Metric:
    """The mean error of the worst mass ``tau`` of the test examples, each having the error of its cell.

    Cells are taken from the worst on until they hold ``tau`` of all examples, the last one fractionally. ``tau`` in
    (0, 1]: 1 is the average error, towards 0 it becomes that of the worst cell.

    Raises:
      InputError: ``tau`` out of its range.
    """
    if not 0 < tau <= 1:
        raise InputError(f"tau is {tau}: the tail mass must lie in (0, 1]")
    # An empty cell has no examples to be taken, whatever its error.
    error = (1 - np.nan_to_num(cells.accuracy)).reshape(*cells.count.shape[:-2], -1)
    order = np.argsort(-error, -1)
    error = np.take_along_axis(error, order, -1)
    count = np.take_along_axis(cells.count.reshape(error.shape), order, -1)
    tail = tau * count.sum(-1, keepdims=True)
    taken = np.clip(tail - (np.cumsum(count, -1) - count), 0, count)
    return (taken * error).sum(-1) / tail[..., 0]


def bootstrap(
    cells: Cells, statistic: Callable[[Cells], Metric], draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """``(low, high)``: the percentile interval of ``statistic`` over test sets resampled within each cell.

    Examples are right or wrong, so resampling a cell with replacement is exactly a draw from
    Binomial(count, accuracy); that is what is drawn. The interval is about the choice of test examples alone, not about
    seeds or training. A cell whose examples are all right or all wrong does not vary; and the lowest of several noisy
    cells lies beneath the lowest accuracy, so that the interval of `worst` does too.

    Args:
      cells: one table.
      statistic: of a stack of tables, such as `average`, or ``lambda cells: deo(cells)[0]``; asked once, for all draws.
      draws: tables drawn, at least 1.
      level: coverage, in (0, 1).

    Raises:
      InputError: ``draws`` or ``level`` out of range.
    """
    at_least("draws", draws, 1)
    if not 0 < level < 1:
        raise InputError(f"level is {level}: the coverage of the interval must lie in (0, 1)")
    chance = np.nan_to_num(cells.accuracy)
    drawn = np.random.default_rng(seed).binomial(cells.count, chance, (draws, *cells.count.shape))
    values = statistic(Cells(drawn, np.broadcast_to(cells.count, drawn.shape)))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# --- clusters ----------------------------------------------------------------------------------------


def cluster_accuracies(correct: np.ndarray, cluster: np.ndarray, k: int) -> Float[np.ndarray, " k"]:
    """The accuracy, from ``correct [n]`` (bool), of each of ``k`` clusters, ``cluster [n]`` in 0..k-1; NaN if empty.

    Their ``np.nanmin`` and ``np.nanmean`` are Cluster-min and Cluster-mean of *Group Distributionally Robust Dataset
    Distillation with Risk Minimization*.
    """
    _check_correct(correct)
    _check_codes("cluster", cluster, len(correct), k)
    return cells(correct, np.zeros_like(cluster), cluster, 1, k).accuracy[0]


# --- groups found without labels ---------------------------------------------------------------------


def minority(labels: np.ndarray, groups: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which examples lie in cells that hold less than half of an even share of their class.

    Cell ``(c, g)`` is one where ``count(c, g) < 0.5 * count(c) / (groups that class c has)``.
    """
    _check_codes("labels", labels, len(labels))
    _check_codes("groups", groups, len(labels))
    count = _count(labels, groups, (int(labels.max()) + 1, int(groups.max()) + 1))
    present = (count > 0).sum(1, keepdims=True)
    rare = 2 * count * present < count.sum(1, keepdims=True)
    return rare[labels, groups]


def group_match(found: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """How well groups that a method ``found [n]`` agree with the hidden ``groups [n]``, class by class.

    What is compared are the found and the hidden cells, so ``found`` may be numbered within classes or across them,
    and by any integers.

    Returns:
      ``adjusted_mutual_information``: scikit-learn's ``adjusted_mutual_info_score`` of (class, found) and (class,
        group): 1 for the same cells. The classes, which both share, are a good part of it.
      ``adjusted_mutual_information_within_class``: the mean over classes of the score within the class: 1 for the same
        groups, about 0 by chance. A class of one group scores 1 if it was left whole, else 0.
      ``minority_recall``: the share of `minority` examples that lie in found cells of which they are the majority.
      ``minority_precision``: the share of the examples of those cells that are minority: above 0.5 by construction,
        and NaN where there is no such cell. Both are NaN where there are no minority examples.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    _check_codes("labels", labels, len(found))
    _check_codes("groups", groups, len(found))
    rare = minority(labels, groups)
    found = np.unique(found, return_inverse=True)[1]
    found_cell = labels.astype(np.int64) * (found.max() + 1) + found
    hidden_cell = labels.astype(np.int64) * (int(groups.max()) + 1) + groups
    within = [adjusted_mutual_info_score(groups[labels == c], found[labels == c]) for c in np.unique(labels)]
    caught = (2 * np.bincount(found_cell, rare) > np.bincount(found_cell))[found_cell]
    return {
        "adjusted_mutual_information": float(adjusted_mutual_info_score(hidden_cell, found_cell)),
        "adjusted_mutual_information_within_class": float(np.mean(within)),
        "minority_recall": _share(caught[rare]),
        "minority_precision": _share(rare[caught]),
    }


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if flags.size else float("nan")


def _count(labels: np.ndarray, groups: np.ndarray, shape: tuple[int, int]) -> Int[np.ndarray, "c g"]:
    """Examples a cell; int64, for small integer types would overflow."""
    cell = labels.astype(np.int64) * shape[1] + groups
    return np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)


def _check_correct(correct: np.ndarray) -> None:
    if correct.dtype != bool:
        raise InputError(f"correct is {correct.dtype}: give a bool an example, as `metrics.correct` does")


def _check_codes(what: str, codes: np.ndarray, n: int, count: int | None = None) -> None:
    if n == 0:
        raise InputError("there are 0 examples: give at least one")
    if codes.shape != (n,):
        raise InputError(f"{what} have shape {codes.shape} for {n} examples: expected ({n},)")
    if not np.issubdtype(codes.dtype, np.integer):
        raise InputError(f"{what} are {codes.dtype}: give integers from 0")
    if codes.min() < 0:
        raise InputError(f"{what} hold {codes.min()}: code them from 0")
    if count is not None and codes.max() >= count:
        raise InputError(f"{what} hold {codes.max()}: they must lie in 0..{count - 1}")
