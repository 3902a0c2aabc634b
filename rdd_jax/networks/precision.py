"""Products of networks: of single precision, or of operands that are rounded to bfloat16, with single-precision sums.

The switch is JAX's own, read where a network is traced: ``with jax.default_matmul_precision("bfloat16"):`` around any
work makes all products of networks in it such ones. XLA on a CPU does not look at that switch, and on a GPU it is no
more than leave to round: hence the operands are rounded here. Which convolutions a CPU rounds, and how, `convolution`
says. All else that a network computes (norms, activations, pooling, losses) is of single precision, as are products
that ask for more, such as those of kernels.
"""

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rdd_jax.errors import check_one_of

__all__ = [
    "DEFAULT",
    "PRECISIONS",
    "at_precision",
    "is_rounded",
    "product",
    "rounded",
    "rounded_product",
    "sums_of_rounded",
]

PRECISIONS = ("float32", "bfloat16")


def at_precision(name: str) -> AbstractContextManager:
    """A context in which networks compute their products at a precision of `PRECISIONS`.

    Raises:
      InputError: an unknown name.
    """
    check_one_of("precision", name, PRECISIONS)
    if name == "bfloat16":
        return jax.default_matmul_precision("bfloat16")
    # Of what JAX was told otherwise, only that is overruled: "highest" is single precision too.
    return jax.default_matmul_precision(None if is_rounded() else jax.config.values["jax_default_matmul_precision"])


def is_rounded() -> bool:
    """Whether networks that are traced now round the operands of their products."""
    return jax.config.values["jax_default_matmul_precision"] == "bfloat16"


def rounded(x: Array) -> Array:
    """In bfloat16."""
    return x.astype(jnp.bfloat16)


DEFAULT = jax.lax.Precision.DEFAULT
"""Of products of what is rounded already, whatever JAX is told around them."""


def product(a: Array, b: Array) -> Array:
    """``a @ b`` of ``[..., k]`` and ``[k, n]``, of the dtype of ``a``, at the precision of now."""
    return rounded_product(a, b) if is_rounded() else a @ b


@jax.custom_vjp
def rounded_product(a: Array, b: Array) -> Array:
    """The same with operands rounded to bfloat16 and sums of single precision; so are its derivatives of any order."""
    return sums_of_rounded(rounded(a), rounded(b), a.dtype)


def sums_of_rounded(a: Array, b: Array, dtype: jnp.dtype) -> Array:
    """``a @ b`` of what is in bfloat16, with sums of ``dtype``; not to be differentiated."""
    found = jnp.matmul(a, b, precision=DEFAULT, preferred_element_type=dtype)
    # XLA on a CPU turns a transposed product into one of other operands after it has chosen how to compute it, and then
    # ends in "Unsupported element type for DotThunk".
    return jax.lax.optimization_barrier(found) if jax.default_backend() == "cpu" else found


# Closed under differentiation: JAX's own transpose would multiply rounded operands by others, and round its sums.
rounded_product.defvjp(
    lambda a, b: (rounded_product(a, b), (a, b)),
    lambda kept, outputs: (
        rounded_product(outputs, kept[1].T),
        rounded_product(_rows(kept[0]).T, _rows(outputs)),
    ),
)


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
