"""Images that stay as they came are, wherever they are looked at, what they would be in model space."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.aligned import ALIGNMENT, aligned
from rdd_jax.datasets import preprocess
from rdd_jax.datasets.preprocess import Prepared, fit, prepare
from rdd_jax.evaluation.baselines import baselines
from rdd_jax.grouping.features import principal, texture
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.kernels.gram import BUDGET
from rdd_jax.pixels import Mapped, as_pixels, flat, on_device, parts, rows_of
from rdd_jax.selection import SELECTIONS, Pool, strata_of
from rdd_jax.types import Data, Splits, Subject, Synthetic, centred_one_hot

KINDS = ("none", "standardise", "zca")
N = 101


def pixels(dtype=np.uint8, n=N, side=5):
    drawn = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)
    return drawn if dtype is np.uint8 else as_pixels(drawn)


def held_and_mapped(kind, dtype=np.uint8):
    images = pixels(dtype)
    space = fit(kind, images)
    return space.apply(images), Mapped(images, space)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_those_of_the_whole(kind, dtype):
    whole, mapped = held_and_mapped(kind, dtype)
    assert (mapped.shape, len(mapped)) == (whole.shape, N)
    # Products of other sizes round otherwise.
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)  # noqa: E731
    index, chosen = np.array([5, 0, 5]), np.arange(N) % 3 == 0
    for part in (slice(3, 9), index, chosen, 7, np.int64(7), [1, 2]):
        close(mapped[part], whole[part])
    close(np.asarray(mapped), whole)
    close(np.concatenate([part for _, part in parts(mapped, 7)]), whole)
    close(rows_of(mapped, index)[:], whole[index])
    close(flat(rows_of(mapped, slice(2, 4)))[1], whole[3].ravel())
    assert flat(mapped).shape == (N, 75)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_on_the_device_they_are_the_same(kind, dtype):
    whole, mapped = held_and_mapped(kind, dtype)
    data = Data(mapped.pixels, np.arange(N, dtype=np.int32) % 2, ("a", "b"))
    examples = Prepared(Splits(data, data, data, "drawn"), mapped.space, mapped).examples()
    assert examples.images.dtype == dtype
    index = np.array([[4, 4], [0, N - 1]])
    np.testing.assert_allclose(examples.look(index), whole[index], atol=2e-5)
    np.testing.assert_allclose(jax.jit(lambda data: data.look(slice(0, 3)))(examples), whole[:3], atol=2e-5)


def test_only_few_whitened_images_are_held(monkeypatch):
    data = Data(pixels(), np.arange(N, dtype=np.int32) % 2, ("a", "b"))
    splits = Splits(data, data, data, "drawn")
    held = prepare(splits, "zca")
    assert isinstance(held.train, np.ndarray)
    assert held.examples().space is None
    monkeypatch.setattr(preprocess, "WHITENED", held.train.nbytes - 1)
    mapped = prepare(splits, "zca")
    assert isinstance(mapped.train, Mapped)
    assert mapped.examples().images.dtype == np.uint8
    np.testing.assert_allclose(mapped.examples().look(np.arange(N)), held.train, atol=2e-5)


def test_fits_in_blocks_are_those_of_all_at_once(monkeypatch):
    images = as_pixels(pixels())
    monkeypatch.setattr("rdd_jax.pixels.PART", 10 * images[0].size)
    standard, whitened = fit("standardise", pixels()), fit("zca", pixels(), 0.1)
    np.testing.assert_allclose(standard.mean.ravel(), images.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(1 / standard.scale.ravel(), images.std((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(whitened.mean, images.mean(0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("name", list(SELECTIONS))
def test_selections_choose_the_same_of_them(name):
    whole, mapped = held_and_mapped("standardise")
    labels = np.arange(N) % 3
    pools = [Pool(images, labels, 3) for images in (whole, mapped)]
    ours, theirs = (SELECTIONS.make(name)(0, pool, strata_of(pool, "class", 2)) for pool in pools)
    np.testing.assert_array_equal(ours.index, theirs.index)
    np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-5)


def test_views_and_predictions_are_the_same_of_them():
    whole, mapped = held_and_mapped("standardise")
    for view in (
        lambda images: np.abs(principal(images, 4)),
        lambda images: texture()(Subject(images, np.zeros(N, int), 1)),
    ):
        np.testing.assert_allclose(view(mapped), view(whole), atol=1e-3)
    few = Synthetic(jnp.asarray(whole[:6]), centred_one_hot(np.arange(6) % 3, 3))
    predict = krr.fit(fc_ntk(), few, 1e-3)
    np.testing.assert_allclose(predict(mapped), predict(whole), atol=1e-5)


@pytest.mark.thorough
def test_nothing_on_the_way_makes_a_second_copy():
    images = pixels(n=50_000, side=32)
    labels = (np.arange(len(images)) % 10).astype(np.int32)
    data = Data(images, labels, tuple("abcdefghij"))
    tracemalloc.start()
    prepared = prepare(Splits(data, data, data, "drawn"), "standardise")
    few = Synthetic(jnp.asarray(prepared.train[:10]), centred_one_hot(labels[:10], 10))
    krr.fit(fc_ntk(), few, 1e-3)(prepared.train)
    tracemalloc.reset_peak()
    krr.fit(fc_ntk(), few, 1e-3)(prepared.model_space(data))
    baselines(rows_of(prepared.train, slice(0, 5000)), labels[:5000], 10, 1, [0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * BUDGET < 4 * images.nbytes  # which all of them would be in single precision


def test_aligned_arrays_are_taken_as_they_are():
    array = aligned((7, 3, 3, 1), np.uint8)
    array[:] = 5
    assert array.ctypes.data % ALIGNMENT == 0
    if jax.default_backend() == "cpu":
        images, space = on_device(array)
        assert space is None
        assert images.unsafe_buffer_pointer() == array.ctypes.data
    assert aligned((0, 2), float).shape == (0, 2)
