"""Networks along a trajectory: when they start, what they are taught, and that the robust gradient is really there."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from rdd_jax import risk, snapshots, trajectory
from rdd_jax.distill import compose
from rdd_jax.errors import InputError
from rdd_jax.networks import convnet, mlp
from rdd_jax.networks.training import Training, cross_entropy
from rdd_jax.objectives import (
    angle,
    distribution_matching,
    gradient_matching,
    missed,
    trajectory_matching,
)
from rdd_jax.sampling import stratified, uniform
from rdd_jax.types import Batch, Examples, Losses, Synthetic, centred_one_hot

KEY = jax.random.key(0)
NETWORK = mlp(2, width=5)
RATE = 0.1
SGD = optax.sgd(RATE)


def problem(n=24, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.standard_normal((n, 3, 3, 1)) + 1.5 * labels[:, None, None, None]
    data = Examples(
        jnp.asarray(images, dtype), centred_one_hot(labels, 2).astype(dtype), jnp.asarray(labels), group_count=2
    )
    return Synthetic(data.images[:4] + 0.3, data.labels[:4]), data


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def follow(path, steps, synthetic, data):
    """The variables of every step."""
    state, found = path.init(synthetic), []
    one = jax.jit(path.follow)
    for step in range(steps):
        state = one(jax.random.fold_in(KEY, step), jnp.asarray(step), state, synthetic, data)
        found.append(path.model(state, jnp.asarray(step)))
    return found


def still(key, training, synthetic, data):
    """A lesson that counts how often it was given."""
    return training._replace(variables=jax.tree.map(lambda leaf: leaf + 1, training.variables))


still.looks = lambda key, data: jnp.zeros(0, int)


@pytest.mark.slow
def test_fresh_networks_differ_at_every_step_and_come_from_the_key():
    synthetic, data = problem()
    path = trajectory.fresh(NETWORK)
    found = follow(path, 3, synthetic, data)
    assert len({leaves(one).tobytes() for one in found}) == 3
    expected = NETWORK.init(jax.random.fold_in(KEY, 1), synthetic.images[:1])
    np.testing.assert_allclose(leaves(found[1]), leaves(expected), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True])
def test_a_network_is_kept_for_a_period_and_taught_between_steps(warm):
    synthetic, data = problem()
    found = follow(trajectory.trained(NETWORK, still, SGD, period=3, warm=warm), 7, synthetic, data)
    lessons = [
        round(float(leaves(one).mean() - leaves(found[step - step % 3]).mean())) for step, one in enumerate(found)
    ]
    assert lessons == [0, 1, 2, 0, 1, 2, 0]
    # A random start has weights around 0; a warm one has had its first lesson.
    np.testing.assert_allclose([leaves(found[0]).mean(), leaves(found[3]).mean()], float(warm), atol=0.3)
    assert np.abs(leaves(found[3]) - leaves(found[0])).max() > 1e-2


@pytest.mark.slow
def test_networks_of_a_pool_take_turns_with_ages_apart():
    synthetic, data = problem()
    found = follow(trajectory.trained(NETWORK, still, SGD, period=4, pool=2), 16, synthetic, data)
    means = np.array([leaves(one).mean() for one in found]).round()
    np.testing.assert_array_equal(means[0::2], [0, 1, 2, 3, 0, 1, 2, 3])
    # The second starts with the first, and from then on two steps of its own later.
    np.testing.assert_array_equal(means[1::2], [0, 1, 0, 1, 2, 3, 0, 1])


@pytest.mark.slow
def test_a_lesson_on_the_synthetic_set_is_gradient_descent_on_it():
    synthetic, data = problem()
    variables = NETWORK.init(KEY, synthetic.images)
    lesson = jax.jit(trajectory.on_synthetic(NETWORK, SGD, epochs=3))
    taught = lesson(KEY, Training(variables, SGD.init(variables)), synthetic, data).variables
    for _ in range(3):  # the whole set is one batch
        loss = lambda v: jnp.mean(cross_entropy(NETWORK.apply(v, synthetic.images), synthetic.labels + 0.5))  # noqa: E731
        variables = jax.tree.map(lambda a, g: a - RATE * g, variables, jax.jit(jax.grad(loss))(variables))
    np.testing.assert_allclose(leaves(taught), leaves(variables), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_lesson_by_squared_error_takes_the_labels_as_they_are():
    synthetic, data = problem()
    synthetic = synthetic._replace(labels=3 * synthetic.labels)  # no distributions
    variables = NETWORK.init(KEY, synthetic.images)
    lesson = jax.jit(trajectory.on_synthetic(NETWORK, SGD, epochs=1, error="squared"))
    taught = lesson(KEY, Training(variables, SGD.init(variables)), synthetic, data).variables
    loss = lambda v: jnp.mean(jnp.sum((NETWORK.apply(v, synthetic.images) - synthetic.labels) ** 2, 1)) / 2  # noqa: E731
    expected = jax.tree.map(lambda a, g: a - RATE * g, variables, jax.jit(jax.grad(loss))(variables))
    np.testing.assert_allclose(leaves(taught), leaves(expected), rtol=1e-4, atol=1e-6)


def test_an_unknown_error_of_a_lesson_is_refused():
    with pytest.raises(InputError, match="unknown error 'square': did you mean squared"):
        trajectory.on_synthetic(NETWORK, SGD, epochs=1, error="square")


ROBUST = risk.grouped(risk.cvar(0.5), risk.plus(risk.mean, risk.worst))


def robust_loss(variables, synthetic, data, index):
    """``loss(variables)`` of `on_real` written out, and the plain part of it."""
    images, labels = data.images[index], np.asarray(data.labels)[index] + 0.5
    points, centres = (np.asarray(NETWORK.features(variables, x)) for x in (images, synthetic.images))
    theirs = np.asarray(synthetic.of_class)
    group = []
    for point, label in zip(points, labels.argmax(1), strict=True):
        own = np.flatnonzero(theirs == label)
        group.append(own[((centres[own] - point) ** 2).sum(1).argmin()])

    def loss(v, plain=False):
        value = cross_entropy(NETWORK.apply(v, images), jnp.asarray(labels))
        losses = Losses(value, jnp.asarray(group), jnp.ones(len(group)), group_count=len(centres))
        return jnp.mean(value) if plain else jnp.mean(value) + ROBUST(losses)

    return loss


@pytest.mark.slow
def test_a_robust_lesson_follows_the_gradient_of_its_risk_and_not_of_the_mean(x64):
    synthetic, data = problem(dtype=jnp.float64)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), NETWORK.init(KEY, synthetic.images))
    lesson = jax.jit(trajectory.on_real(NETWORK, SGD, uniform(16), 1, ROBUST))
    taught = lesson(KEY, Training(variables, SGD.init(variables)), synthetic, data).variables
    moved = (leaves(variables) - leaves(taught)) / RATE
    index, _ = uniform(16)(jax.random.split(jax.random.fold_in(KEY, 0))[0], data)
    loss = robust_loss(variables, synthetic, data, index)
    np.testing.assert_allclose(moved, leaves(jax.jit(jax.grad(loss))(variables)), rtol=1e-8, atol=1e-10)
    plain = leaves(jax.grad(lambda v: loss(v, plain=True))(variables))
    assert moved @ plain / np.linalg.norm(moved) / np.linalg.norm(plain) < 0.999


@pytest.mark.slow
def test_the_gradient_of_the_robust_inner_loss_agrees_with_finite_differences(x64):
    synthetic, data = problem(dtype=jnp.float64)
    variables = jax.tree.map(lambda leaf: leaf.astype(float), NETWORK.init(KEY, synthetic.images))
    loss = robust_loss(variables, synthetic, data, jnp.arange(16))
    # A small step: kinks, where losses tie at the quantile, lie close.
    check_grads(jax.jit(loss), (variables,), order=1, modes=("rev",), atol=1e-6, rtol=1e-6, eps=1e-7)


@pytest.mark.slow
def test_groups_of_the_data_serve_in_the_place_of_the_nearest():
    synthetic, data = problem()
    variables = NETWORK.init(KEY, synthetic.images)
    start = Training(variables, SGD.init(variables))
    risky = risk.grouped(risk.mean, risk.worst)
    of_data, plain = (
        jax.jit(trajectory.on_real(NETWORK, SGD, uniform(16), 1, which, nearest=False))(KEY, start, synthetic, data)
        for which in (risky, None)
    )
    index, _ = uniform(16)(jax.random.split(jax.random.fold_in(KEY, 0))[0], data)

    def loss(v):
        value = cross_entropy(NETWORK.apply(v, data.images[index]), data.labels[index] + 0.5)
        by_group = [jnp.sum(value * (data.groups[index] == g)) / jnp.sum(data.groups[index] == g) for g in (0, 1)]
        return jnp.mean(value) + jnp.maximum(*by_group)

    expected = jax.tree.map(lambda a, g: a - RATE * g, variables, jax.jit(jax.grad(loss))(variables))
    np.testing.assert_allclose(leaves(of_data.variables), leaves(expected), rtol=1e-4, atol=1e-6)
    assert np.abs(leaves(of_data.variables) - leaves(plain.variables)).max() > 1e-3


@pytest.mark.slow
def test_the_nearest_centre_is_one_of_the_same_class():
    rng = np.random.default_rng(0)
    points, centres = rng.standard_normal((30, 4)), rng.standard_normal((6, 4))
    found = trajectory.nearest_of_class(*map(jnp.asarray, (points, np.arange(30) % 3, centres, np.arange(6) % 3)))
    for i, j in enumerate(np.asarray(found)):
        own = np.flatnonzero(np.arange(6) % 3 == i % 3)
        assert j == own[((centres[own] - points[i]) ** 2).sum(1).argmin()]


KEPT = [
    jax.vmap(lambda key: NETWORK.init(key, jnp.zeros((1, 3, 3, 1))))(jax.random.split(jax.random.key(epoch), 2))
    for epoch in range(4)
]
"""Of two networks."""
PATHS = {
    "fresh": trajectory.fresh(NETWORK),
    "on synthetic": trajectory.trained(NETWORK, trajectory.on_synthetic(NETWORK, SGD, 2), SGD, period=3),
    "on real": trajectory.trained(
        NETWORK, trajectory.on_real(NETWORK, SGD, uniform(8), 2, ROBUST), SGD, period=3, warm=True
    ),
    "pooled": trajectory.trained(NETWORK, trajectory.on_synthetic(NETWORK, SGD, 1), SGD, period=4, pool=2),
    "at snapshots": snapshots.at_snapshots(KEPT),
    "between snapshots": snapshots.between_snapshots(KEPT, 2, stretches=2),
}


# An objective sees a trajectory's variables alone: every one of the two once, and not every pair.
PAIRS = {
    "fresh": distribution_matching,
    "on synthetic": gradient_matching,
    "on real": gradient_matching,
    "pooled": distribution_matching,
    "at snapshots": gradient_matching,
    "between snapshots": partial(trajectory_matching, steps=2, rate=0.1, batch=3),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_every_trajectory_serves_an_objective_and_repeats_itself(name):
    make = PAIRS[name]
    synthetic, data = problem()
    across = risk.grouped(risk.mean, risk.mean)
    distiller = compose(make(NETWORK), stratified(12), across, optax.sgd(0.05, 0.5), trajectory=PATHS[name])
    runs = [distiller.run(KEY, distiller.init(synthetic), data, 12) for _ in range(2)]
    (state, info), (again, _) = runs
    np.testing.assert_array_equal(leaves(state.params), leaves(again.params))
    assert np.isfinite(info.loss).all()
    assert np.abs(np.asarray(distiller.decode(state).images - synthetic.images)).max() > 1e-3
    # A step alone, and the same one within a dispatch.
    half, _ = distiller.run(KEY, distiller.init(synthetic), data, 7)
    rest, _ = distiller.run(KEY, half, data, 12)
    np.testing.assert_allclose(leaves(rest.params), leaves(state.params), rtol=1e-5, atol=1e-6)


def test_a_step_looks_from_any_snapshot_and_beside_it_from_the_last():
    synthetic, data = problem()
    kept = [{"weight": age + jnp.asarray([[0.0], [0.5]])} for age in range(3)]  # the second network's are halves
    alone = follow(snapshots.at_snapshots(kept), 60, synthetic, data)
    pairs = follow(snapshots.at_snapshots(kept, with_last=True), 60, synthetic, data)
    ages = [float(one["weight"][0]) for one in alone]
    assert {age: ages.count(age) > 3 for age in ages} == dict.fromkeys(np.arange(0, 3, 0.5), True)
    assert ages == [float(now["weight"][0]) for now, _ in pairs]
    assert all(float(last["weight"][0]) == 2 + float(now["weight"][0]) % 1 for now, last in pairs)


def test_a_stretch_is_of_one_network_and_of_its_span():
    synthetic, data = problem()
    kept = [{"weight": age + jnp.asarray([[0.0], [0.5]])} for age in range(4)]
    pairs = follow(snapshots.between_snapshots(kept, 2, stretches=3), 40, synthetic, data)
    starts = [float(age) for start, _ in pairs for age in start["weight"][:, 0]]
    assert len(starts) == 120
    assert {age: starts.count(age) > 9 for age in starts} == dict.fromkeys([0.0, 0.5, 1.0, 1.5], True)
    assert [float(age) for _, end in pairs for age in end["weight"][:, 0]] == [age + 2 for age in starts]
    assert len({tuple(start["weight"][:, 0].tolist()) for start, _ in pairs}) > 9  # each drawn by itself


def test_without_snapshots_there_is_no_trajectory():
    with pytest.raises(InputError, match="the number of snapshots is 0"):
        snapshots.at_snapshots([])
    with pytest.raises(InputError, match="the number of snapshots is 2: it must be at least 3"):
        snapshots.between_snapshots(KEPT[:2], span=2)
    with pytest.raises(InputError, match="span is 0"):
        snapshots.between_snapshots(KEPT, span=0)
    with pytest.raises(InputError, match="stretches is 0"):
        snapshots.between_snapshots(KEPT, stretches=0)


# --- where a training on the set ends ----------------------------------------------------------------


def ends(steps, rate, images, labels, weights):
    """By gradient descent on all images, a step after another."""

    def loss(weights):
        logits = NETWORK.apply(weights, images)
        return -jnp.mean(jnp.sum((labels + 1 / 2) * jax.nn.log_softmax(logits), 1))

    for _ in range(steps):
        weights = jax.tree.map(lambda weight, slope: weight - rate * slope, weights, jax.grad(loss)(weights))
    return weights


def apart(a, b):
    return jnp.sum((jax.flatten_util.ravel_pytree(a)[0] - jax.flatten_util.ravel_pytree(b)[0]) ** 2)


def dim(images):
    return 0.5 * images


def alone(stretch):
    """As the only one of its step."""
    return jax.tree.map(lambda leaf: leaf[None], stretch)


def by_distance(synthetic, data, **given):
    """Ours as a function of the images and labels of the set, and the ends of the stretch."""
    start, end = (NETWORK.init(jax.random.key(seed), synthetic.images[:1]) for seed in (1, 2))
    objective = trajectory_matching(NETWORK, 3, 0.2, augment=lambda key, images: dim(images), **given)
    batch = Batch(data.images, data.labels, data.groups, jnp.ones(len(data.labels)), group_count=data.group_count)

    def ours(images, labels, key=KEY):
        losses = objective(key, alone((start, end)), synthetic._replace(images=images, labels=labels), batch)
        assert losses.group_count == 1
        assert losses.value.shape == (1,)
        return losses.value.sum()

    return ours, start, end


def check_slopes(slopes, theirs):
    for slope, steep in zip(slopes, theirs, strict=True):
        assert np.abs(steep).max() > 0
        np.testing.assert_allclose(slope, steep, rtol=1e-3, atol=1e-6)


def test_the_distance_of_trajectories_and_its_gradient_are_those_of_the_steps_one_by_one():
    synthetic, data = problem()
    ours, start, end = by_distance(synthetic, data)

    def expected(images, labels):
        return apart(ends(3, 0.2, dim(images), labels, start), end) / apart(start, end)

    at = synthetic.images, synthetic.labels
    (found, slopes), (wanted, theirs) = (jax.jit(jax.value_and_grad(f, (0, 1)))(*at) for f in (ours, expected))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    check_slopes(slopes, theirs)


def test_every_stretch_of_a_step_has_a_distance_of_its_own():
    synthetic, data = problem()
    starts, end_points = (
        [NETWORK.init(jax.random.key(seed), synthetic.images[:1]) for seed in two] for two in ((1, 2), (3, 4))
    )
    batch = Batch(data.images, data.labels, data.groups, jnp.ones(len(data.labels)), group_count=data.group_count)
    pairs = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *part) for part in (starts, end_points)]
    found = trajectory_matching(NETWORK, 3, 0.2)(KEY, tuple(pairs), synthetic, batch)
    np.testing.assert_array_equal(found.weight, [1, 1])
    for value, start, end in zip(found.value, starts, end_points, strict=True):
        reached = ends(3, 0.2, synthetic.images, synthetic.labels, start)
        np.testing.assert_allclose(value, apart(reached, end) / apart(start, end), rtol=1e-5)


def test_a_step_asked_by_itself_is_to_push_where_the_whole_should_have_gone():
    synthetic, data = problem()
    ours, start, end = by_distance(synthetic, data, asked=3)
    at = synthetic.images, synthetic.labels
    step, reached = jax.jit(partial(ends, 1, 0.2)), [start]
    for _ in range(3):
        reached.append(step(dim(at[0]), at[1], reached[-1]))
    np.testing.assert_allclose(ours(*at), apart(reached[3], end) / apart(start, end), rtol=1e-5)
    pull, _ = jax.flatten_util.ravel_pytree(
        jax.grad(lambda weights: apart(weights, end) / apart(start, end))(reached[3])
    )

    def pushed(images, labels, before):
        """By how much one step goes against what is asked."""
        moved, _ = jax.flatten_util.ravel_pytree(ends(1, 0.2, dim(images), labels, before))
        return moved @ pull

    slopes_of = jax.jit(jax.grad(pushed, (0, 1)))
    each = [slopes_of(*at, weights) for weights in reached[:3]]
    together = jax.tree.map(lambda *parts: sum(parts), *each)
    check_slopes(jax.jit(jax.grad(ours, (0, 1)))(*at), together)
    unrolled = jax.jit(jax.grad(by_distance(synthetic, data)[0]))(*at)
    assert np.abs(unrolled - together[0]).max() > 0.01 * np.abs(unrolled).max()
    # Of one step, which stands for all three: any of them, and no other.
    found, slope_of = set(), jax.jit(jax.grad(by_distance(synthetic, data, asked=1)[0]))
    for seed in range(12):
        slope = slope_of(*at, jax.random.key(seed))
        off = [np.abs(slope - 3 * images).max() / np.abs(slope).max() for images, _ in each]
        assert min(off) < 1e-3
        found.add(int(np.argmin(off)))
    assert found == {0, 1, 2}


def test_the_angle_does_not_look_at_lengths_and_has_a_gradient_where_nothing_moved():
    rng = np.random.default_rng(0)
    a, b = ({"w": jnp.asarray(rng.standard_normal((3, 2)), jnp.float32), "b": jnp.ones(2)} for _ in range(2))
    moved, asked = (np.asarray(jax.flatten_util.ravel_pytree(x)[0], np.float64) for x in (a, b))
    expected = 1 - moved @ asked / np.linalg.norm(moved) / np.linalg.norm(asked)
    for times in (1e-4, 1.0, 1e4):
        longer = jax.tree.map(lambda leaf, times=times: times * leaf, a)
        np.testing.assert_allclose(angle(longer, b), expected, rtol=1e-5)
        # The best multiple misses by 1 less the square of the cosine.
        best = moved @ asked / (moved @ moved) / times
        np.testing.assert_allclose(
            missed(jax.tree.map(lambda leaf, best=best: best * leaf, longer), b), 1 - (1 - expected) ** 2, rtol=1e-4
        )
    still = jax.tree.map(jnp.zeros_like, a)
    assert angle(still, b) == 1
    assert np.isfinite(leaves(jax.grad(angle)(still, b))).all()


def test_a_set_that_leads_where_the_real_training_led_is_at_no_distance():
    synthetic, data = problem()
    start = NETWORK.init(KEY, synthetic.images[:1])
    batch = Batch(data.images, data.labels, data.groups, jnp.ones(len(data.labels)), group_count=data.group_count)
    end = jax.jit(partial(ends, 3, 0.1))(synthetic.images, synthetic.labels, start)

    def found(**given):
        objective = trajectory_matching(NETWORK, 3, 0.1, **given)
        return jax.jit(lambda: objective(KEY, alone((start, end)), synthetic, batch).value[0])()

    assert found() < 1e-10
    assert found(batch=2) > 1e-4  # a part of the set leads elsewhere


@pytest.mark.parametrize(
    "given, message",
    [
        ({"steps": 0}, "steps is 0"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"batch": 0}, "batch is 0"),
        ({"asked": 0}, "asked is 0 of 2 steps"),
        ({"asked": 3}, "asked is 3 of 2 steps"),
    ],
)
def test_a_training_that_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        trajectory_matching(NETWORK, **{"steps": 2, "rate": 0.1, **given})


@pytest.mark.slow
def test_matching_brings_a_distant_set_to_the_data():
    network = convnet(2, depth=1, width=8)
    synthetic, data = problem(64)
    start = synthetic._replace(images=jax.random.normal(KEY, synthetic.images.shape))
    distiller = compose(
        distribution_matching(network),
        stratified(32),
        risk.grouped(risk.mean, risk.mean),
        optax.sgd(1.0, 0.5),
        trajectory=trajectory.fresh(network),
    )
    _, info = distiller.run(KEY, distiller.init(start), data, 60)
    assert info.loss[-10:].mean() < 0.5 * info.loss[:5].mean()


@pytest.mark.parametrize("options", [{"period": 0}, {"period": 1, "pool": 0}])
def test_periods_and_pools_below_one_are_refused(options):
    with pytest.raises(InputError, match="it must be at least 1"):
        trajectory.trained(NETWORK, still, SGD, **options)
