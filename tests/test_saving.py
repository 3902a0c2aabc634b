"""Sets and states as files: what is written is what is read, and nothing else is taken for it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rdd_jax import load_set, load_state, objectives, save_set, save_state, trajectory
from rdd_jax.arrays import read_npz
from rdd_jax.datasets import preprocess
from rdd_jax.distill import compose, over_seeds
from rdd_jax.errors import InputError
from rdd_jax.kernels import linear
from rdd_jax.networks import mlp, recipe_files
from rdd_jax.networks.recipes import RECIPES, recipe_by_name
from rdd_jax.parameterise import pixels
from rdd_jax.sampling import uniform
from rdd_jax.saving import SavedSet
from rdd_jax.types import Examples, Synthetic, centred_one_hot

NAMES = ("cat", "Löwe", "owl")


def synthetic(m=3, seed=0, weight=None):
    images = np.random.default_rng(seed).standard_normal((m, 4, 3, 1))
    return Synthetic(jnp.asarray(images, jnp.float32), centred_one_hot(np.arange(m) % 3, 3), weight)


def saved_set(kind, weight=None):
    data = np.random.default_rng(1).random((60, 4, 3, 1)).astype(np.float32)
    return SavedSet(synthetic(6, weight=weight), preprocess.fit(kind, data), NAMES)


def same(one, other):
    """Whether two trees have the same form, types, and values to the bit."""
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        (a.dtype, a.shape, np.asarray(a).tobytes()) == (b.dtype, b.shape, np.asarray(b).tobytes())
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


# --- sets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, jnp.arange(1.0, 7)], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", preprocess.PREPROCESSINGS)
def test_a_set_is_read_as_it_was_written(kind, weight, tmp_path):
    given = saved_set(kind, weight)
    save_set(tmp_path / "in" / "a" / "folder.npz", given)
    found = load_set(str(tmp_path / "in" / "a" / "folder.npz"))
    assert same(found.synthetic._replace(classes=None), given.synthetic)
    np.testing.assert_array_equal(found.synthetic.classes, np.arange(6) % 3)
    assert found.class_names == NAMES
    assert found.preprocess.kind == kind
    x = np.random.default_rng(2).random((5, 4, 3, 1)).astype(np.float32)
    np.testing.assert_array_equal(found.preprocess.apply(x), given.preprocess.apply(x))
    np.testing.assert_array_equal(found.preprocess.invert(x), given.preprocess.invert(x))


def test_classes_are_kept_beside_labels_that_were_trained_past_them(tmp_path):
    given = saved_set("none")
    trained = given.synthetic._replace(labels=jnp.roll(given.synthetic.labels, 1, 1), classes=given.synthetic.of_class)
    save_set(tmp_path / "set.npz", dataclasses.replace(given, synthetic=trained))
    found = load_set(tmp_path / "set.npz").synthetic
    np.testing.assert_array_equal(found.of_class, np.arange(6) % 3)
    np.testing.assert_array_equal(found.labels, trained.labels)


def test_the_file_has_the_pixels_for_others(tmp_path):
    given = saved_set("standardise")
    save_set(tmp_path / "set.npz", given)
    arrays = read_npz(tmp_path / "set.npz")
    images = np.asarray(given.synthetic.images)
    np.testing.assert_allclose(arrays["images"], images / given.preprocess.scale + given.preprocess.mean, rtol=1e-6)
    np.testing.assert_array_equal(arrays["images_model"], images)
    assert arrays["images"].dtype == arrays["labels"].dtype == np.float32
    assert "weights" not in arrays


@pytest.mark.parametrize("name", [*RECIPES, None])
def test_a_set_carries_the_recipe_that_it_was_made_for(name, tmp_path):
    recipe = None if name is None else recipe_by_name(name, 6, 3)
    file = tmp_path / "set.npz"
    save_set(file, dataclasses.replace(saved_set("none"), recipe=recipe))
    assert load_set(file).recipe == recipe_files.carried(file) == recipe


@pytest.mark.parametrize(
    "text, message",
    [
        ("dc", "recipe is no JSON"),
        ("[1]", "recipe holds a list, expected names and values"),
        ('{"epoch": 3}', "recipe: unknown key 'epoch': did you mean epochs"),
        ('{"epochs": -3}', "recipe: epochs is -3"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_the_set(text, message, tmp_path):
    file = tmp_path / "set.npz"
    np.savez(file, **saved_set("none").to_arrays() | {"recipe": np.array(text)})
    for read in (load_set, recipe_files.carried):
        with pytest.raises(InputError, match=rf"set\.npz.*{message}"):
            read(file)


def test_a_set_is_replaced_whole(tmp_path):
    file = tmp_path / "set.npz"
    save_set(file, saved_set("zca", jnp.ones(6)))
    save_set(file, saved_set("none"))
    assert load_set(file).preprocess.kind == "none"
    assert load_set(file).synthetic.weight is None
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images_model": None}, "has no images_model: it was not written by this library"),
        ({"labels": None, "preprocess_scale": None}, "has no labels, preprocess_scale"),
        ({"class_names": None}, "has no class_names"),
        ({"images_model": np.full((6, 4, 3, 1), np.nan, np.float32)}, "holds NaN or infinite values"),
        ({"labels": np.full((6, 3), np.inf, np.float32)}, "holds NaN or infinite values"),
        ({"weights": np.ones(5)}, r"weights float64 of shape \(5,\) for 6 images"),
        ({"weights": np.zeros(6)}, "weights from 0.0 to 0.0: all must be positive"),
    ],
)
def test_what_is_no_set_is_refused(change, message, tmp_path):
    arrays = saved_set("standardise").to_arrays() | change
    np.savez(tmp_path / "set.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(InputError, match=rf"set\.npz.*{message}"):
        load_set(tmp_path / "set.npz")


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*set\.npz"):
        load_set(tmp_path / "set.npz")
    save_set(tmp_path / "set.npz", saved_set("none"))
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"set\.npz.*truncated"):
        load_set(tmp_path / "set.npz")


# --- states ------------------------------------------------------------------------------------------

KEY = jax.random.key(0)
EXAMPLES = Examples(synthetic(30).images, synthetic(30).labels, jnp.zeros(30, int), group_count=3)
KIP = compose(objectives.kip(linear), uniform(8))
SGD = optax.sgd(0.1)
NETWORK = mlp(3, width=4)
MATCHING = compose(
    objectives.distribution_matching(NETWORK),
    uniform(9),
    trajectory=trajectory.trained(NETWORK, trajectory.on_synthetic(NETWORK, SGD, 1), SGD, period=4),
)


def starts(distiller):
    return distiller.init(synthetic())


@pytest.mark.slow
@pytest.mark.parametrize("distiller", [KIP, MATCHING], ids=["kip", "matching"])
def test_a_run_goes_on_from_a_state_that_was_saved(distiller, tmp_path):
    whole, _ = distiller.run(KEY, starts(distiller), EXAMPLES, 5)
    half, _ = distiller.run(KEY, starts(distiller), EXAMPLES, 3)
    save_state(tmp_path / "state", half)
    found = load_state(str(tmp_path / "state"), like=starts(distiller))
    assert type(found) is type(half)
    assert same(found, half)
    assert same(distiller.run(KEY, found, EXAMPLES, 5)[0], whole)


def test_states_of_several_seeds_are_saved_together(tmp_path):
    both = over_seeds(KIP)
    state = both.init(jax.tree.map(lambda *leaves: jnp.stack(leaves), synthetic(seed=0), synthetic(seed=1)))
    save_state(tmp_path / "state", state)
    assert same(load_state(tmp_path / "state", state), state)


OTHERS = {
    "more images": lambda: KIP.init(synthetic(6)),
    "fewer images": lambda: KIP.init(synthetic(2)),
    "another optimiser": lambda: starts(compose(objectives.kip(linear), optimizer=optax.sgd(0.1, momentum=0.9))),
    "no moments": lambda: starts(compose(objectives.kip(linear), optimizer=optax.sgd(0.1))),
    "labels learned": lambda: starts(compose(objectives.kip(linear), parameterisation=pixels("learned"))),
    "a network": lambda: starts(MATCHING),
    "float16": lambda: jax.tree.map(lambda leaf: leaf.astype(jnp.float16), starts(KIP)),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with a state of `KIP`."""
    folder = tmp_path_factory.mktemp("states") / "state"
    save_state(folder, starts(KIP))
    return folder


@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_another_form_is_refused(other, kept):
    with pytest.raises(InputError, match=r"'.*state' holds no state of this form"):
        load_state(kept, OTHERS[other]())


def test_nothing_is_overwritten_and_nothing_made_up(kept, tmp_path):
    with pytest.raises(InputError, match=r"'.*state' exists"):
        save_state(kept, KIP.init(synthetic(seed=5)))
    assert same(load_state(kept, starts(KIP)), starts(KIP))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name, message in (("nowhere", "no state at"), ("file", "no state at"), ("empty", "holds no state")):
        with pytest.raises(InputError, match=message):
            load_state(tmp_path / name, starts(KIP))


@pytest.mark.parametrize("text", ["{}", "{", ""])
def test_a_broken_state_is_refused(text, tmp_path):
    save_state(tmp_path / "state", starts(KIP))
    (tmp_path / "state" / "_METADATA").write_text(text)
    with pytest.raises(InputError, match="holds no state"):
        load_state(tmp_path / "state", starts(KIP))
