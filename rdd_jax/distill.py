"""The distiller: a sampler, an objective, a risk and an optimiser composed into `init`, `step`, `run`.

Example::

    distiller = make_distiller(kip(fc_ntk()), sampler=uniform(5000), optimizer=optax.adam(4e-2))
    state = distiller.init(synthetic)
    state, losses = distiller.run(key, state, examples, steps=300)
    synthetic = distiller.decode(state)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from threadpoolctl import threadpool_limits

from rdd_jax.augment import Augment, none
from rdd_jax.errors import at_least
from rdd_jax.objectives.base import Objective
from rdd_jax.parameterise import Parameterisation, pixels
from rdd_jax.risk import Risk, mean, overall
from rdd_jax.sampling import Sampler, uniform
from rdd_jax.trajectory import Trajectory, kernel_only
from rdd_jax.types import Batch, Examples, PRNGKey, Synthetic


class State(NamedTuple):
    """All that a run is: one pytree, to be saved and taken up again.

    ``networks`` is what the trajectory keeps; None where there is no network.
    """

    params: Any
    fixed: Any
    optimizer: Any
    step: Int[Array, ""]
    networks: Any = None


class Info(NamedTuple):
    """What a step tells; never fed back."""

    loss: Float[Array, ""]
    finite: Bool[Array, ""]
    """False where loss or gradient was not finite: the step then left the state as it was."""


class Diverged(RuntimeError):
    """Loss or gradient became NaN or infinite in step ``step`` (the first is 1); ``state`` is the one before it."""

    def __init__(self, step: int, state: State, why: str = "try a lower learning rate"):
        super().__init__(f"the loss or its gradient was not finite at step {step}: {why}")
        self.step = step
        self.state = state


class Distiller(NamedTuple):
    """The functions of one way of distilling; `make_distiller` composes them.

    Attributes:
      init: ``init(synthetic) -> State``.
      step: ``step(key, state, data) -> (State, Info)``, pure and jitted; the key of the run, to which the
        step's number is folded in.
      advance: ``advance(key, state, data, count) -> (State, Info of [DISPATCH])``: ``count`` steps in one
        dispatch, ``count <= DISPATCH``.
      decode: ``decode(state) -> Synthetic``.
    """

    init: Callable[[Synthetic], State]
    step: Callable[[PRNGKey, State, Examples], tuple[State, Info]]
    advance: Callable[[PRNGKey, State, Examples, Array], tuple[State, Info]]
    decode: Callable[[State], Synthetic]

    def run(
        self,
        key: PRNGKey,
        state: State,
        data: Examples,
        steps: int,
        callback: Callable[[State, Float[np.ndarray, " n"]], None] = lambda state, losses: None,
    ) -> tuple[State, Float[np.ndarray, " steps"]]:
        """Steps until ``state.step == steps``, several a dispatch.

        Args:
          callback: called after every dispatch with the state and the losses of its steps. What it raises
            ends the run.

        Returns:
          The last state and the loss of each step taken.

        Raises:
          Diverged: a loss or gradient was not finite.
        """
        at_least("steps", steps, 0)
        history = [np.zeros(0, np.float32)]
        # Dispatches end at multiples of DISPATCH whatever the start, so that a resumed run is the same one.
        while (at := int(state.step)) < steps:
            count = min(DISPATCH - at % DISPATCH, steps - at)
            with one_blas_thread():
                state, info = jax.block_until_ready(self.advance(key, state, data, jnp.asarray(count)))
            losses, finite = np.asarray(info.loss[:count]), np.asarray(info.finite[:count])
            if not finite.all():
                raise Diverged(at + int(np.argmin(finite)) + 1, state)
            history.append(losses)
            callback(state, losses)
        return state, np.concatenate(history)


DISPATCH = 10
"""Steps in one call of the compiled loop."""


def one_blas_thread() -> threadpool_limits:
    """Keeps LAPACK's own threads out of the way of XLA's.

    On a CPU, JAX factors matrices with SciPy's OpenBLAS, whose idle threads spin on the cores that XLA
    then wants for the products. The systems are small.
    """
    return threadpool_limits(1, user_api="blas")


DEFAULT_SAMPLER = uniform(5000)
DEFAULT_OPTIMIZER = optax.adam(4e-2)
DEFAULT_PARAMETERISATION = pixels()
PLAIN = overall(mean)


def make_distiller(
    objective: Objective,
    sampler: Sampler = DEFAULT_SAMPLER,
    risk: Risk = PLAIN,
    optimizer: optax.GradientTransformation = DEFAULT_OPTIMIZER,
    parameterisation: Parameterisation = DEFAULT_PARAMETERISATION,
    augment: Augment = none,
    trajectory: Trajectory = kernel_only,
) -> Distiller:
    """Composes a distiller.

    Args:
      objective: see `rdd_jax.objectives`.
      sampler: see `rdd_jax.sampling`; default uniform, batches of 5,000.
      risk: see `rdd_jax.risk`; default the mean, which is plain distillation.
      optimizer: any Optax transformation of the parameters; default ``adam(4e-2)``.
      parameterisation: see `rdd_jax.parameterise`; default the pixels, labels fixed.
      augment: applied to the real images of a batch. (Augmentations of both sides belong to matching objectives.)
      trajectory: the networks that a matching objective looks from, see `rdd_jax.trajectory`.
    """

    def init(synthetic: Synthetic) -> State:
        params, fixed = parameterisation.init(synthetic)
        networks = trajectory.init(parameterisation.decode(params, fixed))
        return State(params, fixed, optimizer.init(params), jnp.zeros((), jnp.int32), networks)

    def draw(key: PRNGKey, data: Examples) -> Batch:
        sample_key, augment_key = jax.random.split(key)
        index, weight = sampler(sample_key, data)
        images = augment(augment_key, data.images.at[index].get(mode="promise_in_bounds"))
        return Batch(images, data.labels[index], data.groups[index], weight.astype(images.dtype))

    def step(key: PRNGKey, state: State, data: Examples) -> tuple[State, Info]:
        batch_key, objective_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = draw(batch_key, data)
        synthetic = parameterisation.decode(state.params, state.fixed)
        follow_key = jax.random.fold_in(objective_key, 0)
        networks = trajectory.follow(follow_key, state.step, state.networks, synthetic, data)
        model = trajectory.model(networks, state.step)

        def loss_of(params):
            return risk(objective(objective_key, model, parameterisation.decode(params, state.fixed), batch))

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
        new = State(params, state.fixed, optimizer_state, state.step + 1, networks)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state), Info(loss, finite)

    def advance(key: PRNGKey, state: State, data: Examples, count: Array) -> tuple[State, Info]:
        def body(i, carry):
            state, info = carry
            state, now = step(key, state, data)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), info, now)

        info = Info(jnp.zeros(DISPATCH), jnp.ones(DISPATCH, bool))
        return jax.lax.fori_loop(0, count, body, (state, info))

    return Distiller(
        init, jax.jit(step), jax.jit(advance), lambda state: parameterisation.decode(state.params, state.fixed)
    )
