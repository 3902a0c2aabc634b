"""How good a set is: learners fitted to it alone, tested on real data, beside the baselines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import jax.numpy as jnp
import numpy as np

from rdd_jax import krr, training
from rdd_jax.metrics import accuracy
from rdd_jax.networks import NETWORKS, Network, network_by_name
from rdd_jax.preprocess import Prepared
from rdd_jax.selection import SUBSETS, check_ipc, principal
from rdd_jax.types import Kernel, Synthetic, centred_one_hot

Predict = Callable[[np.ndarray], np.ndarray]
Learner = Callable[[Synthetic, Sequence[int]], Iterator[Predict]]
"""``learner(synthetic, seeds)``: a predictor ``images [n, h, w, c] -> outputs [n, k]`` a seed."""

LEARNERS = ("krr", *NETWORKS)


@dataclass(frozen=True)
class Evaluation:
    """One line of a report: a metric of a learner on a set, over seeds; fractions, not percent.

    ``std`` is the sample standard deviation (0 for a single seed).
    """

    set: str
    learner: str
    metric: str
    mean: float
    std: float
    seeds: list[int]
    values: list[float]

    def to_dict(self) -> dict:
        return asdict(self)


def krr_learner(kernel: Kernel, reg: float = 1e-6) -> Learner:
    """Kernel ridge regression. It has no randomness: the seeds all get the same predictor."""

    def learn(synthetic: Synthetic, seeds: Sequence[int]) -> Iterator[Predict]:
        regressor = krr.fit(kernel, synthetic, reg)
        for _ in seeds:
            yield regressor

    return learn


def network_learner(network: Network, recipe: training.Recipe | None = None) -> Learner:
    """A finite network trained from scratch on the set alone; see `rdd_jax.training`."""

    def learn(synthetic: Synthetic, seeds: Sequence[int]) -> Iterator[Predict]:
        for variables in training.train(network, synthetic, list(seeds), recipe):
            yield lambda images, variables=variables: training.logits(network, variables, images)

    return learn


def learner_by_name(name: str, kernel: Kernel, reg: float, classes: int) -> Learner:
    """``krr`` with the kernel and ridge given, or a network of `networks.NETWORKS` by the published recipe."""
    return krr_learner(kernel, reg) if name == "krr" else network_learner(network_by_name(name, classes))


def evaluate(
    name: str,
    sets: Mapping[int, Synthetic],
    learner_name: str,
    learner: Learner,
    images: np.ndarray,
    labels: np.ndarray,
) -> Evaluation:
    """Fits ``learner`` to the set of each seed and measures its accuracy.

    Args:
      name: of the set, for the record.
      sets: a set a seed; the same object under several seeds is learned with each of them.
      images: test images ``[n, h, w, c]`` in model space; ``labels``: ``[n]`` integers.
    """
    seeds = sorted(sets)
    if all(sets[seed] is sets[seeds[0]] for seed in seeds):
        if learner_name == "krr":
            seeds = seeds[:1]
        values = [accuracy(p(images), labels) for p in learner(sets[seeds[0]], seeds)]
    else:
        values = [accuracy(next(learner(sets[seed], [seed]))(images), labels) for seed in seeds]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Evaluation(name, learner_name, "accuracy", float(np.mean(values)), std, seeds, values)


def baselines(
    images: np.ndarray, labels: np.ndarray, classes: int, ipc: int, seeds: Sequence[int]
) -> dict[str, dict[int, Synthetic]]:
    """Subsets of the real data: ``{random | kmeans | herding: {seed: set}}``.

    K-means clusters the leading principal components (`selection.principal`), herding the images themselves, with
    one and the same set for all seeds.
    """
    sets: dict[str, dict[int, Synthetic]] = {}
    features = {"kmeans": principal(images)}
    for name, select in SUBSETS.items():
        drawn: dict[int, Synthetic] = {}
        for seed in seeds:
            if name == "herding" and drawn:
                drawn[seed] = drawn[seeds[0]]
                continue
            index = select(seed, features.get(name, images), labels, ipc)
            drawn[seed] = Synthetic(jnp.asarray(images[index]), centred_one_hot(labels[index], classes))
        sets[name] = drawn
    return sets


def evaluate_sets(
    synthetic: Synthetic,
    prepared: Prepared,
    kernel: Kernel,
    reg: float,
    learners: Sequence[str],
    seeds: int,
    with_baselines: bool = True,
) -> list[Evaluation]:
    """A set and, with as many images a class, the baselines: every learner, on the test images."""
    test = prepared.splits.test
    images = prepared.model_space(test)
    sets = {"synthetic": dict.fromkeys(range(seeds), synthetic)}
    if with_baselines:
        train = prepared.splits.train
        ipc = max(1, len(synthetic.images) // train.classes)
        check_ipc(train.labels, ipc, train.class_names)
        sets |= baselines(prepared.train, train.labels, train.classes, ipc, range(seeds))
    results = []
    for name in learners:
        learner = learner_by_name(name, kernel, reg, test.classes)
        for set_name, members in sets.items():
            results.append(evaluate(set_name, members, name, learner, images, test.labels))
    return results
