"""Group shifts that any labelled images can be given: ``shift(seed, splits) -> splits`` with groups.

Train and validation are skewed alike, test is balanced over groups. ``groups`` holds the attribute alone, such
as the colour: the subgroups of a report are the cells of class and group. Every split draws from a generator of
its own, so that none depends on another.
"""

import inspect

from rdd_jax.contracts import Shift
from rdd_jax.datasets.shifts.base import check_in_unit, check_share
from rdd_jax.datasets.shifts.colours import LUMA, PALETTE, TWO, colour, grey
from rdd_jax.datasets.shifts.rare import TRANSFORMS, long_tail, rare, rotate, strata
from rdd_jax.registry import Registry
from rdd_jax.types import Splits

__all__ = [
    "LUMA",
    "PALETTE",
    "SHIFTS",
    "TRANSFORMS",
    "TWO",
    "Shift",
    "colour",
    "described",
    "grey",
    "long_tail",
    "none",
    "rare",
    "rotate",
    "shift_by_name",
    "strata",
]


def none(seed: int, splits: Splits) -> Splits:
    """The splits as they are."""
    return splits


def _long_tail(share: float) -> Shift:
    check_share("share", share, 1.0)  # by the name that it has here
    return long_tail(share)


SHIFTS: Registry[Shift] = Registry(
    "shift",
    {
        "none": lambda: none,
        "colour-foreground": lambda bias: colour("foreground", bias),
        "colour-background": lambda bias: colour("background", bias),
        "two-colours": lambda bias: colour("foreground", bias, TWO),
        "grey": lambda bias: grey(bias),
        "rare-invert": lambda share: rare("invert", share),
        "rare-blur": lambda share: rare("blur", share),
        "rare-rotate": lambda share: rare("rotate", share),
        "rare-noise": lambda share: rare("noise", share),
        "hidden-strata": lambda share: strata(share),
        "long-tail": _long_tail,
    },
)
"""By name; ``bias``: the share of a class that has the class's own attribute; ``share``: of the rare part."""


def shift_by_name(name: str, bias: float = 0.9, share: float = 0.05) -> Shift:
    """A shift of `SHIFTS`.

    Raises:
      InputError: an unknown name; a bias outside [0, 1], or a share outside (0, 0.5] ((0, 1] for ``long-tail``), also
        where the shift takes none.
    """
    shift = SHIFTS.make(name, bias=bias, share=share)
    check_in_unit("bias", bias)
    check_share("share", share, 1.0)
    return shift


def described(data: str, name: str, bias: float, share: float) -> str:
    """The data set with its shift, in words."""
    if name == "none":
        return data
    by_bias = "bias" in inspect.signature(SHIFTS[name]).parameters
    return f"{data}, {name} ({f'bias {bias:g}' if by_bias else f'share {share:g}'})"
