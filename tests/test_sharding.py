"""A mesh of eight simulated devices gives the results of one, and every device holds its part of the real images."""

import os
import subprocess
import sys

import pytest

from rdd_jax.devices import check_mesh_name, mesh_by_name
from rdd_jax.errors import InputError

CODE = r"""
import re, sys
import jax, jax.numpy as jnp, numpy as np, optax
from rdd_jax import networks, risk, trajectory
from rdd_jax.datasets.preprocess import fit
from rdd_jax.devices import mesh_by_name, placed, within
from rdd_jax.distill import compose
from rdd_jax.errors import InputError
from rdd_jax.evaluation import network_learner
from rdd_jax.kernels import fc_ntk, krr
from rdd_jax.kernels.blocks import in_blocks
from rdd_jax.kmeans import kmeans
from rdd_jax.networks.recipes import Recipe
from rdd_jax.objectives import distribution_matching, feature_regression, gradient_matching, kip, trajectory_matching
from rdd_jax.objectives.regression import on_features
from rdd_jax.pixels import Mapped, on_device
from rdd_jax.sampling import stratified, uniform
from rdd_jax.snapshots import between_snapshots
from rdd_jax.types import Examples, Synthetic, centred_one_hot

rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (1003, 8, 8, 1), np.uint8)  # which eight do not divide
labels = np.arange(1003) % 4
space = fit("standardise", pixels)
real = Mapped(pixels, space)
targets = centred_one_hot(labels, 4)
start = Synthetic(jnp.asarray(real[:8]), targets[:8])
sgd, network = optax.sgd(1.0), networks.mlp(4, width=8)
robust = risk.grouped(risk.cvar(0.8), risk.plus(risk.mean, risk.worst))
rdd = trajectory.trained(network, trajectory.on_real(network, sgd, uniform(16), 2, robust), sgd, period=2, warm=True)
dc = trajectory.trained(network, trajectory.on_synthetic(network, optax.sgd(0.01), 1), optax.sgd(0.01), period=3)
fresh = trajectory.fresh(network)
keys = jax.random.split(jax.random.key(2), 3)
kept = [jax.tree.map(lambda leaf: leaf[None], network.init(key, start.images[:1])) for key in keys]
traced = between_snapshots(kept, stretches=4)
matched = dict(sampler=stratified(64), optimizer=sgd)
distillers = {
    "kip": compose(kip(fc_ntk()), uniform(64), optimizer=sgd),
    "dm": compose(distribution_matching(network), trajectory=fresh, **matched),
    "dc": compose(gradient_matching(network), trajectory=dc, **matched),
    "rdd": compose(gradient_matching(network), trajectory=rdd, **matched),
    "mtt": compose(trajectory_matching(network, 3, 0.1, 4, asked=2), uniform(64), optimizer=sgd, trajectory=traced),
    "regression": compose(feature_regression(on_features(network, 1e-2)), uniform(64), optimizer=sgd, trajectory=fresh),
}

def results(names):
    images, map_ = on_device(real)
    data = Examples(images, targets, jnp.asarray(labels, jnp.int32), space=map_, group_count=4)
    found, learner = {}, network_learner(network, Recipe(network="mlp", epochs=3))
    found["networks"] = np.stack([predict(real) for predict in learner(start, [0, 1, 2, 3])])
    for name in names:
        distiller = distillers[name]
        state, _ = distiller.run(jax.random.key(1), distiller.init(start), data, until=3)
        found[name] = np.asarray(state.params["images"]) - np.asarray(start.images)
    if len(names) < len(distillers):
        return found, images
    one = data.replace(images=jnp.asarray(pixels[:1]), held=jnp.zeros(1, jnp.int32))
    state, _ = distillers["kip"].run(jax.random.key(1), distillers["kip"].init(start), one, until=3, images=real)
    found["handed"] = np.asarray(state.params["images"]) - np.asarray(start.images)
    clusters = kmeans(jax.random.key(0), np.asarray(real).reshape(1003, -1), 5)
    found["kmeans"] = np.asarray(clusters.centres)
    found["krr"] = krr.fit(fc_ntk(), start, 1e-3)(real)
    return found, images

twice = jax.jit(lambda x: in_blocks(lambda one: 2 * one.reshape(len(one), -1), x))
taken = lambda: int(re.search(r"length=(\d+)", str(jax.make_jaxpr(twice)(real[:601])))[1])
assert taken() == 3
for name, rounds in (("data=2", 2), ("data=3", 1)):  # 256 on each device at once
    with within(mesh_by_name(name)):
        assert taken() == rounds
        np.testing.assert_array_equal(twice(real[:601]), 2 * real[:601].reshape(601, -1))
assert mesh_by_name("auto", 20).shape == {"data": 5, "net": 1}
assert mesh_by_name("auto").shape == {"data": 8, "net": 1}
assert mesh_by_name("auto", 20, 1).shape == {"data": 5, "net": 1}
assert mesh_by_name("auto", 4, 3).shape == {"data": 4, "net": 1}
assert mesh_by_name("auto", 1, 6).shape == {"data": 1, "net": 6}
assert mesh_by_name("net=2", 1, 6).shape == {"data": 1, "net": 2}

def refused(*asked):
    try:
        mesh_by_name(*asked)
    except InputError as error:
        return str(error)

assert "data=4, which does not divide the batch of 6" in refused("data=4", 6)
assert "net=4, which does not divide the networks of a step, 6" in refused("net=4", 1, 6)
# Several hosts use all of their devices, or are told why not.
processes, jax.process_count = jax.process_count, lambda: 2
assert mesh_by_name("auto", 64).shape == {"data": 8, "net": 1}
assert mesh_by_name("auto", 1, 16).shape == {"data": 1, "net": 8}
assert "net=8, which does not divide the networks of a step, 6" in refused("auto", 1, 6)
jax.process_count = processes
alone, whole = results(distillers)
# Along `net` lie the networks of an evaluation and the stretches of a step; other steps are those of another `data`.
for name, stepped in (("data=8", distillers), ("data=4,net=2", ["mtt"])):
    with within(mesh_by_name(name, 64)):
        together, images = results(stepped)
    along = int(name[5])
    parts = images.addressable_shards
    assert len(parts) == 8 and parts[0].data.nbytes == -(-1003 // along) * 64, parts[0].data.nbytes
    assert len(together) == (len(stepped) + 4 if stepped is distillers else 2)
    for key, found in together.items():
        one = alone[key]
        difference, size = np.abs(one - found).max(), np.abs(one).max()
        assert size > 300 * difference, (name, key, size, difference)
print(*alone)
"""


@pytest.mark.slow
def test_a_mesh_gives_what_one_device_does(quick_flags):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["networks", "kip", "dm", "dc", "rdd", "mtt", "regression", "handed", "kmeans", "krr"]


@pytest.mark.parametrize(
    "name", ["", "data", "data=0", "data=-1", "data=2,data=2", "model=2", "data=2;net=2", "data=1.5", "8"]
)
def test_names_that_are_no_meshes(name):
    with pytest.raises(InputError, match="give auto, or data=N"):
        check_mesh_name(name)


def test_a_mesh_that_does_not_fit():
    assert check_mesh_name("net=2, data=4") == {"net": 2, "data": 4}
    assert mesh_by_name("auto", 7).size == 1
    with pytest.raises(InputError, match="mesh is 'data=64', 64 devices, but there"):
        mesh_by_name("data=64", 64)
