"""``--init kip``: a set that starts where KIP ends, in one run; kernel-fitting initialisation for methods by networks.

The first stage is a run by `methods.kip` on the same data, of the same seed, groups and risk, by the kernel of
``--kernel``. Its states and its losses stand in ``start/`` of the run folder, so that it resumes as the second does.
"""

from copy import copy
from dataclasses import asdict, replace

from rdd_jax.app.grouped import Grouped
from rdd_jax.app.methods.kip import Kip, KipSetOptions, SolvedOptions
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.app.run_folder import Run
from rdd_jax.app.sections import EvaluationOptions, OptimiserOptions, RiskOptions
from rdd_jax.app.stepping import Steps
from rdd_jax.contracts import Kernel
from rdd_jax.datasets.preprocess import Prepared
from rdd_jax.distill import Diverged
from rdd_jax.progress import Stages
from rdd_jax.types import Data, Synthetic

__all__ = ["distilled_start", "first_run", "first_stage"]


def first_stage(config: ByNetworks, train: Data) -> Kip:
    """The configuration of KIP before ``config``, which is resolved: what that leaves to its method is KIP's own."""
    at = config.set
    own = config.groups.grouping == config.PLAIN["grouping"]
    kept = config.risk == type(config)().risk
    stage = Kip(
        seed=config.seed,
        data=config.data,
        set=KipSetOptions(config.set.ipc, parameterisation=at.parameterisation, factor=at.factor),
        groups=replace(config.groups, grouping=None) if own else config.groups,
        risk=RiskOptions(across=None) if kept else config.risk,
        optimiser=OptimiserOptions(steps=config.set.init_steps, checkpoint_every=config.optimiser.checkpoint_every),
        kernel=SolvedOptions(**asdict(config.kernel)),
        evaluation=EvaluationOptions(baselines=False),
    )
    resolved = stage.resolved(train)
    assert isinstance(resolved, Kip)
    return resolved


def first_run(run: Run) -> Run:
    """Where the states and the losses of the first stage stand."""
    return Run(run.folder / "start")


def distilled_start(
    config: ByNetworks,
    run: Run,
    prepared: Prepared,
    kernel: Kernel,
    start: Synthetic,
    grouped: Grouped,
    stages: Stages,
) -> Synthetic:
    """The set that KIP makes of ``start``; an interrupted stage is resumed, one that has ended is read.

    Args:
      grouped: the groups of the second stage, which are the first one's too where they do not move.

    Raises:
      InputError: the kernel of the set cannot be solved.
      Diverged, KeyboardInterrupt: as `distilling.distill`.
    """
    stage = first_stage(config, prepared.splits.train)
    same = stage.groups.grouping == config.groups.grouping and not grouped.moves
    if same:
        grouped = copy(grouped)
        grouped.by_class = False
    else:
        grouped = Grouped(stage.groups, stage.seed, prepared, stage.images, by_class=False)
        grouped.fit(0, start)
    stage.check_start(kernel, start)
    own = first_run(run)
    own.folder.mkdir(exist_ok=True)
    stages.begin("fitting the kernel")
    try:
        synthetic = Steps(stage, own, prepared, kernel, start, grouped, stages.progress).take()
    except Diverged as diverged:
        why = f"{diverged.why}; this is KIP, by which the set starts (--init kip)"
        raise Diverged(diverged.step, diverged.state, why) from diverged
    stages.began_before(own.metrics()[-1]["seconds"])
    return config.started(synthetic)
