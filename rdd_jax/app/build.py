"""From the names and numbers of a configuration to the pieces that they stand for."""

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax

from rdd_jax import augment, grouping, networks, objectives, parameterise, risk, sampling, selection, trajectory
from rdd_jax import datasets as data_sets
from rdd_jax.app import runs
from rdd_jax.app.config import MATCHING, Distill, Evaluate, Select
from rdd_jax.augment import augment_by_name
from rdd_jax.contracts import Kernel
from rdd_jax.datasets import preprocess
from rdd_jax.datasets.corruptions import CORRUPTIONS
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.datasets.shifts import shift_by_name
from rdd_jax.distill import Distiller, make_distiller
from rdd_jax.errors import InputError, at_least, check_one_of, unknown
from rdd_jax.evaluation import LEARNERS, Learner, krr_learner, network_learner
from rdd_jax.grouping.features import features_by_name
from rdd_jax.kernels import kernel_by_name
from rdd_jax.networks import training
from rdd_jax.selection import initialise
from rdd_jax.types import Splits, Synthetic, centred_one_hot

METHODS = ("kip", "label-solve", *MATCHING)
LABELS = {False: ("fixed", "learned", "solved"), True: ("fixed", "soft")}
"""By whether the method matches by networks."""

OPTIMIZERS: dict[str, Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "sgd": lambda rate: optax.sgd(rate, 0.5),
}
SCHEDULES: dict[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    "constant": lambda rate, steps: rate,
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, max(steps, 1)),
}


def check_names(config: Distill) -> None:
    """Everything of a configuration that can be wrong without looking at the data; raises `InputError`."""
    for what, value, options in (
        ("method", config.method, METHODS),
        (f"labels of {config.method}", config.labels, LABELS[config.by_networks]),
        ("optimizer", config.optimizer, OPTIMIZERS),
        ("schedule", config.schedule, SCHEDULES),
        ("init_draw", config.init_draw, selection.DRAWS),
        ("init_strata", config.init_strata, ("class", "group")),
        ("importance", config.importance, sampling.LOSSES),
        ("preprocess", config.preprocess, preprocess.NAMES),
    ):
        check_one_of(what, value, options)
    for what in ("ipc", "steps", "checkpoint_every", "refit_every", "refresh_every", "pool", "batch", "eval_epochs"):
        at_least(what, getattr(config, what), 1)
    _check_positive(config, "reg", "label_reg", "zca_reg", "lr", "sharpness", "select_ridge")
    kernel_by_name(config.kernel, config.depth)
    if config.init not in initialise.NAMES and not Path(config.init).exists():
        raise unknown("init", config.init, (*initialise.NAMES, "a run folder", "an .npz file"))
    at_least("landmarks", config.landmarks, 0)
    sampler_of(config, 1)
    if config.init_strata == "group" and config.grouping == "none":
        raise InputError("init_strata is 'group', but grouping is 'none': choose a grouping (spurious+kmeans)")
    augment_by_name(config.augment)
    recipe_of(config)
    _check_networks(config)
    parameterisation_of(config)
    shift_by_name(config.shift, config.bias, config.share)
    # Checked whether used or not, as are bias and share.
    risk.check_tau(tau_of(config))
    at_least("soft_groups", config.soft_groups, 0)
    grouping_of(config)
    risk_of(config, 1)
    grouping.check_least(config.min_group)
    if config.labels == "solved" and config.grouping != "none":
        raise InputError(
            f"grouping is {config.grouping!r}, but solved labels are those of the mean over all examples: use fixed or "
            "learned labels"
        )
    if config.method == "label-solve" and config.grouping != "none":
        raise InputError(f"grouping is {config.grouping!r}, but label-solve has no risk over groups: use method kip")
    learner_names(config.learners, config.seeds)
    corruption_names(config.corruptions)


def _check_networks(config: Distill) -> None:
    """What only matters to methods that match; names and numbers are checked whether used or not."""
    for what, value, options in (
        ("net_train", config.net_train, ("none", "synthetic", "real")),
        ("net_groups", config.net_groups, ("nearest", "data")),
        ("distance", config.distance, objectives.DISTANCES),
    ):
        check_one_of(what, value, options)
    for what in ("net_period", "net_pool", "net_steps", "net_batch"):
        at_least(what, getattr(config, what), 1)
    _check_positive(config, "net_lr")
    network = network_of(config, config.network, 2)
    siamese_of(config)
    if not config.by_networks:
        return
    if config.grouping == "none":
        raise InputError(f"grouping is 'none', but {config.method} compares groups: use class, or a finer grouping")
    if config.method == "dm":
        return
    networks.check_batch(network, config.ipc * formed(config))
    if "stratified" not in config.sampler:
        raise InputError(
            f"sampler is {config.sampler!r}, but {config.method} compares gradients group by group: use stratified or "
            "stratified+importance"
        )


def check_select(config: Select) -> None:
    """Everything of a selection that can be wrong without looking at the data; raises `InputError`."""
    selection.select_by_name(config.method, config.draw)
    for what, value, options in (
        ("strata", config.strata, selection.STRATA),
        ("preprocess", config.preprocess, preprocess.NAMES),
    ):
        check_one_of(what, value, options)
    at_least("ipc", config.ipc, 1)
    at_least("landmarks", config.landmarks, 0)
    _check_positive(config, "select_ridge", "zca_reg")
    selection.check_promise(config.eps, config.delta)
    kernel_by_name(config.kernel, config.depth)
    shift_by_name(config.shift, config.bias, config.share)
    if grouping_of(Distill(grouping=config.grouping)) is None and config.strata == "group":
        raise InputError("strata 'group' needs groups and there are none: choose a grouping (labels, spurious+kmeans)")


def _check_positive(config: Distill | Select, *names: str) -> None:
    for what in names:
        if not 0 < getattr(config, what) < float("inf"):
            raise InputError(f"{what} is {getattr(config, what)}: it must be a positive number")


def learner_names(names: str, seeds: int) -> list[str]:
    """The learners of a comma-separated list; raises `InputError` on an unknown one or ``seeds < 1``."""
    at_least("seeds", seeds, 1)
    return _listed("learner", names, LEARNERS)


def corruption_names(names: str) -> list[str]:
    """The corruptions of a comma-separated list, which may be empty; raises `InputError` on an unknown one."""
    return _listed("corruption", names, CORRUPTIONS) if names else []


def _listed(what: str, names: str, options) -> list[str]:
    listed = [name.strip() for name in names.split(",")]
    for name in listed:
        check_one_of(what, name, options)
    return listed


def splits_of(data: str, shift: str, bias: float, share: float, seed: int) -> Splits:
    """The real data, shifted."""
    return shift_by_name(shift, bias, share)(seed, data_sets.load(data, seed))


def grouping_of(config: Distill) -> grouping.Grouping | None:
    """The grouping that a configuration names; None where all examples are one group."""
    features = features_by_name(config.features)
    return grouping.grouping_by_name(config.grouping, features, config.ipc, config.groups_per_class, config.soft_groups)


def tau_of(config: Distill) -> float:
    """The tail mass that a configuration names."""
    return 0.2 if config.tau is None else config.tau


def risk_of(config: Distill, groups: int) -> risk.Risk:
    """The risk that a configuration names, over ``groups`` groups."""
    within, across = (
        risk.measure_by_name(what, getattr(config, what), tau_of(config), config.sharpness)
        for what in ("within", "across")
    )
    return risk.grouped(within, across, groups)


def sampler_of(config: Distill, groups: int) -> sampling.Sampler:
    """The sampler that a configuration names, over ``groups`` groups."""
    return sampling.sampler_by_name(config.sampler, config.batch, groups, config.mix, config.unbiased)


def distiller_of(config: Distill, kernel: Kernel, groups: int, classes: int) -> Distiller:
    """The distiller that a configuration names, for that many groups and classes in the training data."""
    optimizer = OPTIMIZERS[config.optimizer](SCHEDULES[config.schedule](config.lr, config.steps))
    parts = {
        "sampler": sampler_of(config, groups),
        "optimizer": optimizer,
        "parameterisation": parameterisation_of(config),
        "augment": augment_by_name(config.augment),
    }
    if not config.by_networks:
        solved = objectives.kip_solved(kernel, config.reg, config.label_reg)
        objective = solved if config.labels == "solved" else objectives.kip(kernel, config.reg)
        return make_distiller(objective, risk=risk_of(config, groups), **parts)
    network = network_of(config, config.network, classes)
    if config.method == "dm":
        objective = objectives.distribution_matching(network, groups, siamese_of(config))
    else:
        distance = objectives.DISTANCES[config.distance]
        objective = objectives.gradient_matching(network, groups, distance, siamese_of(config))
    # The risk of rdd is that of the networks' training.
    across = risk.grouped(risk.mean, risk.mean, groups) if config.method == "rdd" else risk_of(config, groups)
    return make_distiller(objective, risk=across, trajectory=trajectory_of(config, network, groups, classes), **parts)


def network_of(config: Distill | Evaluate, name: str, classes: int) -> networks.Network:
    """The network of that name, in the size that a configuration gives where it has one."""
    if name == "convnet":
        return networks.convnet(classes, config.net_depth, config.net_width, config.norm)
    if name == "mlp":
        return networks.mlp(classes, config.net_width)
    return networks.network_by_name(name, classes)


def learners_of(config: Distill | Evaluate, kernel: Kernel, reg: float, classes: int) -> dict[str, Learner]:
    """The learners that a configuration names: ``krr`` with that kernel and ridge, and networks by its recipe."""
    recipe = recipe_of(config)
    return {
        name: krr_learner(kernel, reg) if name == "krr" else network_learner(network_of(config, name, classes), recipe)
        for name in learner_names(config.learners, config.seeds)
    }


def siamese_of(config: Distill) -> augment.Augment:
    """The augmentation of real and synthetic images alike."""
    return augment.none if config.siamese == "none" else augment.dsa(config.siamese)


def parameterisation_of(config: Distill) -> parameterise.Parameterisation:
    """The parameterisation that a configuration names."""
    labels = "fixed" if config.labels == "solved" else config.labels
    return parameterise.parameterisation_by_name(config.parameterisation, labels, config.factor)


def formed(config: Distill) -> int:
    """Images that the storage of one decodes to."""
    return config.factor**2 if config.parameterisation == "multi-formation" else 1


def recipe_of(config: Distill | Evaluate) -> training.Recipe:
    """The recipe by which networks are trained in an evaluation."""
    if not 0 <= config.eval_average < 1:
        raise InputError(f"eval_average is {config.eval_average}: it is a decay, at least 0 and below 1")
    at_least("eval_epochs", config.eval_epochs, 1)
    return training.Recipe(
        config.eval_epochs, augment=augment_by_name(config.eval_augment), average=config.eval_average
    )


def trajectory_of(config: Distill, network: networks.Network, groups: int, classes: int) -> trajectory.Trajectory:
    """The networks that a configuration matches at."""
    if config.net_train == "none":
        return trajectory.fresh(network)
    optimizer = optax.sgd(config.net_lr)
    if config.net_train == "synthetic":
        lesson = trajectory.on_synthetic(network, optimizer, config.net_steps, config.net_batch, siamese_of(config))
        return trajectory.trained(network, lesson, optimizer, config.net_period, pool=config.net_pool)
    nearest = config.net_groups == "nearest"
    robust = risk_of(config, config.ipc * formed(config) * classes if nearest else groups)
    sampler = sampling.uniform(config.net_batch) if nearest else sampling.by_group(config.net_batch, groups)
    lesson = trajectory.on_real(network, optimizer, sampler, config.net_steps, robust, nearest)
    return trajectory.trained(network, lesson, optimizer, config.net_period, warm=True, pool=config.net_pool)


def pool_of(prepared: Prepared, kernel: Kernel, config: Distill | Select, groups: np.ndarray | None) -> selection.Pool:
    """The training examples as what is selected from."""
    train = prepared.splits.train
    ridge = config.select_ridge
    return selection.Pool(prepared.train, train.labels, train.classes, groups, kernel, ridge, config.landmarks)


def initial_set(
    config: Distill, prepared: Prepared, pool: selection.Pool
) -> tuple[Synthetic, selection.Selection | None]:
    """The synthetic set before the first step, and the selection that it is where it is one.

    Raises:
      InputError: a set from a file that has not ``ipc`` images of every class; see `runs.set_from`.
    """
    classes = len(prepared.class_names)
    ipc = config.ipc * formed(config)
    codes = np.repeat(np.arange(classes), ipc)
    if config.init not in initialise.NAMES:
        found = runs.set_from(Path(config.init), prepared)
        order = np.argsort(np.argmax(found.labels, 1), kind="stable")
        if not np.array_equal(np.argmax(found.labels, 1)[order], codes):
            counts = np.bincount(np.argmax(found.labels, 1), minlength=classes)
            raise InputError(
                f"{config.init!r} has {counts.min()} to {counts.max()} images a class, but {ipc} are wanted: "
                "give the same number"
            )
        return Synthetic(found.images[order], found.labels[order]), None
    strata = selection.strata_of(pool, config.init_strata, ipc)
    start = initialise.initialise(config.init, config.seed, pool, strata, config.init_draw)
    return Synthetic(jnp.asarray(start.images), centred_one_hot(codes, classes)), start.selection
