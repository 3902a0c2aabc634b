"""The distiller: one step by hand, many steps as one, and what happens when they fail."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdd_jax import augment, datasets, objectives, risk, trajectory
from rdd_jax.datasets import preprocess
from rdd_jax.distill import DISPATCH, Diverged, Info, compose, over_seeds
from rdd_jax.errors import InputError
from rdd_jax.evaluation.metrics import accuracy
from rdd_jax.kernels import fc_ntk, krr, stax_kernel
from rdd_jax.kernels.stax import load
from rdd_jax.networks import mlp
from rdd_jax.parameterise import pixels
from rdd_jax.sampling import balanced, by_group, stratified, uniform
from rdd_jax.selection import Pool, strata_of
from rdd_jax.selection.initialise import initialise
from rdd_jax.types import Examples, Losses, Synthetic, centred_one_hot

KERNEL = fc_ntk(1)
KEY = jax.random.key(3)
# One for many tests, so that it is compiled once.
KIP = compose(objectives.kip(KERNEL), uniform(8), augment=augment.flip)


def problem(n=30, classes=3, seed=0):
    """Examples of classes that can be told apart, and a start that is one of each, disturbed."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    images = rng.standard_normal((n, 3, 4, 1)) + 1.5 * rng.standard_normal((classes, 3, 4, 1))[labels]
    one_hot = centred_one_hot(labels, classes)
    examples = Examples(jnp.asarray(images, jnp.float32), one_hot, jnp.asarray(labels % 2), group_count=2)
    start = images[:classes] + rng.standard_normal((classes, 3, 4, 1))
    return examples, Synthetic(jnp.asarray(start, jnp.float32), one_hot[:classes])


def everything(key, examples):
    """A sampler that draws the data themselves, so that losses of different steps compare."""
    return jnp.arange(len(examples.labels)), jnp.ones(len(examples.labels))


def rbf(x1, x2):
    x1, x2 = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    return jnp.exp(-jnp.sum((x1[:, None] - x2[None]) ** 2, 2) / 20)


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), one, other)))


def joined(*parts):
    """The `Info` of several runs, one after another."""
    return Info(*map(np.concatenate, zip(*parts, strict=True)))


@pytest.mark.slow
def test_one_step_is_the_update_by_hand():
    examples, synthetic = problem()
    sampler, optimizer = balanced(8), optax.adam(0.1)
    distiller = compose(
        objectives.kip(KERNEL, 1e-3),
        sampler,
        optimizer=optimizer,
        augment=augment.flip,
        parameterisation=pixels("learned"),
    )
    # A state that has moved, so that the step's number and the moments count.
    before, _ = distiller.step(KEY, distiller.init(synthetic), examples)
    after, info = distiller.step(KEY, before, examples)

    batch_key, _ = jax.random.split(jax.random.fold_in(KEY, 1))
    sample_key, augment_key = jax.random.split(batch_key)
    index, _ = sampler(sample_key, examples)
    x, y = augment.flip(augment_key, examples.images[index]), examples.labels[index]

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        gram = KERNEL(params["images"], params["images"])
        alpha = jnp.linalg.solve(gram + 1e-3 * jnp.trace(gram) / 3 * jnp.eye(3), params["labels"])
        return 0.5 * jnp.mean(jnp.sum((KERNEL(x, params["images"]) @ alpha - y) ** 2, 1))

    value, gradient = loss(before.params)
    updates, _ = optimizer.update(gradient, before.optimizer, before.params)
    expected = optax.apply_updates(before.params, updates)
    np.testing.assert_allclose(info.loss, value, rtol=1e-4)
    # Of images and labels together, before the optimiser makes steps of it.
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=float)) for leaf in gradient.values()))
    np.testing.assert_allclose(info.gradient_norm, norm, rtol=1e-4)
    for name in ("images", "labels"):
        np.testing.assert_allclose(after.params[name], expected[name], atol=1e-4)
        assert np.abs(after.params[name] - before.params[name]).max() > 0.01
    assert (int(before.step), int(after.step), bool(info.finite)) == (1, 2, True)


@pytest.mark.slow
def test_weights_and_groups_of_a_batch_reach_the_risk():
    examples, synthetic = problem()
    first_pixel = lambda *given: given[-1].losses(given[-1].images[:, 0, 0, 0])  # noqa: E731
    two = lambda key, examples: (jnp.array([5, 7]), jnp.array([1.0, 3.0]))  # noqa: E731
    group_one = lambda losses: jnp.sum(losses.value * losses.group)  # noqa: E731
    pixel = examples.images[:, 0, 0, 0]
    assert (examples.groups[5], examples.groups[7]) == (0, 1)
    for of_losses, expected in ((risk.overall(risk.mean), (pixel[5] + 3 * pixel[7]) / 4), (group_one, pixel[7])):
        distiller = compose(first_pixel, two, of_losses)
        _, info = distiller.step(KEY, distiller.init(synthetic), examples)
        np.testing.assert_allclose(info.loss, expected, rtol=1e-6)


FIRST_PIXEL = lambda key, model, synthetic, batch: batch.losses(batch.images[:, 0, 0, 0])  # noqa: E731
PIXELS = np.array([1.0, 2, 4, 8, 16, 32])


def first_pixels(groups, weight):
    """Info of a step whose losses are `PIXELS` and whose risk is another number."""
    images = np.zeros((6, 3, 4, 1), np.float32)
    images[:, 0, 0, 0] = PIXELS
    codes = jnp.array([0, 1, 1, 3, 0, 1]) if groups > 1 else jnp.zeros(6, int)
    examples = Examples(jnp.asarray(images), problem(6)[0].labels, codes, group_count=groups)
    draw = lambda key, examples: (jnp.arange(6), jnp.asarray(weight))  # noqa: E731
    distiller = compose(FIRST_PIXEL, draw, risk.overall(risk.worst))
    return distiller.step(KEY, distiller.init(problem()[1]), examples)[1]


@pytest.mark.slow
def test_the_loss_of_every_group_is_told_and_nan_where_there_is_none():
    info = first_pixels(5, [1.0, 3, 1, 0, 0.5, 2])
    expected = [(1 + 0.5 * 16) / 1.5, (3 * 2 + 4 + 2 * 32) / 6, np.nan, np.nan, np.nan]  # 3 has no weight
    np.testing.assert_allclose(info.by_group, expected, rtol=1e-6)
    assert (info.loss, info.finite) == (32, True)  # what is told is not what is minimised


@pytest.mark.slow
def test_without_groups_the_mean_of_all_is_told():
    np.testing.assert_allclose(first_pixels(1, np.ones(6)).by_group, [PIXELS.mean()], rtol=1e-6)
    weight = np.array([1.0, 3, 1, 0, 0.5, 2])
    np.testing.assert_allclose(first_pixels(1, weight).by_group, [np.average(PIXELS, weights=weight)], rtol=1e-6)


@pytest.mark.slow
def test_advance_is_that_many_steps():
    examples, synthetic = problem()
    state, losses = KIP.init(synthetic), []
    for _ in range(7):
        state, info = KIP.step(KEY, state, examples)
        losses.append(info.loss)
    together, info = KIP.advance(KEY, KIP.init(synthetic), examples, jnp.asarray(7))
    assert int(together.step) == 7
    np.testing.assert_allclose(info.loss[:7], losses, rtol=1e-4)
    assert info.loss.shape == (DISPATCH,)
    assert info.finite.all()  # those that were not taken included
    np.testing.assert_allclose(together.params["images"], state.params["images"], atol=1e-5)


@pytest.mark.parametrize("at", [3, DISPATCH, 17])
def test_a_run_in_two_halves_is_the_same_run(at):
    examples, synthetic = problem()
    whole, info = KIP.run(KEY, KIP.init(synthetic), examples, 23)
    half, first = KIP.run(KEY, KIP.init(synthetic), examples, at)
    told = []
    resumed, second = KIP.run(KEY, half, examples, 23, [lambda state, part: told.append(int(state.step))])
    assert equal(resumed, whole)
    # Dispatches, and checkpoints with them, end where those of the whole run do.
    assert told == [step for step in (DISPATCH, 2 * DISPATCH, 23) if step > at]
    assert equal(joined(first, second), info)


def test_run_tells_every_callback_of_every_step_once():
    examples, synthetic = problem()
    told = []
    callbacks = [lambda state, part, name=name: told.append((name, int(state.step), part)) for name in "ab"]
    state, info = KIP.run(KEY, KIP.init(synthetic), examples, 23, callbacks)
    assert [call[:2] for call in told] == [(name, step) for step in (DISPATCH, 2 * DISPATCH, 23) for name in "ab"]
    for name in "ab":
        assert equal(joined(*(part for called, _, part in told if called == name)), info)
    assert [leaf.shape for leaf in info] == [(23,), (23,), (23, 2), (23,)]
    assert all(isinstance(leaf, np.ndarray) for leaf in info)
    assert info.finite.all()
    same, none = KIP.run(KEY, state, examples, 23)
    assert equal(same, state)
    assert equal(joined(none, info, none), info)
    with pytest.raises(InputError, match="until is -1"):
        KIP.run(KEY, state, examples, -1)


def kept(state):
    """What is left when the next dispatch writes over the state."""
    return jax.tree.map(jnp.copy, state)


def test_callbacks_see_the_state_that_a_run_until_then_ends_with():
    examples, synthetic = problem()
    seen = []
    KIP.run(
        KEY,
        KIP.init(synthetic),
        examples,
        DISPATCH + 3,
        [lambda state, _: seen.append(kept(state))],
    )
    for until, state in zip((DISPATCH, DISPATCH + 3), seen, strict=True):
        assert equal(KIP.run(KEY, KIP.init(synthetic), examples, until)[0], state)


def test_what_the_callback_raises_ends_the_run():
    examples, synthetic = problem()
    told = []

    def stop(state, info):
        told.append(int(state.step))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KIP.run(KEY, KIP.init(synthetic), examples, 100, [stop, lambda state, info: told.append("after")])
    assert told == [DISPATCH]


def poisoned(step, how):
    """KIP whose loss, or only its gradient, is NaN at ``step``, told by the key that the step has."""
    inner = objectives.kip(rbf)
    bad_key = jax.random.key_data(jax.random.split(jax.random.fold_in(KEY, step))[1])

    def objective(key, model, synthetic, batch):
        losses = inner(key, model, synthetic, batch)
        here = (jax.random.key_data(key) == bad_key).all()
        # The root of zero is finite, its slope is not.
        zero = jnp.sum(synthetic.images - jax.lax.stop_gradient(synthetic.images))
        bad = jnp.nan if how == "loss" else jnp.sqrt(jnp.abs(zero))
        return losses.replace(value=losses.value + jnp.where(here, bad, 0.0))

    return objective


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, DISPATCH, 13])
def test_a_loss_that_is_not_finite_leaves_the_state_and_names_the_step(step):
    examples, synthetic = problem()
    distiller = compose(poisoned(step, "loss"), uniform(8))
    told = []
    with pytest.raises(Diverged, match=rf"step {step + 1}\b") as error:
        distiller.run(KEY, distiller.init(synthetic), examples, 30, [lambda state, info: told.append(info)])
    assert error.value.step == step + 1  # the first step is 1, as in metrics.jsonl
    good, _ = distiller.run(KEY, distiller.init(synthetic), examples, step)
    assert equal(error.value.state, good)
    # Whole dispatches before the bad one were told, the bad one was not.
    assert len(told) == step // DISPATCH


def test_a_gradient_that_is_not_finite_leaves_the_state():
    examples, synthetic = problem()
    distiller = compose(poisoned(0, "gradient"), uniform(8))
    state = distiller.init(synthetic)
    after, info = distiller.step(KEY, state, examples)
    assert np.isfinite(info.loss)
    assert not info.finite
    assert equal(after, state)


# --- several seeds -----------------------------------------------------------------------------------

SEEDS = 3
NETWORK = mlp(3, width=6)
SIDE_BY_SIDE = {
    "kip": compose(
        objectives.kip(KERNEL, 1e-3),
        uniform(8),
        optimizer=optax.sgd(0.5, 0.5),
        parameterisation=pixels("learned"),
        augment=augment.flip,
    ),
    "matching": compose(
        objectives.gradient_matching(NETWORK),
        stratified(9),
        risk.grouped(risk.mean, risk.plus(risk.mean, risk.worst)),
        optimizer=optax.sgd(0.05),
        trajectory=trajectory.fresh(NETWORK),
    ),
}


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def of_seed(tree, i, axis=0):
    return jax.tree.map(lambda leaf: np.moveaxis(np.asarray(leaf), axis, 0)[i], tree)


def several(name):
    """``(examples, starts, keys)``; groups are the classes where there are as many."""
    examples, _ = problem()
    if name == "matching":
        examples = examples.replace(groups=jnp.argmax(examples.labels, 1), group_count=3)
    return examples, [problem(seed=s)[1] for s in range(SEEDS)], jax.random.split(KEY, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_seeds_side_by_side_are_as_one_after_another(name):
    one, (examples, starts, keys) = SIDE_BY_SIDE[name], several(name)
    together = over_seeds(one)
    until = DISPATCH + 2
    told = []
    first = together.init(stacked(starts))
    state, info = together.run(keys, first, examples, until, [lambda state, info: told.append((kept(state), info))])
    assert [state.step.tolist() for state, _ in told] == [[DISPATCH] * SEEDS, [until] * SEEDS]
    assert equal(joined(*(info for _, info in told)), info)
    assert [leaf.shape[:2] for leaf in info] == [(until, SEEDS)] * 4
    for i in range(SEEDS):
        assert equal(of_seed(first, i), one.init(starts[i]))
        alone, told_alone = one.run(keys[i], one.init(starts[i]), examples, until)
        for found, expected in (
            (of_seed(state, i), alone),
            (of_seed(together.decode(state), i), one.decode(alone)),
            (of_seed(info, i, 1), told_alone),
        ):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), found, expected)
        assert np.abs(alone.params["images"] - starts[i].images).max() > 0.02
    # No seed repeats another.
    assert len({float(loss) for loss in info.loss[-1]}) == SEEDS
    # Cut anywhere, it is the same run.
    half, _ = together.run(keys, first, examples, 4)
    assert equal(together.run(keys, half, examples, until)[0], state)


@pytest.mark.slow
def test_a_step_of_several_seeds_is_a_step_of_each():
    examples, starts, keys = several("kip")
    one = compose(objectives.kip(rbf), uniform(8))
    together = over_seeds(one)
    state, info = together.step(keys, together.init(stacked(starts)), examples)
    assert info.by_group.shape == (SEEDS, 2)
    for i in range(SEEDS):
        alone, told = one.step(keys[i], one.init(starts[i]), examples)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of_seed(state, i), alone)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of_seed(info, i), told)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 1])
def test_one_seed_that_is_not_finite_ends_all_and_names_the_step(bad):
    examples, synthetic = problem()
    one = compose(poisoned(13, "loss"), uniform(8))
    keys = jax.random.split(jax.random.key(9), 2).at[bad].set(KEY)
    together, told = over_seeds(one), []
    with pytest.raises(Diverged, match=r"step 14\b") as error:
        together.run(
            keys, together.init(stacked([synthetic] * 2)), examples, 30, [lambda state, info: told.append(info)]
        )
    assert error.value.step == 14
    assert len(told) == 1
    expected, _ = one.run(KEY, one.init(synthetic), examples, 13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), of_seed(error.value.state, bad), expected)
    assert int(error.value.state.step[bad]) == 13


# --- what a distiller is made of ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(2.0),
        optax.sgd(1.0, momentum=0.5, nesterov=True),
        optax.adam(0.02),
        optax.lion(0.02),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.05, 20))),
    ],
    ids=["sgd", "momentum", "adam", "lion", "chain"],
)
def test_any_optimizer_lowers_the_loss(optimizer):
    examples, synthetic = problem()
    distiller = compose(objectives.kip(rbf, 1e-3), everything, optimizer=optimizer)
    _, info = distiller.run(KEY, distiller.init(synthetic), examples, 15)
    assert info.loss[-1] < 0.95 * info.loss[0]


@pytest.mark.slow
@pytest.mark.parametrize("learn", [True, False])
def test_labels_move_where_they_are_learned_and_only_there(learn):
    examples, synthetic = problem()
    distiller = compose(objectives.kip(rbf), uniform(8), parameterisation=pixels("learned" if learn else "fixed"))
    state, _ = distiller.run(KEY, distiller.init(synthetic), examples, 2)
    found = distiller.decode(state)
    assert np.abs(found.images - synthetic.images).max() > 1e-2
    assert np.array_equal(found.labels, synthetic.labels) != learn


def stax_ntk(x1, x2):
    stax = load()
    layers = stax.Flatten(), stax.Dense(1, 1.4, 0.1), stax.Erf(), stax.Dense(1, 1.4, 0.1)
    return stax_kernel(stax.serial(*layers)[2])(x1, x2)


@pytest.mark.slow
@pytest.mark.parametrize("make, kernel", [(objectives.kip, stax_ntk), (objectives.kip_solved, rbf)])
def test_kernels_of_your_own_are_learned_with(kernel, make):
    examples, synthetic = problem()
    distiller = compose(make(kernel, 1e-3), everything, optimizer=optax.adam(0.05))
    state, info = distiller.run(KEY, distiller.init(synthetic), examples, 20)
    assert info.loss[-1] < 0.9 * info.loss[0]
    assert np.isfinite(krr.fit(kernel, distiller.decode(state), 1e-3)(np.asarray(examples.images))).all()


@pytest.mark.slow
@pytest.mark.parametrize("make", [objectives.kip, objectives.kip_solved])
def test_one_image_a_class_of_digits_is_learned_far_beyond_its_start(make):
    splits = datasets.load("digits")
    fitted = preprocess.fit("standardise", splits.train.pixels)
    train, test = fitted.apply(splits.train.pixels), fitted.apply(splits.test.pixels)
    one_hot = centred_one_hot(splits.train.labels, 10)
    pool = Pool(train, splits.train.labels, 10)
    images = initialise("random", 0, pool, strata_of(pool, "class", 1)).images
    start = Synthetic(jnp.asarray(images), centred_one_hot(np.arange(10), 10))
    kernel = fc_ntk(1)
    distiller = compose(make(kernel), uniform(300), optimizer=optax.adam(0.04))
    state, _ = distiller.run(
        KEY, distiller.init(start), Examples(jnp.asarray(train), one_hot, jnp.zeros(len(train), int)), 60
    )
    learned = distiller.decode(state)
    if make is objectives.kip_solved:
        learned = learned._replace(labels=krr.label_solve(kernel, learned.images, train, np.asarray(one_hot)))
    before, after = (accuracy(krr.fit(kernel, s)(test), splits.test.labels) for s in (start, learned))
    # Seen: 0.62 before; 0.92 and 0.93 after.
    assert after > before + 0.2
    assert after > 0.85


def constants(jaxpr):
    """The sizes of all arrays that a traced function holds, those of its inner functions included."""
    yield from (np.size(const) for const in jaxpr.consts)
    for equation in jaxpr.jaxpr.eqns:
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "consts")):
            if hasattr(value, "consts"):
                yield from constants(value)


def test_data_are_an_argument_and_never_a_constant_of_the_program():
    examples, synthetic = problem(n=500)
    state = KIP.init(synthetic)
    traced = jax.make_jaxpr(KIP.advance)(KEY, state, examples, 3)
    assert max(constants(traced), default=0) < 500


def test_a_compiled_step_sees_the_data_that_it_is_given():
    (one, synthetic), (two, _) = problem(seed=0), problem(seed=1)
    losses = [float(KIP.step(KEY, KIP.init(synthetic), examples)[1].loss) for examples in (one, two, one)]
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.slow
def test_batches_hold_what_the_sampler_drew():
    examples, synthetic = problem()
    batches = []

    def watched(key, model, synthetic, batch):
        jax.debug.callback(batches.append, batch)
        return objectives.kip(KERNEL)(key, model, synthetic, batch)

    distiller = compose(watched, uniform(8))
    jax.block_until_ready(distiller.step(KEY, distiller.init(synthetic), examples))
    jax.effects_barrier()
    (batch,) = batches
    row = {np.asarray(image).tobytes(): i for i, image in enumerate(examples.images)}
    index = [row[np.asarray(image).tobytes()] for image in batch.images]
    np.testing.assert_array_equal(batch.labels, examples.labels[jnp.array(index)])
    np.testing.assert_array_equal(batch.group, examples.groups[jnp.array(index)])
    np.testing.assert_array_equal(batch.weight, np.ones(8))


# --- robust ------------------------------------------------------------------------------------------


def conflict(n=200, few=10):
    """Two classes that a first pixel tells apart for all but ``few`` of them, for whom a second, fainter one does.

    With one synthetic image a class there is one direction to choose: the average asks for the first pixel.
    """
    rng = np.random.default_rng(0)
    labels, rare = np.arange(n) % 2, np.arange(n) >= n - few
    sign = 2.0 * labels - 1
    x = 0.3 * rng.standard_normal((n, 4))
    x[:, 0] += np.where(rare, -1, 1) * sign
    x[:, 1] += 0.5 * sign
    examples = Examples(
        jnp.asarray(x.reshape(n, 2, 2, 1), jnp.float32),
        centred_one_hot(labels, 2),
        jnp.asarray(2 * labels + rare),
        group_count=4,
    )
    start = Synthetic(examples.images[:2], examples.labels[:2])
    return examples, start


def rarest(synthetic, examples, kernel=KERNEL):
    """Of the four groups of `conflict` the largest mean loss and the least accuracy; and the accuracy of all."""
    outputs = np.asarray(krr.fit(kernel, synthetic)(np.asarray(examples.images)))
    loss = 0.5 * ((outputs - examples.labels) ** 2).sum(1)
    right = outputs.argmax(1) == np.asarray(examples.labels).argmax(1)
    groups = np.asarray(examples.groups)
    worst_loss = max(loss[groups == g].mean() for g in range(4))
    return worst_loss, min(right[groups == g].mean() for g in range(4)), right.mean()


ACROSS = {
    "mean": risk.mean,
    "entropic": risk.entropic(5.0),
    "mean+max": risk.plus(risk.mean, risk.worst),
    "cvar": risk.cvar(0.5),
}


@pytest.fixture(scope="module")
def without_groups():
    """`rarest` after a plain run."""
    examples, start = conflict()
    plain = compose(objectives.kip(KERNEL), uniform(100), optimizer=optax.adam(0.05))
    return rarest(plain.decode(plain.run(KEY, plain.init(start), examples, 60)[0]), examples)


@pytest.mark.slow
@pytest.mark.parametrize("across", ACROSS)
def test_a_risk_over_groups_lifts_the_worst_group(across, without_groups):
    examples, start = conflict()
    robust = compose(
        objectives.kip(KERNEL),
        by_group(100),
        risk.grouped(risk.mean, ACROSS[across]),
        optimizer=optax.adam(0.05),
    )
    loss, right, average = without_groups
    learned = robust.decode(robust.run(KEY, robust.init(start), examples, 60)[0])
    robust_loss, robust_right, robust_average = rarest(learned, examples)
    # Seen: 0.45 and 20 % beside 96 % of all; 0.10 to 0.21, and 84 to 94 % beside 90 to 95 %.
    assert average > 0.9
    assert robust_loss < 0.7 * loss
    assert robust_right > right + 0.4
    assert robust_average > 0.8


@pytest.mark.slow
def test_the_worst_group_is_lifted_by_the_gradient_of_the_risk():
    examples, start = conflict()
    across = risk.grouped(risk.mean, risk.worst)
    cut = lambda losses: jax.lax.stop_gradient(across(losses))  # noqa: E731
    results = {}
    for name, of_losses in (("whole", across), ("cut", cut)):
        # No moments: what moves is the gradient.
        distiller = compose(objectives.kip(KERNEL), everything, of_losses, optimizer=optax.sgd(0.1))
        state, info = distiller.step(KEY, distiller.init(start), examples)
        results[name] = float(info.loss), np.abs(state.params["images"] - start.images).max()
    assert results["whole"][0] > 0
    assert results["cut"][0] == pytest.approx(results["whole"][0], rel=1e-6)
    assert results["cut"][1] == 0
    assert results["whole"][1] > 1e-3


@pytest.mark.slow
def test_the_same_examples_in_other_groups_are_another_step():
    examples, start = conflict()
    distiller = compose(
        objectives.kip(KERNEL), everything, risk.grouped(risk.mean, risk.worst), optimizer=optax.sgd(0.1)
    )
    one = distiller.step(KEY, distiller.init(start), examples)[0].params["images"]
    regrouped = examples.replace(groups=jnp.zeros_like(examples.groups))
    other = distiller.step(KEY, distiller.init(start), regrouped)[0].params["images"]
    plain = compose(objectives.kip(KERNEL), everything, optimizer=optax.sgd(0.1))
    expected = plain.step(KEY, plain.init(start), examples)[0].params["images"]
    np.testing.assert_allclose(other, expected, atol=1e-5)
    assert np.abs(one - other).max() > 1e-2


@pytest.mark.slow
def test_another_number_of_groups_is_another_program_of_the_same_distiller():
    examples, synthetic = problem()
    distiller = compose(objectives.kip(rbf), by_group(12), risk.grouped(risk.mean, risk.worst), optax.sgd(0.1))
    state, counts = distiller.init(synthetic), []
    for groups in (jnp.argmax(examples.labels, 1), examples.groups):
        count = int(groups.max()) + 1
        state, info = distiller.run(KEY, state, examples.replace(groups=groups, group_count=count), int(state.step) + 1)
        counts.append(info.by_group.shape)
    assert counts == [(1, 3), (1, 2)]


@pytest.mark.slow
def test_without_groups_a_robust_run_is_the_plain_run():
    examples, synthetic = problem()
    one = examples.replace(groups=jnp.zeros_like(examples.groups), group_count=1)
    across = risk.plus(risk.mean, risk.worst)
    robust = compose(objectives.kip(rbf), by_group(12), risk.grouped(risk.mean, across), optax.sgd(0.1))
    plain = compose(objectives.kip(rbf), uniform(12), optimizer=optax.sgd(0.1))
    both = [distiller.run(KEY, distiller.init(synthetic), one, 3) for distiller in (robust, plain)]
    assert equal(*both)


def test_the_keys_of_a_step_are_all_different():
    seen = {}

    def noted(name, value):
        def with_key(key, *rest):
            seen[name] = key
            return value(key, *rest)

        return with_key

    def far(key, model, synthetic, batch):
        return Losses(jnp.sum(synthetic.images**2)[None], jnp.zeros(1, int), jnp.ones(1), group_count=1)

    network = mlp(3, width=4)
    fresh = trajectory.fresh(network)
    distiller = compose(
        noted("objective", far),
        noted("sampler", everything),
        augment=noted("augment", augment.none),
        trajectory=fresh._replace(follow=noted("follow", lambda key, step, state, synthetic, data: state)),
    )
    examples, synthetic = problem()
    with jax.disable_jit():
        distiller.step(KEY, distiller.init(synthetic), examples)
    assert set(seen) == {"objective", "sampler", "augment", "follow"}
    # Nor is one of them what splitting another gives.
    data = lambda key: tuple(np.ravel(jax.random.key_data(key)).tolist())  # noqa: E731
    keys = [data(one) for key in seen.values() for one in (key, *jax.random.split(key))]
    assert len(set(keys)) == 3 * len(seen)
