"""Data spread over devices by JAX's own sharding gives the steps of a single device."""

import os
import subprocess
import sys

import pytest

CODE = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import NamedSharding, PartitionSpec
from rdd_jax import networks, risk, trajectory
from rdd_jax.distill import compose
from rdd_jax.kernels import fc_ntk
from rdd_jax.objectives import distribution_matching, gradient_matching, kip
from rdd_jax.sampling import stratified, uniform
from rdd_jax.types import Examples, Synthetic, centred_one_hot

assert jax.device_count() == 2
images = jax.random.normal(jax.random.key(0), (64, 6, 6, 1))
classes = jnp.arange(64, dtype=jnp.int32) % 4
data = Examples(images, centred_one_hot(classes, 4), classes, group_count=4)
start = Synthetic(images[:4], data.labels[:4])
sgd, network = optax.sgd(1.0), networks.mlp(4, width=8)
robust = risk.grouped(risk.cvar(0.8), risk.plus(risk.mean, risk.worst))
rdd = trajectory.trained(network, trajectory.on_real(network, sgd, uniform(16), 2, robust), sgd, period=2, warm=True)
distillers = {
    "kip": compose(kip(fc_ntk()), uniform(32), optimizer=sgd),
    "dm": compose(
        distribution_matching(network), stratified(32), optimizer=sgd, trajectory=trajectory.fresh(network)
    ),
    "rdd": compose(gradient_matching(network), stratified(32), optimizer=sgd, trajectory=rdd),
}
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(data, NamedSharding(mesh, PartitionSpec("data")))
assert len(spread.images.sharding.device_set) == 2
key = jax.random.key(1)
for name, distiller in distillers.items():
    alone, _ = distiller.run(key, distiller.init(start), data, until=5)
    replicated = jax.device_put(distiller.init(start), NamedSharding(mesh, PartitionSpec()))
    together, _ = distiller.run(key, replicated, spread, until=5)
    difference = np.abs(np.asarray(alone.params["images"]) - np.asarray(together.params["images"])).max()
    moved = np.abs(np.asarray(alone.params["images"]) - np.asarray(start.images)).max()
    assert moved > 100 * difference, (name, moved, difference)
    print(name, moved, difference)
"""


@pytest.mark.slow
def test_sharded_data_gives_the_same_steps(quick_flags):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["kip", "dm", "rdd"]
