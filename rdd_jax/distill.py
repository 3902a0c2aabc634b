"""The distiller: a sampler, an objective, a risk and an optimiser composed into `init`, `step`, `run`.

Example::

    kip = compose(objectives.kip(kernels.fc_ntk()), sampler=sampling.uniform(5000), optimizer=optax.adam(4e-2))
    state = kip.init(synthetic)
    state, info = kip.run(key, state, examples, until=300)
    synthetic = kip.decode(state)
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key
from threadpoolctl import ThreadpoolController

from rdd_jax.augment import none
from rdd_jax.contracts import Augment, Callback, Objective, Risk, Sampler
from rdd_jax.devices import replicated, spread
from rdd_jax.errors import InputError, at_least
from rdd_jax.parameterise import Parameterisation, pixels
from rdd_jax.pixels import Images
from rdd_jax.risk import mean, overall
from rdd_jax.risk.segments import group_sum
from rdd_jax.sampling import counted, ready, uniform
from rdd_jax.streaming import Looks, handed
from rdd_jax.trajectory import Trajectory, kernel_only
from rdd_jax.types import Batch, Examples, Info, Losses, PRNGKey, State, Synthetic

__all__ = ["DISPATCH", "Distiller", "Diverged", "Info", "State", "Unread", "compose", "one_blas_thread", "over_seeds"]


class Diverged(RuntimeError):
    """Loss or gradient became NaN or infinite in step ``step`` (the first is 1); ``state`` is the one before it."""

    def __init__(self, step: int, state: Any, why: str = "try a lower learning rate"):
        super().__init__(f"the loss or its gradient was not finite at step {step}: {why}")
        self.step = step
        self.state = state
        self.why = why


class Unread(InputError):
    """Images could not be read any more; ``state`` is the one before the steps that wanted them."""

    def __init__(self, why: str, state: Any):
        super().__init__(why)
        self.state = state


class Distiller(NamedTuple):
    """The functions of one way of distilling; `compose` makes one.

    Attributes:
      init: ``init(synthetic) -> State``.
      step: ``step(key, state, data) -> (State, Info)``, pure and jitted; the key of the run, to which the
        step's number is folded in.
      advance: ``advance(key, state, data, count) -> (State, Info of [DISPATCH])``: ``count`` steps in one
        dispatch, ``count <= DISPATCH``. It writes over the state that it is given, which is then of no more use.
      decode: ``decode(state) -> Synthetic``.
      ready: ``ready(data) -> data`` with what can be made of it once, before many steps; `run` does so.
      looks: ``looks(key, step, data) -> index [r]``: the examples that a step looks at; known without their images.
    """

    init: Callable[[Synthetic], State]
    step: Callable[[PRNGKey, State, Examples], tuple[State, Info]]
    advance: Callable[[PRNGKey, State, Examples, Array], tuple[State, Info]]
    decode: Callable[[State], Synthetic]
    ready: Callable[[Examples], Examples]
    looks: Looks

    def run(
        self,
        key: Key[Array, "*s"],
        state: State,
        data: Examples,
        until: int,
        callbacks: Sequence[Callback] = (),
        images: Images | None = None,
    ) -> tuple[State, Info]:
        """Steps until ``state.step == until``, several a dispatch.

        Args:
          key: of the run: the same key and start give the same end, however often the run is cut. One a seed for
            `over_seeds`.
          callbacks: see `rdd_jax.contracts.Callback`.
          images: where the real images are, on the host or in a file, from which a step is handed its own; None: in
            ``data``.

        Returns:
          The last state, and the `Info` of each step taken.

        Raises:
          InputError: a negative ``until``, or data that the sampler or the objective cannot take.
          Diverged: a loss or gradient was not finite.
          Unread: ``images`` could not be read any more.
        """
        at_least("until", until, 0)
        told, data = [], self.ready(data)
        state = jax.tree.map(jnp.copy, state)  # which a dispatch may write over; the caller's stays
        several = self._several(key, data, int(np.ravel(state.step)[0]), until, images)
        # Dispatches end at multiples of DISPATCH whatever the start, so that a resumed run is the same one.
        while (at := int(np.ravel(state.step)[0])) < until:
            with one_blas_thread():
                state, infos, unread = several(state, min(DISPATCH - at % DISPATCH, until - at))
            if infos:
                info = Info(*(np.concatenate(values) for values in zip(*infos, strict=True)))
                if not info.finite.all():
                    raise Diverged(at + int(np.argmin(info.finite.reshape(len(info.loss), -1).all(1))) + 1, state)
                told.append(info)
                for callback in callbacks:
                    callback(state, info)
            if unread:
                raise Unread(str(unread), state) from unread
        # In case none is taken: what is told has the form of a step's all the same.
        one = jax.eval_shape(self.step, key, state, data)[1]
        told.insert(0, Info(*(np.zeros((0, *leaf.shape), leaf.dtype) for leaf in one)))
        return state, Info(*map(np.concatenate, zip(*told, strict=True)))

    def _several(
        self, key: Key[Array, "*s"], data: Examples, first: int, until: int, images: Images | None
    ) -> Callable[[State, int], tuple[State, list[Info], InputError | None]]:
        """``several(state, count) -> (state, infos, why)``: so many steps on, or fewer: why."""
        # Waited for by JAX, which hears signals the while; NumPy would hold them back to the end.
        cut = lambda info, count: Info(*(np.asarray(values)[:count] for values in info))  # noqa: E731

        def together(state: State, count: int) -> tuple[State, list[Info], None]:
            state, info = jax.block_until_ready(self.advance(key, state, data, jnp.asarray(count)))
            return state, [cut(info, count)], None

        if images is None:
            return together
        pieces = handed(self.looks, key, data, images, range(first, until), DISPATCH)

        def each(state: State, count: int) -> tuple[State, list[Info], InputError | None]:
            infos, done = [], 0
            while done < count:
                try:
                    some, own = next(pieces)
                except InputError as error:
                    return state, infos, error
                state, info = jax.block_until_ready(self.advance(key, state, own, jnp.asarray(some)))
                infos.append(cut(info, some))
                done += some
            return state, infos, None

        return each


DISPATCH = 10
"""Steps in one call of the compiled loop."""


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads of their own; looking for them takes longer than a small step."""
    import scipy.linalg  # noqa: F401  # with the BLAS that JAX uses, which only now is among them

    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager:
    """Keeps LAPACK's own threads out of the way of XLA's.

    On a CPU, JAX factors matrices with SciPy's OpenBLAS, whose idle threads spin on the cores that XLA
    then wants for the products. The systems are small.
    """
    return _libraries().limit(limits=1, user_api="blas")


DEFAULT_SAMPLER = uniform(5000)
DEFAULT_OPTIMIZER = optax.adam(4e-2)
DEFAULT_PARAMETERISATION = pixels()
PLAIN = overall(mean)


def compose(
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
      trajectory: the networks that an objective looks from, see `rdd_jax.trajectory`.
    """

    def init(synthetic: Synthetic) -> State:
        params, fixed = parameterisation.init(synthetic)
        networks = trajectory.init(parameterisation.decode(params, fixed))
        state = State(params, fixed, optimizer.init(params), jnp.zeros((), jnp.int32), networks)
        return jax.tree.map(jnp.copy, state)  # its own: `advance` writes over it

    def draw(sample_key: PRNGKey, augment_key: PRNGKey, data: Examples) -> Batch:
        index, weight = sampler(sample_key, data)
        images = spread(augment(augment_key, data.look(index)))
        labels, groups, weight = data.labels[index], data.groups[index], counted(data, index, weight)
        return Batch(images, labels, groups, weight.astype(images.dtype), group_count=data.group_count)

    def step(key: PRNGKey, state: State, data: Examples) -> tuple[State, Info]:
        sample_key, augment_key, objective_key, follow_key = _keys(key, state.step)
        batch = draw(sample_key, augment_key, data)
        synthetic = parameterisation.decode(state.params, state.fixed)
        networks = trajectory.follow(follow_key, state.step, state.networks, synthetic, data)
        model = trajectory.model(networks, state.step)

        def loss_of(params):
            losses = objective(objective_key, model, parameterisation.decode(params, state.fixed), batch)
            return risk(losses), losses

        (loss, losses), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        new = State(params, state.fixed, optimizer_state, state.step + 1, networks)
        info = Info(loss, norm, _by_group(losses), finite)
        # On every device, so that any of them, and any host, can save and tell them.
        return replicated((jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state), info))

    def advance(key: PRNGKey, state: State, data: Examples, count: Array) -> tuple[State, Info]:
        def body(i, carry):
            state, info = carry
            state, now = step(key, state, data)
            return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), info, now)

        shapes = jax.eval_shape(step, key, state, data)[1]
        info = jax.tree.map(lambda leaf: jnp.ones((DISPATCH, *leaf.shape), leaf.dtype), shapes)
        return jax.lax.fori_loop(0, count, body, (state, info))

    def looks(key: PRNGKey, step: Array, data: Examples) -> Int[Array, " r"]:
        sample_key, _, _, follow_key = _keys(key, step)
        return jnp.concatenate([sampler(sample_key, data)[0], trajectory.looks(follow_key, step, data)])

    decode = lambda state: parameterisation.decode(state.params, state.fixed)  # noqa: E731
    return Distiller(
        init, jax.jit(step), jax.jit(advance, donate_argnums=1), decode, partial(ready, sampler), jax.jit(looks)
    )


def _keys(key: PRNGKey, step: Array) -> Key[Array, "4"]:
    """Of a step: for its draw, the augmentation of what is drawn, the objective, the trajectory."""
    batch_key, objective_key, follow_key = jax.random.split(jax.random.fold_in(key, step), 3)
    return jnp.stack([*jax.random.split(batch_key), objective_key, follow_key])


def _by_group(losses: Losses) -> Float[Array, " g"]:
    """The mean loss of every group, NaN where there is none."""
    return jnp.where(group_sum(losses.weight, losses) > 0, mean(losses), jnp.nan)


def over_seeds(one: Distiller) -> Distiller:
    """Runs of several seeds side by side: every function of ``one`` under `jax.vmap`.

    The set of ``init``, the keys and the state have a leading axis of seeds, as have the values of `Info` after that of
    steps; the data and the number of steps are shared. A run of the axis differs from the same run alone by rounding.
    On a GPU or TPU small problems take nearly the time of one; on a CPU nothing is gained.

    They end together, as `Diverged`, where one of them does.
    """
    step = jax.vmap(one.step, (0, 0, None))
    advance = jax.vmap(one.advance, (0, 0, None, None), (0, 1))

    def init(synthetic: Synthetic) -> State:
        seeds = [jax.tree.map(lambda leaf, i=i: leaf[i], synthetic) for i in range(len(synthetic.images))]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(one.init, seeds))

    def looks(keys: Key[Array, " s"], step: Array, data: Examples) -> Int[Array, " r"]:
        return jax.vmap(one.looks, (0, None, None))(keys, step, data).reshape(-1)

    return Distiller(
        init, jax.jit(step), jax.jit(advance, donate_argnums=1), jax.vmap(one.decode), one.ready, jax.jit(looks)
    )
