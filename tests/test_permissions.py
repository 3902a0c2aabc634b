"""What may not be read or written is told in a line that names it, whoever runs the tests: the refusal is injected."""

import errno
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdd_jax.app.cli import main

DENIED = []
"""The files and folders that may not be opened now."""
OPENED = ("open", "os.listdir", "os.scandir")


def _refuse(event, arguments):
    if DENIED and event in OPENED and arguments[0] is not None and not isinstance(arguments[0], int):
        file = Path(str(arguments[0]))
        if any(file == denied or denied in file.parents for denied in DENIED):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))


sys.addaudithook(_refuse)  # of every file that Python opens; a hook stays, but refuses nothing when the list is empty


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data, configurations and an unfinished run."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8), np.arange(40) % 2
    np.savez(folder / "own.npz", images=images, labels=labels)
    np.savez(folder / "set.npz", images=images[:2], labels=labels[:2])
    np.savez(folder / "groups.npz", codes=np.zeros(40, int))
    (folder / "run.toml").write_text('method = "kip"')
    for i in range(6):
        (folder / "pets" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, :, :, 0]).save(folder / "pets" / str(i % 2) / f"{i}.png")
    quick = ["--ipc", "1", "--steps", "2", "--batch", "10", "--checkpoint-every", "1", "--no-baselines"]
    assert main(["distill", "kip", "--data", f"{folder}/own.npz", *quick, "--out", str(folder / "ended")]) == 0
    for name in ("run", "other"):
        shutil.copytree(folder / "ended", folder / name)
    for name in ("report.json", "synthetic.npz"):
        (folder / "run" / name).unlink()
    (folder / "place").mkdir()
    return folder


OWN = ["--data", "own.npz"]
ASKED = {
    "data": ("own.npz", ["data", "own.npz"]),
    "a folder of images": ("pets", ["data", "pets"]),
    "a class of images": ("pets/1", ["data", "pets"]),
    "an image": ("pets/1/3.png", ["data", "pets"]),
    "data that are distilled": ("own.npz", ["distill", "kip", *OWN, "--out", "new"]),
    "data that are selected from": ("own.npz", ["select", *OWN]),
    "data that are grouped": ("own.npz", ["groups", "own.npz"]),
    "groups": ("groups.npz", ["distill", "kip", *OWN, "--grouping", "groups.npz", "--out", "new"]),
    "a start": ("set.npz", ["distill", "kip", *OWN, "--ipc", "1", "--init", "set.npz", "--out", "new"]),
    "a start that is a run": ("ended/synthetic.npz", ["distill", "kip", *OWN, "--init", "ended", "--out", "new"]),
    "a configuration": ("run.toml", ["distill", "--config", "run.toml", "--out", "new"]),
    "a set": ("set.npz", ["evaluate", "set.npz", *OWN]),
    "the configuration of a run": ("run/config.json", ["distill", "--resume", "run"]),
    "the record of a run": ("run/environment.json", ["distill", "--resume", "run"]),
    "the steps of a run": ("run/metrics.jsonl", ["distill", "--resume", "run"]),
    "the lock of a run": ("run/lock", ["distill", "--resume", "run"]),
    "the folder of a run": ("run", ["distill", "--resume", "run"]),
    "the checkpoints": ("run/checkpoints", ["distill", "--resume", "run"]),
    "a checkpoint": ("run/checkpoints/2", ["distill", "--resume", "run"]),
    "a report": ("ended/report.json", ["compare", "ended", "other", "--out", "new.png"]),
    "the set of a run": ("ended/synthetic.npz", ["evaluate", "ended"]),
    "a set to export": ("ended/synthetic.npz", ["export", "ended", "--out", "new"]),
    "where a run goes": ("place", ["distill", "kip", *OWN, "--out", "place/new"]),
    "where a picture goes": ("place", ["data", "own.npz", "--out", "place/new.png"]),
    "where a subset goes": ("place", ["select", *OWN, "--out", "place/new.npz"]),
    "where groups go": ("place", ["groups", "own.npz", "--out", "place/new"]),
    "where an evaluation goes": ("place", ["evaluate", "set.npz", *OWN, "--out", "place/new.json"]),
    "where an export goes": ("place", ["export", "ended", "--out", "place/new"]),
}


@pytest.mark.parametrize("what", ASKED)
def test_what_is_not_permitted_is_told_in_a_line(what, made, capsys, monkeypatch):
    monkeypatch.chdir(made)
    denied, command = ASKED[what]
    before = sorted(made.rglob("*"))
    # As the file may be named: from here, or in full.
    monkeypatch.setattr(sys.modules[__name__], "DENIED", [Path(denied), made / denied])
    code = main(command)
    DENIED.clear()
    error = capsys.readouterr().err
    assert code in (2, 4), error
    assert len(error.splitlines()) == 1
    assert Path(denied).name in error
    assert "ermission" in error
    assert sorted(made.rglob("*")) == before
