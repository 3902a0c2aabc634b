"""The methods of distilling, by name: a method is one file here, and one line in `METHODS`.

The command line (``rdd distill NAME``), its help, configuration files and the contract tests follow from it.
"""

from typing import Any

from rdd_jax.app import options
from rdd_jax.app.methods.base import Method, Stepped, filled
from rdd_jax.app.methods.dc import DC, DSA
from rdd_jax.app.methods.dm import DM
from rdd_jax.app.methods.kip import Kip, LabelSolve
from rdd_jax.app.methods.mtt import MTT
from rdd_jax.app.methods.rdd import RDD
from rdd_jax.app.methods.regression import RCIG, RFAD, FRePo
from rdd_jax.errors import check_one_of
from rdd_jax.registry import Registry

__all__ = [
    "DC",
    "DM",
    "DSA",
    "METHODS",
    "MTT",
    "RCIG",
    "RDD",
    "RFAD",
    "FRePo",
    "Kip",
    "LabelSolve",
    "Method",
    "Stepped",
    "configured",
    "filled",
    "name_of",
]

METHODS: Registry[Method] = Registry(
    "method",
    {
        "kip": Kip,
        "label-solve": LabelSolve,
        "dc": DC,
        "dsa": DSA,
        "dm": DM,
        "rdd": RDD,
        "mtt": MTT,
        "frepo": FRePo,
        "rfad": RFAD,
        "rcig": RCIG,
    },
)


def configured(method: str | Method, **given: Any) -> Method:
    """The configuration of a method, by name or as it is, with options in the place of its defaults.

    >>> configured("kip", data="mnist", ipc=1).set.ipc
    1

    Raises:
      InputError: an unknown method, or an option that it does not have.
    """
    config = METHODS.make(method) if isinstance(method, str) else method
    names = [field.name for field in options.options(config)]
    for name in given:
        check_one_of(f"option of {name_of(config)}", name, names)
    return options.updated(config, given)


def name_of(config: Method) -> str:
    """The name of a configuration's method."""
    return next(name for name in METHODS if type(config) is METHODS[name])
