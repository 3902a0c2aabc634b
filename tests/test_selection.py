"""Selections: the right number from every stratum, weights that add up, and the examples that the method says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdd_jax.errors import InputError
from rdd_jax.grouping.features import principal
from rdd_jax.kernels import fc_ntk, feature_kernel, linear, stax_kernel
from rdd_jax.kernels.gram import gram_matrix
from rdd_jax.kernels.stax import load
from rdd_jax.kmeans import Clusters, kmeans_within
from rdd_jax.networks import network_by_name
from rdd_jax.selection import (
    DRAWS,
    SCORES,
    SELECTIONS,
    STRATA,
    Pool,
    by_score,
    check_ipc,
    distinct,
    independent,
    select_by_name,
    strata_of,
    top,
)
from rdd_jax.selection.greedy import cholesky, herding, kmeans

CLASSES = 3
GROUPS = np.repeat([0, 1, 2], [30, 20, 10])


def problem(n=60, seed=0, **fields):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % CLASSES)
    images = rng.standard_normal((n, 3, 2, 1)).astype(np.float32)
    return Pool(images, labels, CLASSES, np.resize(GROUPS, n), **fields)


def chosen(name, pool, ipc, what="class", seed=0, draw="distinct"):
    return select_by_name(name, draw)(seed, pool, strata_of(pool, what, ipc))


# --- the contract ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("ipc", [1, 4, 20])
def test_every_method_takes_ipc_distinct_examples_a_class_in_order(name, ipc):
    pool = problem()
    found = chosen(name, pool, ipc)
    np.testing.assert_array_equal(pool.labels[found.index], np.repeat(np.arange(CLASSES), ipc))
    assert len(set(found.index.tolist())) == len(found.index)
    np.testing.assert_array_equal(found.index, chosen(name, pool, ipc).index)
    assert found.score.shape == found.probability.shape == (60,)
    assert np.isfinite(found.score).all()
    np.testing.assert_allclose(found.probability.sum(), 3 * ipc)
    assert (found.probability[found.index] > 0).all()
    assert (found.weight > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("what", STRATA)
def test_every_method_keeps_to_the_strata(name, what):
    pool = problem()
    strata = strata_of(pool, what, 3)
    index = select_by_name(name)(0, pool, strata).index
    np.testing.assert_array_equal(np.bincount(strata.code[index], minlength=len(strata.take)), strata.take)


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
def test_every_method_stays_finite_on_duplicates(name):
    pool = problem()
    images = pool.images[pool.labels % 60]  # one image a class, twenty times
    found = chosen(name, Pool(images, pool.labels, CLASSES), 4)
    assert np.isfinite(found.score).all()
    assert np.isfinite(found.weight).all()
    assert len(set(found.index.tolist())) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
def test_every_method_takes_the_only_example_of_a_class(name):
    pool = problem()
    labels = np.where(pool.labels == 2, 1, pool.labels)
    labels[5] = 2
    found = chosen(name, Pool(pool.images, labels, CLASSES), 1)
    assert found.index[2] == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", SELECTIONS)
def test_any_kernel_will_do(name):
    stax = load()
    _, _, kernel_fn = stax.serial(stax.Flatten(), stax.Dense(1), stax.Relu(), stax.Dense(1))
    network = network_by_name("mlp", CLASSES)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 3, 2, 1)))
    of_a_network = feature_kernel(lambda images: network.apply(variables, images))
    for kernel in (stax_kernel(kernel_fn), of_a_network):
        assert len(chosen(name, problem(kernel=kernel), 2).index) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("scale", [1e-2, 30.0])
def test_chances_do_not_change_with_the_scale_of_a_linear(name, scale):
    pool = problem(kernel=linear)
    scaled = problem(kernel=lambda a, b: scale * linear(a, b))
    np.testing.assert_allclose(
        chosen(name, pool, 4).probability, chosen(name, scaled, 4).probability, rtol=1e-4, atol=1e-7
    )


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(InputError, match="unknown selection 'kmean': did you mean kmeans"):
        select_by_name("kmean")
    with pytest.raises(InputError, match="unknown draw 'distint': did you mean distinct"):
        select_by_name("random", "distint")
    with pytest.raises(InputError, match="unknown strata 'clas': did you mean class"):
        strata_of(problem(), "clas", 1)


def test_check_ipc_names_the_class_that_has_too_few():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    check_ipc(labels, 2, ("cat", "dog", "fox"))
    with pytest.raises(InputError, match="ipc is 3, but class 'dog' has 2 training examples"):
        check_ipc(labels, 3, ("cat", "dog", "fox"))
    with pytest.raises(InputError, match="class 'owl' has 0"):
        check_ipc(labels, 1, ("cat", "dog", "fox", "owl"))
    with pytest.raises(InputError, match="ipc is 0"):
        check_ipc(labels, 0, ("cat", "dog", "fox"))


# --- strata ------------------------------------------------------------------------------------------


def test_by_group_every_cell_gets_the_same_and_the_largest_what_is_left():
    labels = np.array([0] * 10 + [1] * 10)
    groups = np.array([0] * 6 + [1] * 3 + [2] + [0] * 5 + [1] * 5)
    pool = Pool(np.zeros((20, 1, 1, 1), np.float32), labels, 2, groups)
    strata = strata_of(pool, "group", 4)
    # Class 0 has cells of 6, 3, 1: one each and one more for the largest; class 1 has 5 and 5.
    np.testing.assert_array_equal(strata.take, [2, 1, 1, 2, 2])
    np.testing.assert_array_equal(strata.code[labels == 0], groups[:10])
    # What the cell of one cannot give goes to the others.
    np.testing.assert_array_equal(strata_of(pool, "group", 8).take, [4, 3, 1, 4, 4])
    np.testing.assert_array_equal(strata_of(pool, "group", 1).take, [1, 0, 0, 1, 0])


def test_by_group_needs_groups():
    with pytest.raises(InputError, match="strata 'group' needs groups"):
        strata_of(Pool(np.zeros((3, 1, 1, 1), np.float32), np.arange(3), 3), "group", 1)


# --- draws -------------------------------------------------------------------------------------------

SCORE = np.array([0.0, 1, 2, 3, 10, 0.5])


def many(draw, m, times=6_000, score=SCORE):
    rng = np.random.default_rng(0)
    return [draw(rng, score, m) for _ in range(times)]


@pytest.mark.slow
@pytest.mark.parametrize("draw", [independent, distinct])
@pytest.mark.parametrize("m", [2, 4])
def test_draws_happen_with_the_probabilities_that_they_say(draw, m):
    drawn = many(draw, m)
    counts = np.bincount(np.concatenate([member for member, _, _ in drawn]), minlength=6) / len(drawn)
    probability = drawn[0][2]
    np.testing.assert_allclose(counts, probability, atol=5 * np.sqrt(m / len(drawn)))
    assert counts[0] == probability[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("draw", [independent, distinct])
def test_weights_make_sums_unbiased(draw):
    values = np.array([0.0, 3, -1, 4, 1, 5])  # 0 where the score is 0: such an example can never be drawn
    sums = np.array([weight @ values[member] for member, weight, _ in many(draw, 3)])
    assert abs(sums.mean() - values.sum()) < 4 * sums.std() / np.sqrt(len(sums))


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.data())
def test_distinct_draws_are_distinct_and_their_probabilities_sum_to_their_number(scores, data):
    score = np.array(scores)
    m = data.draw(st.integers(1, len(score)))
    member, weight, probability = distinct(np.random.default_rng(0), score, m)
    assert len(set(member.tolist())) == m
    np.testing.assert_allclose(probability.sum(), m, rtol=1e-9)
    assert ((probability >= 0) & (probability <= 1 + 1e-12)).all()
    np.testing.assert_allclose(weight, 1 / probability[member])


def test_certain_examples_are_always_taken():
    for member, _, _ in many(distinct, 2, 100):
        assert 4 in member


@pytest.mark.parametrize("draw", DRAWS.values())
def test_scores_that_are_all_zero_count_as_equal(draw):
    member, weight, probability = draw(np.random.default_rng(0), np.zeros(5), 2)
    assert len(member) == 2
    np.testing.assert_allclose(weight, 2.5)
    np.testing.assert_allclose(probability.sum(), 2)


def test_top_takes_the_largest():
    np.testing.assert_array_equal(top(np.random.default_rng(0), SCORE, 3)[0], [4, 3, 2])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_scores_that_are_no_scores_are_refused(bad):
    score = np.array([1.0, bad, 2.0])
    pool = Pool(np.zeros((3, 1, 1, 1), np.float32), np.zeros(3, int), 1)
    with pytest.raises(InputError, match="none may be negative or not finite"):
        by_score(0, score, strata_of(pool, "all", 1), distinct)


@pytest.mark.slow
def test_random_subsets_depend_on_the_seed_and_reach_every_example_equally_often():
    pool = problem(30)
    assert not np.array_equal(chosen("random", pool, 4).index, chosen("random", pool, 4, seed=1).index)
    drawn = np.bincount(np.concatenate([chosen("random", pool, 2, seed=s).index for s in range(300)]), minlength=30)
    # Two of ten, three hundred times: 60 with a standard deviation of 7.
    assert drawn.min() > 25
    assert drawn.max() < 95


# --- greedy choices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [linear, fc_ntk()])
def test_herding_is_the_greedy_search_for_the_mean_in_feature_space(kernel):
    images = problem(20).images
    member, _, _ = herding(kernel, images, 5)
    gram = gram_matrix(kernel, images)
    found = []
    for _ in range(5):

        def distance(i):
            s = [*found, i]
            return gram[np.ix_(s, s)].mean() - 2 * gram[s].mean()

        found.append(min((i for i in range(20) if i not in found), key=distance))
    np.testing.assert_array_equal(member, found)


def test_herding_of_a_whole_class_takes_every_example():
    assert sorted(chosen("herding", problem(), 20).index) == list(range(60))


def test_cholesky_takes_what_the_pivots_before_do_not_explain():
    images, kernel = problem(20).images, fc_ntk()
    member, _, left = cholesky(kernel, images, 5)
    gram = gram_matrix(kernel, images)

    def variance(pivots):
        if not pivots:
            return np.diag(gram)
        cross = gram[pivots]
        return np.diag(gram) - np.sum(cross * np.linalg.solve(gram[np.ix_(pivots, pivots)], cross), 0)

    for i in range(5):
        assert member[i] == variance(list(member[:i])).argmax()
    np.testing.assert_allclose(left, np.maximum(variance(list(member)), 0), atol=1e-5)


@pytest.mark.slow
def test_random_pivots_are_drawn_by_what_is_left():
    images, kernel = problem(6).images, fc_ntk()
    first = [cholesky(kernel, images, 2, np.random.default_rng(seed))[0] for seed in range(1000)]
    diagonal = np.diag(gram_matrix(kernel, images))
    counts = np.bincount([pivots[0] for pivots in first], minlength=6) / 1000
    np.testing.assert_allclose(counts, diagonal / diagonal.sum(), atol=0.05)
    assert all(pivots[0] != pivots[1] for pivots in first)


@pytest.mark.slow
def test_kmeans_takes_the_examples_nearest_to_the_centres():
    pool = problem()
    index = chosen("kmeans", pool, 4, seed=3).index.reshape(CLASSES, 4)
    centres = kmeans_within(jax.random.key(3), pool.images.reshape(-1, 6), pool.labels, CLASSES, 4).centres
    for c in range(CLASSES):
        members = np.flatnonzero(pool.labels == c)
        distance = np.linalg.norm(pool.images.reshape(-1, 1, 6) - np.asarray(centres)[c][None], axis=2)
        for i, one in enumerate(index[c]):
            # By distance, not by index: the mean of two examples is as near to one as to the other.
            free = [j for j in members if j not in index[c, :i]]
            np.testing.assert_allclose(distance[one, i], distance[free, i].min(), rtol=1e-4)


def test_kmeans_weighs_by_the_size_of_the_cluster():
    pool = problem()
    np.testing.assert_allclose(chosen("kmeans", pool, 4).weight.reshape(CLASSES, 4).sum(1), 20)


def test_kmeans_takes_the_next_nearest_where_an_example_is_taken(monkeypatch):
    found = Clusters(jnp.zeros((1, 4, 1)), jnp.zeros(6, int), jnp.zeros(1), jnp.zeros(1, int))
    monkeypatch.setattr("rdd_jax.selection.greedy.kmeans_within", lambda *arguments: found)
    images = np.array([5, 1, -2, 4, 0.5, -3], np.float32).reshape(6, 1, 1, 1)
    pool = Pool(images, np.zeros(6, int), 1)
    np.testing.assert_array_equal(kmeans(0, pool, strata_of(pool, "class", 4)).index, [4, 1, 2, 5])


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
    images = problem().images
    np.testing.assert_array_equal(principal(images), images.reshape(60, -1))
