"""FRePo, RFAD and RCIG: regression on what networks make of images. The defaults are for runs of minutes.

FRePo, Zhou, Nezhadarya & Ba 2022, *Dataset Distillation using Neural Feature Regression*: a ridge of 1e-6, labels
learned from a one-hot start divided by sqrt(k / 10), mirror images in the regression of photographs, ten networks that
take turns, each a step of Adam at 3e-4 on the set a turn, and anew after a hundred. Published are 500,000 steps of LAMB
at 3e-4, batches of 1,024, and networks with batch norm whose width doubles from block to block.

RFAD, Loo, Hasani, Amini & Rus 2022, *Efficient Dataset Distillation Using Random Feature Approximation*: a ridge of
5e-3, a kernel of 2 phi phi^T + 0.01, AdaBelief at 1e-3. Published are eight networks of width 256 without
normalisation, and batches of 5,120.

RCIG, Loo, Hasani, Lechner & Rus 2023, *Dataset Distillation with Convexified Implicit Gradients*: AdaBelief at 3e-3 and
labels kept apart by half of what FRePo asks. Published are 10,000 steps, thirty networks without normalisation that are
given 1 to 15 steps a turn at 5e-5, and the average of the set over its last steps.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
import optax

from rdd_jax.app import pieces
from rdd_jax.app.methods.kip import Kip, KipBatchOptions
from rdd_jax.app.methods.networked import Taught, TaughtOptions, TrainingOptions
from rdd_jax.app.options import count, number, one_of
from rdd_jax.app.sections import (
    DataOptions,
    EvaluationOptions,
    MethodGroupOptions,
    OptimiserOptions,
    RegressionOptions,
    RiskOptions,
)
from rdd_jax.app.set_options import NetworkSetOptions
from rdd_jax.checks import are_distributions
from rdd_jax.contracts import Objective
from rdd_jax.errors import InputError
from rdd_jax.networks import Network, ensemble
from rdd_jax.objectives import feature_regression, on_features, on_tangents
from rdd_jax.trajectory import Trajectory, fresh, on_synthetic, trained
from rdd_jax.types import Data, Synthetic

__all__ = [
    "RCIG",
    "RFAD",
    "FRePo",
    "FeatureBatchOptions",
    "FeatureOptions",
    "FeatureRegression",
    "PoolOptions",
    "SeveralOptions",
    "TargetSetOptions",
]


@dataclass(frozen=True)
class TargetSetOptions(NetworkSetOptions):
    """The set, whose labels are targets of a regression."""

    labels: Annotated[str, one_of(("learned", "fixed"), "by the optimiser, or one-hot")] = "learned"


@dataclass(frozen=True)
class FeatureBatchOptions(KipBatchOptions):
    """The batches of a regression on features: KIP's, but for their size."""

    batch: Annotated[int, count("real examples a step")] = 512


FEATURE_REG = number("ridge of the steps, as a fraction of the mean of the feature kernel's diagonal")


@dataclass(frozen=True)
class FeatureOptions:
    """The regression of the steps."""

    feature_reg: Annotated[float, FEATURE_REG] = 1e-6


@dataclass(frozen=True)
class PoolOptions(TrainingOptions):
    """The training of the networks on the set."""

    net_period: Annotated[int, count("turns for which a network is kept")] = 100
    net_epochs: Annotated[int, count("its epochs over the set a turn")] = 1
    net_batch: Annotated[int, count("synthetic images a training step")] = 1000
    net_lr: Annotated[float, number("its learning rate (Adam)")] = 3e-4
    net_pool: Annotated[int, count("networks that take turns, their ages evenly apart")] = 10


@dataclass(frozen=True)
class FeatureRegression(Taught):
    """A regression on what networks make of images."""

    data: DataOptions = DataOptions()
    set: TargetSetOptions = TargetSetOptions()
    groups: MethodGroupOptions = MethodGroupOptions()
    risk: RiskOptions = RiskOptions(across=None)
    batch: FeatureBatchOptions = FeatureBatchOptions()
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.01, schedule="cosine")
    network: TaughtOptions = TaughtOptions()
    regression: FeatureOptions = FeatureOptions()
    kernel: RegressionOptions = RegressionOptions()
    evaluation: EvaluationOptions = EvaluationOptions(learners=None)

    # One loss an example, as in KIP.
    PLAIN: ClassVar[dict[str, Any]] = Kip.PLAIN
    ROBUST: ClassVar[dict[str, Any]] = Kip.ROBUST

    def published(self, train: Data) -> dict[str, Any]:
        # The training of FRePo's networks takes labels as they are; their size is that of the steps.
        return {"init_strata": "class", "recipe": "frepo" if train.mirror else "frepo,augment=frepo-no-flip"}

    def started(self, start: Synthetic) -> Synthetic:
        # Labels that another run has learned stay as they are.
        if not are_distributions(start.labels):
            return start
        return start._replace(labels=start.labels / jnp.sqrt(start.labels.shape[1] / 10))


@dataclass(frozen=True)
class FRePo(FeatureRegression):
    """Regression on features of networks trained on the set. Defaults for minutes; published are 500,000 steps."""

    training: PoolOptions = PoolOptions()

    def objective(self, network: Network) -> Objective:
        return feature_regression(on_features(network, self.regression.feature_reg), mirror=bool(self.data.mirror))

    def trajectory(self, network: Network) -> Trajectory:
        own, optimizer = self.training, optax.adam(self.training.net_lr)
        lesson = on_synthetic(network, optimizer, own.net_epochs, own.net_batch, error="squared")
        return trained(network, lesson, optimizer, own.net_period, pool=own.net_pool)


@dataclass(frozen=True)
class RCIG(FRePo):
    """FRePo with linearised networks, solved exactly. Defaults for minutes, few images; published are 10,000 steps."""

    optimiser: OptimiserOptions = OptimiserOptions(optimizer="adabelief", lr=0.01, schedule="cosine")
    regression: FeatureOptions = FeatureOptions(feature_reg=1e-3)
    training: PoolOptions = PoolOptions(net_epochs=8, net_lr=5e-5)

    def check(self) -> None:
        super().check()
        # Here, before data are read, networks that cannot be linearised are refused.
        self.objective(pieces.network_of(self.network, self.network.network, 2))

    def objective(self, network: Network) -> Objective:
        regression = on_tangents(network, self.regression.feature_reg)
        return feature_regression(regression, "cross-entropy", margin=0.5, mirror=bool(self.data.mirror))


@dataclass(frozen=True)
class SeveralOptions(FeatureOptions):
    """The regression of RFAD."""

    feature_reg: Annotated[float, FEATURE_REG] = 5e-3
    net_count: Annotated[int, count("random networks a step, whose features stand side by side")] = 4


@dataclass(frozen=True)
class RFAD(FeatureRegression):
    """Regression on features of random networks, new at every step. Defaults for minutes; published: wider, eight."""

    optimiser: OptimiserOptions = OptimiserOptions(optimizer="adabelief", lr=0.01, schedule="cosine")
    regression: SeveralOptions = SeveralOptions()

    def check(self) -> None:
        super().check()
        if self.network.snapshots is not None:
            raise InputError("snapshots are given, but rfad looks from random networks: leave them out, or use frepo")

    def objective(self, network: Network) -> Objective:
        several = ensemble(network, self.regression.net_count)
        regression = on_features(several, self.regression.feature_reg, constant=0.005)
        return feature_regression(regression, "cross-entropy", margin=0, mirror=bool(self.data.mirror))

    def trajectory(self, network: Network) -> Trajectory:
        return fresh(ensemble(network, self.regression.net_count))
