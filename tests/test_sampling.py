"""Samplers: valid, repeatable, and distributed as they say."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rdd_jax import sampling
from rdd_jax.errors import InputError
from rdd_jax.risk import mean, overall
from rdd_jax.sampling import LOSSES, SAMPLERS, balanced, by_group, importance, sampler_by_name, uniform
from rdd_jax.types import Examples, Losses, centred_one_hot

# Imbalanced, in no order, and with a group per example; the groups 0, 2 and 5 of 6 are empty.
labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2, 6, 16]))
groups = np.random.default_rng(1).permutation(np.repeat([1, 3, 4], [15, 1, 8]))
losses = np.random.default_rng(2).gamma(0.5, size=24).astype(np.float32)
GROUPS = 6
DATA = Examples(
    jnp.zeros((24, 1, 1, 1)),
    centred_one_hot(labels, 3),
    jnp.asarray(groups),
    jnp.asarray(losses),
    group_count=GROUPS,
)
KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_valid_indices_repeatably(name):
    sample = jax.jit(sampler_by_name(name, 48))
    index, weight = sample(jax.random.key(0), DATA)
    assert index.shape == weight.shape == (48,)
    assert index.min() >= 0
    assert index.max() < 24
    if name in ("uniform", "balanced"):
        np.testing.assert_array_equal(weight, 1)
    np.testing.assert_array_equal(index, sample(jax.random.key(0), DATA)[0])
    assert (index != sample(jax.random.key(1), DATA)[0]).any()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("batch", [0, -3])
def test_empty_batches_raise(name, batch):
    with pytest.raises(InputError, match=f"batch is {batch}"):
        sampler_by_name(name, batch)


def test_unknown_sampler_suggests_the_nearest():
    with pytest.raises(InputError, match="unknown sampler 'ballanced': did you mean balanced"):
        sampler_by_name("ballanced", 5)


def counts(sampler):
    return np.bincount(sampler(jax.random.key(7), DATA)[0], minlength=24)


def test_uniform_draws_every_example_equally_often():
    assert stats.chisquare(counts(uniform(24_000))).pvalue > 1e-3


def test_balanced_draws_every_class_equally_often_and_uniformly_within():
    drawn = counts(balanced(24_000))
    assert stats.chisquare([drawn[labels == c].sum() for c in range(3)]).pvalue > 1e-3
    for c in range(3):
        assert stats.chisquare(drawn[labels == c]).pvalue > 1e-3


# --- by group ----------------------------------------------------------------------------------------


def test_by_group_draws_every_group_that_has_examples_equally_often_and_uniformly_within():
    drawn = counts(by_group(24_000))  # of examples: empty groups have none that could be drawn
    assert stats.chisquare([drawn[groups == g].sum() for g in (1, 3, 4)]).pvalue > 1e-3
    for g in (1, 4):
        assert stats.chisquare(drawn[groups == g]).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 24])
def test_by_group_of_one_group_and_of_one_example_a_group(count):
    data = DATA.replace(groups=jnp.arange(24) % count, group_count=count)
    index, weight = by_group(24_000)(jax.random.key(3), data)
    assert stats.chisquare(np.bincount(index, minlength=24)).pvalue > 1e-3
    np.testing.assert_allclose(weight, 1, rtol=1e-6)


def test_weights_by_group_are_how_much_more_the_group_has_than_an_even_share():
    index, weight = by_group(500)(jax.random.key(0), DATA)
    assert weight.dtype == jnp.float32
    np.testing.assert_allclose(weight, np.bincount(groups)[groups[index]] * 3 / 24, rtol=1e-6)


def draws_of_values(key=5, batch=20_000):
    """Values that differ between groups and within them, and what by_group draws of them."""
    values = 10.0 * groups + np.arange(24)
    index, weight = by_group(batch)(jax.random.key(key), DATA)
    return values, values[index], np.asarray(weight), groups[index]


def test_weights_by_group_undo_the_choice_on_average():
    values, drawn, weight, _ = draws_of_values()
    weighted = weight * drawn
    error = weighted.std() / np.sqrt(len(drawn))
    assert abs(weighted.mean() - values.mean()) < 4 * error
    assert abs(drawn.mean() - values.mean()) > 10 * error
    assert abs(weight.mean() - 1) < 4 * weight.std() / np.sqrt(len(drawn))


def test_the_mean_risk_of_draws_by_group_is_the_plain_mean():
    values, drawn, weight, group = draws_of_values()
    losses = Losses(jnp.asarray(drawn, "float32"), jnp.asarray(group), jnp.asarray(weight), group_count=GROUPS)
    # A ratio of means: to first order it varies as w (v - mean) does.
    error = (weight * (drawn - values.mean())).std() / np.sqrt(len(drawn))
    assert abs(float(overall(mean)(losses)) - values.mean()) < 4 * error


def test_by_group_over_one_group_draws_what_uniform_draws():
    one = DATA.replace(groups=jnp.zeros_like(DATA.groups), group_count=1)
    for found, expected in zip(by_group(500)(KEY, one), uniform(500)(KEY, one), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (by_group(500)(KEY, one.replace(group_count=2))[0] != uniform(500)(KEY, one)[0]).any()


COUNTS = np.random.default_rng(2).exponential(size=24).astype(np.float32)
"""How much the examples count."""


def test_by_group_over_one_group_draws_as_often_as_examples_count():
    one = DATA.replace(groups=jnp.zeros_like(DATA.groups), weight=jnp.asarray(COUNTS), group_count=1)
    index, weight = by_group(24_000)(jax.random.key(7), one)
    expected = COUNTS.astype(float) / COUNTS.astype(float).sum()
    assert stats.chisquare(np.bincount(index, minlength=24), 24_000 * expected).pvalue > 1e-3
    np.testing.assert_allclose(sampling.counted(one, index, weight), COUNTS.mean(), rtol=1e-5)  # all the same
    alike = one.replace(weight=jnp.full(24, 3.0))
    assert stats.chisquare(np.bincount(by_group(24_000)(KEY, alike)[0], minlength=24)).pvalue > 1e-3


def test_examples_that_do_not_count_are_never_drawn():
    counts = jnp.asarray(np.where(np.arange(24) % 3 == 1, 1.0, 0.0), jnp.float32)
    one = DATA.replace(groups=jnp.zeros_like(DATA.groups), weight=counts, group_count=1)
    index, weight = by_group(5000)(KEY, one)
    assert set(np.asarray(index).tolist()) == set(range(1, 24, 3))
    np.testing.assert_allclose(weight, 8 / 24, rtol=1e-5)


@pytest.mark.parametrize("sampler", [uniform, by_group, balanced, sampling.stratified], ids=lambda one: one.__name__)
def test_the_weights_of_a_batch_estimate_the_weighted_mean(sampler):
    data = DATA.replace(weight=jnp.asarray(COUNTS))
    values = 10.0 * groups + np.arange(24)
    index, weight = sampler(24_000)(jax.random.key(4), data)
    weight = np.asarray(sampling.counted(data, index, weight))
    np.testing.assert_array_equal(weight, np.asarray(sampler(24_000)(jax.random.key(4), DATA)[1]) * COUNTS[index])
    if sampler in (uniform, by_group):  # whose weights undo the choice
        drawn = weight * values[index]
        assert abs(drawn.mean() - (COUNTS * values).mean()) < 4 * drawn.std() / np.sqrt(24_000)


# --- importance --------------------------------------------------------------------------------------

CODES = {"all": np.zeros(24, int), "class": labels, "group": groups}
EVEN = {"all": 1.0, "class": np.bincount(labels)[labels] / 24, "group": 1 / 3}


def chance(strata, mix):
    """The formula, an example at a time."""
    code = CODES[strata]
    inside = np.array([losses[i] / losses[code == code[i]].sum() for i in range(24)])
    return EVEN[strata] * ((1 - mix) * inside + mix / np.array([np.sum(code == c) for c in code]))


@pytest.mark.slow
@pytest.mark.parametrize("strata", CODES)
@pytest.mark.parametrize("mix", [0.1, 1.0])
def test_importance_draws_by_the_formula_and_weighs_by_its_inverse(strata, mix):
    index, weight = importance(48_000, mix, strata)(jax.random.key(0), DATA)
    p = chance(strata, mix)
    np.testing.assert_allclose(p.sum(), 1)
    # Stratified draws are never further from what is expected than one at each end of an example's stretch.
    np.testing.assert_allclose(np.bincount(index, minlength=24), 48_000 * p, atol=2.1)
    np.testing.assert_allclose(weight, 1 / (24 * p[index]), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strata", CODES)
def test_importance_weights_make_the_mean_unbiased_and_vary_less_than_uniform_draws(strata):
    values = losses * (1 + 0.2 * np.sin(np.arange(24)))  # nearly what the draws are in proportion to
    sample = jax.jit(lambda key: importance(16, 0.1, strata)(key, DATA))
    plain = jax.jit(lambda key: uniform(16)(key, DATA))

    def means(draw):
        drawn = [draw(jax.random.key(i)) for i in range(500)]
        return np.array([np.mean(values[index] * weight) for index, weight in drawn])

    found = means(sample)
    assert abs(found.mean() - values.mean()) < 4 * found.std() / np.sqrt(500)
    if strata != "group":
        assert found.std() < 0.5 * means(plain).std()


@pytest.mark.slow
def test_without_weights_only_the_choice_between_groups_is_undone():
    index, weight = importance(500, 0.1, "group", unbiased=False)(jax.random.key(0), DATA)
    np.testing.assert_allclose(weight, np.bincount(groups)[groups[index]] * 3 / 24, rtol=1e-6)
    for strata in ("all", "class"):
        np.testing.assert_allclose(
            importance(50, 0.1, strata, unbiased=False)(jax.random.key(0), DATA)[1], 1, rtol=1e-6
        )


def test_losses_that_are_all_zero_are_equal():
    index, weight = importance(2400, 0.1, "all")(jax.random.key(0), DATA.replace(loss=jnp.zeros(24)))
    np.testing.assert_allclose(weight, 1, rtol=1e-5)
    np.testing.assert_allclose(np.bincount(index, minlength=24), 100, atol=2.1)


def test_importance_needs_losses_a_mix_and_strata_that_exist():
    with pytest.raises(InputError, match="needs examples with losses"):
        importance(5)(jax.random.key(0), DATA.replace(loss=None))
    for mix in (0.0, 1.01):
        with pytest.raises(InputError, match=rf"mix is {mix}: it must lie in \(0, 1\]"):
            importance(5, mix)
    with pytest.raises(InputError, match="unknown strata 'clas': did you mean class"):
        importance(5, strata="clas")


def test_losses_are_those_of_their_names():
    outputs, one_hot = np.array([[0.5, -0.5], [3.0, 4.0]]), np.array([[0.5, -0.5], [0.0, 0.0]])
    np.testing.assert_allclose(LOSSES["residual"](outputs, one_hot), [0, 5])
    np.testing.assert_allclose(LOSSES["squared-error"](outputs, one_hot), [0, 25])
    np.testing.assert_allclose(LOSSES["cross-entropy"](outputs, one_hot), [np.log(1 + np.exp(-1)), np.log(1 + np.e)])
    assert all((loss(outputs, one_hot) >= 0).all() for loss in LOSSES.values())


# --- as many of every group --------------------------------------------------------------------------


def grouped_examples(sizes, loss=None):
    """Examples of groups of those sizes, shuffled; losses by index."""
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    n = len(groups)
    labels = centred_one_hot(groups % 2, 2)
    return Examples(jnp.zeros((n, 1, 1, 1)), labels, jnp.asarray(groups), loss, group_count=len(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("mix", [1.0, 0.3])
@pytest.mark.parametrize("sizes", [(5, 1, 40), (3, 0, 7), (0, 2), (4, 0)])
def test_stratified_draws_as_many_of_every_group_in_order(sizes, mix):
    data = grouped_examples(sizes)
    data = data.replace(loss=jnp.asarray(np.random.default_rng(1).uniform(0.1, 2, len(data.labels)), jnp.float32))
    sampler = sampling.stratified(6 * len(sizes) + 1, mix)
    index, weight = jax.jit(sampler)(KEY, data)
    expected = np.repeat(np.arange(len(sizes)), 6)
    filled = np.repeat(np.array(sizes) > 0, 6)
    assert index.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(data.groups)[index][filled], expected[filled])
    np.testing.assert_array_equal(np.asarray(weight) > 0, filled)


@pytest.mark.slow
def test_stratified_by_importance_draws_in_proportion_and_weighs_back():
    sizes, mix, per = (12, 30), 0.2, 40
    loss = np.random.default_rng(1).exponential(size=42).astype(np.float32)
    data = grouped_examples(sizes, jnp.asarray(loss))
    groups = np.asarray(data.groups)
    total = np.array([loss[groups == g].sum() for g in (0, 1)])[groups]
    count = np.array(sizes)[groups]
    probability = (1 - mix) * loss / total + mix / count
    sampler = jax.jit(sampling.stratified(2 * per, mix))
    drawn = np.zeros(42)
    for seed in range(200):
        index, weight = sampler(jax.random.key(seed), data)
        np.testing.assert_allclose(weight, 1 / (count * probability)[index], rtol=1e-4)
        drawn += np.bincount(index, minlength=42)
    # Stratified draws vary less than binomial ones, whose standard deviation is at most this.
    assert np.abs(drawn / (200 * per) - probability).max() < 5 * np.sqrt(probability.max() / (200 * per))
    _, plain = sampling.stratified(2 * per, mix, unbiased=False)(KEY, data)
    np.testing.assert_array_equal(plain, 1)


def test_stratified_refuses_batches_smaller_than_its_groups_and_bad_mixes():
    with pytest.raises(InputError, match="a batch of 3 does not hold an example of each of the 4 groups"):
        jax.eval_shape(sampling.stratified(3), KEY, grouped_examples((1, 1, 1, 1)))
    with pytest.raises(InputError, match="mix is 0"):
        sampling.stratified(4, 0.0)
    with pytest.raises(InputError, match="needs examples with losses"):
        sampling.stratified(4, 0.5)(KEY, grouped_examples((2, 2)))


@pytest.mark.slow
def test_classes_without_examples_change_nothing_even_where_they_outnumber_the_examples():
    many = DATA.replace(labels=centred_one_hot(14 * labels, 29))
    sample = jax.jit(importance(24))
    for found, expected in zip(sample(KEY, many), sample(KEY, DATA), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "function, expected",
    [
        (importance, {"mix": 0.1, "strata": "class", "unbiased": True}),
        (sampling.stratified, {"mix": 1.0, "unbiased": True}),
        (sampler_by_name, {"mix": 0.1, "unbiased": True}),
    ],
)
def test_what_is_not_said_is_as_documented(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert {one.name: one.default for one in parameters if one.default is not one.empty} == expected


@pytest.mark.slow
def test_single_stratified_draws_are_in_proportion_too():
    sizes, mix = (2, 3), 0.2
    data = grouped_examples(sizes, jnp.array([1.0, 2.0, 0.5, 4.0, 1.0]))
    sampler = sampling.stratified(2, mix)
    index, _ = jax.jit(jax.vmap(lambda key: sampler(key, data)))(jax.random.split(KEY, 3000))
    for group, size in enumerate(sizes):
        own = np.asarray(data.groups) == group
        expected = 3000 * ((1 - mix) * data.loss[own] / data.loss[own].sum() + mix / size)
        assert stats.chisquare(np.bincount(index[:, group], minlength=5)[own], expected, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("name", ["importance", "stratified", "stratified+importance"])
def test_draws_that_round_to_the_end_stay_inside(name, monkeypatch):
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, *dtype: jnp.ones(shape))
    index, _ = sampler_by_name(name, 24)(KEY, DATA)
    assert 0 <= index.min() <= index.max() < 24
    if name != "importance":
        own = groups[np.asarray(index).reshape(GROUPS, -1)]
        np.testing.assert_array_equal(own[[1, 3, 4]], [[1] * 4, [3] * 4, [4] * 4])
