"""Registries: members by name, made with what they take."""

from functools import partial

import pytest

from rdd_jax.errors import InputError
from rdd_jax.registry import Registry


def ball(radius=1.0, *, colour="red"):
    return "ball", radius, colour


def cube(side):
    return "cube", side


SHAPES = Registry("shape", {"ball": ball, "cube": cube, "tile": partial(cube, side=2), "dot": lambda: "dot"})


def test_a_registry_is_a_mapping_in_its_order():
    assert list(SHAPES) == ["ball", "cube", "tile", "dot"]
    assert SHAPES["cube"] is cube
    assert "bal" not in SHAPES
    assert SHAPES.get("bal") is None
    assert len(SHAPES) == 4


def test_make_passes_what_is_taken_and_nothing_else():
    options = {"radius": 2.0, "colour": "blue", "side": 3, "weight": 7}
    assert SHAPES.make("ball", **options) == ("ball", 2.0, "blue")
    assert SHAPES.make("cube", **options) == ("cube", 3)
    assert SHAPES.make("tile", **options) == ("cube", 3)
    assert SHAPES.make("dot", **options) == "dot"


def test_what_is_not_given_has_its_default():
    assert SHAPES.make("ball") == ("ball", 1.0, "red")
    assert SHAPES.make("ball", colour="blue") == ("ball", 1.0, "blue")
    assert SHAPES.make("tile") == ("cube", 2)
    with pytest.raises(TypeError, match="side"):
        SHAPES.make("cube", radius=2.0)


def test_an_option_may_be_called_as_make_s_own_argument_is():
    assert Registry("thing", {"it": lambda name, separator=None: (name, separator)}).make("it", name="x") == ("x", None)


@pytest.mark.parametrize(
    "ask", [SHAPES.__getitem__, SHAPES.make, SHAPES.make_each, lambda name: SHAPES.make_each(f"dot+{name}")]
)
def test_unknown_names_suggest_the_nearest(ask):
    with pytest.raises(
        InputError, match=r"^unknown shape 'cub': did you mean cube[?] choose from ball, cube, tile, dot$"
    ):
        ask("cub")
    with pytest.raises(InputError, match=r"^unknown shape '': choose from ball, cube, tile, dot$"):
        ask("")


def test_each_of_several_names_is_made_in_order():
    assert SHAPES.make_each("cube + ball", side=3, radius=2.0) == [("cube", 3), ("ball", 2.0, "red")]
    assert SHAPES.make_each("dot,tile,dot", ",") == ["dot", ("cube", 2), "dot"]
    assert SHAPES.make_each("dot") == ["dot"]
