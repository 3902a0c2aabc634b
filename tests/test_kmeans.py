"""K-means: scikit-learn's minima from the same start, good minima from our own, and every awkward input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from rdd_jax.errors import InputError
from rdd_jax.kmeans import assign, kmeans, kmeans_within, lloyd

K = 6


def cloud(n=600, d=8, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)


def wide(seed=0):
    """So many numbers a point that they come in three chunks, the last of which overlaps the one before it."""
    return cloud(d=4096, seed=seed)


def blobs(offset=0.0):
    """``K`` clusters of 100 points, far apart, in random order, and whose each is."""
    rng = np.random.default_rng(0)
    blob = rng.permutation(np.repeat(np.arange(K), 100))
    centres = 20 * rng.standard_normal((K, 8))
    return (centres[blob] + 0.1 * rng.standard_normal((600, 8)) + offset).astype(np.float32), blob


def key(seed=0):
    return jax.random.key(seed)


def partition(assignment):
    """The clusters as sets of points, whatever their numbers."""
    assignment = np.asarray(assignment)
    return {frozenset(np.flatnonzero(assignment == j).tolist()) for j in np.unique(assignment)}


def brute_force_inertia(points, centres):
    distance = ((np.asarray(points, np.float64)[:, None] - np.asarray(centres, np.float64)[None]) ** 2).sum(2)
    return distance.min(1).sum(), distance.argmin(1)


def check_against_scikit_learn(points, rtol, weight=None):
    start = points[:K].copy()
    ours = kmeans(key(), points, K, weight=weight, centres=start)
    theirs = KMeans(K, init=start, n_init=1, max_iter=100).fit(points, sample_weight=weight)
    assert ours.centres.dtype == points.dtype
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=rtol)
    np.testing.assert_allclose(ours.centres, theirs.cluster_centers_, atol=1e-2)
    assert abs(int(ours.iterations) - theirs.n_iter_) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("points", [cloud, wide])
def test_same_start_same_minimum_as_scikit_learn(points):
    check_against_scikit_learn(points(), 1e-3)


def test_same_start_same_minimum_in_float64(x64):
    check_against_scikit_learn(cloud(dtype=np.float64), 1e-6)


def test_same_start_same_minimum_with_weights():
    weight = np.random.default_rng(1).uniform(0.5, 2, 600).astype(np.float32)
    check_against_scikit_learn(cloud(), 1e-3, weight)


@pytest.mark.slow
def test_own_seeds_are_as_good_as_those_of_scikit_learn():
    points = cloud()
    ours = [float(kmeans(key(seed), points, K).inertia) for seed in range(10)]
    theirs = [KMeans(K, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(5)]
    np.testing.assert_allclose(np.mean(ours), np.mean(theirs), rtol=0.01)
    np.testing.assert_allclose(min(ours), min(theirs), rtol=0.01)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_blobs_are_the_clusters(offset):
    points, blob = blobs(offset=offset)
    for seed in range(10):
        found = kmeans(key(seed), points, K)
        assert partition(found.assignment) == partition(blob)
        np.testing.assert_allclose(found.inertia, brute_force_inertia(points, found.centres)[0], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("points", [cloud(), wide()], ids=["one chunk", "three chunks"])
def test_result_belongs_together(points):
    for iterations in (1, 3, 100):
        found = kmeans(key(), points, K, iterations=iterations)
        inertia, nearest = brute_force_inertia(points, found.centres)
        np.testing.assert_array_equal(found.assignment, nearest)
        np.testing.assert_allclose(found.inertia, inertia, rtol=1e-5)
        assert found.assignment.dtype == jnp.int32
        assert 1 <= found.iterations <= iterations


def test_converged_centres_are_the_means_of_their_points():
    points = cloud()
    found = kmeans(key(), points, K, tolerance=0.0)
    means = [points[np.asarray(found.assignment) == j].mean(0) for j in range(K)]
    np.testing.assert_allclose(found.centres, np.stack(means), atol=1e-5)


def test_one_cluster_is_the_mean():
    points = cloud()
    found = kmeans(key(), points, 1)
    np.testing.assert_allclose(found.centres[0], points.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.inertia, ((points - points.mean(0)) ** 2).sum(), rtol=1e-5)


def test_a_cluster_a_point_has_no_inertia():
    points = cloud(9)
    found = kmeans(key(), points, 9)
    assert sorted(np.asarray(found.assignment)) == list(range(9))
    np.testing.assert_allclose(found.inertia, 0, atol=1e-10)


def test_inertia_never_rises():
    points = cloud()
    start = points[:K]
    totals = [float(kmeans(key(), points, K, centres=start, iterations=t, tolerance=0.0).inertia) for t in range(1, 25)]
    assert (np.diff(totals) <= 1e-6 * totals[0]).all()
    assert totals[-1] < totals[0]


def test_same_key_same_clusters_and_another_key_others():
    points = cloud()
    one, two, other = (kmeans(key(seed), points, K) for seed in (3, 3, 4))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.centres, other.centres)


def test_tolerance_stops_early():
    points = cloud()
    strict, loose = (int(kmeans(key(), points, K, tolerance=t).iterations) for t in (0.0, 0.1))
    assert loose < strict < 100


def test_order_of_the_points_does_not_matter():
    points = cloud()
    order = np.random.default_rng(2).permutation(len(points))
    one, two = (kmeans(key(), p, K, centres=points[:K]) for p in (points, points[order]))
    np.testing.assert_allclose(one.centres, two.centres, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(one.assignment)[order], two.assignment)


def test_weight_two_is_a_duplicate():
    points = cloud()
    doubled = np.arange(600) % 3 == 0
    weighted = kmeans(key(), points, K, weight=np.where(doubled, 2, 1).astype(np.float32), centres=points[:K])
    copied = kmeans(key(), np.concatenate([points, points[doubled]]), K, centres=points[:K])
    np.testing.assert_allclose(weighted.centres, copied.centres, atol=1e-5)
    np.testing.assert_allclose(weighted.inertia, copied.inertia, rtol=1e-5)


@pytest.mark.slow
def test_weight_zero_is_not_there():
    points = cloud(430)
    padded = np.concatenate([points, 1000 * cloud(170, seed=1)])
    weight = (np.arange(600) < 430).astype(np.float32)
    for seed in range(3):
        alone, beside = kmeans(key(seed), points, K), kmeans(key(seed), padded, K, weight=weight)
        np.testing.assert_allclose(alone.centres, beside.centres, atol=1e-4)
        np.testing.assert_array_equal(alone.assignment, beside.assignment[:430])
        np.testing.assert_allclose(alone.inertia, beside.inertia, rtol=1e-5)


def test_empty_clusters_start_again_at_the_farthest_points():
    # All points belong to the first centre; the farthest from it are 9, then -4.
    points = np.array([0, 1, -1, 9, -4, 2], np.float32)[:, None]
    start = np.array([0, 1000, 2000], np.float32)[:, None]
    once = kmeans(key(), points, 3, centres=start, iterations=1)
    np.testing.assert_allclose(once.centres.ravel(), [0.5, 9, -4], atol=1e-6)
    found = kmeans(key(), points, 3, centres=start)
    np.testing.assert_array_equal(found.assignment, [0, 0, 0, 1, 2, 0])


def test_empty_clusters_start_again_as_in_scikit_learn():
    points = cloud()
    start = np.concatenate([points[:2], 1e4 + np.arange(32, dtype=np.float32).reshape(4, 8)])
    ours = kmeans(key(), points, K, centres=start)
    theirs = KMeans(K, init=start, n_init=1, max_iter=100).fit(points)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-3)
    assert partition(ours.assignment) == partition(theirs.labels_)


def test_absent_points_do_not_refill_empty_clusters():
    points = np.array([0, 1, 5, 500], np.float32)[:, None]
    weight = np.array([1, 1, 1, 0], np.float32)
    found = kmeans(key(), points, 2, weight=weight, centres=np.array([[0], [-900]], np.float32))
    np.testing.assert_allclose(found.centres.ravel(), [0.5, 5], atol=1e-6)


@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_points_than_clusters(distinct):
    points = np.repeat(cloud(distinct), 600 // distinct, axis=0)
    for start in (None, np.concatenate([points[:1]] * K)):
        found = kmeans(key(), points, K, centres=start)
        assert np.isfinite(found.centres).all()
        np.testing.assert_allclose(found.inertia, 0, atol=1e-6)
        np.testing.assert_allclose(np.asarray(found.centres)[found.assignment], points, atol=1e-5)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(
    n=st.sampled_from([1, 37]),
    d=st.sampled_from([1, 4]),
    k=st.sampled_from([1, 9]),
    seed=st.integers(0, 10**6),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_assign_finds_the_nearest_centre(n, d, k, seed, offset):
    points, centres = cloud(n, d, seed) + np.float32(offset), cloud(k, d, seed + 1) + np.float32(offset)
    nearest = assign(points, centres)
    assert nearest.dtype == jnp.int32
    distance = ((points.astype(np.float64)[:, None] - centres.astype(np.float64)[None]) ** 2).sum(2)
    # By distance: of two centres about as near, rounding decides.
    np.testing.assert_allclose(distance[np.arange(n), nearest], distance.min(1), rtol=1e-3, atol=1e-3)


def test_assign_in_chunks_and_of_ties_the_first():
    points = wide()
    np.testing.assert_array_equal(assign(points, points[:K]), brute_force_inertia(points, points[:K])[1])
    np.testing.assert_array_equal(assign(points, np.stack([points[0]] * 3)), np.zeros(600))


@pytest.mark.slow
def test_vmap_over_classes_is_the_loop():
    points = jnp.stack([jnp.asarray(cloud(seed=seed)) for seed in range(3)])
    weight = jnp.asarray(np.arange(600)[None] < np.array([[600], [450], [300]]), jnp.float32)
    keys = jax.random.split(key(), 3)
    together = jax.vmap(lambda *a: kmeans(a[0], a[1], K, weight=a[2]))(keys, points, weight)
    for c in range(3):
        alone = kmeans(keys[c], points[c], K, weight=weight[c])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[c], b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("where", [np.asarray, jnp.asarray])
def test_within_classes_is_kmeans_of_each_class(where):
    points, labels = cloud(), np.random.default_rng(3).choice(2, 600, p=[0.7, 0.3])
    compiled = lloyd.fit._cache_size()
    centres, cluster, *_ = kmeans_within(key(5), where(points), where(labels), 2, 4)
    # Once, although the classes differ in size.
    assert lloyd.fit._cache_size() <= compiled + 1
    assert centres.shape == (2, 4, 8)
    for c, class_key in enumerate(jax.random.split(key(5), 2)):
        alone = kmeans(class_key, points[labels == c], 4)
        np.testing.assert_allclose(centres[c], alone.centres, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(cluster)[labels == c], alone.assignment)


@pytest.mark.slow
def test_within_classes_in_float64(x64):
    points, labels = cloud(dtype=np.float64), np.arange(600) % 2
    centres = kmeans_within(key(), points, labels, 2, 3).centres
    assert centres.dtype == np.float64


def test_clustering_copies_neither_the_data_nor_all_distances():
    # CIFAR-10 at once, as XLA has planned it.
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((50_000, 3072), (50_000,), (100, 3072))]
    plan = lloyd.fit.lower(key(), *shapes, 100, 1e-4, k=100).compile().memory_analysis()
    assert plan.temp_size_in_bytes < 50 * 2**20


def replaced(points, at, value):
    points = points.copy()
    points[at] = value
    return points


WEIGHT = np.ones(600, np.float32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 0}, "k is 0: it must be at least 1"),
        ({"k": 601}, "k is 601, but there are 600 points"),
        ({"iterations": 0}, "iterations is 0"),
        ({"tolerance": -1.0}, r"tolerance is -1\.0"),
        ({"points": cloud()[0]}, r"points have shape \(8,\): expected \[n, d\]"),
        ({"points": cloud().reshape(600, 4, 2)}, "points have shape"),
        ({"points": cloud()[:0]}, r"points have shape \(0, 8\)"),
        ({"points": np.zeros((600, 8), np.uint8)}, "points are uint8: give floating point"),
        ({"points": replaced(cloud(), (3, slice(2)), np.nan)}, "points hold 2 NaN or infinite"),
        ({"points": jnp.asarray(replaced(cloud(), (3, 1), np.inf))}, "points hold 1 NaN or infinite"),
        ({"centres": cloud(4)}, r"centres have shape \(4, 8\): expected \(5, 8\)"),
        ({"centres": replaced(cloud(5), 0, np.nan)}, "centres hold 8 NaN"),
        ({"weight": WEIGHT[:9]}, r"weight have shape \(9,\)"),
        ({"weight": replaced(WEIGHT, 0, np.nan)}, "weight hold 1 NaN"),
        ({"weight": replaced(WEIGHT, 0, -2)}, "weight holds -2: none may be negative"),
        ({"weight": replaced(WEIGHT, slice(4, None), 0)}, "k is 5, but 4 points have a positive weight"),
    ],
)
def test_bad_input_raises(arguments, message):
    with pytest.raises(InputError, match=message):
        kmeans(**{"key": key(), "points": cloud(), "k": 5, **arguments})


LABELS = np.repeat(np.arange(3), 200)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": 201}, "k is 201, but class 0 has 200 examples"),
        ({"labels": np.minimum(np.arange(600), 1)}, "k is 5, but class 2 has 0 examples"),
        ({"labels": LABELS[:9]}, r"labels have shape \(9,\)"),
        ({"labels": LABELS.astype(np.float32)}, "labels are float32: give integers"),
        ({"labels": LABELS + 1}, r"labels hold 3: they must lie in 0\.\.2"),
        ({"labels": LABELS - 1}, "labels hold -1"),
        ({"classes": 0}, "classes is 0"),
        ({"points": replaced(cloud(), 0, np.nan)}, "points hold 8 NaN"),
    ],
)
def test_bad_classes_raise(arguments, message):
    with pytest.raises(InputError, match=message):
        kmeans_within(**{"key": key(), "points": cloud(), "labels": LABELS, "classes": 3, "k": 5, **arguments})


@pytest.mark.parametrize(
    "points, centres, message",
    [
        (cloud(), cloud(3, 7), r"centres have shape \(3, 7\): expected \[k, 8\]"),
        (cloud(), cloud(3)[:0], "with k at least 1"),
        (cloud(), replaced(cloud(3), 0, np.nan), "centres hold 8 NaN"),
        (cloud()[0], cloud(3), "points have shape"),
    ],
)
def test_bad_centres_raise(points, centres, message):
    with pytest.raises(InputError, match=message):
        assign(points, centres)
