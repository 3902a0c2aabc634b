"""Commands that cannot be: every one ends with exit code 2 and one line that names the value and the remedy."""

import numpy as np
import pytest

from rdd_jax.app import options
from rdd_jax.app.cli import main
from rdd_jax.app.commands import Evaluate, Export, Find, Select, Show, Train
from rdd_jax.app.methods import METHODS, configured

REMEDIES = ("must be", "choose from", "did you mean", "give ", "see `rdd", "once", "is not")
HUGE = str(10**20)


def refused(arguments, capsys):
    """The one line that a bad command ends with."""
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("rdd: ")
    assert len(shown.err.splitlines()) == 1
    assert "Traceback" not in shown.err
    return shown.err


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a set, a file, a loop of links and an empty folder."""
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 6, 6, 1), dtype=np.uint8), np.arange(60) % 2
    np.savez(folder / "own.npz", images=images, labels=labels)
    (folder / "file").write_text("mine")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "empty").mkdir()
    (folder / "broken.toml").write_text("method = ")
    (folder / "other.toml").write_text('method = "dm"')
    (folder / "none.json").write_text("{}")
    np.savez(folder / "few.npz", codes=np.zeros(5, int))
    np.savez(folder / "minus.npz", codes=np.arange(48) - 1)
    np.savez(folder / "halves.npz", codes=np.arange(48) / 2)
    np.savez(folder / "many.npz", codes=np.arange(48) * 10)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_written(files, monkeypatch):
    """Every command here works in ``files``, and leaves it as it was."""
    monkeypatch.chdir(files)
    before = {path: path.lstat().st_mtime_ns for path in files.rglob("*")}
    yield
    assert {path: path.lstat().st_mtime_ns for path in files.rglob("*")} == before


# --- every option of every command -------------------------------------------------------------------

COMMANDS = [
    *((["distill", name], configured(name)) for name in METHODS),
    (["evaluate", "own.npz", "--data", "own.npz"], Evaluate("")),
    (["select"], Select()),
    (["data", "own.npz"], Show("")),
    (["groups", "own.npz"], Find("")),
    (["export", "empty"], Export("")),
    (["train"], Train()),
]
BAD = {int: ("-1", "inf", "nan", HUGE), float: ("nan", "inf", "-1", "1e300")}
NAMES = ("", "nonsense", "a,,b", "+")
"""No option takes these, but for texts and paths."""


def bad_values():
    """Every option once, in the first command that has it, with what it cannot be."""
    seen = set()
    for command, config in COMMANDS:
        for field in options.options(config):
            if field.name in seen or field.option.positional or f"--{field.name}" in command:
                continue
            seen.add(field.name)
            flag = f"--{field.name.replace('_', '-')}"
            values = BAD.get(field.type, ())
            if field.type is str:
                values = ("", "nonsense") if field.name == "data" else NAMES
            for value in values:
                if (field.name, value) == ("corruptions", ""):
                    continue  # none of them
                yield [*command, f"{flag}={value}"], field.name, value


@pytest.mark.parametrize("arguments, name, value", list(bad_values()))
def test_what_an_option_cannot_be_is_refused(arguments, name, value, capsys):
    error = refused(arguments, capsys)
    # A number is named as it was read, a list of names by the first that is wrong.
    said = {"1e300": "1e+300", "a,,b": "'a", "+": "'"}.get(value, value.strip())
    assert said in error
    assert any(remedy in error for remedy in REMEDIES)
    assert name in error.replace("-", "_") or name in ("augment", "data")


def test_nearly_every_option_is_tried():
    tried = {name for _, name, _ in bad_values()}
    every = {field.name for _, config in COMMANDS for field in options.options(config) if field.type is not bool}
    assert every - tried <= {"out", "source", "name", "run"}
    assert len(list(bad_values())) > 200


# --- words and places --------------------------------------------------------------------------------

LONG = "n" * 300
WORDS = [
    ([], "COMMAND", "rdd --help"),
    (["distil"], "'distil'", "did you mean distill"),
    (["distill", "kpi"], "'kpi'", "did you mean kip"),
    (["distill", "--ipc", "3"], "method", "kip"),
    (["distill", "kip", "extra"], "'extra'", "rdd distill kip --help"),
    (["distill", "kip", "--ipcc", "3"], "--ipcc", "did you mean --ipc"),
    (["distill", "kip", "--ipc", "1.5"], "'1.5' is not a whole number", "--help"),
    (["distill", "kip", "--lr", "fast"], "'fast' is not a number", "--help"),
    (["distill", "kip", "--kernel", " x y "], "' x y '", "choose from"),
    (["distill", "kip", "--ipc"], "--ipc", "expected one argument"),
    (["distill", "kip", "--ipc", "1", "--ipc", "2"], "--ipc is given 2 times", "say it once"),
    (["distill", "kip", "--robust", "--no-robust"], "--robust is given 2 times", "say it once"),
    (["distill", "kip", "--out", "a", "--out=b"], "--out is given 2 times", "say it once"),
    (["distill", "dm", "--net-period", "3"], "--net-period", "dc, dsa, rdd"),
    (["distill", "kip", "--labels", "soft"], "'soft'", "choose from"),
    (["distill", "kip", "--grouping", "kmeans+kmeans"], "'kmeans+kmeans'", "say kmeans once"),
    (["distill", "kip", "--grouping", "none+class"], "'none+class'", "stands alone"),
    (["distill", "kip", "--grouping", "no.npz"], "'no.npz'", "is not there"),
    (["distill", "kip", "--grouping", "file.npz/x.npz"], "'file.npz/x.npz'", "is not there"),
    (["distill", "kip", "--grouping", "own.npz"], "'own.npz'", "has no codes (it has images, labels)"),
    (["distill", "kip", "--grouping", "few.npz+few.npz"], "'few.npz'", "once"),
    (["distill", "kip", "--grouping", "few.npz+kmean"], "'kmean'", "did you mean kmeans"),
    (["distill", "kip", "--grouping", "none+few.npz"], "'none+few.npz'", "stands alone"),
    (["distill", "kip", "--grouping", "minus.npz"], "hold -1", "from 0 on"),
    (["distill", "kip", "--grouping", "halves.npz"], "hold 0.5", "give one integer an image"),
    (["distill", "kip", "--grouping", "many.npz"], "hold 470, but there are 48", "number the groups from 0 on"),
    (["distill", "kip", "--data", "own.npz", "--grouping", "few.npz"], "are 5, but there are 44", "give one for each"),
    (
        ["distill", "kip", "--groups-from", "leaf"],
        "'leaf', a feature of a TFDS set, and 'digits' is none",
        "give one, or leave it out",
    ),
    (["data", "own.npz", "--groups-from", "leaf"], "'own.npz' is none", "under the key `groups`"),
    (["distill", "kip", "--learners", "krr,krr"], "'krr,krr'", "say krr once"),
    (["distill", "kip", "--bias", "2"], "bias is 2.0", "at most 1"),
    (["distill", "kip", "--seed", "4294967296"], "seed is 4294967296", "at most 4294967295"),
    (["distill", "kip", "--seed", str(2**63)], f"seed is {2**63}", "at most 4294967295"),
    (["distill", "kip", "--lr", "1e-300"], "lr is 1e-300", "give 1.2e-38 or more"),
    (["distill", "kip", "--depth", "101"], "depth is 101", "at most 100"),
    (["distill", "dm", "--net-depth", "500"], "net_depth is 500", "at most 100"),
    (["distill", "kip", "--recipe", "frep"], "unknown recipe 'frep'", "did you mean frepo"),
    (["distill", "kip", "--recipe", "dc,epoch=3"], "unknown key 'epoch'", "did you mean epochs"),
    (["distill", "kip", "--recipe", "dc,epochs=some"], "epochs is 'some'", "give a whole number"),
    (["distill", "kip", "--recipe", "no.toml"], "'no.toml'", "no file"),
    (["distill", "kip", "--recipe", "broken.toml"], "'broken.toml'", "mend it"),
    (["evaluate", "set.npz", "--data", "digits", "--learners", "krr", "--recipe", "dc"], "'krr'", "add a network"),
    (["distill", "kip", "--ipc", "1000000000"], "ipc is 1000000000", "lower ipc"),
    (["distill", "kip", "--batch", "2000000000"], "batch is 2000000000", "GiB or more"),
    (["distill", "dm", "--batch", "200000000"], "batch is 200000000", "GiB or more"),
    (["distill", "dm", "--net-width", "1000000"], "net_width is 1000000", "GiB or more"),
    (["distill", "rdd", "--net-pool", "1000000000"], "net_pool is 1000000000", "GiB or more"),
    (["distill", "dc", "--net-batch", "2000000000"], "net_batch is 2000000000", "GiB or more"),
    (["distill", "kip", "--parameterisation", "multi-formation", "--factor", "1000000000"], "1000000000", "factor"),
    (["distill", "kip", "--config", "file"], "'file'", "give a .toml or .json"),
    (["distill", "kip", "--config", "no.toml"], "'no.toml'", "no file"),
    (["distill", "kip", "--config", "broken.toml"], "'broken.toml'", "mend it"),
    (["distill", "kip", "--config", "other.toml"], "'dm'", "rdd distill dm"),
    (["distill", "--config", "none.json"], "none.json", "give method"),
    (["distill", "--resume", "nowhere"], "'nowhere'", "is no run folder"),
    (["distill", "--resume", "file"], "'file'", "is no run folder"),
    (["distill", "--resume", "file/run"], "'file/run'", "is no run folder"),
    (["distill", "--resume", "loop"], "'loop'", "is no run folder"),
    (["distill", "--resume", "empty"], "'empty'", "is no run folder"),
    (["distill", "--resume", LONG], LONG, "File name too long"),
    (["distill", "--resume", "a\0b"], "null byte", "leave it out"),
    (["distill", "kip", "--init", "nothing.npz"], "'nothing.npz'", "choose from"),
    (["distill", "kip", "--init", LONG], LONG, "File name too long"),
    (["distill", "kip", "--data", "nowhere.npz"], "'nowhere.npz'", "no file"),
    (["distill", "kip", "--data", "no/where"], "'no/where'", "no file or folder of that name"),
    (["evaluate"], "SOURCE", "rdd evaluate --help"),
    (["evaluate", "own.npz"], "--data is missing", "real data"),
    (["evaluate", "own.npz", "own.npz", "--data", "own.npz"], "'own.npz'", "rdd evaluate --help"),
    (["evaluate", "file"], "'file'", "neither a run folder nor an .npz"),
    (["evaluate", "empty"], "'empty'", "is no run folder"),
    (["evaluate", "loop"], "'loop'", "neither a run folder nor an .npz"),
    (["evaluate", "own.npz", "--data", "own.npz", "--space", "pixels"], "'pixels'", "did you mean pixel"),
    (["compare"], "not 0", "rdd compare runs/A runs/B"),
    (["compare", "empty"], "not 1", "rdd compare runs/A runs/B"),
    (["compare", "empty", "empty"], "not 1", "rdd compare runs/A runs/B"),
    (["compare", "empty", "file"], "'empty'", "report.json"),
    (["compare", "empty", "--on", "x"], "--on", "rdd compare --help"),
    (["select", "extra"], "'extra'", "rdd select --help"),
    (["select", "--out", "set.txt"], "'set.txt'", "ends in .npz"),
    (["select", "--method", "krr"], "'krr'", "choose from"),
    (["data"], "NAME", "rdd data --help"),
    (["data", ""], "name is empty", "give digits"),
    (["data", "nowhere.npz"], "'nowhere.npz'", "no file"),
    (["data", "own.npz", "digits"], "'digits'", "rdd data --help"),
    (["groups"], "NAME", "rdd groups --help"),
    (["groups", "nowhere.npz"], "'nowhere.npz'", "no file"),
    (["groups", "own.npz", "--grouping", "none"], "'none'", "give the grouping"),
    (["groups", "own.npz", "--grouping", "nearest+kmeans"], "'nearest'", "give discovered"),
    (["groups", "own.npz", "--grouping", "labels"], "'labels'", "the training data has none"),
    (["groups", "own.npz", "--grouping", "few.npz"], "are 5, but there are 44", "give one for each"),
    (["groups", "own.npz", "--groups-per-class", "40", "--grouping", "kmeans"], "is 40, but class", "lower it"),
    (["groups", "own.npz", "--ipc", "1"], "--ipc", "rdd groups --help"),
    (["export"], "RUN", "rdd export --help"),
    (["export", "empty"], "'empty'", "is no run folder"),
    (["export", "file"], "'file'", "is no run folder"),
    (["export", "empty", "--to", "pgn"], "'pgn'", "did you mean png"),
]


@pytest.mark.parametrize("arguments, value, remedy", WORDS)
def test_what_cannot_be_asked_is_refused(arguments, value, remedy, capsys):
    error = refused(arguments, capsys)
    assert value in error
    assert remedy in error


WRITING = [
    ["distill", "kip"],
    ["evaluate", "own.npz", "--data", "own.npz"],
    ["select"],
    ["data", "own.npz"],
    ["groups", "own.npz"],
]
PLACES = [
    ("file/out.npz", "Not a directory"),
    ("file/deep/out.npz", "Not a directory"),
    ("loop/out.npz", "Too many levels of symbolic links"),
    (f"{LONG}.npz", "File name too long"),
    (f"new/{LONG}/out.npz", "File name too long"),
    ("/proc/new/out.npz", "No such file or directory"),
    ("own.npz", "exists"),
    ("loop", "exists"),
]


@pytest.mark.parametrize("command", WRITING, ids=lambda words: words[0])
@pytest.mark.parametrize("out, why", PLACES)
def test_where_nothing_can_be_written_is_said_beforehand(command, out, why, capsys):
    error = refused([*command, "--out", out], capsys)
    assert out in error
    assert why in error or "ends in .npz" in error
    assert "--out" in error or "ends in .npz" in error


def test_a_full_device_is_said_beforehand(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rdd_jax.files.tempfile.TemporaryFile", full)
    for command in WRITING:
        assert "'new.npz' cannot be written (No space left on device)" in refused(
            [*command, "--out", "new.npz"], capsys
        )
