"""Products of networks rounded to bfloat16: within the bound of rounding, in every derivative, and nowhere else."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import datasets
from rdd_jax.app.cli import main
from rdd_jax.app.methods import METHODS, configured
from rdd_jax.app.methods.networked import ByNetworks
from rdd_jax.app.run_folder import Run
from rdd_jax.errors import InputError
from rdd_jax.kernels import KERNELS, fc_ntk, kernel_by_name
from rdd_jax.kmeans import kmeans
from rdd_jax.networks import convnet, mlp, vit
from rdd_jax.networks.convolution import convolve
from rdd_jax.networks.precision import at_precision, is_rounded, product, rounded_product
from rdd_jax.networks.recipes import Recipe
from rdd_jax.types import Synthetic

EACH = 2.0**-8
"""The largest relative error of a number that is rounded to bfloat16."""
OF_TWO = (1 + EACH) ** 2 - 1
"""The same of a product of two."""


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), float)


def root_mean_square(found, expected):
    """The error, relative to the root of the mean square."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))


# --- the switch --------------------------------------------------------------------------------------


def test_the_switch_is_jaxs_own_and_is_looked_at_when_traced():
    a, b = normal(0, 5, 40), normal(1, 40, 3)
    multiply = jax.jit(product)
    exact = multiply(a, b)
    with jax.default_matmul_precision("bfloat16"):
        assert is_rounded()
        rounded = multiply(a, b)
    assert not is_rounded()
    np.testing.assert_array_equal(rounded, jax.jit(rounded_product)(a, b))
    assert np.abs(rounded - exact).max() > 1e-4
    np.testing.assert_array_equal(multiply(a, b), exact)


@pytest.mark.parametrize("around, rounded", [(None, False), ("bfloat16", False), ("highest", False)])
def test_float32_overrules_a_switch_to_bfloat16_alone(around, rounded):
    with jax.default_matmul_precision(around), at_precision("float32"):
        assert is_rounded() is rounded
        assert jax.config.jax_default_matmul_precision == (None if around == "bfloat16" else around)


def test_an_unknown_precision_names_the_nearest():
    with pytest.raises(InputError, match="unknown precision 'bfloat61': did you mean bfloat16"):
        at_precision("bfloat61")


# --- products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 300), (4, 7, 300)])
def test_products_are_within_the_bound_of_rounding(shape):
    a, b = normal(0, *shape), normal(1, 300, 20)
    found = np.asarray(jax.jit(rounded_product)(a, b), np.float64)
    assert found.shape == (*shape[:-1], 20)
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    # Of 300 terms the sums add 300 roundings of single precision at most.
    assert (np.abs(found - a @ b) <= (OF_TWO + 300 * 2.0**-24) * (np.abs(a) @ np.abs(b))).all()


def test_sums_are_of_single_precision():
    # In bfloat16, 256 + 1 is 256.
    a = jnp.ones((1, 1000))
    assert float(rounded_product(a, a.T)[0, 0]) == 1000
    assert rounded_product(a, a.T).dtype == jnp.float32
    with at_precision("bfloat16"):
        assert float(convolve(jnp.ones((1, 1, 1, 1000)), jnp.ones((1, 1, 1000, 1)), 1, 0).ravel()[0]) == 1000


def test_a_product_that_is_transposed_in_a_loop_is_computed():
    # XLA on a CPU would otherwise exchange the operands of one that it has no code for the other way round.
    x, b = normal(0, 4, 4, 4, 16), normal(1, 64, 40)

    @jax.jit
    def work(b):
        turn = lambda _, b: 0.1 * rounded_product(jnp.moveaxis(x + b[0, 0], 3, 0).reshape(16, -1), b).T  # noqa: E731
        return jax.lax.fori_loop(0, 2, lambda _, b: jnp.pad(turn(_, b).reshape(-1, 40), ((0, 48), (0, 0))), b)

    assert jnp.isfinite(work(b)).all()


# --- networks ----------------------------------------------------------------------------------------

NETWORKS = {"convnet": convnet(3, depth=2, width=16), "mlp": mlp(3, width=32), "vit": vit(3, 4, 16, 1, 2)}


def looked_at(network):
    """Features, the gradient of weights, and the gradient of images of a match of that, at one network."""
    images, others = normal(0, 6, 8, 8, 3), normal(1, 6, 8, 8, 3)
    variables = network.init(jax.random.key(0), images)

    def loss(variables, images):
        return jnp.mean(jax.nn.logsumexp(network.apply(variables, images), 1))

    def match(images):
        ours, theirs = (jax.grad(loss)(variables, x) for x in (images, others))
        return sum(jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True))

    @jax.jit
    def all_of():
        gradient = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.grad(loss)(variables, images))])
        return network.features(variables, images), gradient, jax.grad(match)(images)

    return all_of()


# Root mean squares: a few products one after another, each with an error of about EACH, and ReLUs that open or close;
# the second order is of a difference. Measured are up to 0.8, 7.1 and 15.3 times EACH by Winograd's rounded points on a
# CPU, and 0.8, 1.3 and 7 times by rounded operands.
BOUNDS = {"features": 2 * EACH, "gradient": 10 * EACH, "second": 25 * EACH}


@functools.cache
def exactly(name):
    """At single precision, in which devices differ by rounding alone."""
    return looked_at(NETWORKS[name])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "device"), [(name, "cpu") for name in NETWORKS] + [("convnet", "gpu")], indirect=["device"]
)
def test_features_and_gradients_of_both_orders_are_near_those_of_single_precision(name, device):
    with at_precision("bfloat16"):
        found = looked_at(NETWORKS[name])
    for one, other, bound in zip(found, exactly(name), BOUNDS.values(), strict=True):
        assert one.dtype == jnp.float32
        assert EACH / 10 < root_mean_square(one, other) < bound


def test_at_single_precision_nothing_is_rounded(device):
    with at_precision("float32"):
        found = looked_at(NETWORKS["mlp"])
    for one, other in zip(found, looked_at(NETWORKS["mlp"]), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_and_their_gradients_are_as_they_were(name):
    small = convnet(1, depth=1, width=4, norm="none")
    kernel = kernel_by_name(name, depth=1, network=small, count=1, seed=0, budget=2**28)
    x, y = normal(0, 3, 4, 4, 1), normal(1, 2, 4, 4, 1)

    def values():
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(kernel(x, y)))))(x)

    exact = values()
    with at_precision("bfloat16"):
        found = values()
    for one, other in zip(found, exact, strict=True):
        np.testing.assert_array_equal(one, other)


def test_k_means_is_as_it_was():
    points = normal(0, 40, 5)
    exact = kmeans(jax.random.key(0), points, 3)
    with at_precision("bfloat16"):
        found = kmeans(jax.random.key(0), points, 3)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_array_equal(one, other)


# --- runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (90, 8, 8, 1), dtype=np.uint8), np.arange(90) % 2
    np.savez(folder / "own.npz", images=images, labels=labels)
    return folder / "own.npz"


def distil(own, out, *more, steps):
    words = f"distill dm --data {own} --ipc 1 --steps {steps} --batch 8 --network mlp --net-width 16 --seeds 1"
    words += f" --siamese none --recipe dc,network=mlp,width=16,epochs=2 --no-baselines --out {out}"
    return main([*words.split(), *more])


@pytest.mark.slow
def test_one_step_differs_but_by_little(own):
    prepared = datasets.prepare(datasets.load(str(own)), "standardise")
    labels = prepared.splits.train.labels
    examples = prepared.examples().replace(groups=jnp.asarray(labels), group_count=2)
    start = Synthetic(jnp.asarray(prepared.train[:4]), examples.labels[:4], classes=jnp.asarray(labels[:4]))

    def moved(name):
        given = configured("dc", ipc=2, batch=8, net_width=8, net_depth=1, precision=name)
        config = given.resolved(prepared.splits.train)
        distiller = config.distiller(fc_ntk(), prepared.splits.train)
        with at_precision(config.precision):
            state, _ = distiller.step(jax.random.key(0), distiller.init(start), examples)
        return np.asarray(distiller.decode(state).images - start.images)

    assert 0 < root_mean_square(moved("bfloat16"), moved("float32")) < BOUNDS["second"]


@pytest.mark.thorough
def test_a_run_is_resumed_and_evaluated_at_its_precision(own, tmp_path, stop_at, capsys, monkeypatch):
    from rdd_jax.app import distilling, evaluating
    from rdd_jax.app.commands import Evaluate
    from rdd_jax.app.options import updated

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    given = ["--precision", "bfloat16", "--checkpoint-every", "5"]
    assert distil(own, whole, *given, steps=10) == 0
    assert json.loads((whole / "config.json").read_text())["network"]["precision"] == "bfloat16"
    with pytest.raises(KeyboardInterrupt):
        distilling.distill(Run(whole).config(), cut, progress=stop_at(5))
    assert main(["distill", "--resume", str(cut), "--precision", "float32"]) == 2
    assert "--precision float32 (it has bfloat16)" in capsys.readouterr().err
    assert main(["distill", "--resume", str(cut)]) == 0
    assert (cut / "synthetic.npz").read_bytes() == (whole / "synthetic.npz").read_bytes()
    monkeypatch.setattr(evaluating, "column", lambda train: Recipe(depth=1, width=2, epochs=1))  # and not 1,000
    again = evaluating.of_run(str(whole))
    assert again.networks.precision == "bfloat16"
    seen, evaluate_sets = [], evaluating.evaluate_sets
    monkeypatch.setattr(evaluating, "evaluate_sets", lambda *x: seen.append(is_rounded()) or evaluate_sets(*x))
    values = evaluating.evaluate(again)
    assert values["precision"] == "bfloat16"
    assert values["evaluations"][0] == json.loads((whole / "report.json").read_text())["evaluations"][0]
    assert seen == [True]
    assert updated(again, {"precision": "float32"}).networks.precision == "float32"
    assert Evaluate("").networks.precision == "float32"


@pytest.mark.slow
def test_networks_of_real_data_are_trained_at_it(own, tmp_path):
    words = f"train --data {own} --recipe dc,width=16,depth=2,epochs=1 --out {tmp_path}/"
    assert main([*(words + "exact").split()]) == 0
    assert main([*(words + "rounded").split(), "--precision", "bfloat16"]) == 0
    exact, rounded = (
        [np.concatenate([np.ravel(x) for x in np.load(file).values() if x.dtype == np.float32])
         for file in sorted((tmp_path / name).glob("*.npz")) if file.name != "state.npz"]
        for name in ("exact", "rounded")
    )  # fmt: skip
    # Where they start they are the same.
    np.testing.assert_array_equal(exact[0], rounded[0])
    assert 0 < root_mean_square(rounded[1], exact[1]) < 20 * EACH


def test_methods_by_networks_have_it_and_others_refuse_it(tmp_path, capsys):
    for name in METHODS:
        config = configured(name)
        assert config.precision == "float32"
        if isinstance(config, ByNetworks):
            assert configured(name, precision="bfloat16").precision == "bfloat16"
            continue
        assert main(["distill", name, "--precision", "bfloat16", "--out", str(tmp_path / "run")]) == 2
        assert "--precision is no option of `rdd distill" in (said := capsys.readouterr().err)
        assert "it is one of dc, dsa, dm, rdd, mtt, frepo, rfad, rcig" in said
    assert main(["distill", "dm", "--precision", "bfloat61", "--out", str(tmp_path / "run")]) == 2
    assert "did you mean bfloat16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
