"""Learners: what is fitted to a small set alone, to see what the set is worth."""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from rdd_jax.contracts import Kernel, Learner, Predict
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.devices import size_of
from rdd_jax.kernels import krr
from rdd_jax.networks import NETWORKS, Network, training
from rdd_jax.networks.recipe_files import spelt
from rdd_jax.networks.recipes import Recipe, network_by_recipe, sizes_of
from rdd_jax.types import Synthetic, centred_one_hot

__all__ = ["HELD_OUT", "LEARNERS", "held_out", "krr_learner", "learner_name", "network_learner", "recipe_learner"]

LEARNERS = ("krr", *NETWORKS)
"""Kernel ridge regression, or a network by name."""


def krr_learner(kernel: Kernel, reg: float = 1e-6) -> Learner:
    """Kernel ridge regression. It has no randomness: the seeds all get the same predictor."""

    def learn(synthetic: Synthetic, seeds: Sequence[int]) -> Iterator[Predict]:
        regressor = krr.fit(kernel, synthetic, reg)
        for _ in seeds:
            yield regressor

    return learn


HELD_OUT = 1000
"""Real images, at most, by which a recipe stops."""


def held_out(prepared: Prepared) -> Synthetic:
    """Images and labels of the validation split, evenly over it, by which a recipe may stop."""
    own = prepared.splits.validation
    own = own.take(np.linspace(0, len(own) - 1, min(len(own), HELD_OUT)).astype(int))
    return Synthetic(jnp.asarray(prepared.model_space(own)), centred_one_hot(own.labels, own.classes))


def network_learner(network: Network, recipe: Recipe | None = None, held_out: Synthetic | None = None) -> Learner:
    """A finite network trained from scratch on the set alone, by a recipe (DC's); see `rdd_jax.networks.training`.

    Args:
      held_out: what a recipe that stops does so by, see `held_out`.
    """

    def learn(synthetic: Synthetic, seeds: Sequence[int]) -> Iterator[Predict]:
        # One by one, or as many as the mesh trains at once: each is at hand as soon as it is done.
        at_once = size_of("net")
        for start in range(0, len(seeds), at_once):
            some = list(seeds[start : start + at_once])
            for variables in training.train(network, synthetic, some, recipe, held_out):
                yield lambda images, variables=variables: training.logits(network, variables, images)

    return learn


def recipe_learner(recipe: Recipe, classes: int, held_out: Synthetic | None = None) -> Learner:
    """The network of a recipe, trained by it; ``held_out`` as in `network_learner`."""
    return network_learner(network_by_recipe(recipe, classes), recipe, held_out)


def learner_name(recipe: Recipe, images: int, classes: int) -> str:
    """What a report calls the networks of a recipe on a set of so many images.

    ConvNet-3-128 by DC's is ``convnet``; other sizes and trainings are said, for their figures do not compare.

    >>> learner_name(Recipe(width=1024, norm="none", epochs=1001, augment="dsa"), 100, 10)
    'convnet-3-1024-none by dsa'
    """
    own, usual = sizes_of(recipe), sizes_of(Recipe(recipe.network))
    said = [key for key in own if key in ("depth", "width") or own[key] != usual[key]] if own != usual else []
    name = "-".join([recipe.network, *(str(own[key]) for key in said)])
    trained = spelt(recipe, images, classes, network=False)
    return name if trained == "dc" else f"{name} by {trained}"
