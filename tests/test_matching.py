"""Matching objectives against a plain loop, finite differences, and what a match of identical sets must be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from rdd_jax import augment, objectives, parameterise, risk, sampling, trajectory
from rdd_jax.distill import compose
from rdd_jax.errors import InputError
from rdd_jax.kernels import blocks
from rdd_jax.networks import convnet, mlp
from rdd_jax.types import Batch, Examples, Synthetic

KEY = jax.random.key(0)
CLASSES, IPC, PER = 3, 2, 4
NETWORKS = {"convnet": convnet(CLASSES, depth=1, width=4), "mlp": mlp(CLASSES, width=6)}


FREQUENCIES, PHASE = 5, 0.3
EMBEDDINGS = {"dm": objectives.means, "ncfm": objectives.characteristic(FREQUENCIES, PHASE)}


@functools.cache
def make(name, network, **options):
    """One for many tests, so that it is compiled once."""
    if name in EMBEDDINGS:
        return jax.jit(objectives.distribution_matching(network, distance=EMBEDDINGS[name], **options))
    return jax.jit(objectives.gradient_matching(network, objectives.DISTANCES[name], **options))


MEMBERS = (*objectives.DISTANCES, *EMBEDDINGS)
actual = blocks._kept


def problem(cells=CLASSES, dtype=jnp.float64):
    """A batch of PER examples a cell, in order, and a synthetic set whose classes are not in order."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), dtype)  # noqa: E731
    one_hot = lambda labels: jnp.asarray(np.eye(CLASSES)[labels] - 1 / CLASSES, dtype)  # noqa: E731
    cell = np.repeat(np.arange(cells), PER)
    batch = Batch(
        draw(len(cell), 4, 4, 1),
        one_hot(cell // (cells // CLASSES)),
        jnp.asarray(cell),
        jnp.asarray(rng.uniform(0.5, 2, len(cell)), dtype),
        group_count=cells,
    )
    labels = np.tile(np.arange(CLASSES), IPC)
    return Synthetic(draw(len(labels), 4, 4, 1), one_hot(labels)), batch


def variables_of(network, dtype=jnp.float64):
    found = network.init(jax.random.key(7), jnp.zeros((1, 4, 4, 1)))
    # Biases and scales away from their start, so that nothing vanishes by symmetry.
    keys = iter(jax.random.split(jax.random.key(8), 100))
    return jax.tree.map(lambda leaf: leaf.astype(dtype) + 0.1 * jax.random.normal(next(keys), leaf.shape, dtype), found)


@functools.cache
def gradient(network):
    """Of the weighted cross-entropy of one cell, with respect to the weights."""

    def loss(v, images, one_hot, share):
        return -jnp.sum(share[:, None] * one_hot * jax.nn.log_softmax(network.apply(v, images)))

    return jax.jit(jax.grad(loss))


def of_means(real, share, ours):
    return ((share @ real - ours.mean(0)) ** 2).sum()


def of_functions(real, share, ours):
    """By complex numbers, amplitudes and angles."""
    spread = np.sqrt(share @ ((real - share @ real) ** 2).sum(1))
    t = np.asarray(jax.random.normal(jax.random.fold_in(KEY, 2), (real.shape[1], FREQUENCIES), real.dtype)) / spread
    a, b = share @ np.exp(1j * real @ t), np.exp(1j * ours @ t).mean(0)
    phases = 2 * abs(a) * abs(b) * (1 - np.cos(np.angle(a) - np.angle(b)))
    return np.sqrt((1 - PHASE) * (abs(a) - abs(b)) ** 2 + PHASE * phases).mean()


def by_loop(name, network, variables, synthetic, batch, cells):
    """The distances in NumPy, a cell after another, gradients by JAX on one cell alone."""
    labels = np.argmax(synthetic.labels, 1)

    def weights(*of):
        return [np.asarray(leaf) for leaf in jax.tree.leaves(gradient(network)(variables, *of)) if leaf.ndim > 1]

    found = []
    for c in range(cells):
        own = np.flatnonzero(np.asarray(batch.group) == c)
        share = np.asarray(batch.weight)[own] / np.asarray(batch.weight)[own].sum()
        mine = np.flatnonzero(labels == c // (cells // CLASSES))
        if name in EMBEDDINGS:
            real, ours = (
                np.asarray(network.features(variables, x)) for x in (batch.images[own], synthetic.images[mine])
            )
            found.append(CLASSES * {"dm": of_means, "ncfm": of_functions}[name](real, share, ours))
            continue
        real = weights(batch.images[own], batch.labels[own] + 1 / CLASSES, jnp.asarray(share))
        ours = weights(synthetic.images[mine], synthetic.labels[mine] + 1 / CLASSES, jnp.full(len(mine), 1 / len(mine)))
        total = 0.0
        for a, b in zip(real, ours, strict=True):
            a, b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
            if name == "squared":
                total += ((a - b) ** 2).sum()
            else:
                total += sum(
                    1 - (x @ y + 1e-6) / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6)
                    for x, y in zip(a.T, b.T, strict=True)
                )
        found.append(CLASSES * total)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("kind, cells", [("mlp", CLASSES), ("convnet", 2 * CLASSES)])
def test_distances_are_those_of_a_plain_loop_over_cells(name, kind, cells, x64):
    network = NETWORKS[kind]
    synthetic, batch = problem(cells)
    variables = variables_of(network)
    losses = make(name, network)(KEY, variables, synthetic, batch)
    np.testing.assert_allclose(losses.value, by_loop(name, network, variables, synthetic, batch, cells), rtol=1e-9)
    np.testing.assert_array_equal(losses.group, np.arange(cells))
    np.testing.assert_array_equal(losses.weight, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_gradients_with_respect_to_images_and_labels_agree_with_finite_differences(name, x64):
    network = NETWORKS["mlp"]
    synthetic, batch = problem(2 * CLASSES)
    variables = variables_of(network)
    across = risk.grouped(risk.mean, risk.plus(risk.mean, risk.worst))

    def loss(images, labels):
        return across(make(name, network)(KEY, variables, Synthetic(jnp.asarray(images), jnp.asarray(labels)), batch))

    check_grads(jax.jit(loss), (synthetic.images, synthetic.labels), order=1, modes=("rev",), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_match_of_identical_sets_is_zero_and_its_gradient_finite(name, kind, x64):
    network = NETWORKS[kind]
    _, batch = problem()
    batch = batch.replace(weight=jnp.ones_like(batch.weight))
    same = Synthetic(batch.images, batch.labels)
    of = lambda s: jnp.sum(make(name, network)(KEY, variables_of(network), s, batch).value)  # noqa: E731
    value, gradient = jax.value_and_grad(of)(same)
    np.testing.assert_allclose(value, 0, atol=1e-9)
    assert np.isfinite(gradient.images).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_an_empty_cell_has_no_weight_and_does_not_change_the_others(name):
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    full = make(name, network)(KEY, variables, synthetic, batch)
    empty = batch.replace(weight=batch.weight.at[PER : 2 * PER].set(0))
    losses = make(name, network)(KEY, variables, synthetic, empty)
    np.testing.assert_array_equal(losses.weight, [1, 0, 1])
    np.testing.assert_allclose(losses.value[jnp.array([0, 2])], full.value[jnp.array([0, 2])], rtol=1e-5)
    assert np.isfinite(losses.value).all()


@pytest.mark.slow
def test_examples_out_of_their_cells_place_count_for_nothing_in_gradient_matching():
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    objective = make("cosine", network)
    moved = batch.replace(group=batch.group.at[0].set(2))
    without = batch.replace(weight=batch.weight.at[0].set(0))
    np.testing.assert_array_equal(
        objective(KEY, variables, synthetic, moved).value, objective(KEY, variables, synthetic, without).value
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_both_sides_get_the_same_transform(name):
    network = NETWORKS["mlp"]
    _, batch = problem(dtype=jnp.float32)
    batch = batch.replace(weight=jnp.ones_like(batch.weight))
    same, variables = Synthetic(batch.images, batch.labels), variables_of(network, jnp.float32)
    # Two parts of all; each is tried in the tests of augmentations.
    objective, apart = (
        make(name, network, augment=augment.dsa("crop+rotate", shared=shared)) for shared in (True, False)
    )
    for key in jax.random.split(KEY, 3):
        np.testing.assert_allclose(objective(key, variables, same, batch).value, 0, atol=1e-3)
    # Drawn by image, the transforms of equal sets in equal order are equal too; in another order they are not.
    turned = Synthetic(batch.images[::-1], batch.labels[::-1])
    assert max(apart(key, variables, turned, batch).value.max() for key in jax.random.split(KEY, 8)) > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_every_class_has_one_draw_for_both_of_its_sides(name):
    network, cells = NETWORKS["mlp"], 2 * CLASSES
    synthetic, batch = problem(cells, dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    brighter = lambda key, images: images + jax.random.normal(key)  # noqa: E731
    draws = jax.vmap(jax.random.normal)(jax.random.split(KEY, CLASSES))
    by_hand = [
        images + draws[jnp.asarray(classes)][:, None, None, None]
        for images, classes in ((synthetic.images, synthetic.of_class), (batch.images, batch.group // 2))
    ]
    expected = make(name, network)(
        KEY, variables, synthetic._replace(images=by_hand[0]), batch.replace(images=by_hand[1])
    )
    found = make.__wrapped__(name, network, augment=brighter)(KEY, variables, synthetic, batch)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-4)
    assert len(np.unique(draws)) == CLASSES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cosine", "squared"])
def test_a_label_that_is_trained_past_another_leaves_its_image_in_its_class(name):
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    soft = parameterise.pixels("soft")
    params, fixed = soft.init(synthetic)
    # The first image's label now names another class most.
    params["labels"] = params["labels"].at[0].set(jnp.roll(params["labels"][0], 1))
    turned = soft.decode(params, fixed)
    assert int(jnp.argmax(turned.labels[0])) != int(synthetic.of_class[0])
    np.testing.assert_array_equal(turned.of_class, synthetic.of_class)
    before, after = (
        make(name, network)(KEY, variables, s, batch).value for s in (soft.decode(*soft.init(synthetic)), turned)
    )
    # Only its own class is matched otherwise.
    own = int(synthetic.of_class[0])
    others = [c for c in range(CLASSES) if c != own]
    np.testing.assert_allclose(after[np.array(others)], before[np.array(others)], rtol=1e-5)
    assert abs(float(after[own] - before[own])) > 1e-3


def test_the_embeddings_of_a_batch_do_not_depend_on_blocks(monkeypatch):
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    whole = make("dm", network)(KEY, variables, synthetic, batch).value
    monkeypatch.setattr(blocks, "BLOCK", 5)
    np.testing.assert_allclose(
        make.__wrapped__("dm", network)(KEY, variables, synthetic, batch).value, whole, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name, classes_a_turn", [("cosine", 2), ("squared", 1), ("dm", 2), ("ncfm", 1)])
def test_a_set_that_is_looked_at_in_turns_has_the_same_losses_and_gradient(name, classes_a_turn, x64, monkeypatch):
    network, kept = NETWORKS["mlp"], []
    synthetic, batch = problem(2 * CLASSES)
    variables, drawn = variables_of(network), augment.dsa("crop", shared=True)

    def found():
        objective = make.__wrapped__(name, network, augment=drawn)
        across = risk.grouped(risk.mean, risk.plus(risk.mean, risk.worst))

        def of(images, labels):
            losses = objective(KEY, variables, Synthetic(images, labels), batch)
            return across(losses), losses.value

        return jax.jit(jax.value_and_grad(of, (0, 1), has_aux=True))(synthetic.images, synthetic.labels)

    monkeypatch.setattr(blocks, "_kept", lambda *of: kept.append(actual(*of)) or kept[-1])
    whole = found()
    monkeypatch.setattr(blocks, "HELD", classes_a_turn * kept[0])
    looped = str(jax.make_jaxpr(lambda: make.__wrapped__(name, network)(KEY, variables, synthetic, batch).value)())
    assert "remat" in looped
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found(), whole)


def temporary(objective, network, classes, ipc=4, side=16):
    """Bytes that XLA sets aside for a gradient with respect to the set; and those of the images and of the weights."""
    group = jnp.repeat(jnp.arange(classes), ipc)
    images, labels = jnp.zeros((len(group), side, side, 3)), jax.nn.one_hot(group, classes)
    batch = Batch(images, labels, group, jnp.ones(len(group)), group_count=classes)
    variables = network.init(KEY, images[:1])

    def gradient(variables, images, labels, index, batch):
        total = lambda images: jnp.sum(objective(KEY, variables, Synthetic(images, labels, classes=index), batch).value)  # noqa: E731
        return jax.grad(total)(images)

    lowered = jax.jit(gradient).lower(variables, images, labels, group, batch)
    weights = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return lowered.compile().memory_analysis().temp_size_in_bytes, 4 * images.size, 4 * weights


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["cosine", "dm"])
def test_the_memory_of_a_step_grows_with_classes_by_no_more_than_their_images_and_gradients(name, monkeypatch):
    networks = {classes: convnet(classes, depth=1, width=8) for classes in (8, 16)}

    def growth():
        """Bytes that eight classes more take, and the most that is stated of them."""
        sizes = {n: temporary(make.__wrapped__(name, network), network, n) for n, network in networks.items()}
        images = sizes[16][1] - sizes[8][1]
        gradients = 16 * sizes[16][2] - 8 * sizes[8][2] if name == "cosine" else 0
        return sizes[16][0] - sizes[8][0], 8 * images + 3 * gradients

    at_once, stated = growth()
    monkeypatch.setattr(blocks, "HELD", 2**20)
    in_turns, _ = growth()
    assert in_turns < stated < at_once


@pytest.mark.slow
def test_networks_that_do_not_fit_are_refused_before_compiling():
    synthetic, batch = problem(dtype=jnp.float32)
    other = mlp(CLASSES + 1, width=6)
    with pytest.raises(InputError, match="the network gives 4 outputs for 3 classes"):
        make("cosine", other)(KEY, variables_of(other, jnp.float32), synthetic, batch)
    over_batch = convnet(CLASSES, depth=1, width=4, norm="batch")
    one = jax.tree.map(lambda leaf: leaf[:CLASSES], synthetic)
    with pytest.raises(InputError, match="a batch would hold a single image"):
        make("cosine", over_batch)(KEY, variables_of(over_batch, jnp.float32), one, batch)


@pytest.mark.parametrize("name", MEMBERS)
def test_cells_that_do_not_fit_are_refused_before_computing(name):
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    with pytest.raises(InputError, match="4 cells and 6 synthetic images for 3 classes: both must be multiples"):
        make(name, network)(KEY, variables, synthetic, batch.replace(group_count=4))


def test_a_batch_that_cells_do_not_divide_is_refused():
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    short = jax.tree.map(lambda leaf: leaf[:-1], batch)
    with pytest.raises(InputError, match="a batch of 11 does not hold 3 cells evenly"):
        make("cosine", network)(KEY, variables_of(network, jnp.float32), synthetic, short)


@pytest.mark.slow
def test_one_step_of_gradient_matching_moves_images_towards_the_match():
    network = NETWORKS["mlp"]
    synthetic, batch = problem(dtype=jnp.float32)
    variables = variables_of(network, jnp.float32)
    for name in MEMBERS:
        of = lambda x, name=name: jnp.sum(  # noqa: E731
            make(name, network)(KEY, variables, synthetic._replace(images=x), batch).value
        )
        value, gradient = jax.value_and_grad(of)(synthetic.images)
        step = 1e-2 / optax.tree.norm(gradient)
        assert of(synthetic.images - step * gradient) < value


GOLDEN = {
    "cosine": (27.710006798061734, 0.4284298805889546),
    "squared": (16.737252425681838, 0.5420200868693684),
    "dm": (10.592483868364969, 0.40843697660846523),
    "ncfm": (3.895875460252342, 0.12531776466770644),
}
"""Loss of the first step, and how far it moves the images: recorded, so that a change is noticed."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMBERS)
def test_the_first_step_is_the_recorded_one(name, x64):
    network, cells = NETWORKS["convnet"], 2 * CLASSES
    synthetic, batch = problem(cells)
    distiller = compose(
        make(name, network),
        sampling.stratified(4 * cells),
        risk.grouped(risk.mean, risk.plus(risk.mean, risk.worst)),
        optax.sgd(0.1, 0.5),
        trajectory=trajectory.fresh(network),
    )
    data = Examples(batch.images, batch.labels, batch.group, group_count=cells)
    state, info = distiller.step(KEY, distiller.init(synthetic), data)
    moved = jnp.linalg.norm((distiller.decode(state).images - synthetic.images).ravel())
    np.testing.assert_allclose((info.loss, moved), GOLDEN[name], rtol=1e-6)


@pytest.mark.parametrize("images, size", [(4, 4), (5, 5), (12, 4), (16, 4)])
def test_embeddings_take_even_blocks_of_at_most_so_many_images(images, size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 5)
    x, seen = np.arange(4.0 * images, dtype=np.float32).reshape(images, 2, 2, 1), set()

    def sums(block):
        seen.add(block.shape)
        return block.reshape(len(block), -1).sum(1, keepdims=True)

    np.testing.assert_allclose(blocks.in_blocks(sums, jnp.asarray(x))[:, 0], x.sum((1, 2, 3)))
    assert seen == {(size, 2, 2, 1)}
