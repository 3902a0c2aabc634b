"""Tables of samplers: draws with them are those without, right at any size, at a cost that does not grow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rdd_jax import sampling, tables
from rdd_jax.distill import compose
from rdd_jax.kernels import fc_ntk
from rdd_jax.objectives import kip
from rdd_jax.sampling import SAMPLERS, ready
from rdd_jax.types import Examples, Synthetic, centred_one_hot

KEY = jax.random.key(3)
N = 3000


def examples(n=N, groups=5):
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, groups, n), rng.integers(0, 3, n)
    weight = jnp.asarray(rng.uniform(0.5, 2, n), jnp.float32)
    images = jnp.asarray(rng.standard_normal((n, 2, 2, 1)), jnp.float32)
    return Examples(
        images,
        centred_one_hot(labels, 3),
        jnp.asarray(codes),
        loss=jnp.asarray(rng.exponential(size=n), jnp.float32),
        weight=weight,
        group_count=groups,
    )


@pytest.mark.parametrize("groups", [1, 5])
@pytest.mark.parametrize("name", list(SAMPLERS))
def test_draws_with_tables_are_those_without(name, groups):
    sampler, data = SAMPLERS.make(name, batch=60, mix=0.3, unbiased=True), examples(groups=groups)
    made = ready(sampler, data)
    assert made.replace(loss=data.loss).tables is None
    (index, weight), (expected, theirs) = sampler(KEY, made), sampler(KEY, data)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(weight, theirs, rtol=1e-6)


def test_tables_of_another_sampler_are_kept():
    data = ready(sampling.importance(8), ready(sampling.by_group(8), examples()))
    assert set(data.tables) == {"groups", "importance-class-0.1-True"}


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_quantiles_against_a_plain_search(seed):
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(60, rng.dirichlet(np.full(8, 0.3)))
    mass = rng.integers(0, 4, 60).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BLOCK", 4)
        table = tables.masses(jnp.asarray(mass), jnp.asarray(counts))
        first = np.cumsum(counts) - counts
        live = [c for c in range(len(counts)) if mass[first[c] : first[c] + counts[c]].sum() > 0]
        own = {c: mass[first[c] : first[c] + counts[c]] for c in live}
        # In the middle of a unit, where rounding decides nothing.
        wanted = {c: np.arange(one.sum()) + 0.5 for c, one in own.items()}
        codes = np.concatenate([np.full(len(wanted[c]), c) for c in live])
        every = np.concatenate([wanted[c] for c in live])
        padded = (jnp.asarray(np.resize(x, 180), kind) for x, kind in ((codes, int), (every, jnp.float32)))
        found = tables.quantile(KEY, table, *padded)[: len(every)]  # one shape is compiled
        expected = [first[c] + np.searchsorted(np.cumsum(own[c]), wanted[c], "right") for c in live]
        np.testing.assert_array_equal(found, np.concatenate(expected))
        np.testing.assert_allclose(
            table.total[jnp.array(live, int)], [mass[first[c] :][: counts[c]].sum() for c in live]
        )


def test_all_of_many_examples_can_be_reached():
    n, batch = 2**23, 2**15  # a cumulated sum in float32 passes over every other one
    data = Examples(
        jnp.zeros((n, 1, 1, 1), jnp.uint8),
        jnp.zeros((n, 1)),
        jnp.zeros(n, int),
        loss=jnp.ones(n),
        group_count=1,
    )
    sampler = sampling.importance(batch, strata="all")
    index, weight = jax.jit(sampler)(KEY, ready(sampler, data))
    assert stats.chisquare(np.bincount(np.asarray(index) % 16, minlength=16)).pvalue > 1e-3
    np.testing.assert_allclose(weight, 1, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "uniform"])
def test_a_step_does_nothing_of_the_size_of_the_data(name):
    data = examples(n=4321)
    sampler = SAMPLERS.make(name, batch=30, mix=0.3, unbiased=True)
    distiller = compose(kip(fc_ntk()), sampler)
    state = distiller.init(Synthetic(data.images[:3], data.labels[:3]))
    assert "4321" in _made(distiller, state, data)
    assert "4321" not in _made(distiller, state, distiller.ready(data))


def _made(distiller, state, data):
    """The shapes of all that a step makes."""
    shapes = []

    def look(jaxpr):
        for equation in jaxpr.eqns:
            shapes.extend(str(variable.aval) for variable in equation.outvars)
            for value in equation.params.values():
                for inner in value if isinstance(value, tuple | list) else [value]:
                    if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                        look(getattr(inner, "jaxpr", inner))

    look(jax.make_jaxpr(distiller.step)(KEY, state, data).jaxpr)
    return " ".join(shapes)
