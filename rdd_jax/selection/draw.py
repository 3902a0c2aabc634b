"""Selectors by score: which examples are taken, and what each then stands for.

``draw(rng, score [i], m) -> (member [m], weight [m], probability [i])`` within one stratum. Weights make sums over the
chosen unbiased estimates of sums over the stratum. Scores that are all zero count as equal.
"""

import numpy as np

from rdd_jax.contracts import Draw
from rdd_jax.errors import InputError, choose
from rdd_jax.selection.base import Selection, Strata
from rdd_jax.selection.scores import check_scores

__all__ = ["DRAWS", "by_score", "distinct", "draw_by_name", "independent", "top"]


def independent(rng: np.random.Generator, score: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``m`` draws with replacement, ``p`` proportional to the score, weights ``1 / (m p)``: what certificates cover."""
    p = _relative(score)
    member = rng.choice(len(p), m, p=p)
    return member, 1 / (m * p[member]), m * p


def distinct(rng: np.random.Generator, score: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``m`` different examples, each with probability ``min(1, c s)`` where those sum to ``m``; weights its inverse.

    Systematic sampling in random order (Madow 1949): the probabilities are exact and so the weights unbiased.
    """
    n = len(score)
    if (score == score[0]).all():
        return rng.choice(n, m, replace=False), np.full(m, n / m), np.full(n, m / n)
    probability = _inclusion(_relative(score), m)
    certain, open_ = np.flatnonzero(probability == 1), np.flatnonzero(probability < 1)
    order, left = rng.permutation(open_), m - len(certain)
    steps = np.cumsum(probability[order])
    # One is taken wherever the running sum passes u, u + 1, ...: never one twice, as no step is longer than 1.
    at = (rng.uniform() + np.arange(left)) * (steps[-1] / left if left else 1)  # but for rounding, 1
    member = np.concatenate([certain, order[np.searchsorted(steps, at)]])
    return member, 1 / probability[member], probability


def top(rng: np.random.Generator, score: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``m`` largest scores, all weighing the same. Outliers have the largest: a warning, not a remedy."""
    del rng
    member = np.argsort(-score, kind="stable")[:m]
    probability = np.zeros(len(score))
    probability[member] = 1
    return member, np.full(m, len(score) / m), probability


def _relative(score: np.ndarray) -> np.ndarray:
    total = score.sum()
    return score / total if total > 0 else np.full(len(score), 1 / len(score))


def _inclusion(p: np.ndarray, m: int) -> np.ndarray:
    """``min(1, c p)`` of sum ``m``; where fewer than ``m`` have any chance, the rest share what is left evenly."""
    p = np.where(p < 1e-12 * p.max(), 0, p)
    if np.count_nonzero(p) < m:
        probability = np.where(p > 0, 1.0, 0.0)
        rest = p == 0
        probability[rest] = (m - probability.sum()) / rest.sum()
        return probability
    certain = np.zeros(len(p), bool)
    while True:
        left = m - certain.sum()
        share = np.where(certain, 1.0, left * p / p[~certain].sum()) if left else certain.astype(float)
        more = (share > 1) & ~certain
        if not more.any():
            return share
        certain |= more


DRAWS: dict[str, Draw] = {"distinct": distinct, "independent": independent, "top": top}


def draw_by_name(name: str) -> Draw:
    """A draw of `DRAWS`; raises `InputError` on an unknown name."""
    return choose("draw", name, DRAWS)


def by_score(seed: int, score: np.ndarray, strata: Strata, draw: Draw) -> Selection:
    """Draws from every stratum.

    Raises:
      InputError: scores that are negative or not finite; a stratum that has fewer examples than it is to give.
    """
    check_scores("scores", score)
    rng = np.random.default_rng(seed)
    index, weight, probability = [], [], np.zeros(len(score))
    for members, m in strata.live:
        if draw is not independent and len(members) < m:
            raise InputError(f"a stratum has {len(members)} examples for {m}: take fewer, or draw independently")
        member, stands_for, chance = draw(rng, score[members], m)
        index.append(members[member])
        weight.append(stands_for)
        probability[members] = chance
    return Selection(np.concatenate(index), np.concatenate(weight), score, probability)
