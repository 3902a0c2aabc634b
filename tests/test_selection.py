"""Subsets: the right number of the right class, each once, and the ones that the method says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax.errors import InputError
from rdd_jax.kmeans import Clusters, kmeans_within
from rdd_jax.selection import SUBSETS, check_ipc, herding, kmeans, principal, random, subset_by_name

CLASSES = 3


def problem(n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % CLASSES)
    return rng.standard_normal((n, 3, 2, 1)).astype(np.float32), labels


@pytest.mark.parametrize("name", SUBSETS)
@pytest.mark.parametrize("ipc", [1, 4, 20])
def test_subsets_hold_ipc_distinct_examples_a_class_in_order(name, ipc):
    images, labels = problem()
    index = subset_by_name(name)(0, images, labels, ipc)
    np.testing.assert_array_equal(labels[index], np.repeat(np.arange(CLASSES), ipc))
    assert len(set(index.tolist())) == len(index)
    np.testing.assert_array_equal(index, subset_by_name(name)(0, images, labels, ipc))


def test_random_subsets_depend_on_the_seed():
    assert not np.array_equal(random(0, *problem(), 4), random(1, *problem(), 4))


def test_random_reaches_every_example_equally_often():
    images, labels = problem(30)
    drawn = np.bincount(np.concatenate([random(seed, images, labels, 2) for seed in range(1000)]), minlength=30)
    # Two of ten, a thousand times: 200 with a standard deviation of 13.
    assert drawn.min() > 130
    assert drawn.max() < 270


def test_herding_is_the_greedy_search_for_the_mean_of_the_class():
    images, labels = problem()
    index = herding(0, images, labels, 5).reshape(CLASSES, 5)
    for c in range(CLASSES):
        members = [int(i) for i in np.flatnonzero(labels == c)]
        mean = images[members].astype(np.float64).mean(0)
        chosen = []
        for _ in range(5):
            distance = {i: np.sum((images[[*chosen, i]].mean(0) - mean) ** 2) for i in members if i not in chosen}
            chosen.append(min(distance, key=distance.get))
        np.testing.assert_array_equal(index[c], chosen)


def test_herding_of_a_whole_class_takes_every_example():
    images, labels = problem()
    assert sorted(herding(0, images, labels, 20)) == list(range(60))


def test_kmeans_takes_the_examples_nearest_to_the_centres():
    images, labels = problem()
    index = kmeans(3, images, labels, 4).reshape(CLASSES, 4)
    centres = kmeans_within(jax.random.key(3), images.reshape(-1, 6), labels, CLASSES, 4).centres
    for c in range(CLASSES):
        members = np.flatnonzero(labels == c)
        distance = np.linalg.norm(images.reshape(-1, 1, 6) - np.asarray(centres)[c][None], axis=2)
        for i, chosen in enumerate(index[c]):
            # By distance, not by index: the mean of two examples is as near to one as to the other.
            free = [j for j in members if j not in index[c, :i]]
            np.testing.assert_allclose(distance[chosen, i], distance[free, i].min(), rtol=1e-4)


def test_kmeans_takes_the_next_nearest_where_an_example_is_taken(monkeypatch):
    monkeypatch.setattr(
        "rdd_jax.selection.kmeans_within",
        lambda key, flat, labels, c, k: Clusters(jnp.zeros((c, k, 1)), *[jnp.zeros(1, int)] * 3),
    )
    images = np.array([5, 1, -2, 4, 0.5, -3], np.float32).reshape(6, 1, 1, 1)
    np.testing.assert_array_equal(kmeans(0, images, np.zeros(6, int), 4), [4, 1, 2, 5])


def test_principal_components_keep_what_distances_there_are():
    rng = np.random.default_rng(0)
    # 100 pixels, all the variance in 8 directions.
    images = (rng.standard_normal((90, 8)) @ rng.standard_normal((8, 100))).reshape(90, 10, 10, 1).astype(np.float32)
    features = principal(images, 8)
    assert features.shape == (90, 8)
    distances = [((x[:, None] - x[None]) ** 2).sum(2) for x in (features, images.reshape(90, -1))]
    np.testing.assert_allclose(*distances, rtol=1e-3, atol=0.1)
    np.testing.assert_array_equal(principal(images, 8), features)


def test_small_images_are_their_own_components():
    images = problem()[0]
    np.testing.assert_array_equal(principal(images), images.reshape(60, -1))


def test_check_ipc_names_the_class_that_has_too_few():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    check_ipc(labels, 2, ("cat", "dog", "fox"))
    with pytest.raises(InputError, match="ipc is 3, but class 'dog' has 2 training examples"):
        check_ipc(labels, 3, ("cat", "dog", "fox"))
    with pytest.raises(InputError, match="class 'owl' has 0"):
        check_ipc(labels, 1, ("cat", "dog", "fox", "owl"))
    with pytest.raises(InputError, match="ipc is 0"):
        check_ipc(labels, 0, ("cat", "dog", "fox"))


def test_unknown_subset_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown subset 'kmean': did you mean kmeans"):
        subset_by_name("kmean")
