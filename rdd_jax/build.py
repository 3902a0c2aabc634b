"""From the names and numbers of a configuration to the pieces that they stand for."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from rdd_jax import data as data_sets
from rdd_jax import grouping, initialise, objectives, preprocess, risk
from rdd_jax.augment import augment_by_name
from rdd_jax.config import Distill
from rdd_jax.corruptions import CORRUPTIONS
from rdd_jax.distill import Distiller, make_distiller
from rdd_jax.errors import InputError, at_least, unknown
from rdd_jax.evaluate import LEARNERS
from rdd_jax.features import features_by_name
from rdd_jax.kernels import kernel_by_name
from rdd_jax.parameterise import pixels
from rdd_jax.preprocess import Prepared
from rdd_jax.sampling import sampler_by_name
from rdd_jax.shifts import shift_by_name
from rdd_jax.types import Kernel, Splits, Synthetic, centred_one_hot

METHODS = ("kip", "label-solve")
LABELS = ("fixed", "learned", "solved")
SCHEDULES: dict[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    "constant": lambda rate, steps: rate,
    "cosine": lambda rate, steps: optax.cosine_decay_schedule(rate, max(steps, 1)),
}


def check_names(config: Distill) -> None:
    """Everything of a configuration that can be wrong without looking at the data; raises `InputError`."""
    for what, value, options in (
        ("method", config.method, METHODS),
        ("labels", config.labels, LABELS),
        ("schedule", config.schedule, SCHEDULES),
        ("init", config.init, initialise.INITIALISERS),
        ("preprocess", config.preprocess, preprocess.NAMES),
    ):
        if value not in options:
            raise unknown(what, value, options)
    for what in ("ipc", "steps", "checkpoint_every", "refit_every"):
        at_least(what, getattr(config, what), 1)
    for what in ("reg", "label_reg", "zca_reg", "lr", "sharpness"):
        if not 0 < getattr(config, what) < float("inf"):
            raise InputError(f"{what} is {getattr(config, what)}: it must be a positive number")
    kernel_by_name(config.kernel, config.depth)
    sampler_by_name(config.sampler, config.batch)
    augment_by_name(config.augment)
    shift_by_name(config.shift, config.bias, config.share)
    # Checked whether used or not, as are bias and share.
    risk.check_tau(config.tau)
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
        if name not in options:
            raise unknown(what, name, options)
    return listed


def splits_of(data: str, shift: str, bias: float, share: float, seed: int) -> Splits:
    """The real data, shifted."""
    return shift_by_name(shift, bias, share)(seed, data_sets.load(data, seed))


def grouping_of(config: Distill) -> grouping.Grouping | None:
    """The grouping that a configuration names; None where all examples are one group."""
    features = features_by_name(config.features)
    return grouping.grouping_by_name(config.grouping, features, config.ipc, config.groups_per_class, config.soft_groups)


def risk_of(config: Distill, groups: int) -> risk.Risk:
    """The risk that a configuration names, over ``groups`` groups."""
    within, across = (
        risk.measure_by_name(what, getattr(config, what), config.tau, config.sharpness) for what in ("within", "across")
    )
    return risk.grouped(within, across, groups)


def distiller_of(config: Distill, kernel: Kernel, groups: int = 1) -> Distiller:
    """The distiller that a configuration names."""
    if config.labels == "solved":
        objective = objectives.kip_solved(kernel, config.reg, config.label_reg)
    else:
        objective = objectives.kip(kernel, config.reg)
    return make_distiller(
        objective,
        sampler=sampler_by_name(config.sampler, config.batch, groups),
        risk=risk_of(config, groups),
        optimizer=optax.adam(SCHEDULES[config.schedule](config.lr, config.steps)),
        parameterisation=pixels(learn_labels=config.labels == "learned"),
        augment=augment_by_name(config.augment),
    )


def initial_set(config: Distill, prepared: Prepared) -> Synthetic:
    """The synthetic set before the first step."""
    labels = prepared.splits.train.labels
    images = initialise.initialiser_by_name(config.init)(config.seed, prepared.train, labels, config.ipc)
    codes = np.repeat(np.arange(len(prepared.class_names)), config.ipc)
    return Synthetic(jnp.asarray(images), centred_one_hot(codes, len(prepared.class_names)))
