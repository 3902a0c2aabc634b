"""Networks trained on real data: the training by hand, its folder come what may, and runs that look from it."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from rdd_jax import risk
from rdd_jax.app import training
from rdd_jax.app.cli import main
from rdd_jax.app.commands import Train
from rdd_jax.app.options import updated
from rdd_jax.app.snapshot_folder import SnapshotFolder
from rdd_jax.datasets import load, prepare
from rdd_jax.distill import Diverged
from rdd_jax.errors import InputError
from rdd_jax.networks import mlp
from rdd_jax.networks.recipes import Recipe, network_by_recipe
from rdd_jax.networks.training import cross_entropy, logits
from rdd_jax.objectives import distribution_matching, taught
from rdd_jax.progress import Progress
from rdd_jax.risk import segments
from rdd_jax.sampling import by_group, uniform
from rdd_jax.snapshots import check_real_recipe, real_training
from rdd_jax.types import Batch, Examples, Losses, Synthetic, centred_one_hot

KEY = jax.random.key(0)
RECIPE = Recipe("mlp", width=4, epochs=3, batch=8, learning_rate=0.1, schedule="constant", average=0.5)


def examples(n=20, groups=2):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.standard_normal((n, 4, 4, 1)) + labels[:, None, None, None]
    return Examples(
        jnp.asarray(images, jnp.float32), centred_one_hot(labels, 2), jnp.arange(n) % groups, group_count=groups
    )


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# --- the training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("robust", [False, True])
def test_steps_on_real_data_are_those_of_momentum_on_drawn_batches(robust):
    data, of = examples(), risk.grouped(risk.cvar(0.5), risk.plus(risk.mean, risk.worst))
    real = real_training(RECIPE, 20, 2, of if robust else None)
    assert (real.steps, real.epochs) == (3, 3)
    start = real.init(KEY, data)
    found = real.advance(KEY, start, data, jnp.asarray(0), jnp.asarray(4))
    network, sampler = network_by_recipe(RECIPE, 2), (by_group if robust else uniform)(8)
    variables, average = start.variables, start.variables
    speed = jax.tree.map(jnp.zeros_like, variables)
    for step in range(4):
        sample_key, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, step), 0))
        index, weight = sampler(sample_key, data)

        def loss(v, index=index, weight=weight):
            value = cross_entropy(network.apply(v, data.images[index]), data.labels[index] + 0.5)
            plain = jnp.mean(weight * value)
            return plain + of(Losses(value, data.groups[index], weight, group_count=2)) if robust else plain

        decayed = jax.tree.map(lambda g, v: g + 5e-4 * v, jax.grad(loss)(variables), variables)
        speed = jax.tree.map(lambda s, g: 0.9 * s + g, speed, decayed)
        variables = jax.tree.map(lambda v, s: v - 0.1 * s, variables, speed)
        average = jax.tree.map(lambda a, v: 0.5 * a + 0.5 * v, average, variables)
    np.testing.assert_allclose(leaves(found.variables), leaves(variables), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(leaves(real.kept(found)), leaves(average), rtol=1e-4, atol=1e-5)


def test_a_training_by_squared_error_is_of_the_centred_labels():
    data, recipe = examples(), Recipe("mlp", width=4, loss="squared", epochs=1, batch=20, momentum=0, weight_decay=0)
    real, network = real_training(recipe, 20, 2), network_by_recipe(recipe, 2)
    start = real.init(KEY, data)
    found = real.advance(KEY, start, data, jnp.asarray(0), jnp.asarray(1))
    sample_key, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, 0), 0))
    index, _ = uniform(20)(sample_key, data)
    loss = lambda v: jnp.mean(jnp.sum((network.apply(v, data.images[index]) - data.labels[index]) ** 2, 1)) / 2  # noqa: E731
    expected = jax.tree.map(lambda v, g: v - 0.01 * g, start.variables, jax.grad(loss)(start.variables))
    np.testing.assert_allclose(leaves(found.variables), leaves(expected), rtol=1e-4, atol=1e-6)


def test_a_training_is_the_same_however_it_is_cut():
    data, real = examples(), real_training(RECIPE, 20, 2)
    start = real.init(KEY, data)
    whole = real.advance(KEY, start, data, jnp.asarray(0), jnp.asarray(7))
    half = real.advance(KEY, start, data, jnp.asarray(0), jnp.asarray(3))
    np.testing.assert_array_equal(leaves(real.advance(KEY, half, data, jnp.asarray(3), jnp.asarray(4))), leaves(whole))


@pytest.mark.parametrize(
    "recipe, message",
    [
        (Recipe(epochs=None, steps=3), "the recipe has steps.*give epochs"),
        (Recipe(stop=2), "the recipe has stop.*every epoch is kept"),
        (Recipe(loss="squared", label_scale=2), "the recipe has label_scale"),
        (Recipe(centred=True), "the recipe has centred"),
        (Recipe(), "images of 4 x 4 are too small for network 'convnet'"),
        (Recipe("mlp", augment="shift4"), "shift"),
    ],
)
def test_recipes_of_small_sets_alone_are_refused(recipe, message):
    with pytest.raises(InputError, match=message):
        check_real_recipe(recipe, (20, 4, 4, 1))


# --- a teacher ---------------------------------------------------------------------------------------


def test_a_taught_set_also_has_the_cross_entropy_of_its_classes_under_the_last_network():
    network, data = mlp(2, width=4), examples()
    now, last = (network.init(jax.random.key(seed), data.images[:1]) for seed in (1, 2))
    # The label of an image may have moved; its class has not.
    labels = jnp.asarray([[0.1, -0.1], [0.4, -0.4], [0.2, -0.2], [-0.5, 0.5]])
    synthetic = Synthetic(data.images[:4] + 0.3, labels, classes=jnp.asarray([0, 0, 1, 1]))
    batch = Batch(data.images, data.labels, data.groups, jnp.ones(20), group_count=2)
    matching = distribution_matching(network)
    plain = matching(KEY, now, synthetic, batch)
    both = taught(matching, network, 0.7)(KEY, (now, last), synthetic, batch)
    outputs = np.asarray(network.apply(last, synthetic.images), np.float64)
    expected = -log_softmax(outputs, 1)[np.arange(4), [0, 0, 1, 1]].mean()
    np.testing.assert_allclose(both.value - plain.value, 0.7 * expected, rtol=1e-4)
    np.testing.assert_array_equal(both.group, plain.group)
    # An augmentation is of the set's images alone.
    black = taught(matching, network, 0.7, lambda key, images: 0 * images)(KEY, (now, last), synthetic, batch)
    nothing = np.asarray(network.apply(last, 0 * synthetic.images), np.float64)
    expected = -log_softmax(nothing, 1)[np.arange(4), [0, 0, 1, 1]].mean()
    np.testing.assert_allclose(black.value - plain.value, 0.7 * expected, rtol=1e-4)


def test_only_the_set_learns_from_a_teacher():
    network, data = mlp(2, width=16), examples()
    last = network.init(KEY, data.images[:1])
    still = lambda key, model, synthetic, batch: Losses(jnp.zeros(2), jnp.arange(2), jnp.ones(2), group_count=2)  # noqa: E731
    batch = Batch(data.images, data.labels, data.groups, jnp.ones(20), group_count=2)

    def loss(images):
        losses = taught(still, network, 1.0)(KEY, (None, last), Synthetic(images, data.labels[:4]), batch)
        return segments.group_sum(losses.value, losses)[0]

    images = data.images[:4]
    for _ in range(20):
        images = images - 5 * jax.grad(loss)(images)
    assert loss(images) < 0.9 * loss(data.images[:4])


# --- the folder --------------------------------------------------------------------------------------

WORDS = "dc,network=mlp,width=16,epochs=3,batch=8"
FILES = {"config.json", "environment.json", "lock", "epochs.jsonl", "state.npz", "curves.png", "report.json"}
NETWORKS = [f"epoch-{epoch:04d}.npz" for epoch in range(4)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data in two groups, and with a finished training on them."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    np.savez(
        folder / "own.npz",
        images=rng.integers(0, 256, (60, 6, 6, 1), dtype=np.uint8),
        labels=np.arange(60) % 2,
        groups=np.arange(60) // 2 % 2,
        class_names=np.array(["cat", "dog"]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(asked("kept")) == 0
    return folder


def asked(out, *more, recipe=WORDS):
    return ["train", "--data", "own.npz", "--recipe", recipe, "--out", str(out), *more]


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def config(out, recipe=WORDS):
    return updated(Train(), {"data": "own.npz", "recipe": recipe, "out": out})


def said(capsys, *words):
    """What is said of words that cannot be."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def test_a_training_keeps_every_epoch_and_what_it_reached(here, capsys):
    kept = SnapshotFolder(here / "kept")
    assert {file.name for file in kept.folder.iterdir()} == FILES | set(NETWORKS)
    values = kept.report()
    assert [row["epoch"] for row in values["epochs"]] == [0, 1, 2, 3]
    assert all(0 <= row["validation_worst_group"] <= row["validation_accuracy"] <= 1 for row in values["epochs"])
    assert {row["set"] for row in values["evaluations"]} == {"all data"}
    assert {"accuracy", "worst_group"} <= {row["metric"] for row in values["evaluations"]}
    assert list(values["snapshots"]) == NETWORKS
    assert (kept.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    networks = kept.load(0)
    assert len({leaves(one).tobytes() for one in networks}) == 4
    fresh = jax.eval_shape(mlp(2, width=16).init, KEY, jnp.zeros((1, 6, 6, 1)))
    assert jax.tree.structure(networks[1]) == jax.tree.structure(fresh)
    assert jax.tree.leaves(networks[1])[0].shape == (1, *jax.tree.leaves(fresh)[0].shape)


def test_several_networks_are_trained_each_as_if_alone(here, tmp_path):
    values = training.train(updated(config(tmp_path / "many"), {"networks": 3}))
    many = SnapshotFolder(tmp_path / "many")
    one = SnapshotFolder(here / "kept")
    for epoch, alone in zip(many.load(0), one.load(0), strict=True):
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], epoch) for i in range(3)]
        np.testing.assert_array_equal(leaves(each[0]), leaves(alone))
        assert len({leaves(network).tobytes() for network in each}) == 3
    # What is told is the mean over them on validation, and each on test.
    accuracy = next(row for row in values["evaluations"] if row["metric"] == "accuracy")
    assert accuracy["seeds"] == [0, 1, 2]
    assert (
        accuracy["values"][0] == next(row for row in one.report()["evaluations"] if row["metric"] == "accuracy")["mean"]
    )
    network, splits = mlp(2, width=16), load("own.npz", 0)
    prepared = prepare(splits, "standardise")
    outputs = [
        logits(
            network, jax.tree.map(lambda leaf, i=i: leaf[i], many.load(3)[0]), prepared.model_space(splits.validation)
        )
        for i in range(3)
    ]
    right = [np.mean(np.argmax(own, 1) == splits.validation.labels) for own in outputs]
    assert values["epochs"][-1]["validation_accuracy"] == pytest.approx(np.mean(right))


SIDE_BY_SIDE = """
import jax, sys
from pathlib import Path
from rdd_jax.app import training
from rdd_jax.app.commands import Train
from rdd_jax.app.options import updated

record = training._Steps.record

def noted(self, epoch, measured):
    print([device.id for one in self.trainings for device in jax.tree.leaves(one.variables)[0].devices()])
    record(self, epoch, measured)

training._Steps.record = noted
training.train(updated(Train(), {"data": "own.npz", "recipe": sys.argv[1], "out": Path("side"), "networks": 3}))
"""


@pytest.mark.thorough
def test_networks_are_trained_side_by_side_on_several_devices_to_the_same_bytes(here, quick_flags):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", SIDE_BY_SIDE, WORDS]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == ["[0, 1, 0]"] * 4
    training.train(updated(config(here / "one by one"), {"networks": 3}))
    for name in NETWORKS:
        assert (here / "side" / name).read_bytes() == (here / "one by one" / name).read_bytes()


def test_nothing_is_trained_twice(here, capsys, monkeypatch):
    monkeypatch.setattr(training, "real_training", lambda *given: pytest.fail("trained again"))
    assert main(asked("kept")) == 0
    assert "nothing was trained" in capsys.readouterr().out


def test_the_folder_is_named_by_all_that_decides_the_result(here, tmp_path, monkeypatch):
    shutil.copy("own.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    found = [training.train(updated(config(None), change))["out"] for change in ({}, {"seed": 1}, {"networks": 2}, {})]
    assert len(set(found)) == 3
    assert found[0] == found[3]


class Stopped(Exception):
    """As if the process had been killed."""


@pytest.mark.parametrize("at", [0, 1, 6, 8])
@pytest.mark.parametrize("how", ["killed", "asked to stop"])
def test_a_training_that_is_broken_off_goes_on_to_the_same_bytes(at, how, here, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "DISPATCH", 1)
    out = tmp_path / "broken"

    def step(done, pieces, note):
        if pieces > 3 and done == at:
            if how == "killed":
                raise Stopped
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped if how == "killed" else KeyboardInterrupt):
        training.train(config(out), Progress(lambda name: None, step))
    assert not SnapshotFolder(out).finished
    if how == "asked to stop":  # after a kill, the seconds of the epoch that was broken off are lost with it
        state = dict(np.load(out / "state.npz"))
        np.savez(out / "state.npz", **state | {"seconds": state["seconds"] + 1000})
    values = training.train(config(out))
    assert values["trained"]
    assert (values["epochs"][-1]["seconds"] > 1000) == (how == "asked to stop")
    assert values["seconds"]["training"] >= values["epochs"][-1]["seconds"]
    assert values["snapshots"] == SnapshotFolder(here / "kept").report()["snapshots"]


def test_a_kill_while_an_epoch_is_written_leaves_the_ones_before(here, tmp_path, monkeypatch):
    out, write = tmp_path / "broken", SnapshotFolder.write_rows

    def broken(self, rows):
        if len(rows) == 3:
            raise Stopped
        write(self, rows)

    monkeypatch.setattr(SnapshotFolder, "write_rows", broken)
    with pytest.raises(Stopped):
        training.train(config(out))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert training.train(config(out))["snapshots"] == SnapshotFolder(here / "kept").report()["snapshots"]


def test_a_training_that_diverges_says_so_and_keeps_its_epochs(here, tmp_path, capsys):
    out = tmp_path / "broken"
    with pytest.raises(Diverged, match="lower learning_rate in the recipe"):
        training.train(config(out, f"{WORDS},loss=squared,learning_rate=1e6"))
    assert (out / NETWORKS[0]).exists()
    assert main(asked(out, recipe=f"{WORDS},loss=squared,learning_rate=1e6")) == 3
    assert "the epochs before are kept" in capsys.readouterr().err


def test_other_trainings_and_folders_are_refused(here, tmp_path, capsys):
    assert "recipe is 'dc,network=mlp,width=16,epochs=3,batch=8', not" in said(
        capsys, *asked("kept", recipe=f"{WORDS},learning_rate=0.5")
    )
    assert "seed is 0, not 1" in said(capsys, *asked("kept", "--seed", "1"))
    (tmp_path / "empty").mkdir()
    assert "holds no snapshots: give another --out" in said(capsys, *asked(tmp_path / "empty"))
    assert "'nearest' looks at a synthetic set" in said(capsys, *asked(tmp_path / "new", "--grouping", "nearest"))
    assert "'none' stands alone" in said(capsys, *asked(tmp_path / "new", "--grouping", "none+class"))
    assert "across is 'mean', but grouping is 'none': add one" in said(
        capsys, *asked(tmp_path / "new", "--across", "mean")
    )
    assert "the recipe has stop" in said(capsys, *asked(tmp_path / "new", recipe=f"{WORDS},stop=1"))
    assert not (tmp_path / "new").exists()
    shutil.copytree("kept", tmp_path / "kept")
    file = tmp_path / "kept" / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"data_fingerprint": "other"}))
    assert "on other data" in said(capsys, *asked(tmp_path / "kept"))


def test_damage_is_told_and_named(here, tmp_path, capsys):
    def copy(name):
        shutil.copytree("kept", tmp_path / name)
        return tmp_path / name

    unfinished = copy("unfinished")
    (unfinished / "report.json").unlink()
    (unfinished / "state.npz").write_bytes((unfinished / "state.npz").read_bytes()[:-100])
    assert "state.npz' is truncated" in said(capsys, *asked(unfinished))
    np.savez(unfinished / "state.npz", step=np.array(1))
    assert "state.npz' has no 0000" in said(capsys, *asked(unfinished))
    whole = dict(np.load(here / "kept" / "state.npz"))
    np.savez(unfinished / "state.npz", **(whole | {"0001": whole["0001"][:1]}))
    assert "does not hold this training: remove it" in said(capsys, *asked(unfinished))
    np.savez(unfinished / "state.npz", **whole)
    (unfinished / "epochs.jsonl").write_text('{"epoch": 0}\n')
    assert "epochs.jsonl' is damaged" in said(capsys, *asked(unfinished))
    broken = copy("broken")
    (broken / "report.json").write_text("{}")
    assert "is no report of a training" in said(capsys, *asked(broken))


def test_a_robust_training_is_under_the_risk_of_its_groups(here, tmp_path):
    values = training.train(updated(config(tmp_path / "robust"), {"grouping": "labels"}))
    assert values["found_groups"]["groups"] == 4
    plain = SnapshotFolder(here / "kept")
    robust = SnapshotFolder(tmp_path / "robust")
    np.testing.assert_array_equal(leaves(plain.load(0)[0]), leaves(robust.load(0)[0]))
    assert np.abs(leaves(plain.load(1)[0]) - leaves(robust.load(1)[0])).max() > 1e-4


# --- runs that look from it --------------------------------------------------------------------------

DM = ["--network", "mlp", "--net-width", "16", "--ipc", "2", "--batch", "8", "--no-baselines", "--seeds", "1"]
DM += ["--steps", "12", "--checkpoint-every", "4", "--recipe", "dc,network=mlp,width=16,epochs=2"]


def distil(out, *more, method="dm"):
    plain = ["--siamese", "none"] if method in ("dm", "dc") else []
    return ["distill", method, "--data", "own.npz", "--snapshots", "kept", *DM, *plain, "--out", str(out), *more]


def set_of(folder):
    with np.load(folder / "synthetic.npz") as arrays:
        return arrays["images"]


@pytest.mark.slow
def test_a_set_is_made_at_snapshots_and_its_report_has_the_real_data(here, tmp_path, capsys):
    assert main(distil(tmp_path / "a")) == 0
    assert main(distil(tmp_path / "b", "--taught", "2")) == 0
    values = json.loads((tmp_path / "a" / "report.json").read_text())
    own = SnapshotFolder(here / "kept").report()["evaluations"]
    assert [row for row in values["evaluations"] if row["set"] == "all data"] == own
    assert not np.array_equal(set_of(tmp_path / "a"), set_of(tmp_path / "b"))
    # Snapshots from another epoch on are other networks; the folder may stand elsewhere.
    assert main(distil(tmp_path / "c", "--snapshots-from", "3")) == 0
    assert not np.array_equal(set_of(tmp_path / "a"), set_of(tmp_path / "c"))


@pytest.mark.thorough
@pytest.mark.parametrize("method, more", [("dc", ()), ("frepo", ())])
def test_other_methods_look_from_snapshots_too(method, more, here, tmp_path):
    assert main(distil(tmp_path / "run", "--taught", "1", *more, method=method)) == 0


def test_trajectories_that_cannot_be_matched_are_refused(here, tmp_path, capsys):
    def refused(*more):
        words = ["distill", "mtt", "--data", "own.npz", "--network", "mlp", "--net-width", "16", "--ipc", "2"]
        return said(capsys, *words, "--out", str(tmp_path / "run"), *more)

    assert "make some with `rdd train`, and give --snapshots" in refused()
    assert "--taught is no option of `rdd distill mtt`" in refused(
        "--snapshots", "kept", "--taught", "1"
    )  # there is no later network that could teach
    assert "kept' is the last: lower span" in refused("--snapshots", "kept", "--span", "2", "--snapshots-from", "2")
    assert "span is 2 from epoch 0 on, but epoch 1" in refused(
        "--snapshots", "kept", "--span", "2", "--snapshots-to", "1"
    )
    assert "snapshots_to is 4, but" in refused("--snapshots", "kept", "--snapshots-to", "4")
    assert "trained without groups: train others with `rdd train --grouping discovered`" in refused(
        "--snapshots", "kept", "--robust"
    )
    assert not (tmp_path / "run").exists()


def test_devices_share_the_stretches_of_a_step(here, tmp_path, capsys, monkeypatch):
    def asked(name, batch, networks):
        raise InputError(f"devices for {name}, {batch}, {networks}")

    monkeypatch.setattr("rdd_jax.app.distilling.mesh_by_name", asked)
    words = ["--data", "own.npz", "--network", "mlp", "--net-width", "16", "--ipc", "2", "--snapshots", "kept"]
    words = [*words, "--out", tmp_path / "run"]
    assert "devices for auto, 1, 6" in said(capsys, "distill", "mtt", *words, "--net-stretches", "6")
    assert "devices for auto, 4, None" in said(capsys, "distill", "dm", *words, "--batch", "2")


@pytest.mark.slow
def test_a_run_at_snapshots_goes_on_to_the_same_bytes_and_not_with_others(here, tmp_path, capsys, monkeypatch, stop_at):
    from rdd_jax.app.distilling import distill
    from rdd_jax.app.run_commands import _asked

    assert main(distil(tmp_path / "whole", "--taught", "1")) == 0
    asked_for, *_ = _asked(distil(tmp_path / "cut", "--taught", "1")[1:])
    monkeypatch.setattr("rdd_jax.distill.DISPATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        distill(asked_for, tmp_path / "cut", progress=stop_at(6))
    monkeypatch.setattr("rdd_jax.distill.DISPATCH", 10)
    shutil.copytree("kept", tmp_path / "away")
    report = here / "kept" / "report.json"
    text = report.read_text()
    try:
        report.write_text(text + " ")
        told = said(capsys, "distill", "--resume", tmp_path / "cut")
    finally:
        report.write_text(text)
    assert "report.json' is not what it was" in told
    monkeypatch.chdir(tmp_path)  # the paths hold anywhere
    assert main(["distill", "--resume", str(tmp_path / "cut")]) == 0
    np.testing.assert_array_equal(set_of(tmp_path / "cut"), set_of(tmp_path / "whole"))


def test_snapshots_that_do_not_go_with_a_run_are_refused_before_computing(here, tmp_path, capsys):
    def refused(*more, snapshots="kept", method="dm"):
        words = [word if word != "kept" else str(snapshots) for word in distil(tmp_path / "run", *more, method=method)]
        return said(capsys, *words)

    assert "no folder of snapshots: give one that `rdd train` made" in refused(snapshots="nowhere")
    wide = [word if word != "16" else "8" for word in DM]
    words = ["distill", "dm", "--data", "own.npz", "--snapshots", "kept", *wide, "--out", str(tmp_path / "run")]
    assert "whose width is 16, not 8: add --net-width 16" in said(capsys, *words)
    assert "has 3 epochs: lower it" in refused("--snapshots-from", "4")
    assert "rfad looks from random networks" in refused(method="rfad")
    assert "were trained on other data" in refused("--seed", "1")
    assert "whose preprocess is standardise, not zca: add --preprocess standardise" in refused("--preprocess", "zca")
    shutil.copytree("kept", tmp_path / "kept")
    (tmp_path / "kept" / NETWORKS[2]).write_bytes((here / "kept" / NETWORKS[1]).read_bytes())
    assert "epoch-0002.npz' is not what the training left" in refused(snapshots=tmp_path / "kept")
    (tmp_path / "kept" / "report.json").unlink()
    assert "has not ended: give its `rdd train` command again" in refused(snapshots=tmp_path / "kept")
    assert not (tmp_path / "run").exists()


def test_a_teacher_needs_snapshots(here, tmp_path, capsys):
    words = ["distill", "dm", "--data", "own.npz", "--taught", "1", "--out", str(tmp_path / "run")]
    assert "taught is 1, but there is no network that could teach: give --snapshots" in said(capsys, *words)
