"""Samplers: valid, repeatable, and distributed as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rdd_jax.errors import InputError
from rdd_jax.sampling import SAMPLERS, balanced, sampler_by_name, uniform
from rdd_jax.types import Examples, centred_one_hot

# Imbalanced, in no order, and with a group per example.
labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2, 6, 16]))
DATA = Examples(jnp.zeros((24, 1, 1, 1)), centred_one_hot(labels, 3), jnp.asarray(labels % 2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_draw_valid_indices_repeatably(name):
    sample = sampler_by_name(name, 50)
    index, weight = jax.jit(sample)(jax.random.key(0), DATA)
    assert index.shape == weight.shape == (50,)
    assert index.min() >= 0
    assert index.max() < 24
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
