r"""NTK and NNGP of infinitely wide fully connected ReLU networks, in closed form.

With inputs :math:`x \in R^d`, weight variance :math:`w^2`, bias variance :math:`b^2` and

.. math::
    K_0 = w^2 \langle x, x' \rangle / d + b^2, \quad \Theta_0 = K_0, \quad
    c_l = K_l(x, x') / \sqrt{K_l(x, x) K_l(x', x')}

each hidden layer maps (Cho & Saul 2009; Jacot et al. 2018)

.. math::
    K_{l+1} = \tfrac{w^2}{2} \sqrt{K_l(x, x) K_l(x', x')}\, \kappa_1(c_l) + b^2, \quad
    \Theta_{l+1} = K_{l+1} + \tfrac{w^2}{2}\, \Theta_l\, \kappa_0(c_l)

with :math:`\kappa_0(c) = 1 - \arccos(c) / \pi` and
:math:`\kappa_1(c) = c\, \kappa_0(c) + \sqrt{1 - c^2} / \pi`. Their derivatives are
:math:`\kappa_1' = \kappa_0` and :math:`\kappa_0' = 1 / (\pi \sqrt{1 - c^2})`.

Soundness. A cosine that rounds to ``c`` carries an error of a few ``eps``, so an angle below
``sqrt(8 eps)`` (1e-3 in float32, 4e-8 in float64) is all rounding: there the slope of ``kappa_0`` is
held at its value at that angle, which keeps gradients finite, and gives zero, the symmetric
subgradient, where two points coincide. On the diagonal of ``kernel(x, x)`` (one and the same array
twice) the angle is exactly zero.
"""

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rdd_jax.contracts import Kernel
from rdd_jax.errors import at_least

__all__ = ["fc_nngp", "fc_ntk"]

# sqrt(1 - |c|) times this polynomial in |c| is arccos |c| to 2e-8 (Abramowitz & Stegun 4.4.46): float32's
# own precision, and quicker than the library function.
_ARCCOS = (
    -0.0012624911,
    0.0066700901,
    -0.0170881256,
    0.0308918810,
    -0.0501743046,
    0.0889789874,
    -0.2145988016,
    1.5707963050,
)


def _arccos(c: Array) -> Array:
    if c.dtype == jnp.float64:
        return jnp.arccos(c)
    size = jnp.abs(c)
    angle = jnp.polyval(jnp.array(_ARCCOS, c.dtype), size, unroll=8) * jnp.sqrt(1 - size)
    return jnp.where(c < 0, math.pi - angle, angle)


@jax.custom_jvp
def _kappa0(c: Array) -> Array:
    return 1 - _arccos(jnp.clip(c, -1, 1)) / math.pi


@_kappa0.defjvp
def _(primals, tangents):
    (c,), (dc,) = primals, tangents
    sine_squared = jnp.maximum((1 - c) * (1 + c), 8 * jnp.finfo(c.dtype).eps)
    return _kappa0(c), dc * jax.lax.rsqrt(sine_squared) / math.pi


@jax.custom_jvp
def _kappa1(c: Array) -> Array:
    c = jnp.clip(c, -1, 1)
    return c * _kappa0(c) + jnp.sqrt((1 - c) * (1 + c)) / math.pi


@_kappa1.defjvp
def _(primals, tangents):
    return _kappa1(primals[0]), tangents[0] * _kappa0(primals[0])


@cache  # one kernel for the same arguments: what is compiled for it is compiled once
def fc_ntk(depth: int = 1, w_std: float = math.sqrt(2), b_std: float = 0.1) -> Kernel:
    """The NTK of a network of ``depth`` hidden ReLU layers; see the module for formula and precision.

    The same kernel as ``neural_tangents.stax`` gives for ``depth`` times (``Dense``, ``Relu``), then
    ``Dense``. The dtype of the result is that of the inputs.

    Raises:
      InputError: ``depth < 1``, ``w_std < 0`` or ``b_std < 0``.

    >>> import jax
    >>> x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    >>> fc_ntk(depth=2)(x, x).shape
    (3, 3)
    """
    return _kernel(depth, w_std, b_std, tangent=True)


@cache
def fc_nngp(depth: int = 1, w_std: float = math.sqrt(2), b_std: float = 0.1) -> Kernel:
    """The NNGP kernel ``K_depth`` of the same network as `fc_ntk`; same arguments."""
    return _kernel(depth, w_std, b_std, tangent=False)


def _kernel(depth: int, w_std: float, b_std: float, tangent: bool) -> Kernel:
    at_least("depth", depth, 1)
    at_least("w_std", w_std, 0)
    at_least("b_std", b_std, 0)
    return partial(_evaluate, depth=depth, w2=w_std**2, b2=b_std**2, tangent=tangent)


def _evaluate(
    x1: Float[Array, "n1 *shape"], x2: Float[Array, "n2 *shape"], *, depth: int, w2: float, b2: float, tangent: bool
) -> Float[Array, "n1 n2"]:
    same = x1 is x2
    x1, x2 = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    dim = x1.shape[1]
    # "highest": TPUs and tensor cores would otherwise round the inputs of the product to 8 or 10 bits.
    dots = jnp.matmul(x1, x2.T, precision="highest")
    nngp = w2 / dim * dots + b2
    variance1 = w2 / dim * jnp.sum(x1 * x1, 1) + b2
    variance2 = w2 / dim * jnp.sum(x2 * x2, 1) + b2
    ntk = nngp
    tiny = jnp.finfo(nngp.dtype).tiny
    for _ in range(depth):
        norm1 = jnp.sqrt(jnp.maximum(variance1, tiny))[:, None]
        norm2 = jnp.sqrt(jnp.maximum(variance2, tiny))[None, :]
        cosine = nngp / norm1 / norm2
        if same:
            cosine = jnp.where(jnp.eye(len(x1), dtype=bool), 1, cosine)
        nngp = w2 / 2 * norm1 * norm2 * _kappa1(cosine) + b2
        ntk = nngp + w2 / 2 * ntk * _kappa0(cosine)
        variance1 = w2 / 2 * variance1 + b2
        variance2 = w2 / 2 * variance2 + b2
    return ntk if tangent else nngp
