"""What the methods that match by networks share: DC, DSA, DM and RDD."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from rdd_jax.app.methods.base import Method, filled
from rdd_jax.app.methods.networked import Taught, TaughtOptions, as_distributions
from rdd_jax.app.options import Option, count, one_of
from rdd_jax.app.sections import (
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
)
from rdd_jax.app.set_options import NetworkSetOptions
from rdd_jax.augment import SHARED, dsa, none
from rdd_jax.contracts import Augment
from rdd_jax.errors import InputError, check_one_of
from rdd_jax.grouping import split_names
from rdd_jax.sampling import SAMPLERS
from rdd_jax.types import Data, Synthetic

__all__ = [
    "Matching",
    "MatchingBatchOptions",
    "MatchingSetOptions",
    "SiameseOptions",
    "siamese_of",
]

MATCHING_SAMPLERS = tuple(name for name in SAMPLERS if name.startswith("stratified"))
"""Those that draw as many of every group, in order: matching compares group by group."""


@dataclass(frozen=True)
class MatchingSetOptions(NetworkSetOptions):
    """The set of a method that matches gradients."""

    labels: Annotated[str, one_of(("fixed", "soft"), "one-hot, or distributions by the optimiser")] = "fixed"


@dataclass(frozen=True)
class MatchingBatchOptions(BatchOptions):
    """The batches of a matching method."""

    batch: Annotated[int, count("real examples of a class a step, evenly over its groups")] = 256
    sampler: Annotated[str, one_of(MATCHING_SAMPLERS, "how they are drawn")] = "stratified"


def _check_siamese(name: str, value: str) -> None:
    for part in value.split("+") if value != "none" else ():
        check_one_of(name, part, SHARED)


SIAMESE = Option(f"one a step, of both sides: none, or some of {'+'.join(SHARED)}", "NAME+...", _check_siamese)


@dataclass(frozen=True)
class SiameseOptions:
    """What is done to real and synthetic images alike."""

    siamese: Annotated[str | None, SIAMESE] = None


def siamese_of(siamese: str | None, shared: bool = True) -> Augment:
    """The augmentation of real and synthetic images alike; not ``shared``, for training, of each image by itself."""
    return none if siamese in (None, "none") else dsa(siamese, shared)


@dataclass(frozen=True)
class Matching(Taught):
    """A method that matches what networks make of real and of synthetic images, a distance a group."""

    data: DataOptions = DataOptions()
    set: NetworkSetOptions = NetworkSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    risk: RiskOptions = RiskOptions()
    batch: MatchingBatchOptions = MatchingBatchOptions()
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=0.1)
    network: TaughtOptions = TaughtOptions()
    matching: SiameseOptions = SiameseOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None)

    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "class", "init_strata": "class"}
    ROBUST: ClassVar[dict[str, Any]] = {"grouping": "discovered", "init_strata": "group"}

    def resolved(self, train: Data) -> Method:
        # The set comes before groups that are nearest to it.
        nearest = "nearest" in split_names(self.groups.grouping or "")
        own = filled(self, init_strata="class") if nearest else self
        return Taught.resolved(own, train)

    def check(self) -> None:
        super().check()
        if self.grouping == "none":
            raise InputError("grouping is 'none', but matching compares groups: use class, or a finer grouping")

    def started(self, start: Synthetic) -> Synthetic:
        return as_distributions(start)

    def own_augment(self) -> Augment:
        return siamese_of(self.matching.siamese, shared=False)

    def drawn(self, classes: int) -> BatchOptions:
        return replace(self.batch, batch=self.batch.batch * classes)
