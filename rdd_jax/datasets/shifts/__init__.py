"""Group shifts that any labelled images can be given: ``shift(seed, splits) -> splits`` with groups.

Train and validation are skewed alike, test is balanced over groups. ``groups`` holds the attribute alone, such
as the colour: the subgroups of a report are the cells of class and group. Every split draws from a generator of
its own, so that none depends on another. Two shifts or more are made one after the other (`joined`).
"""

import inspect
from collections.abc import Sequence

import numpy as np

from rdd_jax.contracts import Shift
from rdd_jax.datasets.shifts.base import check_in_unit, check_share
from rdd_jax.datasets.shifts.colours import LUMA, PALETTE, TWO, colour, grey
from rdd_jax.datasets.shifts.rare import TRANSFORMS, long_tail, rare, rotate, strata
from rdd_jax.errors import InputError
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
    "joined",
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


def joined(parts: Sequence[Shift]) -> Shift:
    """One shift after another, each with draws of its own; the groups are all combinations of theirs.

    What a later shift draws does not look at the earlier groups: test is balanced over the combinations on average.

    Raises:
      InputError: when applied, data that has groups already.
    """

    def shift(seed: int, splits: Splits) -> Splits:
        for split in splits[:3]:
            if split.groups is not None:
                raise InputError(
                    f"{splits.name!r} already has groups {', '.join(split.group_names)}: a shift would replace them; "
                    "drop the groups or the shift"
                )
        for turn, part in enumerate(parts):
            own = seed if turn == 0 else int(np.random.SeedSequence([seed, turn]).generate_state(1)[0])
            splits = part(own, splits)
        return splits

    return shift


def shift_by_name(name: str, bias: float = 0.9, share: float = 0.05) -> Shift:
    """A shift of `SHIFTS`, or several `joined` by ``+``, such as ``rare-rotate+colour-foreground``.

    Raises:
      InputError: an unknown name; a bias outside [0, 1], or a share outside (0, 0.5] ((0, 1] for ``long-tail``), also
        where the shift takes none; when applied, data that has groups already.
    """
    parts = [SHIFTS.make(one.strip(), bias=bias, share=share) for one in name.split("+")]
    check_in_unit("bias", bias)
    check_share("share", share, 1.0)
    return none if parts == [none] else joined(parts)


def described(data: str, name: str, bias: float, share: float) -> str:
    """The data set with its shift, in words."""
    if name == "none":
        return data
    taken = {argument for one in name.split("+") for argument in inspect.signature(SHIFTS[one.strip()]).parameters}
    values = {"bias": bias, "share": share}
    return f"{data}, {name} ({', '.join(f'{key} {value:g}' for key, value in values.items() if key in taken)})"
