"""Risks: every measure against a loop over the groups, its gradients, and what convexity promises of it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from rdd_jax import risk
from rdd_jax.errors import InputError
from rdd_jax.risk.segments import ratio
from rdd_jax.types import Losses

# --- what is tested, and the loop it is compared with ------------------------------------------------


def cvar_oracle(tau):
    """Sorted, worst first; the last example of the tail taken fractionally."""

    def oracle(value, weight):
        order = np.argsort(-value)
        value, weight = value[order], weight[order]
        tail = tau * weight.sum()
        taken = np.clip(tail - (np.cumsum(weight) - weight), 0, weight)
        return (taken * value).sum() / tail

    return oracle


def entropic_oracle(temperature):
    return lambda value, weight: logsumexp(temperature * value, b=weight / weight.sum()) / temperature


def mean_oracle(value, weight):
    return np.average(value, weights=weight)


def worst_oracle(value, weight):
    return value[weight > 0].max()


# Each measure, the same in NumPy for one group, and what adding 1 to every loss adds to it.
MEMBERS = {
    "mean": (risk.mean, mean_oracle, 1),
    "worst": (risk.worst, worst_oracle, 1),
    "cvar(0.3)": (risk.cvar(0.3), cvar_oracle(0.3), 1),
    "entropic(2)": (risk.entropic(2.0), entropic_oracle(2.0), 1),
    "mean+worst": (risk.plus(risk.mean, risk.worst), lambda v, w: mean_oracle(v, w) + worst_oracle(v, w), 2),
}
# (within, across); the first is RDD's risk.
PAIRS = [
    ("cvar(0.3)", "mean+worst"),
    ("mean", "mean"),
    ("worst", "cvar(0.3)"),
    ("mean+worst", "entropic(2)"),
    ("entropic(2)", "worst"),
]
# Every risk that is tested, by name or pair, and what adding 1 to every loss adds to it.
ADDS = {name: adds for name, (*_, adds) in MEMBERS.items()} | {(w, a): MEMBERS[w][2] * MEMBERS[a][2] for w, a in PAIRS}
every_member = pytest.mark.parametrize("name", MEMBERS)
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=" / ".join)
every_risk = pytest.mark.parametrize("key", ADDS, ids=str)

# Most tables below have one shape, and every measure and risk is compiled once for it.
SIZES = (1, 7, 0, 30, 3, 12)
EMPTY = (2, 4)  # the one has no examples, the other three of weight 0
GROUPS, N = len(SIZES), sum(SIZES)


@functools.cache
def compiled(name):
    """``losses -> [group_count]``."""
    return jax.jit(lambda losses: MEMBERS[name][0](losses))


def risk_of(key):
    if isinstance(key, str):
        return risk.overall(MEMBERS[key][0])
    within, across = key
    return risk.grouped(MEMBERS[within][0], MEMBERS[across][0])


@functools.cache
def value_and_gradient(key):
    """``losses -> the risk, its gradient``."""
    function = jax.value_and_grad(lambda value, losses: risk_of(key)(losses.replace(value=value)))
    return jax.jit(lambda losses: function(losses.value, losses))


@functools.cache
def over_a_batch(key):
    """``losses, [2 N, N] -> the risk of each``."""
    return jax.jit(lambda losses, batch: jax.vmap(lambda value: risk_of(key)(losses.replace(value=value)))(batch))


def loop(name, losses, groups):
    """The measure of each group; 0 where it has no weight."""
    value, group, weight = (np.asarray(part) for part in jax.tree.leaves(losses))
    one = MEMBERS[name][1]
    members = [(value[group == g].astype(float), weight[group == g].astype(float)) for g in range(groups)]
    return np.array([one(v, w) if w.sum() > 0 else 0.0 for v, w in members])


def risk_loop(key, losses, groups=GROUPS):
    if isinstance(key, str):
        return loop(key, losses.replace(group=jnp.zeros_like(losses.group)), 1)[0]
    within, across = key
    value, weight = loop(within, losses, groups), np.bincount(losses.group, losses.weight, groups)
    return MEMBERS[across][1](value[weight > 0], np.ones((weight > 0).sum()))


def table(dtype=None) -> Losses:
    """Ragged groups in no order, distinct losses, uneven weights, some of them 0."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(GROUPS), SIZES))
    value = rng.permutation(np.linspace(0.1, 5, len(group)))
    weight = rng.uniform(0.2, 3, len(group))
    weight[(group == 3) & (rng.random(len(group)) < 0.3)] = 0
    weight[group == 4] = 0
    return Losses(jnp.asarray(value, dtype), jnp.asarray(group), jnp.asarray(weight, dtype), group_count=GROUPS)


def tied_table() -> Losses:
    """As `table`, with losses 0, 1, 2 and weights 1 and 2: ties everywhere, also between groups."""
    losses = table()
    return losses.replace(value=jnp.floor(losses.value / 2), weight=jnp.ceil(losses.weight / 2))


def padded(value, group, weight=None) -> Losses:
    """A table of the same shape as `table`: the rest has no weight."""
    parts = (value, group, np.ones(len(value)) if weight is None else weight)
    return Losses(
        *(jnp.asarray(np.concatenate([part, np.zeros(N - len(value), part.dtype)])) for part in map(np.asarray, parts)),
        group_count=GROUPS,
    )


# --- values ------------------------------------------------------------------------------------------


every_dtype = pytest.mark.parametrize("dtype, rtol", [("float32", 1e-5), ("float64", 1e-12)])


@pytest.mark.slow
@every_dtype
@every_member
def test_measures_are_those_of_a_loop_over_groups(name, dtype, rtol, x64):
    losses = table(dtype)
    value = compiled(name)(losses)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, loop(name, losses, GROUPS), rtol=rtol)


@pytest.mark.slow
@every_risk
def test_risks_are_those_of_a_loop_over_groups(key, x64):
    losses = table()
    np.testing.assert_allclose(value_and_gradient(key)(losses)[0], risk_loop(key, losses), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["cvar(0.3)", PAIRS[0]], ids=str)
def test_float32_stays_float32(key, x64):
    losses = table("float32")
    value, gradient = value_and_gradient(key)(losses)
    assert value.dtype == gradient.dtype == "float32"
    np.testing.assert_allclose(value, risk_loop(key, losses), rtol=1e-5)


@pytest.mark.slow
@every_dtype
@pytest.mark.parametrize("tau", [0.01, 0.2, 0.5, 0.77, 1.0])
def test_cvar_is_its_variational_form(tau, dtype, rtol, x64):
    losses = table(dtype)
    value, weight = np.asarray(losses.value, float), np.asarray(losses.weight, float)
    # Piecewise linear in t, with its kinks at the losses: the least of those is the minimum.
    above = np.maximum(value - value[:, None], 0)
    expected = (value + above @ weight / (tau * weight.sum())).min()
    np.testing.assert_allclose(risk.overall(risk.cvar(tau))(losses), expected, rtol=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("make", [table, tied_table])
def test_cvar_goes_from_the_mean_to_the_worst(make, x64):
    losses = make()
    np.testing.assert_allclose(risk.cvar(1.0)(losses), risk.mean(losses), rtol=1e-12)
    np.testing.assert_allclose(risk.cvar(1e-12)(losses), risk.worst(losses), rtol=1e-12)
    values = [float(risk.overall(risk.cvar(tau))(losses)) for tau in (1.0, 0.7, 0.4, 0.1, 0.01)]
    assert sorted(values) == values


def test_entropic_goes_from_the_mean_to_the_worst(x64):
    losses = table()
    value = np.stack([risk.entropic(t)(losses) for t in (1e-6, 0.3, 1.0, 3.0, 30.0, 1e6)])
    mean, worst = risk.mean(losses), risk.worst(losses)
    np.testing.assert_allclose(value[0], mean, rtol=1e-5)
    np.testing.assert_allclose(value[-1], worst, rtol=1e-5)
    assert (np.diff(np.stack([mean, *value, worst]), axis=0) >= -1e-9).all()


def test_entropic_does_not_overflow():
    losses = Losses(jnp.array([1e4, 9e3, 0, -1e4, -1e4]), jnp.array([0, 0, 0, 1, 1]), jnp.ones(5))
    value, gradient = value_and_gradient(("entropic(2)", "mean"))(losses)
    assert value.dtype == "float32"
    np.testing.assert_allclose(value, -np.log(3) / 2 / 2, atol=1e-3)
    np.testing.assert_allclose(gradient, [0.5, 0, 0, 0.25, 0.25], atol=1e-6)


def test_overall_mean_is_the_weighted_mean_whatever_the_groups(x64):
    value, gradient = value_and_gradient("mean")(padded([1.0, 2.0, 6.0], [0, 1, 1], [1.0, 3.0, 0.5]))
    np.testing.assert_allclose(value, (1 + 3 * 2 + 0.5 * 6) / 4.5, rtol=1e-12)
    np.testing.assert_allclose(gradient[:3], np.array([1, 3, 0.5]) / 4.5, rtol=1e-12)


@pytest.mark.slow
def test_the_risk_of_rdd_by_hand(x64):
    # Tails of half: of 4 examples two, of 2 one, of 3 one and a half.
    losses = padded([1.0, 4, 2, 1, 6, 0, 1, 2, 3], [0, 0, 0, 0, 1, 1, 2, 2, 2])
    tails = np.array([(4 + 2) / 2, 6, (3 + 2 / 2) / 1.5])
    rdd = risk.grouped(risk.cvar(0.5), risk.plus(risk.mean, risk.worst))
    value, gradient = jax.value_and_grad(lambda value: rdd(losses.replace(value=value)))(losses.value)
    np.testing.assert_allclose(value, tails.mean() + 6, rtol=1e-12)
    expected = [0, 1 / 6, 1 / 6, 0, 1 / 3 + 1, 0, 0, 1 / 9, 2 / 9]
    np.testing.assert_allclose(gradient[:9], expected, rtol=1e-12)


def test_mean_plus_max_across_is_the_mean_of_the_groups_plus_their_largest(x64):
    losses = table()
    value = np.delete(np.asarray(compiled("cvar(0.3)")(losses)), EMPTY)
    both, _ = value_and_gradient(("cvar(0.3)", "mean+worst"))(losses)
    np.testing.assert_allclose(both, value.mean() + value.max(), rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("across", MEMBERS)
@every_member
def test_over_one_group_a_risk_is_the_measure_within_of_all_losses_bit_for_bit(name, across):
    losses = table("float32")
    one = losses.replace(group=jnp.zeros_like(losses.group), group_count=1)
    both = [
        jax.value_and_grad(lambda value, of=of, losses=losses: of(losses.replace(value=value)))(losses.value)
        for of, losses in ((risk_of((name, across)), one), (risk_of(name), losses))
    ]
    for found, expected in zip(*both, strict=True):
        np.testing.assert_array_equal(found, expected)


@every_pair
def test_groups_that_are_all_alike_are_as_one(pair, x64):
    losses = padded(np.tile([3.0, 1.0, 2.0, 2.0], 5), np.repeat(np.arange(5), 4))
    expected = loop(pair[0], losses, 1)[0] * ADDS[pair[1]]
    np.testing.assert_allclose(value_and_gradient(pair)(losses)[0], expected, rtol=1e-12)


# --- weights and empty groups ------------------------------------------------------------------------


@every_member
def test_weights_are_multiplicities(name, x64):
    value, group, weight = np.array([2.0, 5, 9, 1, 3, 0]), np.array([0, 1, 0, 0, 1, 1]), np.array([1, 2, 0, 3, 1, 4])
    once = compiled(name)(padded(value, group, weight.astype(float)))
    np.testing.assert_allclose(once, compiled(name)(padded(value.repeat(weight), group.repeat(weight))), rtol=1e-12)
    np.testing.assert_allclose(once, compiled(name)(padded(value, group, 7.0 * weight)), rtol=1e-12)


@pytest.mark.parametrize("giant", [1e4, -1e4])
@every_risk
def test_examples_without_weight_do_not_count(key, giant, x64):
    losses = table()
    changed = losses.replace(value=jnp.where(losses.weight > 0, losses.value, giant))
    value, gradient = value_and_gradient(key)(losses)
    same, slope = value_and_gradient(key)(changed)
    np.testing.assert_allclose(same, value, rtol=1e-12)
    np.testing.assert_allclose(slope, gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(gradient[losses.weight == 0], 0)


# Groups without weight have the measure 0: below positive losses, above negative ones.
@pytest.mark.slow
@pytest.mark.parametrize("shift", [0, -100])
@every_pair
def test_groups_without_weight_are_left_out(pair, shift, x64):
    losses = table()
    losses = losses.replace(value=losses.value + shift)
    value, gradient = value_and_gradient(pair)(losses)
    np.testing.assert_array_equal(compiled(pair[0])(losses)[jnp.array(EMPTY)], 0)
    np.testing.assert_allclose(value, risk_loop(pair, losses), rtol=1e-12)
    np.testing.assert_array_equal(gradient[jnp.isin(losses.group, jnp.array(EMPTY))], 0)
    assert jnp.isfinite(gradient).all()


@every_risk
def test_no_weight_at_all_is_0_and_no_nan(key, x64):
    value, gradient = value_and_gradient(key)(table().replace(weight=jnp.zeros(N)))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@every_risk
def test_nan_is_not_lost(key, x64):
    losses = table()
    losses = losses.replace(value=losses.value.at[jnp.argmax(losses.weight)].set(jnp.nan))
    assert jnp.isnan(value_and_gradient(key)(losses)[0])


@pytest.mark.parametrize("measure", [risk.mean, risk.worst, risk.cvar(1.0), risk.cvar(0.3), risk.entropic(1.0)])
def test_nan_stays_in_its_group(measure, x64):
    losses = padded([1.0, np.nan, 2.0, 5.0], [1, 1, 1, 0])
    np.testing.assert_array_equal(jnp.isnan(measure(losses)), [False, True, *[False] * 4])


# --- gradients ---------------------------------------------------------------------------------------


@pytest.mark.slow
@every_risk
def test_gradients_are_those_of_finite_differences(key, x64):
    losses, step = table(), 1e-5
    nudges = step * np.concatenate([np.eye(N), -np.eye(N)])
    ahead, behind = np.split(np.asarray(over_a_batch(key)(losses, losses.value[None] + nudges)), 2)
    np.testing.assert_allclose(value_and_gradient(key)(losses)[1], (ahead - behind) / (2 * step), atol=1e-8)


@pytest.mark.parametrize(
    "measure, expected",
    [
        (risk.worst, [0.5, 0, 0.5, 0, 0, 0]),
        (risk.cvar(1 / 6), [0.5, 0, 0.5, 0, 0, 0]),
        (risk.cvar(1 / 3), [0.5, 0, 0.5, 0, 0, 0]),  # the tail ends with the tie
        (risk.cvar(0.5), [1 / 3, 1 / 9, 1 / 3, 1 / 9, 0, 1 / 9]),  # and here within one of three
        (risk.cvar(1.0), [1 / 6] * 6),
    ],
)
def test_ties_share_evenly(measure, expected, x64):
    losses = padded([5.0, 2.0, 5.0, 2.0, 1.0, 2.0], [0] * 6)
    gradient = jax.grad(lambda value: risk.overall(measure)(losses.replace(value=value)))(losses.value)
    np.testing.assert_allclose(gradient[:6], expected, atol=1e-12)


# Of three groups, the tail of mass 0.3 is 0.9 of one: within the tie.
@pytest.mark.parametrize("across", ["worst", "cvar(0.3)"])
def test_ties_between_groups_share_evenly(across, x64):
    losses = padded([5.0, 1.0, 5.0, 5.0, 2.0], [0, 0, 1, 1, 2])
    _, gradient = value_and_gradient(("worst", across))(losses)
    np.testing.assert_allclose(gradient[:5], [0.5, 0, 0.25, 0.25, 0], atol=1e-12)


@pytest.mark.parametrize("make", [table, tied_table])
@every_risk
def test_gradients_are_subgradients_that_weigh_the_examples(key, make, x64):
    losses = make()
    value, gradient = value_and_gradient(key)(losses)
    assert (gradient >= 0).all()
    np.testing.assert_allclose(gradient.sum(), ADDS[key], rtol=1e-12)
    # Convex: R(l') >= R(l) + <g, l' - l>, near and far.
    size = np.resize([1e-3, 0.1, 1, 10], 2 * N)[:, None]
    away = size * np.random.default_rng(1).standard_normal((2 * N, N))
    there = over_a_batch(key)(losses, losses.value[None] + away)
    assert (there >= value + away @ np.asarray(gradient) - 1e-12).all()


# --- transformations ---------------------------------------------------------------------------------


@every_risk
def test_batches_are_as_one_at_a_time(key, x64):
    losses = table()
    batch = np.asarray(losses.value) + np.random.default_rng(2).standard_normal((2 * N, N))
    expected = [value_and_gradient(key)(losses.replace(value=jnp.asarray(value)))[0] for value in batch[:9]]
    np.testing.assert_allclose(over_a_batch(key)(losses, batch)[:9], expected, rtol=1e-12)


@pytest.mark.slow
def test_losses_groups_and_weights_and_gradients_may_all_be_batched(x64):
    losses = table()
    batch = jax.tree.map(lambda part: jnp.stack([part, part[::-1], jnp.roll(part, 3)]), losses)
    value, gradient = jax.vmap(value_and_gradient(PAIRS[0]))(batch)
    expected, slope = value_and_gradient(PAIRS[0])(losses)
    np.testing.assert_allclose(value, np.full(3, expected), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.stack([slope, slope[::-1], np.roll(slope, 3)]), rtol=1e-5, atol=1e-7)


def test_compiled_is_as_eager(x64):
    losses = table()
    for name, (measure, *_) in MEMBERS.items():
        np.testing.assert_allclose(compiled(name)(losses), measure(losses), rtol=1e-12)


# --- invariances -------------------------------------------------------------------------------------

# Quarters: exact, and full of ties.
some_losses = st.builds(
    lambda value, group, weight: (np.array(value) / 4, np.array(group), np.array([1.0, *weight])),
    st.lists(st.integers(-40, 40), min_size=12, max_size=12),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.lists(st.integers(0, 3), min_size=11, max_size=11),
)
few = settings(max_examples=20, deadline=None)


def value_of(key, value, group, weight):
    with jax.enable_x64(True):
        return float(value_and_gradient(key)(padded(value, group, weight))[0])


@pytest.mark.slow
@every_risk
@few
@given(some_losses, st.permutations(range(12)), st.permutations(range(4)))
def test_neither_the_order_nor_the_names_of_groups_matter(key, losses, order, names):
    value, group, weight = losses
    changed = (value[list(order)], np.array(names)[group[list(order)]], weight[list(order)])
    np.testing.assert_allclose(value_of(key, *changed), value_of(key, *losses), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@every_risk
@few
@given(some_losses, st.integers(-400, 400))
def test_adding_to_every_loss_adds_to_the_risk(key, losses, quarters):
    value, group, weight = losses
    expected = value_of(key, *losses) + ADDS[key] * quarters / 4
    np.testing.assert_allclose(value_of(key, value + quarters / 4, group, weight), expected, atol=1e-9)


@pytest.mark.parametrize("key", [key for key in ADDS if "entropic(2)" not in key], ids=str)
@few
@given(some_losses, st.integers(1, 100))
def test_scaling_every_loss_scales_the_risk(key, losses, quarters):
    value, group, weight = losses
    expected = value_of(key, *losses) * quarters / 4
    np.testing.assert_allclose(value_of(key, value * quarters / 4, group, weight), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@every_risk
@few
@given(some_losses, st.lists(st.integers(0, 8), min_size=12, max_size=12))
def test_no_risk_falls_when_losses_rise(key, losses, rise):
    value, group, weight = losses
    assert value_of(key, value + np.array(rise) / 4, group, weight) >= value_of(key, *losses) - 1e-9


# --- many groups, in float32 -------------------------------------------------------------------------


def large(spread: float) -> Losses:
    """50,000 losses in 1,000 groups of 1 to some hundred; the groups' weights span ``10 ** +-spread``."""
    rng = np.random.default_rng(0)
    share = rng.exponential(size=1000) + 1e-3
    group = np.concatenate([np.arange(1000), rng.choice(1000, 49_000, p=share / share.sum())])
    weight = rng.uniform(0.1, 3, 50_000) * 10 ** rng.uniform(-spread, spread, 1000)[group]
    value = rng.exponential(size=50_000) * rng.uniform(0.1, 10, 1000)[group]
    return Losses(jnp.asarray(value, "float32"), jnp.asarray(group), jnp.asarray(weight, "float32"))


@pytest.mark.thorough
@pytest.mark.parametrize("spread", [0, 4])
@every_member
def test_many_ragged_groups_in_float32(name, spread):
    losses = large(spread)
    np.testing.assert_allclose(compiled(name)(losses), loop(name, losses, 1000), rtol=1e-4)


@pytest.mark.slow
def test_the_risk_of_many_ragged_groups_in_float32():
    losses, rdd = large(0), PAIRS[0]
    value, gradient = value_and_gradient(rdd)(losses)
    np.testing.assert_allclose(value, risk_loop(rdd, losses, 1000), rtol=1e-4)
    np.testing.assert_allclose(gradient.sum(), ADDS[rdd], rtol=1e-4)


@pytest.mark.slow
def test_the_least_tail_of_many_groups_is_their_worst():
    losses = large(4)
    tail = jax.jit(lambda losses: risk.cvar(1e-12)(losses))(losses)
    np.testing.assert_allclose(tail, loop("worst", losses, 1000), rtol=1e-5)


# --- names -------------------------------------------------------------------------------------------

# Every name of the registry, and the member above that it makes.
BY_NAME = {"mean": "mean", "cvar": "cvar(0.3)", "max": "worst", "entropic": "entropic(2)"}


@pytest.mark.parametrize("name", [*risk.MEASURES, "mean+max", "cvar+max", " cvar + max"])
def test_measures_by_name(name, x64):
    losses = table()
    value = risk.measure_by_name(name, tau=0.3, temperature=2.0)(losses)
    parts = [MEMBERS[BY_NAME[part.strip()]][0](losses) for part in name.split("+")]
    np.testing.assert_array_equal(value, sum(parts))


@pytest.mark.parametrize(
    "name, part, nearest", [("cvr", "cvr", "cvar"), ("mean+mx", "mx", "max"), ("entropy", "entropy", "entropic")]
)
def test_unknown_measures_suggest_the_nearest(name, part, nearest):
    with pytest.raises(InputError, match=f"unknown risk measure '{part}': did you mean {nearest}"):
        risk.measure_by_name(name)


@pytest.mark.parametrize("name", ["", "mean+", "+", "mean ++ max"])
def test_half_a_sum_is_no_measure(name):
    with pytest.raises(InputError, match=r"unknown risk measure '': choose from mean, cvar, max, entropic$"):
        risk.measure_by_name(name)


@pytest.mark.parametrize("tau", [0.0, -1.0, 1.5, float("nan")])
def test_tail_masses_outside_0_to_1_raise(tau):
    for make in (risk.cvar, risk.check_tau, lambda tau: risk.measure_by_name("mean+cvar", tau=tau)):
        with pytest.raises(InputError, match=f"tau is {tau}"):
            make(tau)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperatures_that_are_not_positive_and_finite_raise(temperature):
    with pytest.raises(InputError, match=f"temperature is {temperature}: it must be positive and finite"):
        risk.entropic(temperature)
    with pytest.raises(InputError, match="temperature is"):
        risk.measure_by_name("entropic", temperature=temperature)


def test_parameters_that_are_not_given_are_as_documented():
    parameters = inspect.signature(risk.measure_by_name).parameters
    assert (parameters["tau"].default, parameters["temperature"].default) == (0.2, 5.0)


def test_ratios_over_nothing_are_0_with_finite_gradients():
    ratios = lambda a, b: jnp.sum(ratio(a, b))  # noqa: E731
    a, b = jnp.array([3.0, 0.0, 6.0]), jnp.array([0.0, 0.0, 4.0])
    np.testing.assert_array_equal(ratio(a, b), [0, 0, 1.5])
    for gradient, expected in zip(jax.grad(ratios, (0, 1))(a, b), ([0, 0, 0.25], [0, 0, -0.375]), strict=True):
        np.testing.assert_array_equal(gradient, expected)
