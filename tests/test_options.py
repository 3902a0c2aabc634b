"""Options as command lines, help pages and files."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from rdd_jax.app import options, settings
from rdd_jax.app.cli import main
from rdd_jax.app.methods import METHODS, configured
from rdd_jax.app.run_commands import _asked
from rdd_jax.app.run_folder import Run
from rdd_jax.datasets import load
from rdd_jax.errors import InputError
from rdd_jax.files import read_values


@dataclass(frozen=True)
class Inner:
    """A section."""

    size: Annotated[int, options.count("how many")] = 3
    rate: Annotated[float | None, options.number("how fast", most=1)] = None
    colour: Annotated[str, options.one_of(("red", "blue"), "which")] = "red"
    loud: Annotated[bool, options.flag("or not")] = False
    parts: Annotated[int | Literal["auto"], options.count("how many parts; auto: as fit")] = "auto"


@dataclass(frozen=True)
class Outer:
    """A configuration."""

    inner: Inner = Inner()
    seed: Annotated[int, options.count("the seed", 0)] = 0


def parsed(*arguments):
    return options.updated(Outer(), options.parse(options.parser(Outer(), "prog", ""), arguments))


def test_flags_reach_their_sections_and_the_rest_stays():
    assert parsed() == Outer()
    found = parsed("--size", "5", "--rate", "0.5", "--loud", "--seed", "2")
    assert found == Outer(Inner(5, 0.5, "red", True), 2)
    assert parsed("--no-loud").inner.loud is False
    assert (parsed("--parts", "4").inner.parts, parsed("--parts", "auto").inner.parts) == (4, "auto")
    with pytest.raises(InputError, match="'many' is not a whole number or auto"):
        parsed("--parts", "many")


@pytest.mark.parametrize(
    "config, message",
    [
        (Inner(size=0), "size is 0: it must be at least 1"),
        (Inner(rate=0.0), "rate is 0.0: it must be above 0, at most 1"),
        (Inner(rate=1.5), "rate is 1.5"),
        (Inner(rate=float("nan")), "rate is nan"),
        (Inner(parts=0), "parts is 0: it must be at least 1"),
        (Inner(colour="rde"), "unknown colour 'rde': did you mean red"),
    ],
)
def test_values_are_checked_by_their_options(config, message):
    with pytest.raises(InputError, match=message):
        options.check(Outer(config))
    options.check(Outer(Inner(rate=1.0)))


def test_an_unknown_flag_names_the_nearest():
    with pytest.raises(InputError, match="unknown option '--sise': did you mean --size"):
        parsed("--sise", "3")


def test_help_is_a_section_a_group_and_an_option_a_line():
    page = options.parser(Outer(), "prog", "What it does.").format_help().splitlines()
    (line,) = [line for line in page if "--colour" in line]
    assert "which: red, blue [red]" in line
    assert page.index("inner:") < page.index(line)
    assert any("--[no-]loud" in line for line in page)


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, expected",
    [
        ({}, Outer()),
        ({"seed": 3, "inner": {"size": 4, "rate": 1}}, Outer(Inner(4, 1.0), 3)),
        ({"inner": {"rate": None}}, Outer()),
        ({"inner": {"parts": 2}}, Outer(Inner(parts=2))),
        ({"inner": {"parts": "auto"}}, Outer()),
    ],
)
def test_a_file_says_what_flags_say(values, expected):
    assert settings.from_values(Outer(), values, "file") == expected
    assert settings.from_values(Outer(), settings.to_values(expected), "file") == expected


@pytest.mark.parametrize(
    "values, message",
    [
        ({"iner": {}}, "unknown section 'iner': did you mean inner"),
        ({"inner": {"sise": 3}}, "unknown option 'inner.sise': did you mean inner.size"),
        ({"size": 3}, "unknown option 'size': did you mean 'inner.size'"),
        ({"sead": 3}, "unknown option 'sead': did you mean seed"),
        ({"inner": 3}, "inner is 3, but it is a section"),
        ({"inner": {"size": "3"}}, "inner.size is '3': give a whole number"),
        ({"inner": {"size": 3.5}}, "inner.size is 3.5: give a whole number"),
        ({"inner": {"size": True}}, "inner.size is True: give a whole number"),
        ({"inner": {"size": None}}, "inner.size is None: give a whole number"),
        ({"inner": {"rate": "fast"}}, "inner.rate is 'fast': give a number"),
        ({"inner": {"parts": "many"}}, "inner.parts is 'many': give a whole number or auto"),
        ({"inner": {"parts": None}}, "inner.parts is None: give a whole number or auto"),
        ({"inner": {"loud": 1}}, "inner.loud is 1: give true or false"),
        ({"inner": {"colour": 7}}, "inner.colour is 7: give a text"),
    ],
)
def test_what_a_file_cannot_say_is_named_with_the_remedy(values, message):
    with pytest.raises(InputError) as error:
        settings.from_values(Outer(), values, "file.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("file.toml")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.toml", "a = ", "is broken"),
        ("a.json", "{", "is broken"),
        ("a.json", "[1]", "holds a list, expected names"),
        ("a.yaml", "a: 1", "give a .toml or .json file"),
        ("a.toml", None, "no file"),
    ],
)
def test_files_that_cannot_be_read_are_named(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_values(tmp_path / name)


TOML = """
method = "dm"
seed = 4
[data]
data = "mnist"
[set]
ipc = 1
[optimiser]
lr = 5
"""


def asked(*arguments):
    return _asked([str(argument) for argument in arguments])


def test_a_file_gives_the_method_and_flags_win(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(TOML)
    config, out, resume, _ = asked("--config", file)
    assert config == configured("dm", seed=4, data="mnist", ipc=1, lr=5.0)
    assert (out, resume) == (Path("runs/mnist-dm-ipc1-seed4"), False)
    assert asked("dm", "--config", file, "--ipc", "3", "--out", "here")[:2] == (
        configured("dm", seed=4, data="mnist", ipc=3, lr=5.0),
        Path("here"),
    )
    with pytest.raises(InputError, match="is of method 'dm', not 'kip'"):
        asked("kip", "--config", file)
    file.write_text("seed = 3")
    assert asked("kip", "--config", file)[0] == configured("kip", seed=3)
    with pytest.raises(InputError, match="names no method"):
        asked("--config", file)


def test_the_configuration_of_a_run_is_such_a_file(tmp_path):
    run, config = Run(tmp_path / "run"), configured("rdd", ipc=1, robust=True, tau=0.5)
    run.create(config, {}, load("digits"))
    assert run.config() == config == asked("--config", run.folder / "config.json")[0]


OLD = {"method": "kip", "data": "mnist", "ipc": 1, "lr": 0.1, "robust": True, "batch": 5000, "labels": "learned"}
OLD |= {"grouping": "spurious+kmeans", "groups_per_class": 0, "baselines": False, "net_train": "none", "tau": None}


def test_a_run_of_the_old_layout_says_which_command_remakes_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(OLD))
    with pytest.raises(InputError) as error:
        Run(tmp_path).config()
    command = str(error.value).partition("`")[2].rstrip("`").split()
    assert command[:3] == ["rdd", "distill", "kip"]
    expected = {"data": "mnist", "ipc": 1, "lr": 0.1, "robust": True, "labels": "learned", "baselines": False}
    assert asked(*command[2:])[0] == configured("kip", **expected, grouping="spurious+kmeans")


# --- pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_the_page_of_a_method_has_all_options_with_their_choices(name, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["distill", name, "--help"])
    assert exited.value.code == 0
    page = capsys.readouterr().out
    assert len(page.splitlines()) < (91 if name == "kip" else 112)
    words = page.replace("\n", " ").split()
    for field in options.options(configured(name)):
        shown = f"--[no-]{field.name}" if field.type is bool else f"--{field.name}"
        assert shown.replace("_", "-") in words
        for choice in field.option.help.partition(": ")[2].split(", "):
            assert all(word in words or word.strip(",") in page for word in choice.split())


def test_an_option_of_another_method_is_refused_and_named(capsys):
    assert main(["distill", "dm", "--net-period", "3"]) == 2
    assert "--net-period is no option of `rdd distill dm`: it is one of dc, dsa, rdd, frepo," in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["distill", "kpi"], "unknown method 'kpi': did you mean kip"),
        (["distill", "--ipc", "3"], "needs a method first"),
        (["distill", "--config", "nowhere.toml"], "no file 'nowhere.toml'"),
        (["distill", "--resume", "nowhere"], "no run folder"),
    ],
)
def test_what_is_missing_is_said(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_version_and_help_are_quick_to_import():
    code = """
import contextlib, io, sys
from rdd_jax.app.cli import main
for argument in ("--version", "--help"):
    with contextlib.suppress(SystemExit):
        main([argument])
print([name for name in ("jax", "numpy", "flax", "matplotlib", "tensorflow") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("rdd_jax 0.")
    assert "distill" in shown
    assert shown.splitlines()[-1] == "[]"
