"""The command line as a user has it: what it makes, and how it refuses."""

import json
import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from rdd_jax import runs
from rdd_jax.checkpoint import Checkpoints
from rdd_jax.cli import main
from rdd_jax.distill import make_distiller
from rdd_jax.kernels import fc_ntk
from rdd_jax.objectives import kip
from rdd_jax.types import Synthetic

QUICK = ["--ipc", "1", "--steps", "20", "--batch", "200", "--seeds", "2", "--checkpoint-every", "10"]


def distil(*arguments):
    return main(["distill", "--data", "digits", *QUICK, *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert distil("--out", folder) == 0
    return folder


def accuracy(values, set_name="synthetic", learner="krr"):
    found = [e for e in values["evaluations"] if (e["set"], e["learner"]) == (set_name, learner)]
    assert len(found) == 1
    return found[0]


def test_a_run_folder_is_complete(finished):
    files = {path.name for path in finished.iterdir()}
    expected = {"config.json", "metrics.jsonl", "synthetic.npz", "images.png", "curves.png", "report.json"}
    assert files == expected | {"report.html", "checkpoints"}

    config = json.loads((finished / "config.json").read_text())
    assert (config["data"], config["ipc"], config["lr"]) == ("digits", 1, 0.04)
    assert {"jax", "device", "rdd_jax"} <= set(config["environment"])

    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 21))
    assert [row["step"] for row in rows if "validation_accuracy" in row] == [10, 20]

    report = json.loads((finished / "report.json").read_text())
    assert {"data", "method", "ipc", "steps", "seconds", "peak_memory_bytes", "device"} <= set(report)
    assert {e["set"] for e in report["evaluations"]} == {"synthetic", "random", "kmeans", "herding"}
    assert all(e["metric"] == "accuracy" and 0 <= e["mean"] <= 1 for e in report["evaluations"])
    assert accuracy(report, "random")["seeds"] == [0, 1]
    assert accuracy(report)["mean"] > accuracy(report, "random")["mean"]

    html = (finished / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert "http" not in html
    for picture in ("images.png", "curves.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")


def test_the_synthetic_set_carries_its_preprocessing(finished):
    arrays = np.load(finished / "synthetic.npz")
    assert arrays["images"].shape == arrays["images_model"].shape == (10, 8, 8, 1)
    assert arrays["labels"].shape == (10, 10)
    saved = runs.load_synthetic(finished / "synthetic.npz")
    np.testing.assert_allclose(saved.preprocess.apply(arrays["images"]), arrays["images_model"], atol=1e-5)


def test_evaluating_a_run_agrees_with_its_report(finished, tmp_path):
    assert main(["evaluate", str(finished), "--seeds", "2", "--out", str(tmp_path / "new" / "e.json")]) == 0
    again = json.loads((tmp_path / "new" / "e.json").read_text())
    report = json.loads((finished / "report.json").read_text())
    assert again["evaluations"] == report["evaluations"]


def test_a_set_made_elsewhere_in_every_form_gives_the_same_figure(finished, tmp_path):
    ours = np.load(finished / "synthetic.npz")
    integer = np.repeat(np.arange(10), 1)
    forms = {
        "nhwc": ({"images": ours["images"], "labels": integer}, []),
        "nchw": ({"images": np.moveaxis(ours["images"], -1, 1), "labels": np.eye(10)[integer]}, []),
        "model": ({"images": ours["images_model"], "labels": ours["labels"]}, ["--space", "model"]),
    }
    results = []
    for name, (arrays, options) in forms.items():
        file, out = tmp_path / f"{name}.npz", tmp_path / f"{name}.json"
        np.savez(file, **arrays)
        common = ["--data", "digits", "--no-baselines", "--out", str(out)]
        assert main(["evaluate", str(file), *common, *options]) == 0
        results.append(accuracy(json.loads(out.read_text()))["mean"])
    report = json.loads((finished / "report.json").read_text())
    assert results == pytest.approx([accuracy(report)["mean"]] * 3, abs=0.003)


def test_label_solve_beats_its_own_start(tmp_path):
    assert distil("--method", "label-solve", "--out", tmp_path / "run") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    # The initial images are the random baseline's at seed 0.
    assert accuracy(report)["mean"] > accuracy(report, "random")["values"][0]
    assert report["steps"] == 0
    assert not (tmp_path / "run" / "curves.png").exists()


@pytest.mark.parametrize("labels", ["learned", "solved"])
def test_labels_can_be_learned_and_solved(labels, tmp_path):
    assert distil("--labels", labels, "--augment", "shift1", "--schedule", "cosine", "--out", tmp_path / "run") == 0
    one_hot = np.eye(10) - 0.1
    assert np.abs(np.load(tmp_path / "run" / "synthetic.npz")["labels"] - one_hot).max() > 1e-3
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert accuracy(report)["mean"] > accuracy(report, "random")["mean"]
    assert len(report["notes"]) == 1


def test_finite_networks_are_learners_too(tmp_path):
    assert distil("--learners", "krr,mlp", "--preprocess", "zca", "--out", tmp_path / "run") == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(accuracy(report, learner="mlp")["values"]) == 2
    assert accuracy(report, learner="mlp")["mean"] > 0.2


def test_the_same_seed_gives_the_same_bytes(finished, tmp_path):
    assert distil("--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "synthetic.npz").read_bytes() == (finished / "synthetic.npz").read_bytes()
    assert distil("--seed", "1", "--out", tmp_path / "other") == 0
    assert (tmp_path / "other" / "synthetic.npz").read_bytes() != (finished / "synthetic.npz").read_bytes()


def test_data_shows_counts_and_a_picture(tmp_path, capsys):
    out = tmp_path / "digits.png"
    assert main(["data", "digits", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    assert "class 9" in text
    assert "(8, 8, 1)" in text


# --- refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data", "mnst"], "mnist"),
        (["--method", "kipp"], "did you mean kip"),
        (["--kernel", "fcntk"], "did you mean fc-ntk"),
        (["--learners", "krr,convent"], "did you mean convnet"),
        (["--labels", "learnt"], "did you mean learned"),
        (["--init", "kmean"], "did you mean kmeans"),
        (["--sampler", "uniforn"], "did you mean uniform"),
        (["--schedule", "cosin"], "did you mean cosine"),
        (["--preprocess", "standardize"], "did you mean standardise"),
        (["--augment", "flop"], "did you mean flip"),
        (["--augment", "shift9"], "shift by fewer pixels"),
        (["--ipc", "0"], "ipc is 0"),
        (["--steps", "0"], "steps is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--depth", "0"], "depth is 0"),
        (["--seeds", "0"], "seeds is 0"),
        (["--checkpoint-every", "0"], "checkpoint_every is 0"),
        (["--reg", "0"], "reg is 0"),
        (["--lr", "nan"], "lr is nan"),
        (["--ipc", "1000"], "lower ipc"),
        (["--data", "nowhere.npz"], "no file"),
    ],
)
def test_bad_options_exit_with_2_and_touch_nothing(options, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--out", out, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("rdd: ")
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


def test_an_unreadable_number_exits_with_2(tmp_path):
    with pytest.raises(SystemExit) as exited:
        distil("--ipc", "ten", "--out", tmp_path / "run")
    assert exited.value.code == 2


def test_what_exists_is_never_overwritten(finished, tmp_path, capsys):
    before = (finished / "report.json").read_bytes()
    assert distil("--out", finished) == 2
    assert "exists" in capsys.readouterr().err
    assert (finished / "report.json").read_bytes() == before
    (tmp_path / "e.json").write_text("mine")
    assert main(["evaluate", str(finished), "--out", str(tmp_path / "e.json")]) == 2
    assert (tmp_path / "e.json").read_text() == "mine"


def test_images_too_small_for_a_network_are_refused_before_computing(tmp_path, capsys):
    np.savez(
        tmp_path / "tiny.npz",
        images=np.zeros((40, 4, 4, 1), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None],
        labels=np.arange(40) % 2,
    )
    out = tmp_path / "run"
    assert distil("--data", tmp_path / "tiny.npz", "--learners", "convnet", "--out", out) == 2
    assert "too small" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"labels": np.arange(10) + 1}, [], "label 10"),
        ({"labels": np.arange(9)}, [], "9 labels for 10 images"),
        ({"labels": np.eye(9)[np.arange(10) % 9]}, [], "(10, 9)"),
        ({"images": np.zeros((10, 7, 8, 1))}, [], "(10, 7, 8, 1)"),
        ({"images": np.full((10, 8, 8, 1), np.nan)}, [], "NaN"),
        ({"images": np.full((10, 8, 8, 1), 255.0)}, [], "--space model"),
        ({"images": np.full((10, 8, 8, 1), 256)}, [], "0..255"),
        ({"images": np.array([object()] * 10)}, [], "never loaded"),
        ({}, ["--preprocess", "zac"], "did you mean zca"),
        ({}, ["--learners", "resnet"], "unknown learner"),
        ({}, ["--reg", "-1"], "reg is -1"),
        ({}, ["--data", "nowhere.npz"], "no file"),
    ],
)
def test_bad_sets_made_elsewhere_are_refused(change, options, message, tmp_path, capsys):
    arrays = {"images": np.random.default_rng(0).random((10, 8, 8, 1)), "labels": np.arange(10)} | change
    np.savez(tmp_path / "set.npz", **arrays)
    out = tmp_path / "e.json"
    assert main(["evaluate", str(tmp_path / "set.npz"), "--data", "digits", "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_evaluate_needs_something_to_evaluate(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "nothing")]) == 2
    assert "neither a run folder nor an .npz" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    np.savez(tmp_path / "set.npz", images=np.zeros(3))
    assert main(["evaluate", str(tmp_path / "set.npz")]) == 2
    assert "--data is missing" in capsys.readouterr().err


def test_a_duplicated_set_is_reported_and_not_turned_into_nan(tmp_path, capsys):
    # A thousand copies of one image: the Gram matrix has rank 1 a class.
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1), dtype=np.uint8), 60, axis=0)
    np.savez(tmp_path / "same.npz", images=images, labels=np.repeat(np.arange(2), 60))
    out = tmp_path / "run"
    code = distil("--data", tmp_path / "same.npz", "--ipc", "30", "--reg", "1e-12", "--out", out)
    assert code == 2
    assert "not positive definite" in capsys.readouterr().err
    assert not out.exists()


def empty(m):
    return Synthetic(jnp.zeros((m, 8, 8, 1)), jnp.zeros((m, 10)))


def test_divergence_stops_the_run_and_keeps_the_last_good_state(tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--lr", "1e30", "--out", out) == 3
    assert "not finite at step 2: " in capsys.readouterr().err
    state = Checkpoints(out / "checkpoints").restore(make_distiller(kip(fc_ntk())).init(empty(10)))
    assert state is not None
    assert int(state.step) == 1
    assert np.isfinite(state.params["images"]).all()
    assert not (out / "synthetic.npz").exists()


# --- resuming ----------------------------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, "-m", "rdd_jax.cli", *map(str, arguments)]


LONG = ["--ipc", "2", "--steps", "400", "--batch", "500", "--seeds", "1", "--checkpoint-every", "20"]


@pytest.mark.parametrize("kill", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_run_resumes_to_the_same_bytes(kill, tmp_path):
    import signal

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["distill", "--data", "digits", *LONG, "--out", str(whole)]) == 0
    process = subprocess.Popen(
        command("distill", "--data", "digits", *LONG, "--out", killed), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while sum(row.get("step", 0) == 60 for row in runs.Run(killed).metrics()) == 0:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(getattr(signal, kill))
    code = process.wait(60)
    assert code == (-signal.SIGKILL if kill == "SIGKILL" else 130)
    assert not (killed / "synthetic.npz").exists()
    assert main(["distill", "--resume", str(killed)]) == 0
    assert (killed / "synthetic.npz").read_bytes() == (whole / "synthetic.npz").read_bytes()
    steps = [row["step"] for row in runs.Run(killed).metrics() if "loss" in row]
    assert steps == list(range(1, 401))


def test_resuming_refuses_another_configuration(finished, capsys):
    before = (finished / "synthetic.npz").read_bytes()
    assert main(["distill", "--resume", str(finished), "--ipc", "3", "--lr", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "--ipc 3 (it has 1)" in error
    assert "--lr 0.1 (it has 0.04)" in error
    assert main(["distill", "--resume", str(finished), "--out", "elsewhere"]) == 2
    assert (finished / "synthetic.npz").read_bytes() == before


def test_resuming_on_changed_data_is_refused(tmp_path, capsys):
    file, out = tmp_path / "own.npz", tmp_path / "run"
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 1), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(60) % 2)
    assert distil("--data", file, "--out", out) == 0
    images[0, 0, 0, 0] ^= 1
    np.savez(file, images=images, labels=np.arange(60) % 2)
    assert main(["distill", "--resume", str(out)]) == 2
    assert "other data" in capsys.readouterr().err


def test_resuming_a_finished_run_changes_nothing(finished):
    before = (finished / "synthetic.npz").read_bytes()
    assert main(["distill", "--resume", str(finished), "--ipc", "1"]) == 0
    assert (finished / "synthetic.npz").read_bytes() == before


def test_resuming_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["distill", "--resume", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert main(["distill", "--resume", str(tmp_path)]) == 2
    assert "broken" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_named(tmp_path, capsys):
    out = tmp_path / "run"
    assert distil("--out", out) == 0
    newest = out / "checkpoints" / "20"
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 8:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = (out / "metrics.jsonl").read_bytes()
    assert main(["distill", "--resume", str(out)]) == 2
    assert "delete that folder" in capsys.readouterr().err
    assert (out / "metrics.jsonl").read_bytes() == before
    import shutil

    shutil.rmtree(newest)
    assert main(["distill", "--resume", str(out)]) == 0


# --- starting up -------------------------------------------------------------------------------------


def fresh(code):
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout


def test_help_and_import_stay_light():
    code = """
import contextlib, io, sys
import rdd_jax, rdd_jax.cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    rdd_jax.cli.main(["--help"])
print([name for name in ("jax", "flax", "matplotlib", "tensorflow") if name in sys.modules])
"""
    assert fresh(code).strip() == "[]"


def test_a_run_never_imports_tensorflow(tmp_path):
    code = f"""
import sys
from rdd_jax.cli import main
arguments = "distill --data digits --ipc 1 --steps 10 --batch 100 --seeds 1 --out {tmp_path}/run".split()
assert main(arguments) == 0
print("tensorflow" in sys.modules)
"""
    assert fresh(code).strip().splitlines()[-1] == "False"
