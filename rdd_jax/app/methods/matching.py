"""What the methods that match by networks share: DC, DSA, DM and RDD."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from rdd_jax.app import pieces
from rdd_jax.app.methods.base import Method, Stepped, filled
from rdd_jax.app.options import Option, count, number, one_of
from rdd_jax.app.sections import (
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    LearnedSetOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
    SizeOptions,
)
from rdd_jax.augment import SHARED, dsa, none
from rdd_jax.contracts import Augment, Kernel, Learner, Objective, Risk
from rdd_jax.distill import Distiller, compose
from rdd_jax.errors import InputError, check_one_of
from rdd_jax.evaluation import recipe_learner
from rdd_jax.grouping import split_names
from rdd_jax.networks import NETWORKS, Network, check_images
from rdd_jax.networks.training import are_distributions
from rdd_jax.sampling import SAMPLERS
from rdd_jax.trajectory import Trajectory
from rdd_jax.types import Data, Synthetic, centred_one_hot

__all__ = [
    "Matching",
    "MatchingBatchOptions",
    "MatchingSetOptions",
    "NetworkOptions",
    "SiameseOptions",
    "TrainingOptions",
    "dsa_parts",
    "siamese_of",
]

MATCHING_SAMPLERS = tuple(name for name in SAMPLERS if name.startswith("stratified"))
"""Those that draw as many of every group, in order: matching compares group by group."""


@dataclass(frozen=True)
class MatchingSetOptions(LearnedSetOptions):
    """The set of a method that matches gradients."""

    labels: Annotated[str, one_of(("fixed", "soft"), "one-hot, or distributions by the optimiser")] = "fixed"


@dataclass(frozen=True)
class MatchingBatchOptions(BatchOptions):
    """The batches of a matching method."""

    batch: Annotated[int, count("real examples of a class a step, evenly over its groups")] = 256
    sampler: Annotated[str, one_of(MATCHING_SAMPLERS, "how they are drawn")] = "stratified"


@dataclass(frozen=True)
class NetworkOptions(SizeOptions):
    """The network that is matched at."""

    network: Annotated[str, one_of(NETWORKS, "what is matched at")] = "convnet"


def _check_siamese(name: str, value: str) -> None:
    for part in value.split("+") if value != "none" else ():
        check_one_of(name, part, SHARED)


SIAMESE = Option(f"one a step, of both sides: none, or some of {'+'.join(SHARED)}", "NAME+...", _check_siamese)


@dataclass(frozen=True)
class SiameseOptions:
    """What is done to real and synthetic images alike."""

    siamese: Annotated[str | None, SIAMESE] = None


@dataclass(frozen=True)
class TrainingOptions:
    """The training of the network between steps."""

    net_period: Annotated[int | None, count("steps for which a network is kept; unset: as published for --ipc")] = None
    net_batch: Annotated[int, count("examples a training step")] = 256
    net_lr: Annotated[float, number("its learning rate (SGD)")] = 0.01
    net_pool: Annotated[int, count("networks that take turns, their ages evenly apart")] = 1


def dsa_parts(train: Data) -> dict[str, Any]:
    """The augmentations of DSA as published, in matching and in the networks' training; digits are not mirrored."""
    parts = [name for name in SHARED if train.mirror or name != "flip"]
    return {"siamese": "+".join(parts), "recipe": "dsa" if train.mirror else "dsa,augment=dsa-no-flip"}


def siamese_of(siamese: str | None, shared: bool = True) -> Augment:
    """The augmentation of real and synthetic images alike; not ``shared``, for training, of each image by itself."""
    return none if siamese in (None, "none") else dsa(siamese, shared)


@dataclass(frozen=True)
class Matching(Stepped):
    """A method that matches what networks make of real and of synthetic images, a distance a group."""

    data: DataOptions = DataOptions()
    set: LearnedSetOptions = LearnedSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    risk: RiskOptions = RiskOptions()
    batch: MatchingBatchOptions = MatchingBatchOptions()
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=0.1)
    network: NetworkOptions = NetworkOptions()
    matching: SiameseOptions = SiameseOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None)

    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "class", "init_strata": "class"}
    ROBUST: ClassVar[dict[str, Any]] = {"grouping": "discovered", "init_strata": "group"}

    def published(self, train: Data) -> dict[str, Any]:
        """Published settings that depend on the data or on the size of the set."""
        return {}

    def resolved(self, train: Data) -> Method:
        own = dict(self.ROBUST if self.groups.robust else self.PLAIN)
        if "nearest" in split_names(self.groups.grouping or ""):  # the set comes before its groups
            own["init_strata"] = "class"
        return filled(super().resolved(train), **{"siamese": "none", **self.published(train)}, **own)

    def published_recipe(self, train: Data) -> str:
        published, at = self.published(train).get("recipe", "dc"), self.network
        sizes = f"depth={at.net_depth},width={at.net_width},growth={at.net_growth},norm={at.norm}"
        return f"{published},network={at.network},{sizes}"

    def check(self) -> None:
        super().check()
        pieces.network_of(self.network, self.network.network, 2)
        if self.grouping == "none":
            raise InputError("grouping is 'none', but matching compares groups: use class, or a finer grouping")

    def check_images(self, shape: Sequence[int]) -> None:
        super().check_images(shape)
        name = self.network.network
        check_images(pieces.network_of(self.network, name, 2), tuple(shape), f"network {name!r}")

    def validator(self, kernel: Kernel, classes: int) -> Learner:
        return recipe_learner(self.recipe(classes), classes)

    def started(self, start: Synthetic) -> Synthetic:
        # Networks are taught distributions; a set from kernel regression may have learned other labels.
        if are_distributions(start.labels):
            return start
        return start._replace(labels=centred_one_hot(start.of_class, start.labels.shape[1]))

    def drawn(self, classes: int) -> BatchOptions:
        return replace(self.batch, batch=self.batch.batch * classes)

    def check_start(self, kernel: Kernel, synthetic: Synthetic) -> None:
        """Networks take any set."""

    def objective(self, network: Network) -> Objective:
        """The objective."""
        raise NotImplementedError

    def trajectory(self, network: Network) -> Trajectory:
        """The networks of the steps."""
        raise NotImplementedError

    def across(self) -> Risk:
        """The risk over the distances of the groups."""
        return pieces.risk_of(self.risk)

    def distiller(self, kernel: Kernel, classes: int) -> Distiller:
        network = pieces.network_of(self.network, self.network.network, classes)
        return compose(
            self.objective(network),
            risk=self.across(),
            trajectory=self.trajectory(network),
            parameterisation=pieces.parameterisation_of(self.set, self.label_kind),
            **pieces.steps_of(self.drawn(classes), self.optimiser),
        )
