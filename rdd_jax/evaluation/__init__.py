"""How good a set is: learners fitted to it alone, tested on real data, by group, beside the baselines."""

from rdd_jax.contracts import Learner, Predict
from rdd_jax.evaluation import metrics
from rdd_jax.evaluation.baselines import BASELINES, baselines
from rdd_jax.evaluation.evaluate import Evaluated, Evaluation, Tested, evaluate, evaluate_sets, prepare_test
from rdd_jax.evaluation.learners import LEARNERS, held_out, krr_learner, learner_name, network_learner, recipe_learner
from rdd_jax.evaluation.metrics import Cells
from rdd_jax.evaluation.rates import with_rates

__all__ = [
    "BASELINES",
    "LEARNERS",
    "Cells",
    "Evaluated",
    "Evaluation",
    "Learner",
    "Predict",
    "Tested",
    "baselines",
    "evaluate",
    "evaluate_sets",
    "held_out",
    "krr_learner",
    "learner_name",
    "metrics",
    "network_learner",
    "prepare_test",
    "recipe_learner",
    "with_rates",
]
