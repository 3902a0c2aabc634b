"""RDD: gradients, matched at networks that are trained on the real data under a robust risk.

Vahidian et al. 2024, *Group Distributionally Robust Dataset Distillation with Risk Minimization*. As the paper has it,
a network is trained on real data under the robust risk, CVaR of tail mass 0.8 and mean + max over groups, and the set
then matched at it. As in the code that was published: SGD at 1 with momentum 0.5, 256 real images a class, DSA's
augmentation in matching and training; a network is kept for two steps, and trained at 0.01 before each for two epochs
over twice as many real images as are matched, in batches of 256; 1,500 epochs in the evaluation. (That code gives its
risk no gradient, takes it in every third batch, trains on the images that it matches and as many others, and lets the
first step see random weights.)
"""

from dataclasses import dataclass
from typing import Annotated, Any

import optax

from rdd_jax.app import pieces
from rdd_jax.app.methods.dc import GradientMatching
from rdd_jax.app.methods.matching import siamese_of
from rdd_jax.app.methods.networked import TrainingOptions, dsa_parts
from rdd_jax.app.options import count, one_of
from rdd_jax.app.sections import OptimiserOptions, RiskOptions
from rdd_jax.contracts import Risk
from rdd_jax.networks import Network
from rdd_jax.risk import grouped, mean
from rdd_jax.sampling import by_group, uniform
from rdd_jax.trajectory import Trajectory, on_real, trained
from rdd_jax.types import Data

__all__ = ["RDD", "RealTrainingOptions"]


@dataclass(frozen=True)
class RealTrainingOptions(TrainingOptions):
    """The training of the network on real data."""

    net_steps: Annotated[int | None, count("its training steps between two steps; unset: as published")] = None
    net_groups: Annotated[
        str, one_of(("nearest", "data"), "groups of its risk: synthetic image in its embedding, or --grouping")
    ] = "nearest"


@dataclass(frozen=True)
class RDD(GradientMatching):
    """Gradient matching at networks trained on real data under a robust risk (--within, --across)."""

    risk: RiskOptions = RiskOptions(within="cvar", across="mean+max", tau=0.8)
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=1.0)
    training: RealTrainingOptions = RealTrainingOptions(net_period=2)

    def published(self, train: Data) -> dict[str, Any]:
        epochs, examples = 2, 2 * self.drawn(train.classes).batch
        parts = dsa_parts(train)
        steps = epochs * -(-examples // self.training.net_batch)
        return {**parts, "recipe": f"{parts['recipe']},epochs=1500", "net_steps": steps}

    def across(self) -> Risk:
        # The risk of the options is that of the networks' training.
        return grouped(mean, mean)

    def trajectory(self, network: Network) -> Trajectory:
        own, optimizer = self.training, optax.sgd(self.training.net_lr)
        assert own.net_steps is not None
        assert own.net_period is not None
        nearest = own.net_groups == "nearest"
        robust = pieces.risk_of(self.risk)
        sampler = uniform(own.net_batch) if nearest else by_group(own.net_batch)
        augment = siamese_of(self.matching.siamese, shared=False)
        lesson = on_real(network, optimizer, sampler, own.net_steps, robust, nearest, augment)
        return trained(network, lesson, optimizer, own.net_period, warm=True, pool=own.net_pool)
