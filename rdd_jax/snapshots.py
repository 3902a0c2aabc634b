"""Networks that are trained on the real data once and kept as they were after every epoch: snapshots.

Sets are then made at them (`at_snapshots`), or to lead from one to a later one (`between_snapshots`), without training
anything real on the way. The training is by any recipe of small sets, plainly or under RDD's risk over groups
(`trajectory.on_real`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rdd_jax.augment import augment_by_name, check_augment
from rdd_jax.contracts import Risk
from rdd_jax.errors import InputError, at_least
from rdd_jax.networks.base import check_batch, check_images
from rdd_jax.networks.recipes import Recipe, network_by_recipe
from rdd_jax.networks.training import averaged, optimizer_of
from rdd_jax.sampling import by_group, ready, uniform
from rdd_jax.trajectory import Trajectory, on_real
from rdd_jax.types import Examples, PRNGKey, Synthetic, Training

__all__ = [
    "RealTraining",
    "Snapshots",
    "at_snapshots",
    "between_snapshots",
    "check_real_recipe",
    "real_training",
]


class RealTraining(NamedTuple):
    """A training on real data.

    Attributes:
      init: ``init(key, data) -> Training``: a network at random weights.
      advance: ``advance(key, training, data, first, count) -> Training``: the steps ``first`` to ``first + count`` of
        the training, jitted; the same key gives the same end, however it is cut.
      ready: ``ready(data) -> data`` with what is made of it once, before the steps.
      kept: ``kept(training) -> variables``: what a snapshot is, the average of the weights where the recipe has one.
      steps: of an epoch.
      epochs: of the training.
    """

    init: Callable[[PRNGKey, Examples], Training]
    advance: Callable[[PRNGKey, Training, Examples, Int[Array, ""], Int[Array, ""]], Training]
    ready: Callable[[Examples], Examples]
    kept: Callable[[Training], Any]
    steps: int
    epochs: int


def check_real_recipe(recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Raises `InputError` where a recipe cannot train a network on real images of ``shape``, ``(n, h, w, c)``.

    It has parts that are of small sets alone (a length in steps, stopping, scaled labels, outputs that are centred), or
    does not go with the images (see `networks.training.check_training`).
    """
    parts = {
        "steps": (recipe.steps is not None, "give epochs"),
        "stop": (recipe.stop > 0, "leave it out: every epoch is kept"),
        "label_scale": (recipe.label_scale != 1, "leave it out"),
        "centred": (recipe.centred, "leave it out"),
    }
    for name, (has, remedy) in parts.items():
        if has:
            raise InputError(
                f"the recipe has {name}, which is of small sets and not of a training on real data: {remedy}"
            )
    network = network_by_recipe(recipe, 2)
    check_images(network, shape[1:], f"network {recipe.network!r}")
    check_augment(recipe.augment, shape[1:])
    check_batch(network, min(recipe.batch, shape[0]))
    optimizer_of(recipe, shape[0])


def real_training(recipe: Recipe, images: int, classes: int, risk: Risk | None = None) -> RealTraining:
    """The training of the recipe's network on so many real images.

    An epoch is as many batches as hold every image once; they are drawn with replacement, so that a step is independent
    of those before it.

    Args:
      risk: over the groups of the data, beside the plain mean; batches are then even over the groups, or drawn as often
        as examples count. None: plain training.
    """
    network, optimizer = network_by_recipe(recipe, classes), optimizer_of(recipe, images)
    sampler = (uniform if risk is None else by_group)(min(recipe.batch, images))
    augment = augment_by_name(recipe.augment)
    lesson = on_real(network, optimizer, sampler, 1, risk, nearest=False, augment=augment, error=recipe.loss)
    epochs, _ = recipe.length(images)

    def init(key: PRNGKey, data: Examples) -> Training:
        variables = network.init(key, data.look(slice(0, 1)))
        return Training(variables, optimizer.init(variables), variables)

    def advance(
        key: PRNGKey, training: Training, data: Examples, first: Int[Array, ""], count: Int[Array, ""]
    ) -> Training:
        beside = Synthetic(data.look(slice(0, 1)), data.labels[:1])  # which a lesson by given groups does not look at

        def one(step: Array, training: Training) -> Training:
            return averaged(recipe, lesson(jax.random.fold_in(key, step), training, beside, data))

        return jax.lax.fori_loop(first, first + count, one, training)

    kept = lambda training: training.average if recipe.average else training.variables  # noqa: E731
    return RealTraining(
        jax.jit(init), jax.jit(advance), partial(ready, sampler), kept, -(-images // recipe.batch), epochs
    )


# --- steps from what was kept -------------------------------------------------------------------------


class Snapshots(NamedTuple):
    """Networks as they were epoch by epoch, and which of them a step looks from.

    Attributes:
      variables: stacked, with leading axes of epochs, from the youngest to the oldest, and of networks.
      epoch, network: where the step is, or where each of its stretches begins.
    """

    variables: Any
    epoch: Int[Array, "*stretches"]
    network: Int[Array, "*stretches"]

    def at(self, epoch: Int[Array, "*stretches"] | int) -> Any:
        """The variables of the step's network at an epoch."""
        return jax.tree.map(lambda leaf: leaf[epoch, self.network], self.variables)


def at_snapshots(snapshots: Sequence[Any], with_last: bool = False) -> Trajectory:
    """Networks that have been trained before, such as those of a `real_training`: one at random at every step.

    Nothing is trained on the way, so that a step costs what one of `trajectory.fresh` does.

    Args:
      snapshots: the variables of every epoch, from the youngest to the oldest, with a leading axis of networks.
      with_last: whether the model is the pair of the step's network and the same one at the last epoch, as
        `objectives.taught` wants it.

    Raises:
      InputError: no snapshots.
    """
    at_least("the number of snapshots", len(snapshots), 1)

    def model(state: Snapshots, step: Array) -> Any:
        now = state.at(state.epoch)
        return (now, state.at(-1)) if with_last else now

    return _from_snapshots(snapshots, len(snapshots), model)


def between_snapshots(snapshots: Sequence[Any], span: int = 1, stretches: int = 1) -> Trajectory:
    """Stretches of ``span`` epochs of trainings, at random at every step, for `objectives.trajectory_matching`.

    The model is the pair of the variables where they begin and where they end, with a leading axis of ``stretches``.

    Args:
      snapshots: as in `at_snapshots`.

    Raises:
      InputError: ``span < 1``, ``stretches < 1``, or fewer than ``span + 1`` epochs.
    """
    at_least("span", span, 1)
    at_least("stretches", stretches, 1)
    at_least("the number of snapshots", len(snapshots), span + 1)
    model = lambda state, step: (state.at(state.epoch), state.at(state.epoch + span))  # noqa: E731
    return _from_snapshots(snapshots, len(snapshots) - span, model, (stretches,))


def _from_snapshots(
    snapshots: Sequence[Any], starts: int, model: Callable[[Snapshots, Array], Any], shape: tuple[int, ...] = ()
) -> Trajectory:
    """At one of the first ``starts`` epochs of a network, both at random at every step; a ``shape`` of them."""
    networks = len(jax.tree.leaves(snapshots[0])[0])

    def follow(key: PRNGKey, step: Array, state: Snapshots, synthetic: Synthetic, data: Examples) -> Snapshots:
        epoch_key, network_key = jax.random.split(key)
        epoch = jax.random.randint(epoch_key, shape, 0, starts)
        return Snapshots(state.variables, epoch, jax.random.randint(network_key, shape, 0, networks))

    def init(synthetic: Synthetic) -> Snapshots:
        zero = jnp.zeros(shape, jnp.int32)
        return Snapshots(jax.tree.map(lambda *leaves: jnp.stack(leaves), *snapshots), zero, zero)

    return Trajectory(init, follow, model)
