r"""Objectives ``objective(key, model, synthetic, batch) -> Losses``: kernel ridge regression, and matching by networks.

**Regression** gives one loss an example: by a kernel (KIP), or by the features or tangents of networks (FRePo, RFAD,
RCIG).

**Matching** is of what a network makes of real and of synthetic images: gradients (DC, DSA), or embeddings, by their
means (DM) or their characteristic functions (NCFM).

Real examples come in **cells**, one a class or one a (class, group), numbered class by class as `grouping.cells`
numbers them: the groups of `Examples`. An objective gives one distance a cell, between the cell's real examples and the
synthetic images of its *class*, times the number of classes: under the mean risk over one cell a class that is the
published sum over classes; under the mean over (class, group) cells it is the idea of FairDD (Zhou et al. 2025); other
risks protect the cells that are matched worst, ours.

**Trajectories** are matched by a training on the set, which is to end where one on the real data did (MTT). No real
image is looked at, and the one loss is of the whole set: the training on the real data protects what is protected.

Any of the others can be `taught` by a network that has learned the classes.

The labels of the synthetic set are centred distributions (`parameterise`: fixed or soft).
"""

from rdd_jax.contracts import Objective
from rdd_jax.objectives.embeddings import characteristic, distribution_matching, means
from rdd_jax.objectives.gradients import DISTANCES, cosine, gradient_matching, squared
from rdd_jax.objectives.kip import kip, kip_solved
from rdd_jax.objectives.regression import feature_regression, on_features
from rdd_jax.objectives.tangents import on_tangents
from rdd_jax.objectives.taught import taught
from rdd_jax.objectives.trajectories import ENDS, angle, missed, trajectory_matching

__all__ = [
    "DISTANCES",
    "ENDS",
    "Objective",
    "angle",
    "characteristic",
    "cosine",
    "distribution_matching",
    "feature_regression",
    "gradient_matching",
    "kip",
    "kip_solved",
    "means",
    "missed",
    "on_features",
    "on_tangents",
    "squared",
    "taught",
    "trajectory_matching",
]
