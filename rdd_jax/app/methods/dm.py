"""DM: mean embeddings of random networks, under one random augmentation of both sides of a class.

Zhao & Bilen 2023, *Dataset Condensation with Distribution Matching*: SGD at 1 with momentum 0.5.
"""

from dataclasses import dataclass
from typing import Any

from rdd_jax.app.methods.matching import Matching, siamese_of
from rdd_jax.app.methods.networked import dsa_parts
from rdd_jax.app.sections import OptimiserOptions
from rdd_jax.contracts import Objective
from rdd_jax.networks import Network
from rdd_jax.objectives import distribution_matching
from rdd_jax.trajectory import Trajectory, fresh
from rdd_jax.types import Data

__all__ = ["DM"]


@dataclass(frozen=True)
class DM(Matching):
    """Distribution matching: match the mean embeddings of random networks. Labels have no part in it and stay fixed."""

    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=1.0)

    def published(self, train: Data) -> dict[str, Any]:
        return dsa_parts(train)

    def objective(self, network: Network) -> Objective:
        return distribution_matching(network, siamese_of(self.matching.siamese))

    def trajectory(self, network: Network) -> Trajectory:
        return fresh(network)
