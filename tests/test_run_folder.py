"""A run folder, come what may: nothing lost, nothing overwritten, nothing taken for what it is not."""

import errno
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rdd_jax.app.cli import main
from rdd_jax.app.digests import digest, fingerprint
from rdd_jax.app.forms import _folder_names
from rdd_jax.app.methods import METHODS, configured, name_of
from rdd_jax.app.options import options
from rdd_jax.app.run_commands import _asked
from rdd_jax.app.run_folder import Run
from rdd_jax.datasets import load
from rdd_jax.files import write_json
from rdd_jax.types import Splits

QUICK = ["--ipc", "1", "--steps", "4", "--batch", "10", "--checkpoint-every", "2", "--no-baselines"]


def save_data(file, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (60, 6, 6, 1), dtype=np.uint8),
        "labels": np.arange(60) % 2,
        "class_names": np.array(["cat", "dog"]),
    }
    np.savez(file, **(arrays | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data and a finished run on them, made from a relative path."""
    folder = tmp_path_factory.mktemp("made")
    save_data(folder / "own.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["distill", "kip", "--data", "own.npz", *QUICK, "--out", "run"]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of the finished run."""
    shutil.copytree(made / "run", tmp_path / "run")
    return Run(tmp_path / "run")


def unfinish(run):
    """As a run is that was killed before its report."""
    for name in ("report.json", "report.html", "synthetic.npz"):
        (run.folder / name).unlink()


def said(capsys, code, *arguments):
    """What a command says on standard error, in one line."""
    assert main([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("rdd: ")
    assert len(error.splitlines()) == 1
    return error


def resume(run):
    return ["distill", "--resume", str(run.folder)]


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


# --- resuming ----------------------------------------------------------------------------------------


def test_a_finished_run_says_so_before_any_work(run, made, capsys, monkeypatch):
    monkeypatch.setattr("rdd_jax.app.run_commands.distill_job", None)
    monkeypatch.setattr("rdd_jax.app.run_commands.check_device", None)
    assert main(resume(run)) == 0
    assert "has ended" in capsys.readouterr().out
    assert "--lr 0.5 (it has 0.04)" in said(capsys, 2, *resume(run), "--lr", "0.5")


def test_a_run_goes_on_from_another_directory_and_on_data_that_moved(run, made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.config().data.data == str(made / "own.npz")
    before = (run.folder / "synthetic.npz").read_bytes()
    unfinish(run)
    assert main(resume(run)) == 0
    assert (run.folder / "synthetic.npz").read_bytes() == before
    unfinish(run)
    shutil.copy(made / "own.npz", tmp_path / "moved é.npz")
    assert main([*resume(run), "--data", "moved é.npz"]) == 0
    assert (run.folder / "synthetic.npz").read_bytes() == before
    unfinish(run)
    save_data(tmp_path / "other.npz", class_names=np.array(["dog", "cat"]))
    assert "was started on other data" in said(capsys, 2, *resume(run), "--data", "other.npz")


@pytest.mark.parametrize(
    "change",
    [{"optimiser": {"lr": 0.1}}, {"optimiser": {"steps": 2}}, {"seed": 1}, {"set": {"ipc": 2}}],
    ids=str,
)
def test_a_configuration_that_was_edited_is_refused(change, run, capsys):
    values = read(run.folder / "config.json")
    for key, value in change.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    write_json(run.folder / "config.json", values)
    for arguments in (resume(run), ["evaluate", run.folder], ["export", run.folder]):
        error = said(capsys, 2, *arguments)
        assert "config.json' is not what the run was started with: bring it back" in error
        assert "rdd distill --config" in error


def test_a_configuration_may_be_laid_out_otherwise(run):
    before = run.config()
    file = run.folder / "config.json"
    file.write_text(json.dumps(dict(reversed(read(file).items()))), encoding="utf-8")
    assert run.config() == before


def test_what_a_newer_version_knows_has_its_default_in_an_older_run(run):
    file = run.folder / "config.json"
    values = read(file)
    del values["evaluation"]["recipe"], values["kernel"]
    write_json(file, values)
    write_json(
        run.folder / "environment.json", read(run.folder / "environment.json") | {"config_digest": digest(values)}
    )
    assert run.config().evaluation.recipe is None
    assert run.config().kernel.reg == 1e-6


def test_a_run_without_digests_is_made_again(run, capsys):
    values = read(run.folder / "environment.json")
    del values["config_digest"]
    write_json(run.folder / "environment.json", values)
    error = said(capsys, 2, *resume(run))
    assert "older version" in error
    assert f"rdd distill --config {run.folder}/config.json --out NEW" in error


@pytest.mark.parametrize("name", METHODS)
def test_a_run_of_the_flat_layout_says_which_command_makes_it_again(name, tmp_path, capsys):
    changed = {"ipc": 3, "seed": 5, "data": "mnist", "bias": 0.0, "baselines": False, "mirror": False}
    config = configured(name, **changed)
    values = {"method": name, **{field.name: field.default for field in options(config)}, "groups_per_class": 0}
    write_json(tmp_path / "config.json", values)
    command = said(capsys, 2, "distill", "--resume", tmp_path).partition("`")[2].partition("`")[0].split()
    assert command[:3] == ["rdd", "distill", name]
    assert _asked(command[2:])[0] == config
    assert name_of(config) == name


def test_the_fingerprint_is_of_all_that_data_are(made):
    splits = load(str(made / "own.npz"))
    images = splits.train.images
    from dataclasses import replace

    def changed(**values):
        return fingerprint(Splits(replace(splits.train, **values), *splits[1:]))

    found = [
        fingerprint(splits),
        changed(class_names=("dog", "cat")),
        changed(images=images.reshape(-1, 4, 9, 1)),
        changed(images=images[:, ::-1]),
        changed(labels=splits.train.labels.astype(np.int64)),
        changed(labels=1 - splits.train.labels),
    ]
    assert len(set(found)) == len(found)


# --- one process at a time ---------------------------------------------------------------------------


def test_a_folder_in_which_another_process_is_at_work_is_refused(run, capsys):
    unfinish(run)
    (run.folder / ".killed.part").write_text("half")
    with run.locked():
        error = said(capsys, 2, *resume(run))
    assert "another process is at work" in error
    assert "delete" not in error
    with run.locked():
        assert not list(run.folder.glob(".*.part"))


@pytest.mark.slow
def test_of_two_processes_one_is_refused_and_a_kill_gives_the_folder_back(made, tmp_path, capsys, quick_flags):
    out = tmp_path / "run"
    words = ["distill", "kip", "--data", made / "own.npz", "--ipc", "1", "--steps", "1000000", "--out", out]
    process = subprocess.Popen([sys.executable, "-m", "rdd_jax.app.cli", *map(str, words)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (out / "metrics.jsonl").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "another process is at work" in said(capsys, 2, "distill", "--resume", out)
        assert "exists" in said(capsys, 2, *words)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with Run(out).locked():
        pass


# --- what is written ---------------------------------------------------------------------------------


def test_files_have_the_mode_of_the_umask_and_are_utf_8(run, tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "new" / "é.json", {"a": "é"})
        assert main(["export", str(run.folder), "--to", "png", "--out", str(tmp_path / "set")]) == 0
    finally:
        os.umask(before)
    files = [tmp_path / "new" / "é.json", *(path for path in (tmp_path / "set").rglob("*") if path.is_file())]
    assert len(files) > 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o640}
    assert stat.S_IMODE((tmp_path / "set").stat().st_mode) == 0o750


class FullAt:
    """`Path.open` on a disk that is full from the ``number``-th file on that is written, halfway through it."""

    def __init__(self, number):
        self.number, self.count, self.open = number, 0, Path.open

    def __call__(self, path, mode="r", *arguments, **options):
        if not set(mode) & set("wxa") or path.name == "lock":
            return self.open(path, mode, *arguments, **options)
        self.count += 1
        if self.count < self.number:
            return self.open(path, mode, *arguments, **options)

        class Full(io.FileIO):
            room = 1

            def write(self, content):
                if not self.room:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.room = 0
                return super().write(bytes(content)[: len(content) // 2])

        stream = io.BufferedWriter(Full(path, mode.replace("b", "")))
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding="utf-8")


@pytest.mark.thorough
def test_a_full_disk_at_any_write_is_told_in_a_line_and_the_run_goes_on(made, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    start = ["distill", "kip", "--data", str(made / "own.npz"), *QUICK, "--out", str(out)]
    met = []
    for number in range(1, 30):
        going_on = (out / "config.json").exists()
        disk = FullAt(number if not going_on else number - 2)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda *a, disk=disk, **o: disk(*a, **o))
            code = main(["distill", "--resume", str(out)] if going_on else start)
        if code == 0:
            break
        assert code == 4
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "No space left on device" in error
        assert ("rdd distill --resume" in error) == (out / "config.json").exists()
        met.append(error.partition("': ")[0].rpartition("/")[2])
        assert not list(tmp_path.rglob("*.part"))
    assert {"config.json", "environment.json", "metrics.jsonl", "synthetic.npz", "report.json"} <= set(met)
    assert (out / "synthetic.npz").read_bytes() == (made / "run" / "synthetic.npz").read_bytes()


def test_a_checkpoint_that_cannot_be_written_is_told_in_a_line(made, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"

    def full(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes [os_error_code='28']\n[source locations]")

    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager.save", full)
        error = said(capsys, 4, "distill", "kip", "--data", made / "own.npz", *QUICK, "--out", out)
    assert "No space left on device" in error
    assert f"rdd distill --resume {out}" in error
    assert main(["distill", "--resume", str(out)]) == 0
    assert (out / "synthetic.npz").read_bytes() == (made / "run" / "synthetic.npz").read_bytes()


# --- the files of a run ------------------------------------------------------------------------------

BESIDE = {"--init": "start.npz", "--grouping": "groups.npz", "--init ": "run"}


@pytest.mark.parametrize("option", BESIDE)
def test_a_run_is_resumed_with_the_files_that_it_was_started_with(option, made, tmp_path, capsys):
    data = np.load(made / "own.npz")
    np.savez(tmp_path / "start.npz", images=data["images"][:2], labels=data["labels"][:2])
    np.savez(tmp_path / "groups.npz", codes=np.arange(len(load(str(made / "own.npz")).train)) // 2 % 2)
    shutil.copytree(made / "run", tmp_path / "run")
    file, out = tmp_path / BESIDE[option], Run(tmp_path / "out")
    start = ["--data", str(made / "own.npz"), *QUICK, option.strip(), str(file), "--out", str(out.folder)]
    assert main(["distill", "kip", *start]) == 0
    expected = (out.folder / "synthetic.npz").read_bytes()
    unfinish(out)
    held = file / "synthetic.npz" if file.is_dir() else file
    whole, arrays = held.read_bytes(), dict(np.load(held))
    changed = "codes" if "codes" in arrays else "images"
    np.savez(held, **(arrays | {changed: arrays[changed][::-1]}))
    before = {path: path.read_bytes() for path in out.folder.rglob("*") if path.is_file()}
    error = said(capsys, 2, *resume(out))
    assert str(held) in error
    assert "is not what it was" in error
    assert {path: path.read_bytes() for path in out.folder.rglob("*") if path.is_file()} == before
    held.write_bytes(whole)
    assert main(resume(out)) == 0
    assert (out.folder / "synthetic.npz").read_bytes() == expected


# --- the data of a run -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, asked, message",
    [
        ({"images": None}, [], "was started on other data"),
        ({"labels": (np.arange(60) + 1) % 2}, [], "say --data to evaluate on other data"),
        ({"class_names": np.array(["dog", "cat"])}, ["--data"], "the set has classes cat, dog, the data dog, cat"),
        ({"images": np.zeros((60, 5, 6, 1), np.uint8)}, ["--data"], "evaluate it on the data it was made from"),
    ],
)
def test_a_run_is_evaluated_on_its_own_data(changes, asked, message, run, made, capsys):
    whole = (made / "own.npz").read_bytes()
    if changes.get("images", 0) is None:
        changes = {"images": 255 - np.load(made / "own.npz")["images"]}
    save_data(made / "own.npz", **changes)
    try:
        words = [word for flag in asked for word in (flag, made / "own.npz")]
        assert message in said(capsys, 2, "evaluate", run.folder, *words)
    finally:
        (made / "own.npz").write_bytes(whole)


@pytest.mark.slow
def test_a_run_is_evaluated_on_other_data_where_that_is_asked_for(run, tmp_path, capsys):
    save_data(tmp_path / "other.npz", images=np.random.default_rng(1).integers(0, 256, (60, 6, 6, 1), dtype=np.uint8))
    other = ["--data", str(tmp_path / "other.npz"), "--no-baselines", "--out", str(tmp_path / "e.json")]
    assert main(["evaluate", str(run.folder), *other]) == 0
    assert read(tmp_path / "e.json")["notes"] == ["The real data is not that of the run."]
    assert "not that of the run" in capsys.readouterr().out


def test_runs_on_data_of_one_name_that_differ_are_not_compared(run, tmp_path, capsys):
    shutil.copytree(run.folder, tmp_path / "other")
    file = tmp_path / "other" / "environment.json"
    write_json(file, read(file) | {"data_fingerprint": "0" * 32})
    error = said(capsys, 2, "compare", run.folder, tmp_path / "other", "--out", tmp_path / "c.png")
    assert "it has changed between them" in error
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize(
    "names, folders",
    [
        (("cat", "traffic light"), ["cat", "traffic light"]),
        (("..", "cat"), ["0-", "1-cat"]),
        (("a/b", "a-b"), ["0-a-b", "1-a-b"]),
        (("Cat", "cat"), ["0-Cat", "1-cat"]),
        (("", "/etc"), ["0-", "1-etc"]),
        (("0-a", "a\0"), ["0-0-a", "1-a"]),
        (("n" * 300, "b"), ["0-" + "n" * 100, "1-b"]),
    ],
)
def test_folders_of_an_export_are_safe_and_apart(names, folders):
    assert _folder_names(names) == folders


# --- interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.parametrize(
    "words, where",
    [
        (["distill", "kip"], "rdd_jax.app.distilling.splits_of"),
        (["distill", "kip"], "rdd_jax.app.pieces.initial_set"),
        (["distill", "kip"], "rdd_jax.app.environment.version"),
        (["evaluate", "RUN"], "rdd_jax.app.evaluating.splits_of"),
        (["select"], "rdd_jax.app.pieces.pool_of"),
        (["data", "digits"], "rdd_jax.plots.image_grids"),
        (["groups", "digits", "--grouping", "class"], "rdd_jax.app.finding.outputs"),
        (["compare", "RUN", "RUN/../other"], "rdd_jax.app.report.table_rows"),
        (["export", "RUN"], "rdd_jax.app.exporting.load_set"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value.rpartition(".")[2],
)
def test_an_interrupt_before_anything_is_written_ends_a_command_in_a_line(
    words, where, number, run, tmp_path, capsys, monkeypatch
):
    def interrupted(*arguments, **options):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:  # as JAX and imports make something else of it
            raise ValueError("something else") from error

    shutil.copytree(run.folder, tmp_path / "other")
    monkeypatch.setattr(where, interrupted)
    before, handler = sorted(tmp_path.rglob("*")), signal.getsignal(number)
    out = ["--out", str(tmp_path / "new.npz")]
    assert main([*(word.replace("RUN", str(run.folder)) for word in words), *out]) == 130
    assert capsys.readouterr().err == "rdd: interrupted\n"
    assert sorted(tmp_path.rglob("*")) == before
    assert signal.getsignal(number) == handler


@pytest.mark.parametrize("where", ["evaluation.evaluate_sets", "app.reporting.write_run", "app.run_folder.save_set"])
def test_an_interrupt_of_a_run_says_how_to_go_on(where, run, capsys, monkeypatch):
    unfinish(run)
    target = "rdd_jax.app.distilling.evaluate_sets" if "evaluate" in where else f"rdd_jax.{where}"
    monkeypatch.setattr(target, lambda *arguments, **options: signal.raise_signal(signal.SIGINT))
    assert f"interrupted; go on with `rdd distill --resume {run.folder}`" in said(capsys, 130, *resume(run))


def test_an_interrupt_that_a_callback_swallows_comes_again():
    from rdd_jax.app.interrupting import ended_by_signals

    class Swallowing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def wait():
        with ended_by_signals():
            swallowing = Swallowing()
            del swallowing
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        wait()


# --- where it is shown -------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shell, code, told",
    [
        ("PYTHONIOENCODING=ascii LANG=C {data}", 0, ""),
        ("{data} > /dev/full", 4, "rdd: No space left on device\n"),
        ("{data} | true", 1, ""),
        ("JAX_PLATFORMS=cuda {distill}", 2, "rdd: JAX_PLATFORMS is 'cuda', but JAX finds no such device: unset it"),
        ("JAX_PLATFORMS=nonsense {distill}", 2, "rdd: JAX_PLATFORMS is 'nonsense', but"),
    ],
)
def test_output_that_cannot_be_shown_or_devices_that_are_not_there(shell, code, told, made, tmp_path):
    program = f"{sys.executable} -m rdd_jax.app.cli"
    data = f"{program} data {made / 'own.npz'} --out {tmp_path / 'picture.png'}"
    line = shell.format(data=data, distill=f"{program} distill kip --out {tmp_path / 'run'}")
    done = subprocess.run(["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], capture_output=True, check=False)
    assert done.returncode == code
    assert done.stderr.decode().startswith(told)
    assert len(done.stderr.splitlines()) == bool(told)
    assert (tmp_path / "picture.png").exists() == ("{data}" in shell)
    assert not (tmp_path / "run").exists()


# --- whatever the files hold -------------------------------------------------------------------------

VALUES = (None, True, -1, 1e300, 10**30, "x", "", [], [1], {}, {"a": 1}, float("nan"))


def paths_of(value, path=()):
    """Every place within a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from paths_of(inner, (*path, key))


def mutated(rng, content):
    """The bytes with a fault of some kind."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind == 1:
        at = rng.integers(len(content))
        return content[:at] + bytes([content[at] ^ (1 << rng.integers(8))]) + content[at + 1 :]
    if kind == 2:
        start, end = sorted(rng.integers(len(content), size=2))
        return content[:start] + content[end:]
    lines = content.decode().splitlines() if content.startswith(b'{"step"') else [content.decode()]
    at = rng.integers(len(lines))
    value = json.loads(lines[at])
    *path, last = ((),) if not (places := list(paths_of(value))[1:]) else places[rng.integers(len(places))]
    inner = value
    for key in path:
        inner = inner[key]
    if rng.integers(4):
        inner[last] = VALUES[rng.integers(len(VALUES))]
    else:
        del inner[last]
    lines[at] = json.dumps(value)
    return "\n".join([*lines, ""]).encode()


TABLE = {"correct": [[3, 1], [2, 2]], "count": [[4, 2], [4, 2]]}
SUBGROUPS = {
    "class_names": ["cat", "dog"],
    "group_names": ["usual", "rare"],
    "predictions": {"krr": {"synthetic": TABLE}},
}


@pytest.mark.parametrize("name", ["config.json", "environment.json", "report.json", "metrics.jsonl", "synthetic.npz"])
def test_files_that_hold_whatever_are_refused_in_a_line(name, run, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(len(name))
    # With a table of subgroups, which a comparison draws.
    report = read(run.folder / "report.json")
    write_json(run.folder / "report.json", {"subgroups": SUBGROUPS, **report})
    shutil.copytree(run.folder, tmp_path / "other")
    content = (run.folder / name).read_bytes()
    # What comes after the files were read is not tried here.
    monkeypatch.setattr("rdd_jax.app.evaluating.evaluate_sets", lambda *arguments, **options: ((), {}))
    commands = {
        "config.json": [resume(run), ["evaluate", str(run.folder)]],
        "environment.json": [resume(run), ["compare", str(run.folder), str(tmp_path / "other"), "--out", "PICTURE"]],
        "report.json": [resume(run), ["compare", str(run.folder), str(tmp_path / "other"), "--out", "PICTURE"]],
        "metrics.jsonl": [],
        "synthetic.npz": [["evaluate", str(run.folder)]],
    }[name]
    refusals = 0
    for trial in range(25):
        broken = mutated(rng, content) if name != "synthetic.npz" else content[: rng.integers(len(content))]
        (run.folder / name).write_bytes(broken)
        for words in [*commands, ["export", str(run.folder), "--out", str(tmp_path / f"export-{trial}")]]:
            code = main([word.replace("PICTURE", str(tmp_path / f"{trial}.png")) for word in words])
            assert code in (0, 2)
            refusals += code == 2
            assert len(capsys.readouterr().err.splitlines()) == (code == 2)
        if name == "metrics.jsonl":
            try:
                run.metrics(4)
            except ValueError as error:
                assert str(run.folder / name) in str(error)  # noqa: PT017
                refusals += 1
    assert refusals > 5
