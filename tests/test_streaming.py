"""Images that a step is handed: the same steps as where all of them are on the device, and nothing else is read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdd_jax import compose, kernels, objectives, sampling, streaming, trajectory
from rdd_jax.arrays import read_npz, write_npz
from rdd_jax.distill import Unread, over_seeds
from rdd_jax.networks import mlp
from rdd_jax.types import Examples, Synthetic, centred_one_hot

KEY = jax.random.key(3)
COUNT, BATCH = 90, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.random((COUNT, 6, 6, 1), np.float32)
LABELS = np.arange(COUNT) % 3


class Watched:
    """Images that keep the books of what is read of them."""

    def __init__(self, images):
        self.images, self.shape, self.read = images, images.shape, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(np.atleast_1d(index))
        return self.images[index]


def examples(held: bool) -> Examples:
    groups, loss = jnp.asarray(np.arange(COUNT) % 3), jnp.linspace(0.1, 2, COUNT)
    images = jnp.asarray(IMAGES[: None if held else 1])
    labels = centred_one_hot(LABELS, 3)
    return Examples(images, labels, groups, loss, held=None if held else jnp.zeros(1, jnp.int32))


def synthetic() -> Synthetic:
    return Synthetic(jnp.asarray(IMAGES[:6]), centred_one_hot(LABELS[:6], 3))


def kip(sampler: str):
    return compose(
        objectives.kip(kernels.fc_ntk()), sampling.sampler_by_name(sampler, BATCH), optimizer=optax.adam(1e-2)
    )


def rdd():
    network, optimizer = mlp(3, width=8), optax.sgd(0.1)
    lesson = trajectory.on_real(network, optimizer, sampling.uniform(8), 3)
    path = trajectory.trained(network, lesson, optimizer, 4, warm=True)
    objective, sampler = objectives.distribution_matching(network), sampling.stratified(BATCH)
    return compose(objective, sampler, optimizer=optax.sgd(0.1), trajectory=path)


MAKERS = {"uniform": lambda: kip("uniform"), "group+importance": lambda: kip("group+importance"), "rdd": rdd}


@functools.cache
def whole_run(name):
    """A distiller, its start, and the steps that it takes where all images are on the device."""
    one = MAKERS[name]()
    state = one.init(synthetic())
    return one, state, one.run(KEY, state, examples(held=True), 13)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("room", [1, 2**28])
def test_steps_that_are_handed_their_images_are_those_with_all_of_them_bit_for_bit(name, room, monkeypatch):
    monkeypatch.setattr(streaming, "HELD", room)
    one, state, (whole, told) = whole_run(name)
    handed, same = one.run(KEY, state, examples(held=False), 13, images=IMAGES)
    jax.tree.map(np.testing.assert_array_equal, (handed, same), (whole, told))


def test_a_run_that_is_taken_up_again_is_handed_the_same():
    one = kip("importance")
    state, _ = one.run(KEY, one.init(synthetic()), examples(held=False), 7, images=IMAGES)
    state, _ = one.run(KEY, state, examples(held=False), 12, images=IMAGES)
    whole, _ = one.run(KEY, one.init(synthetic()), examples(held=False), 12, images=IMAGES)
    jax.tree.map(np.testing.assert_array_equal, state, whole)


def test_seeds_side_by_side_are_handed_the_examples_of_all():
    one = over_seeds(kip("uniform"))
    start = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), synthetic())
    keys = jax.random.split(KEY)
    handed, _ = one.run(keys, one.init(start), examples(held=False), 3, images=IMAGES)
    whole, _ = one.run(keys, one.init(start), examples(held=True), 3)
    jax.tree.map(np.testing.assert_array_equal, handed, whole)


def test_steps_read_what_they_look_at_and_not_far_ahead(monkeypatch):
    one, watched, size = kip("uniform"), Watched(IMAGES), 2
    monkeypatch.setattr(streaming, "HELD", 3 * BATCH * IMAGES[0].nbytes)  # and 2 divides 10
    pieces = streaming.handed(one.looks, KEY, one.ready(examples(held=False)), watched, range(3, 40), 10)
    for number, (count, own) in zip((1, 2, 3), pieces, strict=False):
        looked = [one.looks(KEY, jnp.asarray(size * number + i), examples(held=False)) for i in range(size)]
        assert count == (1 if number == 1 else size)
        np.testing.assert_array_equal(own.held, np.sort(np.concatenate(looked)))
        np.testing.assert_array_equal(own.images, IMAGES[own.held])
    pieces.close()
    assert {len(index) for index in watched.read} == {size * BATCH}
    assert len(watched.read) <= 3 + 2  # one that is ready, and one that is being read


def test_a_file_that_is_cut_short_names_itself_and_gives_the_state_before(tmp_path):
    file = tmp_path / "images.npz"
    write_npz(file, images=IMAGES)
    stored = read_npz(file, leave=lambda key, size: True)["images"]
    one, seen = kip("uniform"), []

    def cut(state, info):
        seen.append(jax.tree.map(jnp.copy, state))
        if len(seen) == 2:
            with file.open("r+b") as stream:
                stream.truncate(400)

    with pytest.raises(Unread, match=r"images.npz' ends before row \d+: it was cut short") as told:
        one.run(KEY, one.init(synthetic()), examples(held=False), 100, [cut], images=stored)
    assert int(told.value.state.step) == int(seen[-1].step) >= 20
    jax.tree.map(np.testing.assert_array_equal, told.value.state, seen[-1])
