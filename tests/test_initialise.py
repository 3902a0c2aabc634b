"""Where synthetic sets start: the right number of images a class, of the kind that the name says."""

import jax
import numpy as np
import pytest

from rdd_jax.errors import InputError
from rdd_jax.kmeans import kmeans_within
from rdd_jax.selection import SELECTIONS, Pool, strata_of
from rdd_jax.selection.initialise import STARTS, initialise

CLASSES = 3


def problem():
    """Classes far apart, so that an image tells its class."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % CLASSES)
    images = rng.standard_normal((60, 3, 2, 1)) + 20 * labels[:, None, None, None]
    return Pool(images.astype(np.float32), labels, CLASSES)


def start(name, ipc, seed=0):
    pool = problem()
    return initialise(name, seed, pool, strata_of(pool, "class", ipc))


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("ipc", [1, 5])
def test_starts_have_ipc_images_a_class_and_depend_on_the_seed_alone(name, ipc):
    images = start(name, ipc).images
    assert images.shape == (CLASSES * ipc, 3, 2, 1)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, start(name, ipc).images)


@pytest.mark.parametrize("name", ["random", "noise"])
def test_other_seeds_start_elsewhere(name):
    assert not np.array_equal(start(name, 5).images, start(name, 5, seed=1).images)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STARTS if name != "noise"])
def test_images_come_class_by_class(name):
    images = start(name, 4).images
    np.testing.assert_array_equal(np.round(images.mean((1, 2, 3)) / 20), np.repeat(np.arange(CLASSES), 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
def test_selections_take_real_images_and_say_which(name):
    found = start(name, 5)
    assert found.selection is not None
    np.testing.assert_array_equal(found.images, problem().images[found.selection.index])


def test_kmeans_centres_are_the_means_of_clusters():
    images = start("kmeans-centres", 4, seed=7).images.reshape(CLASSES, 4, -1)
    # Images this small are clustered as they are, so their centres are the means themselves.
    pool = problem()
    centres = kmeans_within(jax.random.key(7), pool.images.reshape(-1, 6), pool.labels, CLASSES, 4).centres
    np.testing.assert_allclose(images, centres, atol=1e-4)


def test_kmeans_centres_need_equal_strata():
    pool = problem()
    uneven = strata_of(pool, "class", 4)._replace(take=np.array([1, 2, 3]))
    with pytest.raises(InputError, match="kmeans-centres"):
        initialise("kmeans-centres", 0, pool, uneven)


def test_noise_has_the_mean_and_deviation_of_all_pixels():
    pool = problem()
    many = strata_of(pool, "class", 4)._replace(take=np.full(CLASSES, 2000))
    images = initialise("noise", 0, pool, many).images
    np.testing.assert_allclose(images.mean(), pool.images.mean(), atol=0.5)
    np.testing.assert_allclose(images.std(), pool.images.std(), rtol=0.02)


def test_unknown_initialiser_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown init 'nois': did you mean noise"):
        start("nois", 4)
