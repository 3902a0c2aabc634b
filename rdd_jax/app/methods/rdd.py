"""RDD: gradients, matched at networks that are trained on the real data under a robust risk.

Vahidian et al. 2024, *Group Distributionally Robust Dataset Distillation with Risk Minimization*: SGD at 1 with
momentum 0.5; networks kept for 2 steps, 2 training steps at 0.01 between; CVaR of tail mass 0.8, mean + max over
groups.
"""

from dataclasses import dataclass
from typing import Annotated

import optax

from rdd_jax.app import pieces
from rdd_jax.app.methods.dc import GradientMatching, GradientOptions
from rdd_jax.app.methods.matching import TrainingOptions
from rdd_jax.app.options import one_of
from rdd_jax.app.sections import OptimiserOptions, RiskOptions
from rdd_jax.contracts import Risk
from rdd_jax.networks import Network
from rdd_jax.risk import grouped, mean
from rdd_jax.sampling import by_group, uniform
from rdd_jax.trajectory import Trajectory, on_real, trained

__all__ = ["RDD", "RealTrainingOptions"]


@dataclass(frozen=True)
class RealTrainingOptions(TrainingOptions):
    """The training of the network on real data."""

    net_groups: Annotated[
        str, one_of(("nearest", "data"), "groups of its risk: synthetic image in its embedding, or --grouping")
    ] = "nearest"


@dataclass(frozen=True)
class RDD(GradientMatching):
    """Gradient matching at networks trained on real data under a robust risk (--within, --across)."""

    risk: RiskOptions = RiskOptions(within="cvar", across="mean+max", tau=0.8)
    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=1.0)
    matching: GradientOptions = GradientOptions(siamese="none")
    training: RealTrainingOptions = RealTrainingOptions(net_period=2, net_steps=2)

    def across(self, groups: int) -> Risk:
        # The risk of the options is that of the networks' training.
        return grouped(mean, mean, groups)

    def trajectory(self, network: Network, groups: int, classes: int) -> Trajectory:
        own, optimizer = self.training, optax.sgd(self.training.net_lr)
        assert own.net_steps is not None
        assert own.net_period is not None
        nearest = own.net_groups == "nearest"
        robust = pieces.risk_of(self.risk, self.set.images * classes if nearest else groups)
        sampler = uniform(own.net_batch) if nearest else by_group(own.net_batch, groups)
        lesson = on_real(network, optimizer, sampler, own.net_steps, robust, nearest)
        return trained(network, lesson, optimizer, own.net_period, warm=True, pool=own.net_pool)
