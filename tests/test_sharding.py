"""Data spread over devices by JAX's own sharding gives the step of a single device."""

import os
import subprocess
import sys

CODE = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec
from rdd_jax.distill import make_distiller
from rdd_jax.kernels import fc_ntk
from rdd_jax.objectives import kip
from rdd_jax.sampling import uniform
from rdd_jax.types import Examples, Synthetic, centred_one_hot

assert jax.device_count() == 2
images = jax.random.normal(jax.random.key(0), (64, 6, 6, 1))
data = Examples(images, centred_one_hot(jnp.arange(64) % 4, 4), jnp.zeros(64, jnp.int32))
start = Synthetic(images[:4], data.labels[:4])
distiller = make_distiller(kip(fc_ntk()), sampler=uniform(32), optimizer=optax.sgd(1.0))
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(data, NamedSharding(mesh, PartitionSpec("data")))
assert len(spread.images.sharding.device_set) == 2
key = jax.random.key(1)
alone, _ = distiller.run(key, distiller.init(start), data, steps=5)
replicated = jax.device_put(distiller.init(start), NamedSharding(mesh, PartitionSpec()))
together, _ = distiller.run(key, replicated, spread, steps=5)
difference = np.abs(np.asarray(alone.params["images"]) - np.asarray(together.params["images"])).max()
moved = np.abs(np.asarray(alone.params["images"]) - np.asarray(start.images)).max()
assert moved > 100 * difference, (moved, difference)
print("same", moved, difference)
"""


def test_sharded_data_gives_the_same_steps():
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("same")
