"""The formulas of what a step costs, beside what XLA counts in the compiled step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from benchmarks import costs
from benchmarks.counted import SIZES, SMALL, counted, expected, held, sent
from benchmarks.formulas import METHODS, ConvNet, Size
from rdd_jax.networks import convnet

LEFT_OUT = 1.15
"""XLA counts operations on numbers one by one too, up to a tenth at this width: at most so many times ours."""


def ratio(method, size):
    return counted(method, size).flops / expected(method, size).flops


@pytest.mark.thorough
@pytest.mark.parametrize("method", SIZES)
def test_xla_counts_the_operations_of_the_formula(method):
    assert 1 <= ratio(method, SIZES[method]) < LEFT_OUT


@pytest.mark.thorough
@pytest.mark.parametrize(
    "method, what, times, least, near",
    [
        ("kip", "real", 2, 1.5, 0.01),
        ("dm", "real", 2, 1.5, 0.01),
        ("kip", "images", 4, 1.2, 0.05),
        ("mtt", "images", 2, 1.9, 0.02),
    ],
)
def test_more_real_images_or_a_larger_set_cost_by_the_formula_as_many_times_more_as_by_xla(
    method, what, times, least, near
):
    size = SIZES[method]
    larger = replace(size, **{what: times * getattr(size, what)})
    grown = [of(method, larger).flops / of(method, size).flops for of in (expected, counted)]
    assert grown[0] > least
    assert grown[1] == pytest.approx(grown[0], rel=near)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dm", "dc, dsa, rdd", "mtt"])
def test_images_of_a_set_are_held_as_often_as_the_formula_has_it(method):
    few, many = (replace(SIZES[method], real=2, images=n) for n in (64, 128))
    grown = held(method, many) - held(method, few)
    assert METHODS[method](many).held - METHODS[method](few).held == pytest.approx(grown, rel=0.1)


def test_sizes_of_the_network_are_those_that_the_library_makes():
    for at in (SMALL, ConvNet(10), ConvNet(5, depth=3, width=8, side=28, channels=1)):
        network = convnet(at.classes, at.depth, at.width)
        image = jnp.zeros((1, at.side, at.side, at.channels))
        variables = jax.eval_shape(network.init, jax.random.key(0), image)
        matrices = [leaf.size for leaf in jax.tree.leaves(variables) if leaf.ndim > 1]
        assert sum(matrices) == at.weights
        assert jax.eval_shape(network.features, variables, image).shape == (1, at.features)


def test_devices_divide_real_images_and_send_nothing_alone():
    for method, formula in METHODS.items():
        alone, eight = (Size(SMALL, 512, 32, devices=n) for n in (1, 8))
        assert formula(alone).sent == alone.drawn == 0
        assert formula(alone).flops == formula(eight).flops
        assert formula(eight).held <= formula(alone).held, method


def test_bytes_that_a_program_sends_are_read_from_its_text():
    program = """
      %a = f32[8,768]{1,0} all-reduce(%b), channel_id=1
      %c = (u8[1,2]{1,0}, u8[1,2]{1,0}) all-to-all(%d, %e)
      %f = f32[4]{0} add(%a, %g)
    """
    assert sent(program, 4) == 3 / 4 * (2 * 4 * 8 * 768 + 4)


def test_the_estimate_has_every_method_at_every_size():
    lines = list(costs.estimated())
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4 * len(METHODS)
