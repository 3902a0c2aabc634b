"""Groups from what a deliberately simple model makes of the examples."""

import jax
import numpy as np
from jaxtyping import Float, Int

from rdd_jax.contracts import Features
from rdd_jax.errors import at_least
from rdd_jax.grouping.base import Grouping, Groups, Subject
from rdd_jax.grouping.clustered import RESTARTS
from rdd_jax.grouping.features import blocks, nystroem_map, sample, texture
from rdd_jax.kernels import fc_ntk
from rdd_jax.kmeans import kmeans_within
from rdd_jax.progress import each

__all__ = ["errors", "predicted", "spurious"]


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

    return Grouping(fit, attribute=True)


# --- self-training -----------------------------------------------------------------------------------

RIDGE = 0.1
"""Of the simple model, as a fraction of the mean diagonal of its normal matrix."""


def _self_train(
    points: Float[np.ndarray, "n d"], labels: np.ndarray, classes: int, seed: int, rounds: int
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "k k"]]:
    """``(code [n], flow [k, k])``: predictions after ``rounds`` of self-training, and what moved in the last three.

    `FITTED` examples take part at most; both last models together tell the others.
    """
    few, images = sample(len(points)), points[:, None, None, :]
    taught = images[few]
    describe = nystroem_map(fc_ntk(), taught, 500, seed)
    mapped = np.concatenate(list(blocks(describe, taught, 4096)))
    code, flow, model = _taught(mapped, labels[few], classes, seed, rounds)
    if len(code) == len(points):
        return code, flow
    told = np.concatenate([(block @ model).argmax(1) for block in blocks(describe, images, 4096)]).astype(np.int32)
    told[few] = code
    return told, flow


def _taught(
    mapped: Float[np.ndarray, "n m"], labels: np.ndarray, classes: int, seed: int, rounds: int
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "k k"], Float[np.ndarray, "m k"]]:
    """As `_self_train`, and the sum of the two last models."""
    fold = np.random.default_rng([seed, 1]).permutation(len(labels)) % 2
    # Everything that does not depend on the targets, once: every round is then two small products.
    halves = [mapped[fold == f] for f in (0, 1)]
    solvers = []
    for half in halves:
        normal = (half.T @ half).astype(np.float64)
        ridge = RIDGE * np.trace(normal) / len(normal)
        solvers.append(np.linalg.inv(normal + ridge * np.eye(len(normal))))
    code, flow = labels.astype(np.int32), np.zeros((classes, classes))
    models = []
    for step in each(range(rounds + 1), lambda step: f"round {step + 1} of {rounds + 1}"):
        targets = [np.eye(classes, dtype=np.float32)[code[fold == f]] - 1 / classes for f in (0, 1)]
        models = [
            (solver @ (half.T @ target)).astype(np.float32)
            for solver, half, target in zip(solvers, halves, targets, strict=True)
        ]
        new = np.empty_like(code)
        for f in (0, 1):
            new[fold != f] = (halves[1 - f] @ models[f]).argmax(1)
        if step > rounds - 3:
            np.add.at(flow, (code, new), 1)
        code = new
    return code, flow, models[0] + models[1]


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
