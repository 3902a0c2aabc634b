"""One function a command: from its arguments to its job, and what is shown of it; they return the exit code."""

import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax

from rdd_jax import plots
from rdd_jax.app import (
    comparing,
    evaluating,
    exporting,
    finding,
    found_page,
    options,
    report,
    selecting,
    showing,
    training,
)
from rdd_jax.app.commands import Compare, Evaluate, Export, Find, Select, Show, Train
from rdd_jax.app.distilling import distill as distill_job
from rdd_jax.app.drawing import Drawn, draw_report, draw_table
from rdd_jax.app.environment import check_device
from rdd_jax.app.hosts import Hosts, add_hosts, own_folder
from rdd_jax.app.interrupting import ended_by_signals
from rdd_jax.app.methods import METHODS, Method, name_of
from rdd_jax.app.run_folder import Run, config_of, folder_of
from rdd_jax.distill import Diverged
from rdd_jax.errors import InputError, unknown
from rdd_jax.files import as_json, check_new, read_values, write_bytes
from rdd_jax.progress import SILENT

__all__ = ["compare", "data", "distill", "evaluate", "export", "groups", "select", "train"]

T = TypeVar("T")


def _configured(config: T, name: str, arguments: Sequence[str]) -> T:
    """``config`` with the arguments of the command ``name`` in the place of what it had."""
    parser = options.parser(config, f"rdd {name}", type(config).__doc__ or "")
    found = options.updated(config, options.parse(parser, arguments))
    options.check(found)
    return found


# --- distill -----------------------------------------------------------------------------------------


def distill(arguments: Sequence[str]) -> int:
    """``rdd distill METHOD [OPTIONS]``, ``--config FILE`` or ``--resume RUN``."""
    config, out, resume, hosts = _asked(list(arguments))
    run = Run(out)
    if resume and run.finished:
        run.report()  # raises where it is broken
        print(f"{out} has ended: {out / 'report.html'} is its report; nothing is left to do")
        return 0
    hosts.join()
    check_device()
    first = jax.process_index() == 0
    try:
        with ended_by_signals(), Drawn() as drawn, own_folder(out, resume) as own:
            outcome = distill_job(config, own, resume=resume, progress=drawn.progress if first else SILENT)
    except Diverged as diverged:
        print(f"rdd: {diverged} (the last good state is kept in {out})", file=sys.stderr)
        return 3
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*_resumption(run)) from interrupt
    except OSError as error:
        told = "; ".join([error.strerror or str(error), *_resumption(run)])
        raise OSError(error.errno, told, error.filename) from error
    if first:
        draw_report(outcome.report)
        print(f"{out / 'report.html'}: the report, with pictures; {out / 'synthetic.npz'}: the set")
    return 0


def _resumption(run: Run) -> list[str]:
    """How to go on with a run that was broken off, where it had begun."""
    return [f"go on with `{run.resumption}`"] if (run.folder / "config.json").is_file() else []


def _asked(arguments: list[str]) -> tuple[Method, Path, bool, Hosts]:
    """The configuration, the folder, whether its run is to be taken up again, and the hosts that it is on."""
    if not arguments or arguments[0] in ("-h", "--help"):
        _methods_parser().parse_args(["--help"])
    method = None if arguments[0].startswith("-") else arguments.pop(0)
    if method is not None and method not in METHODS:
        raise unknown("method", method, METHODS)
    options.check_once(arguments)
    shared = options.Parser(prog="rdd distill", add_help=False, allow_abbrev=False)
    for name in ("--config", "--resume", "--out"):
        shared.add_argument(name, type=Path)
    add_hosts(shared)
    given, rest = shared.parse_known_args(arguments)
    hosts = Hosts(given.coordinator, given.hosts, given.host)
    hosts.check()
    if given.resume is not None:
        return _resumed(method, given.resume, given.out, given.config, rest), given.resume, True, hosts
    if method is None and given.config is None:
        raise InputError(f"rdd distill needs a method first: one of {', '.join(METHODS)} (or --config, or --resume)")
    start = None if method is None else METHODS.make(method)
    if given.config is not None:
        start = config_of(read_values(given.config), str(given.config), start)
    assert start is not None
    config = options.updated(start, _said(start, rest))
    return config, given.out or folder_of(config), False, hosts


def _methods_parser() -> ArgumentParser:
    """The page of ``rdd distill --help``."""
    parser = ArgumentParser(
        prog="rdd distill",
        usage="rdd distill METHOD [OPTIONS], rdd distill --config FILE, or rdd distill --resume RUN",
        description="Distil a data set into a few synthetic images a class.",
        epilog="`rdd distill METHOD --help` has the options of a method, with its published settings.",
    )
    methods = parser.add_argument_group("methods")
    for name in METHODS:
        methods.add_argument(name, help=METHODS[name].__doc__, nargs="?")
    _add_run(parser)
    return parser


def _add_run(parser: ArgumentParser) -> None:
    """Options that are about the run and not of its configuration."""
    parser.add_argument("--out", metavar="RUN", help="the run folder to make; must not exist [runs/DATA-METHOD-...]")
    parser.add_argument("--config", metavar="FILE", help="options from a .toml or .json file; flags beside it win")
    add_hosts(parser)


def _said(config: Method, arguments: Sequence[str]) -> dict[str, Any]:
    """The options of the configuration that the arguments say."""
    parser = options.parser(config, f"rdd distill {name_of(config)}", config.description())
    _add_run(parser)
    return options.parse(parser, arguments, _elsewhere)


def _elsewhere(flag: str) -> str:
    """Which methods have an option."""
    name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
    having = [key for key in METHODS if name in {field.name for field in options.options(METHODS.make(key))}]
    return f"it is one of {', '.join(having)}" if having else ""


def _resumed(method: str | None, folder: Path, out: Path | None, file: Path | None, arguments: Sequence[str]) -> Method:
    """The configuration of a run, which options given beside it must not contradict."""
    saved = Run(folder).config()
    if method not in (None, name_of(saved)):
        raise InputError(f"cannot resume {str(folder)!r} by {method}: it is a run of {name_of(saved)}")
    given = config_of(read_values(file), str(file), saved) if file is not None else saved
    given = options.updated(given, _said(saved, arguments))
    old = {field.name: field.default for field in options.options(saved)}
    # The data may have moved: whether they are the same is seen when they are read. No result depends on the devices.
    same = {"data": saved.data.data, "mesh": saved.mesh}
    new = {field.name: field.default for field in options.options(given)} | same
    if changed := [f"--{key.replace('_', '-')} {new[key]} (it has {old[key]})" for key in old if old[key] != new[key]]:
        raise InputError(f"cannot resume {str(folder)!r} with {', '.join(changed)}: leave it out or start a new run")
    if out not in (None, folder):
        raise InputError(f"--out {str(out)!r} beside --resume {str(folder)!r}: a run stays in its folder")
    return given


# --- the other commands ------------------------------------------------------------------------------


@contextmanager
def _kept(file: Path | None, content: bytes | None) -> Iterator[None]:
    """What is shown within the block is written after it, even where nobody reads on; and shown where that fails."""
    try:
        yield
    finally:
        if file is not None and content is not None:
            write_bytes(file, content)


def evaluate(arguments: Sequence[str]) -> int:
    """``rdd evaluate SOURCE``."""
    plain = Evaluate("")
    parser = options.parser(plain, "rdd evaluate", Evaluate.__doc__ or "")
    given = options.parse(parser, arguments)
    start = evaluating.of_run(given["source"])
    if not Path(given["source"]).is_dir() and "data" not in given:
        raise InputError("--data is missing: an .npz does not say which real data to test on")
    config = options.updated(start, given)
    options.check(config)
    check_device()
    with Drawn() as drawn:
        values = evaluating.evaluate(config, drawn.progress, elsewhere=evaluating.OF_DATA & set(given))
    with _kept(config.out, as_json(values)):
        draw_report(values)
    return 0


def compare(arguments: Sequence[str]) -> int:
    """``rdd compare RUN RUN ...``."""
    parser = options.Parser(prog="rdd compare", description=Compare.__doc__, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="finished run folders, on the same data")
    parser.add_argument("--out", type=Path, default=Path("compare.png"), help="where the picture goes [compare.png]")
    given = options.parse(parser, arguments)
    config = Compare(tuple(given["runs"]), given["out"])
    header, rows, picture = comparing.compare(config)
    with _kept(config.out, picture):
        draw_table(header, rows)
    if picture is not None:
        print(f"{config.out}: the accuracy of every class and group")
    return 0


def select(arguments: Sequence[str]) -> int:
    """``rdd select``."""
    config = _configured(Select(), "select", arguments)
    check_device()
    with Drawn() as drawn:
        values = selecting.select(config, drawn.progress)
    print(
        f"{values['chosen']} of {values['data']} by {values['method']} ({values['draw']}, by {values['strata']}) in "
        f"{values['seconds']:.1f} s"
    )
    for sentence in values["words"]:
        print(sentence)
    print(f"{values['out']}: indices, weights, scores and images; a picture and a report beside it")
    return 0


def data(arguments: Sequence[str]) -> int:
    """``rdd data NAME``."""
    config = _configured(Show(""), "data", arguments)
    stem = Path(config.name).stem
    out = config.out or Path(f"data-{stem}.png")
    check_new(out)
    splits, rows = showing.describe(config)
    train = splits.train
    header = ["", "train", "validation", "test"]
    with _kept(out, plots.image_grids({stem: train.pixels}, train.labels, train.class_names)):
        draw_table(header, rows, title=f"{stem}: {train.images.shape[1:]} {train.images.dtype}")
    print(f"{out}: the first images of every class")
    return 0


def groups(arguments: Sequence[str]) -> int:
    """``rdd groups NAME``."""
    config = _configured(Find(""), "groups", arguments)
    check_device()
    with Drawn() as drawn:
        values = finding.find(config, drawn.progress)
    header, rows = found_page.table(values)
    draw_table(header, rows, title=f"{values['data']}: found groups")
    if left := len(values["cells"]) - len(rows):
        print(f"{left} smaller groups are in the report")
    print("* of the largest loss; as X: mostly taken for class X by the reference")
    for sentence in found_page.sentences(values):
        print(sentence)
    print(
        f"{values['out']}/report.html: the groups with pictures; --grouping {values['out']}/groups.npz trains on them"
    )
    return 0


def train(arguments: Sequence[str]) -> int:
    """``rdd train``."""
    config = _configured(Train(), "train", arguments)
    check_device()
    try:
        with ended_by_signals(), Drawn() as drawn:
            values = training.train(config, drawn.progress)
    except Diverged as diverged:
        print(f"rdd: {diverged} (the epochs before are kept)", file=sys.stderr)
        return 3
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("the same command goes on") from interrupt
    header, rows = report.epoch_rows(values["epochs"])
    draw_table(header, rows, f"{values['recipe']} on {values['data']}")
    draw_table(*report.table_rows(values["evaluations"], short=True), "the last epoch, on test")
    print(f"time {report.times(values['seconds'])}, device {values['device']}")
    if not values["trained"]:
        print("It was there already: nothing was trained.")
    folder = values["out"]
    print(f"{folder}: the networks of every epoch; `rdd distill mtt --snapshots {shlex.quote(folder)} ...` takes them")
    return 0


def export(arguments: Sequence[str]) -> int:
    """``rdd export RUN``."""
    config = _configured(Export(""), "export", arguments)
    check_device()
    out = exporting.export(config)
    print(f"{out}: the set as {config.to}; README.md says how to load it")
    return 0
