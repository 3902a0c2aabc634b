"""Kernels of networks by name: against explicit Jacobians, whole stax kernels and each other, in blocks and budgets."""

import importlib.util
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rdd_jax.app import distilling, evaluating, selecting
from rdd_jax.app.cli import main
from rdd_jax.app.distilling import distill
from rdd_jax.app.methods import configured
from rdd_jax.errors import InputError
from rdd_jax.kernels import KERNELS, gram, kernel_by_name, linear, streamed
from rdd_jax.kernels.stax import load, stax_kernel
from rdd_jax.networks import convnet, mlp

FINITE = ("network-features", "network-ntk", "network-ntk-sum")
CONVOLUTIONAL = ("conv-ntk", "conv-nngp")
SMALL = convnet(3, depth=1, width=4, norm="none")
SIDE = 4


def images(seed, n, channels=1):
    """Images that are alike, as images are: the kernel of two is no small difference of large numbers."""
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(99).standard_normal((1, SIDE, SIDE, channels))
    return jnp.asarray(0.7 * common + 0.7 * rng.standard_normal((n, SIDE, SIDE, channels)), float)


def made(name, network=SMALL, depth=1, **options):
    return kernel_by_name(name, depth=depth, network=network, **options)


# --- all kernels -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_symmetric_and_positive_semidefinite_with_finite_gradients(name, x64):
    x, kernel = images(0, 6), made(name)
    # The gradient of the whole, where points coincide with themselves.
    matrix, pullback = jax.vjp(jax.jit(lambda x: kernel(x, x)), x)
    assert matrix.dtype == x.dtype
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * np.trace(matrix)
    assert np.isfinite(pullback(jnp.ones_like(matrix))[0]).all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_the_derivatives_that_finite_differences_have(name, x64):
    kernel = jax.jit(made(name))
    of = lambda a, b: kernel(jnp.asarray(a), jnp.asarray(b))  # noqa: E731
    check_grads(of, (images(1, 2), images(2, 3)), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", KERNELS)
def test_the_same_arguments_give_the_same_object(name):
    # What is compiled for a kernel is compiled once.
    assert made(name) is made(name, convnet(3, depth=1, width=4, norm="none"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fc-ntk", "conv-nngp", "network-ntk-sum"])
def test_the_compiled_uses_of_every_kernel_agree(name):
    x = images(3, 3).astype("float32")
    compiled = gram.compile_kernel(made(name))
    np.testing.assert_allclose(compiled.diagonal(x), jnp.diag(compiled.own(x)), rtol=1e-4)
    np.testing.assert_allclose(compiled.cross(x, x[:2]), compiled.own(x)[:, :2], rtol=1e-3)


# --- of finite networks ------------------------------------------------------------------------------


def weights(network, count, seed, x):
    """Of every network, in the dtype of the images."""
    for key in jax.random.split(jax.random.key(seed), count):
        yield jax.tree.map(lambda leaf: leaf.astype(x.dtype), network.init(key, x[:1]))


def explicit(name, network, count, seed, x1, x2):
    """One network after another, with whole Jacobians."""
    total = 0
    for variables in weights(network, count, seed, x1):
        if name == "network-features":
            left, right = (network.features(variables, x) for x in (x1, x2))
            total += left @ right.T / left.shape[1]
            continue
        jacobians = []
        for x in (x1, x2):
            found = jax.jacrev(lambda variables, x=x: network.apply(variables, x))(variables)
            whole = [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(found)]
            jacobians.append(jnp.concatenate(whole, 2))
        left, right = jacobians
        outputs = left.shape[1]
        if name == "network-ntk-sum":
            left, right = (jacobian.sum(1, keepdims=True) for jacobian in jacobians)
        total += jnp.einsum("iop,jop->ij", left, right) / outputs
    return total / count


def held(name, network):
    """Bytes that an image takes."""
    variables = jax.eval_shape(network.init, jax.random.key(0), images(0, 1))
    found = jax.eval_shape(network.features, variables, images(0, 1)).shape[1]
    size = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return 8 * {"network-features": found, "network-ntk": 3 * size, "network-ntk-sum": size}[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, network, few",
    [("network-features", SMALL, 4), ("network-ntk", mlp(3, width=3), 2), ("network-ntk-sum", SMALL, 4)],
    ids=FINITE,
)
def test_kernels_and_gradients_are_those_of_explicit_jacobians_in_any_blocks(name, network, few, x64):
    x1, x2 = images(4, 5), images(5, 8)
    cotangent = jnp.asarray(np.random.default_rng(6).standard_normal((5, 8)))
    expected, back = jax.vjp(jax.jit(lambda a, b: explicit(name, network, 2, 7, a, b)), x1, x2)
    # The weights, of single precision, have to fit too; rounding of them is all that may differ.
    for budget in (max(few * held(name, network), held("network-ntk-sum", network)), 2**28):
        kernel = made(name, network, count=2, seed=7, budget=budget)
        found, ours = jax.vjp(jax.jit(kernel), x1, x2)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        for gradient, whole in zip(ours(cotangent), back(cotangent), strict=True):
            np.testing.assert_allclose(gradient, whole, atol=1e-6 * np.abs(whole).max())


def test_no_more_images_are_embedded_at_a_time_than_fit():
    seen = []

    def embed(x):
        seen.append(len(x))
        return x.reshape(len(x), -1)

    x1, x2 = images(8, 40).astype("float32"), images(9, 50).astype("float32")
    kernel = streamed(embed, 24 * 4 * SIDE**2)
    found = kernel(x1, x2)
    assert max(seen) <= 3
    np.testing.assert_allclose(found, linear(x1, x2), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(kernel(x2, x1), found.T)


@pytest.mark.parametrize("way, name", [("value", "network-features"), ("gradient", "network-ntk")])
def test_the_memory_does_not_grow_with_the_images(way, name):
    budget = 2**20
    kernel = made(name, convnet(3, depth=1, width=32, norm="none"), budget=budget)
    run = kernel if way == "value" else jax.grad(lambda x1, x2: kernel(x1, x2).sum())
    few, many = (
        jax.jit(run).lower(*[jax.ShapeDtypeStruct((n, 16, 16, 1), "float32")] * 2).compile().memory_analysis()
        for n in (500, 1000)
    )
    matrices = 4 * 4 * 1000**2
    assert many.temp_size_in_bytes < few.temp_size_in_bytes + matrices
    assert many.temp_size_in_bytes < 8 * budget + matrices


def test_the_weights_follow_from_the_seed_alone():
    x = images(10, 3).astype("float32")
    first, again, other = (jax.jit(made("network-features", seed=seed))(x, x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, rtol=1e-2)
    # Neither from the images nor from how many there are.
    np.testing.assert_allclose(made("network-features")(x[1:], x[:2]), first[1:, :2], rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("name", FINITE)
def test_wide_networks_come_close_to_infinite_ones(name):
    width, outputs, channels = 256, 3, 2
    stax, x = load(), images(11, 4, channels).astype("float32")

    def stds(fan_in):
        """Those of the networks' weights and biases, of which the standard parameterisation knows the width."""
        return {"W_std": 3**-0.5, "b_std": (3 * fan_in) ** -0.5, "parameterization": "standard"}

    under = width * SIDE**2 // 4
    block = stax.Conv(width, (3, 3), padding="SAME", **stds(9 * channels)), stax.Relu(), stax.AvgPool((2, 2), (2, 2))
    infinite = stax.serial(*block, stax.Flatten(), stax.Dense(outputs, **stds(under)))[2]
    found = jax.jit(made(name, convnet(outputs, depth=1, width=width, norm="none"), count=4))(x, x)
    if name == "network-features":
        # Below the last layer's weights, and without its bias.
        exact = 3 * stax_kernel(infinite, "nngp")(x, x) - 1 / under
    else:
        exact = stax_kernel(infinite, "ntk")(x, x)
    # Four draws fluctuate by a few / sqrt(4 width), those of sums by the products of different outputs too.
    np.testing.assert_allclose(found, exact, rtol=0.1 if name == "network-ntk-sum" else 0.05)


# --- of infinitely wide convolutions -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_kernels_in_tiles_are_the_whole_ones(name, x64):
    # 3 x 3 pixels, which pooling leaves no rest of when they are padded to 4 x 4.
    x1, x2 = images(12, 3)[:, :3, :3], images(13, 5)[:, :3, :3]
    stax, stds = load(), {"W_std": 2**0.5, "b_std": 0.1}
    block = stax.Conv(1, (3, 3), padding="SAME", **stds), stax.Relu(), stax.AvgPool((2, 2), (2, 2))
    whole = stax.serial(*block, stax.Flatten(), stax.Dense(1, **stds))[2]
    padded = lambda x: jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))  # noqa: E731
    reference = lambda a, b: whole(padded(a), padded(b), name.removeprefix("conv-"))  # noqa: E731
    expected, back = jax.vjp(jax.jit(reference), x1, x2)
    for pairs in (3, 8):  # one pair, and two by two
        budget = pairs * gram.TEMPORARIES * 8 * SIDE**4
        found, ours = jax.vjp(jax.jit(made(name, budget=budget)), x1, x2)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        for gradient, theirs in zip(ours(jnp.ones_like(found)), back(jnp.ones_like(found)), strict=True):
            np.testing.assert_allclose(gradient, theirs, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("way", ["value", "gradient"])
def test_a_tile_of_pairs_stays_within_its_budget(way, name):
    budget = 2**25
    kernel = made(name, budget=budget)
    run = kernel if way == "value" else jax.grad(lambda x1, x2: kernel(x1, x2).sum())
    shapes = [jax.ShapeDtypeStruct((20, 16, 16, 1), "float32")] * 2
    assert jax.jit(run).lower(*shapes).compile().memory_analysis().temp_size_in_bytes < budget


# --- refusing ----------------------------------------------------------------------------------------


def refused(kernel, message, side=SIDE):
    one = jax.ShapeDtypeStruct((1, side, side, 1), "float32")
    with pytest.raises(InputError, match=message):
        jax.eval_shape(kernel, one, one)


@pytest.mark.parametrize("name", [*FINITE, *CONVOLUTIONAL])
def test_images_that_are_too_small_are_refused(name):
    refused(made(name, convnet(3, depth=3, width=4, norm="none"), depth=3), "4 x 4 are too small for .* needs 8 x 8")


@pytest.mark.parametrize(
    "name, budget, message",
    [
        (
            "network-features",
            5,
            "weights of the kernel's network take 12.6 MiB, but it may hold 5: raise kernel_memory, or",
        ),
        ("network-ntk", 13, "two images take 75.8 MiB in this kernel, which may hold 13: raise kernel_memory, or take"),
        (
            "network-ntk-sum",
            13,
            "two images take 25.3 MiB in this kernel, which may hold 13: raise kernel_memory, or take",
        ),
        ("conv-ntk", 5, "a pair of images of 16 x 16 takes 6.0 MiB in this kernel, .*: raise kernel_memory"),
        ("conv-nngp", 5, "a pair of images of 16 x 16 takes 6.0 MiB in this kernel, which may hold 5: raise"),
    ],
)
def test_a_budget_that_is_too_small_is_named(name, budget, message):
    refused(made(name, convnet(3, depth=1, width=2**14, norm="none"), budget=budget * 2**20), message, 16)


@pytest.mark.parametrize("name", FINITE)
def test_networks_that_couple_images_and_counts_of_none_are_refused(name):
    with pytest.raises(InputError, match="norm 'batch' couples the images of a batch"):
        made(name, convnet(3, norm="batch"))
    with pytest.raises(InputError, match="count is 0"):
        made(name, count=0)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_kernels_say_how_to_install_what_they_need(name, monkeypatch):
    KERNELS[name].cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    find = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "neural_tangents", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "frozendict" else find(name))
    with pytest.raises(InputError, match=r"pip install --no-deps neural-tangents==0\.6\.5"):
        made(name)
    with pytest.raises(InputError, match="depth is 0"):
        made(name, depth=0)


# --- on the command line -----------------------------------------------------------------------------

SIZE = {"depth": 1, "kernel_width": 4, "kernel_seed": 3}
QUICK = {**SIZE, "ipc": 1, "steps": 2, "batch": 20, "seeds": 1, "baselines": False, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of small images, of which one is brighter."""
    file, rng = tmp_path_factory.mktemp("data") / "own.npz", np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.integers(0, 150, (60, 4, 4, 1)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(file, images=images, labels=labels)
    return str(file)


def words(options):
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["network-features"])
def test_a_run_learns_by_a_kernel_of_networks_and_is_evaluated_by_it_again(name, data, tmp_path):
    done = distill(configured("kip", data=data, kernel=name, **QUICK), tmp_path / "run")
    assert main(["evaluate", str(done.run.folder), "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["evaluations"] == done.report["evaluations"]
    assert main(["export", str(done.run.folder), "--out", str(tmp_path / "set")]) == 0


@pytest.mark.thorough
def test_labels_are_solved_and_subsets_selected_by_kernels_of_networks(data, tmp_path):
    options = {"data": data, "kernel": "network-ntk", "ipc": 2, **SIZE}
    run = ["--no-baselines", "--seeds", "1", "--out", str(tmp_path / "run")]
    assert main(["distill", "label-solve", *words(options), *run]) == 0
    for method in ("krr-sensitivity", "rp-cholesky"):
        assert main(["select", *words(options), "--method", method, "--out", str(tmp_path / f"{method}.npz")]) == 0
        assert json.loads((tmp_path / f"{method}.json").read_text())["config"]["kernel"]["kernel"] == "network-ntk"


@pytest.mark.parametrize("command", [["distill", "kip"], ["distill", "label-solve"], ["select"], ["evaluate"]])
@pytest.mark.parametrize(
    "options, message",
    [
        (["--kernel", "network-features", "--depth", "3"], "images of 4 x 4 are too small"),
        (
            ["--kernel", "conv-ntk", "--depth", "3"],
            "images of 4 x 4 are too small for a convolutional kernel of depth 3",
        ),
        (["--kernel", "network-ntk", "--kernel-network", "alexnet"], "images of 4 x 4 are too small"),
        (["--kernel", "network-ntk", "--kernel-width", "60000", "--kernel-memory", "4"], "raise kernel_memory"),
        (["--kernel", "network-features", "--depth", "2", "--kernel-width", "2000000000"], "lower kernel_width"),
        (["--kernel", "network-nkt"], "did you mean network-ntk"),
        (["--kernel-network", "convent"], "did you mean convnet"),
        (["--kernel-memory", "0"], "kernel_memory is 0"),
    ],
)
def test_kernels_that_cannot_be_are_refused_before_anything_is_computed(
    command, options, message, data, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for job in (distilling, selecting):
        monkeypatch.setattr(job, "prepare", None)
    monkeypatch.setattr(evaluating, "evaluate_sets", None)
    source = [data, "--learners", "krr"] if command == ["evaluate"] else ["--ipc", "1"]
    assert main([*command, *source, "--data", data, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
