r"""From losses to the one number that is minimised.

A **measure** ``measure(losses) -> [group_count]`` turns the losses of every group into one number: `mean`,
`cvar`, `worst`, `entropic` and their sums (`plus`). A **risk** ``risk(losses) -> scalar`` is what a distiller
minimises; it is one measure *within* the groups and one *across* them:

.. math::  R = across_g \; within_{i \in g} \; l_i .

`overall` takes all losses as one group, `grouped` composes the two. RDD's risk (*Group Distributionally Robust
Dataset Distillation with Risk Minimization*) is ``grouped(cvar(tau), plus(mean, worst))``:
:math:`\mathrm{mean}_g\, CVaR_\tau + \max_g CVaR_\tau`.

Everything is in segment form: ragged groups, one ``jit``, no loop; weights :math:`w_i \ge 0` count as
multiplicities; a group without weight is left out *across*, and its own measure is 0. Measures are convex in the
losses; where they have kinks the gradient is the subgradient in which ties share evenly.
"""

from rdd_jax.contracts import Measure, Risk
from rdd_jax.registry import Registry
from rdd_jax.risk.compose import grouped, overall, plus
from rdd_jax.risk.measures import check_tau, cvar, entropic, mean, worst

__all__ = [
    "MEASURES",
    "Measure",
    "Risk",
    "check_tau",
    "cvar",
    "entropic",
    "grouped",
    "mean",
    "measure_by_name",
    "overall",
    "plus",
    "worst",
]

MEASURES: Registry[Measure] = Registry(
    "risk measure",
    {
        "mean": lambda: mean,
        "cvar": cvar,
        "max": lambda: worst,
        "entropic": entropic,
    },
)


def measure_by_name(names: str, tau: float = 0.2, temperature: float = 5.0) -> Measure:
    """The measure of a name in `MEASURES`, or the sum of several joined by ``+``, such as RDD's ``mean+max``.

    Raises:
      InputError: an unknown name, or a parameter that its measure cannot have.
    """
    return plus(*MEASURES.make_each(names, tau=tau, temperature=temperature))
