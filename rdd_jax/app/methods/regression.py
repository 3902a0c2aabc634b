"""FRePo: regression on the features of networks that are trained on the set as it grows.

Zhou, Nezhadarya & Ba 2022, *Dataset Distillation using Neural Feature Regression*: a ridge of 1e-6, labels learned from
their one-hot start divided by sqrt(k / 10), mirror images in the regression of photographs, ten networks that take
turns, each one step of Adam at 3e-4 on the set a turn and anew after a hundred. Published are 500,000 steps of LAMB at
3e-4, real batches of 1,024, and networks whose width doubles from block to block with batch norm: the defaults here are
for runs of minutes.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import optax

from rdd_jax.app.methods.kip import KERNEL_SAMPLERS
from rdd_jax.app.methods.networked import ByNetworks, NetworkOptions, TrainingOptions, dsa_parts
from rdd_jax.app.options import count, number, one_of
from rdd_jax.app.sections import (
    BatchOptions,
    DataOptions,
    EvaluationOptions,
    LearnedSetOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
)
from rdd_jax.contracts import Objective
from rdd_jax.networks import Network
from rdd_jax.networks.training import are_distributions
from rdd_jax.objectives import feature_regression, on_features
from rdd_jax.trajectory import Trajectory, on_synthetic, trained
from rdd_jax.types import Data, Synthetic

__all__ = ["FRePo", "FeatureOptions", "FeatureRegression", "PoolOptions", "TargetSetOptions"]


@dataclass(frozen=True)
class TargetSetOptions(LearnedSetOptions):
    """The set, whose labels are targets of a regression."""

    labels: Annotated[str, one_of(("learned", "fixed"), "by the optimiser, or one-hot")] = "learned"


@dataclass(frozen=True)
class FeatureBatchOptions(BatchOptions):
    """The batches of a regression on features."""

    batch: Annotated[int, count("real examples a step")] = 512
    sampler: Annotated[str | None, one_of(KERNEL_SAMPLERS, "how they are drawn; unset: see --robust")] = None


@dataclass(frozen=True)
class FeatureOptions:
    """The regression of the steps."""

    feature_reg: Annotated[float, number("of the steps: ridge, on the scale of --reg")] = 1e-6


@dataclass(frozen=True)
class PoolOptions(TrainingOptions):
    """The training of the networks on the set."""

    net_period: Annotated[int, count("turns for which a network is kept")] = 100
    net_epochs: Annotated[int, count("its epochs over the set a turn")] = 1
    net_batch: Annotated[int, count("synthetic images a training step")] = 1000
    net_lr: Annotated[float, number("its learning rate (Adam)")] = 3e-4
    net_pool: Annotated[int, count("networks that take turns, their ages evenly apart")] = 10


@dataclass(frozen=True)
class FeatureRegression(ByNetworks):
    """A regression on what networks make of images."""

    data: DataOptions = DataOptions()
    set: TargetSetOptions = TargetSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    risk: RiskOptions = RiskOptions(across=None)
    batch: FeatureBatchOptions = FeatureBatchOptions()
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.01, schedule="cosine")
    network: NetworkOptions = NetworkOptions()
    regression: FeatureOptions = FeatureOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None, eval_augment=None)

    PLAIN: ClassVar[dict[str, Any]] = {"grouping": "none", "across": "mean", "sampler": "uniform"}
    ROBUST: ClassVar[dict[str, Any]] = {"grouping": "discovered", "across": "entropic", "sampler": "group"}

    def published(self, train: Data) -> dict[str, Any]:
        return {"init_strata": "class", "eval_augment": dsa_parts(train)["eval_augment"]}

    def started(self, start: Synthetic) -> Synthetic:
        # Labels that another run has learned stay as they are.
        if not are_distributions(start.labels):
            return start
        return start._replace(labels=start.labels / jnp.sqrt(start.labels.shape[1] / 10))


@dataclass(frozen=True)
class FRePo(FeatureRegression):
    """Regression on the features of networks that are trained on the set as it grows."""

    training: PoolOptions = PoolOptions()

    def objective(self, network: Network) -> Objective:
        return feature_regression(on_features(network, self.regression.feature_reg), mirror=bool(self.data.mirror))

    def trajectory(self, network: Network) -> Trajectory:
        own, optimizer = self.training, optax.adam(self.training.net_lr)
        lesson = on_synthetic(network, optimizer, own.net_epochs, own.net_batch, error="squared")
        return trained(network, lesson, optimizer, own.net_period, pool=own.net_pool)
