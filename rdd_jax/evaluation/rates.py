"""The learning rate of a network that a recipe was not made for."""

from collections.abc import Sequence
from dataclasses import replace

from rdd_jax.datasets import Prepared
from rdd_jax.evaluation.learners import held_out, recipe_learner
from rdd_jax.evaluation.metrics import accuracy
from rdd_jax.networks.recipes import Recipe
from rdd_jax.progress import each
from rdd_jax.types import Synthetic

__all__ = ["FACTORS", "with_rates"]

FACTORS = (1.0, 0.3, 3.0, 0.1, 10.0)
"""Of the recipe's own rate; of equally good ones the first is taken."""


def with_rates(
    recipe: Recipe, networks: Sequence[str], synthetic: Synthetic, prepared: Prepared, seed: int = 0
) -> Recipe:
    """The recipe with a rate for each of ``networks``: the most accurate of `FACTORS` on the validation split.

    A recipe is made for one architecture: at its rate another may not learn at all, and a set then looks as if it did
    not transfer. Every rate is tried on one network, ``seed``, trained on the set; test is not looked at.

    Args:
      prepared: the real data, of which validation is looked at.
    """
    images, labels = prepared.model_space(prepared.splits.validation), prepared.splits.validation.labels
    classes, stops_by = len(prepared.class_names), held_out(prepared)

    def reached(one: Recipe) -> float:
        return accuracy(next(recipe_learner(one, classes, stops_by)(synthetic, [seed]))(images), labels)

    rates = {}
    for network in networks:
        own = replace(recipe, network=network, rates="")
        tried = [replace(own, learning_rate=float(f"{own.learning_rate * factor:.3g}")) for factor in FACTORS]
        best = max(each(tried, lambda one: f"{one.network} at {one.learning_rate:g}"), key=reached)
        rates[network] = best.learning_rate
    return replace(recipe, rates=" ".join(f"{name}:{rate:g}" for name, rate in rates.items()))
