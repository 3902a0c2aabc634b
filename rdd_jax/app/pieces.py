"""From the sections of a configuration to the pieces that they stand for; every function is handed its own section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdd_jax import grouping, parameterise, risk, saving, selection
from rdd_jax.app.optimisers import OPTIMIZERS, SCHEDULES
from rdd_jax.app.sections import (
    BatchOptions,
    EvaluationOptions,
    GroupOptions,
    KernelOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
    SizeOptions,
)
from rdd_jax.app.set_options import BY_KIP, LearnedSetOptions, SelectionOptions, SetOptions
from rdd_jax.augment import augment_by_name
from rdd_jax.contracts import Kernel, Learner, Risk, Sampler
from rdd_jax.datasets.corruptions import corrupt
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.errors import InputError
from rdd_jax.evaluation import held_out, krr_learner, learner_name, recipe_learner, with_rates
from rdd_jax.kernels import kernel_by_name
from rdd_jax.networks import Network, training
from rdd_jax.networks.recipes import Recipe, network_by_recipe, sizes_of
from rdd_jax.progress import Stages, heard
from rdd_jax.sampling import SAMPLERS
from rdd_jax.selection import Pool, Selection
from rdd_jax.selection.initialise import initialise
from rdd_jax.types import Data, Splits, Synthetic, centred_one_hot

__all__ = [
    "check_groups",
    "check_learners",
    "check_stored",
    "found_rates",
    "grouping_of",
    "initial_set",
    "kernel_of",
    "learners_of",
    "listed",
    "named",
    "network_of",
    "parameterisation_of",
    "pool_of",
    "recipes_of",
    "risk_of",
    "sampler_of",
    "steps_of",
]


def listed(names: str | None) -> list[str]:
    """The names of a list with commas; none where it is empty or unset."""
    return [name.strip() for name in names.split(",")] if names else []


# --- kernels and networks ----------------------------------------------------------------------------


def kernel_of(options: KernelOptions, train: Data) -> Kernel:
    """The kernel of such images and classes.

    Raises:
      InputError: one that such images cannot have, said before anything is computed.
    """
    recipe = Recipe(options.kernel_network, options.depth, options.kernel_width, norm="none")
    kernel = kernel_by_name(
        options.kernel,
        depth=options.depth,
        network=network_by_recipe(recipe, train.classes),
        count=options.kernel_count,
        seed=options.kernel_seed,
        budget=options.kernel_memory * 2**20,
    )
    image = jax.ShapeDtypeStruct((1, *train.images.shape[1:]), "float32")
    jax.eval_shape(kernel, image, image)
    return kernel


def network_of(size: SizeOptions, name: str, classes: int, shape: Sequence[int] = (32, 32, 3)) -> Network:
    """The network of that name for images of ``shape = (h, w, c)``, in that size where it has one."""
    return network_by_recipe(size.recipe(name, shape), classes)


def named(recipe: Recipe) -> str:
    """The network of a recipe, for messages: with its depth, where it has one."""
    depth = f" of depth {recipe.depth}" if "depth" in sizes_of(recipe) else ""
    return f"{recipe.network!r}{depth}"


def recipes_of(options: EvaluationOptions, recipe: Recipe) -> list[Recipe]:
    """The recipe for each of the networks of an evaluation."""
    return [recipe.of(name) for name in listed(options.learners) if name != "krr"]


def found_rates(
    options: EvaluationOptions, recipe: Recipe, synthetic: Synthetic, prepared: Prepared, stages: Stages
) -> Recipe:
    """The recipe, with the rates of networks that it is not of where they are to be found."""
    if not options.find_rates:
        return recipe
    stages.begin("finding rates")
    with heard(stages.progress):
        return with_rates(recipe, _others(options, recipe), synthetic, prepared)


def _others(options: EvaluationOptions, recipe: Recipe) -> list[str]:
    """The networks of an evaluation that the recipe is not of."""
    return [name for name in listed(options.learners) if name not in ("krr", recipe.network)]


def learners_of(
    options: EvaluationOptions, recipes: Sequence[Recipe], regression: RegressionOptions, images: int, real: Prepared
) -> dict[str, Learner]:
    """The learners of an evaluation on a set of so many images, by name: ``krr``, and networks by recipes.

    Args:
      real: the data that the set stands for, by whose validation split a recipe may stop.
    """
    learners: dict[str, Learner] = {}
    train = real.splits.train
    if "krr" in listed(options.learners):
        learners["krr"] = krr_learner(kernel_of(regression, train), regression.reg)
    classes, stops_by = train.classes, held_out(real)
    return learners | {learner_name(one, images, classes): recipe_learner(one, classes, stops_by) for one in recipes}


def check_learners(options: EvaluationOptions, recipe: Recipe, images: int, splits: Splits) -> None:
    """Raises `InputError` where a learner cannot be trained on so many such images, or a corruption cannot be had."""
    shape = splits.train.images.shape[1:]
    for one in recipes_of(options, recipe):
        network = network_by_recipe(one, splits.train.classes)
        training.check_training(network, one, (images, *shape), f"learner {named(one)}")
    if options.find_rates and not _others(options, recipe):
        other = "mlp" if recipe.network != "mlp" else "convnet"
        raise InputError(
            f"find_rates is on, but learners is {options.learners!r}: add a network that the recipe is not of ({other})"
        )
    for name in listed(options.corruptions):
        corrupt(name, 0, splits.test.images[:1])


# --- groups, risk, batches, steps --------------------------------------------------------------------


def grouping_of(options: GroupOptions, images: int) -> grouping.Grouping | None:
    """The grouping, beside a set of so many images a class; None where all examples are one group."""
    if options.grouping in (None, "none"):
        return None
    return grouping.grouping_by_name(
        options.grouping, options.features, images, options.groups_per_class, options.soft_groups
    )


def check_groups(options: GroupOptions, train: Data) -> None:
    """Raises `InputError` where the grouping cannot group such data, said before anything is computed."""
    counts = np.bincount(train.labels, minlength=train.classes)
    asked = options.groups_per_class or 0
    parts = grouping.split_names(options.grouping or "")
    if any(part.startswith("kmeans") for part in parts) and counts.min() < asked:
        name = train.class_names[counts.argmin()]
        raise InputError(
            f"groups_per_class is {asked}, but class {name!r} has {counts.min()} training examples: lower it"
        )
    for file in filter(grouping.is_file, parts):
        grouping.from_file(Path(file)).fit(0, grouping.Subject(train.images, train.labels, train.classes))


def risk_of(options: RiskOptions) -> Risk:
    """The risk."""
    assert options.across is not None, "resolved first"
    within, across = (
        risk.measure_by_name(names, options.tau, options.sharpness) for names in (options.within, options.across)
    )
    return risk.grouped(within, across)


def sampler_of(options: BatchOptions) -> Sampler:
    """The sampler of a batch section."""
    assert options.sampler is not None, "resolved first"
    return SAMPLERS.make(options.sampler, batch=options.batch, mix=options.mix, unbiased=options.unbiased)


def steps_of(batch: BatchOptions, optimiser: OptimiserOptions) -> dict[str, Any]:
    """What `distill.compose` is told of batches and steps."""
    rate = SCHEDULES.make(optimiser.schedule, lr=optimiser.lr, steps=optimiser.steps)
    return {
        "sampler": sampler_of(batch),
        "augment": augment_by_name(batch.augment),
        "optimizer": OPTIMIZERS.make(optimiser.optimizer, rate=rate),
    }


# --- the set -----------------------------------------------------------------------------------------


def parameterisation_of(options: LearnedSetOptions, labels: str) -> parameterise.Parameterisation:
    """How the set is stored."""
    return parameterise.parameterisation_by_name(options.parameterisation, labels, options.factor)


def check_stored(options: LearnedSetOptions, shape: Sequence[int]) -> None:
    """Raises `InputError` where images of that shape cannot be stored so."""
    if options.parameterisation == "multi-formation":
        parameterise.check_factor(options.factor, tuple(shape))


def pool_of(prepared: Prepared, kernel: Kernel, options: SelectionOptions, groups: np.ndarray | None) -> Pool:
    """The training examples as what is selected from."""
    train = prepared.splits.train
    landmarks = options.landmarks or 0
    return Pool(prepared.train, train.labels, train.classes, groups, kernel, options.select_ridge, landmarks)


def initial_set(
    options: SetOptions, images: int, strata: str, seed: int, prepared: Prepared, pool: Pool
) -> tuple[Synthetic, Selection | None]:
    """The synthetic set before the first step, and the selection that it is where it is one.

    Args:
      images: a class, as decoded.
      strata: ``class`` or ``group``.

    The set that ``kip`` starts from is a random one: `rdd_jax.app.kip_start` goes on with it.

    Raises:
      InputError: a set from a file that has not so many images of every class; see `saving.set_from`.
    """
    classes = len(prepared.class_names)
    codes = np.repeat(np.arange(classes), images)
    if options.init not in options.STARTS:
        found = saving.set_from(Path(options.init), prepared)
        order = np.argsort(found.of_class, kind="stable")
        if not np.array_equal(found.of_class[order], codes):
            counts = np.bincount(found.of_class, minlength=classes)
            raise InputError(
                f"{options.init!r} has {counts.min()} to {counts.max()} images a class, but {images} are wanted: "
                "give the same number"
            )
        return Synthetic(found.images[order], found.labels[order], classes=jnp.asarray(codes)), None
    init = "random" if options.init == BY_KIP else options.init  # which it begins with
    start = initialise(init, seed, pool, selection.strata_of(pool, strata, images), options.init_draw)
    return Synthetic(jnp.asarray(start.images), centred_one_hot(codes, classes)), start.selection
