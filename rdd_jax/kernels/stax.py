"""`neural_tangents.stax`, where the package itself no longer imports.

neural-tangents 0.6.5 is its last release; its ``__init__`` fails on today's JAX, but its infinite
kernels work. `load` imports them without executing that ``__init__``. Install it once with::

    pip install --no-deps neural-tangents==0.6.5 && pip install frozendict
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from rdd_jax.contracts import Kernel
from rdd_jax.errors import InputError

__all__ = ["INSTALL", "load", "stax_kernel"]

INSTALL = "pip install --no-deps neural-tangents==0.6.5 && pip install frozendict"


def load() -> ModuleType:
    """The module ``neural_tangents.stax``.

    Where ``neural_tangents`` was not imported before, a bare package of that name is left in
    ``sys.modules``, so that only its submodules can be reached.

    Raises:
      InputError: neural-tangents or frozendict is not installed; says how to install them.
    """
    if "neural_tangents" not in sys.modules:
        spec = importlib.util.find_spec("neural_tangents")
        if spec is None or importlib.util.find_spec("frozendict") is None:
            raise InputError(f"stax kernels need neural-tangents 0.6.5 without its dependencies: {INSTALL}")
        package = ModuleType("neural_tangents")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["neural_tangents"] = package
    return importlib.import_module("neural_tangents.stax")


def stax_kernel(kernel_fn, get: str = "ntk") -> Kernel:
    """A ``stax`` kernel function as this library's ``kernel(x1, x2)``.

    Args:
      kernel_fn: the third value of a ``stax`` layer. Give it a ``Flatten`` first where it is fully connected.
      get: ``"ntk"`` or ``"nngp"``.
    """
    return lambda x1, x2: kernel_fn(x1, x2, get)
