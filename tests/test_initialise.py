"""Where synthetic sets start: the right number of images a class, of the kind that the name says."""

import jax
import numpy as np
import pytest

from rdd_jax.errors import InputError
from rdd_jax.initialise import INITIALISERS, initialiser_by_name
from rdd_jax.kmeans import kmeans_within

CLASSES = 3


def problem():
    """Classes far apart, so that an image tells its class."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(60) % CLASSES)
    images = rng.standard_normal((60, 3, 2, 1)) + 20 * labels[:, None, None, None]
    return images.astype(np.float32), labels


@pytest.mark.parametrize("name", INITIALISERS)
@pytest.mark.parametrize("ipc", [1, 5])
def test_initialisers_give_ipc_images_a_class_and_depend_on_the_seed_alone(name, ipc):
    images, labels = problem()
    start = initialiser_by_name(name)(0, images, labels, ipc)
    assert start.shape == (CLASSES * ipc, 3, 2, 1)
    assert start.dtype == np.float32
    np.testing.assert_array_equal(start, initialiser_by_name(name)(0, images, labels, ipc))


@pytest.mark.parametrize("name", ["random", "noise"])
def test_other_seeds_start_elsewhere(name):
    assert not np.array_equal(*(INITIALISERS[name](seed, *problem(), 5) for seed in (0, 1)))


@pytest.mark.parametrize("name", ["random", "kmeans"])
def test_images_come_class_by_class(name):
    start = INITIALISERS[name](0, *problem(), 4)
    np.testing.assert_array_equal(np.round(start.mean((1, 2, 3)) / 20), np.repeat(np.arange(CLASSES), 4))


def test_random_takes_real_images():
    images, labels = problem()
    real = {image.tobytes() for image in images}
    assert all(image.tobytes() in real for image in INITIALISERS["random"](0, images, labels, 5))


def test_kmeans_takes_the_means_of_clusters():
    images, labels = problem()
    start = INITIALISERS["kmeans"](7, images, labels, 4).reshape(CLASSES, 4, -1)
    # Images this small are clustered as they are, so their centres are the means themselves.
    centres = kmeans_within(jax.random.key(7), images.reshape(-1, 6), labels, CLASSES, 4).centres
    np.testing.assert_allclose(start, centres, atol=1e-4)


def test_noise_has_the_mean_and_deviation_of_all_pixels():
    images, labels = problem()
    start = INITIALISERS["noise"](0, images, labels, 2000)
    np.testing.assert_allclose(start.mean(), images.mean(), atol=0.5)
    np.testing.assert_allclose(start.std(), images.std(), rtol=0.02)


def test_unknown_initialiser_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown init 'nois': did you mean noise"):
        initialiser_by_name("nois")
