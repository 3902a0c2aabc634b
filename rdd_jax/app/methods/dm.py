"""DM: mean embeddings of random networks, under one random augmentation of both sides of a class.

Zhao & Bilen 2023, *Dataset Condensation with Distribution Matching*: SGD at 1 with momentum 0.5. NCFM compares
characteristic functions in their place (Wang et al. 2025, *Dataset Distillation with Neural Characteristic Function*),
at trained networks (``--snapshots``).
"""

from dataclasses import dataclass
from typing import Annotated, Any

from rdd_jax.app.methods.matching import Matching, SiameseOptions, siamese_of
from rdd_jax.app.methods.networked import dsa_parts
from rdd_jax.app.options import count, one_of
from rdd_jax.app.sections import OptimiserOptions
from rdd_jax.contracts import Objective
from rdd_jax.networks import Network
from rdd_jax.objectives import characteristic, distribution_matching, means
from rdd_jax.trajectory import Trajectory, fresh
from rdd_jax.types import Data

__all__ = ["DM", "EmbeddingOptions"]

DISTANCES = ("means", "characteristic")


@dataclass(frozen=True)
class EmbeddingOptions(SiameseOptions):
    """How embeddings are compared."""

    distance: Annotated[str, one_of(DISTANCES, "of embeddings, by their means or their characteristic functions")] = (
        "means"
    )
    frequencies: Annotated[int, count("of characteristic: at which the functions are compared, a step")] = 1024


@dataclass(frozen=True)
class DM(Matching):
    """Distribution matching: match the mean embeddings of random networks. Labels have no part in it and stay fixed."""

    optimiser: OptimiserOptions = OptimiserOptions(optimizer="sgd", lr=1.0)
    matching: EmbeddingOptions = EmbeddingOptions()

    def published(self, train: Data) -> dict[str, Any]:
        return dsa_parts(train)

    def objective(self, network: Network) -> Objective:
        at = self.matching
        distance = means if at.distance == "means" else characteristic(at.frequencies)
        return distribution_matching(network, siamese_of(at.siamese), distance)

    def trajectory(self, network: Network) -> Trajectory:
        return fresh(network)
