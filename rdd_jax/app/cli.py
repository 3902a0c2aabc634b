"""The command line ``rdd``: what is asked, and where the answer is drawn; the work is in the jobs beside this file.

Exit codes: 0 done, 1 nobody reads the output any more, 2 something given cannot be used, 3 diverged, 4 the system would
not write (a full disk; runs are resumable), 130 interrupted (runs are resumable). Nothing heavy is imported before a
command is known, so that ``rdd --help`` is quick.
"""

import errno
import logging
import os
import sys
import warnings
from argparse import REMAINDER
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from itertools import takewhile
from typing import Any, NoReturn

from rdd_jax.app.interrupting import ended_by_signals
from rdd_jax.app.options import Parser
from rdd_jax.errors import InputError, InputWarning, check_one_of

__all__ = ["main", "run"]

DESCRIPTION = "Data set distillation: tiny synthetic sets that train nearly as well as the full one."

COMMANDS = {
    "distill": "distil a data set into a few synthetic images a class: rdd distill METHOD",
    "evaluate": "evaluate a run folder, or a set made elsewhere, beside the baselines",
    "compare": "compare finished runs side by side, group by group",
    "select": "select a weighted subset of the real images, with a certificate",
    "data": "show what is in a data set",
    "groups": "find the groups that a data set hides, and report them",
    "train": "train networks on the real data, and keep every epoch for other runs",
    "export": "take the set of a run elsewhere: PNG, npz, PyTorch, parquet",
}
"""Each is a function of `rdd_jax.app.run_commands`."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the user's arguments are not to blame for."""

UNREADABLE = "Error reading persistent compilation cache entry"
"""How JAX begins to say that a program that was compiled before cannot be read back."""


def run() -> NoReturn:
    """The console script."""
    code = main()
    if code == 130:
        # XLA's threads may be in the middle of a computation: the end of the interpreter would crash them.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line says; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # whatever it cannot show
    try:
        with ended_by_signals():
            try:
                return _command(sys.argv[1:] if arguments is None else arguments)
            finally:
                _flush()
    except KeyboardInterrupt as interrupt:
        return _ended(130, "; ".join(["interrupted", *map(str, interrupt.args)]))
    except InputError as error:
        return _ended(2, str(error))
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = f"{str(error.filename)!r}: " if error.filename else ""
        return _ended(4 if error.errno in UNWRITABLE else 2, f"{where}{error.strerror or error}")


def _command(arguments: list[str]) -> int:
    """The exit code of what is asked."""
    parser = Parser(prog="rdd", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"rdd_jax {version('rdd_jax')}")
    parser.add_argument(
        "--no-compilation-cache", action="store_true", help="compile everything anew, and keep nothing of it"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, told in COMMANDS.items():
        commands.add_parser(name, help=told, add_help=False).add_argument("rest", nargs=REMAINDER)
    if wrong := [argument for argument in arguments if "\0" in argument]:
        raise InputError(f"{wrong[0]!r} holds a null byte: leave it out")
    flags = list(takewhile(lambda argument: argument.startswith("-"), arguments))
    first, rest = arguments[: len(flags) + 1], arguments[len(flags) + 1 :]
    if len(first) > len(flags):
        check_one_of("command", first[-1], COMMANDS)
    asked = parser.parse_args(first)
    with _notes():
        commands = import_module("rdd_jax.app.run_commands")
        if not {"-h", "--help"} & set(rest):
            import_module("rdd_jax.app.compiled").keep_compiled(not asked.no_compilation_cache)
        return getattr(commands, asked.command)(rest)


def _ended(code: int, told: str) -> int:
    """The exit code, and why, in one line."""
    print("rdd:", " ".join(told.split()), file=sys.stderr)
    return code


def _flush() -> None:
    """Raises `OSError` here, and not when the interpreter ends, where the output cannot be written."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _notes() -> Iterator[None]:
    """Within the block an `InputWarning` is one line on standard error, and a damaged compiled program another.

    What Orbax logs is never shown: it is raised as well.
    """

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, InputWarning):
            print(f"rdd: {message}", file=sys.stderr)
        elif str(message).startswith(UNREADABLE):
            print(f"rdd: {import_module('rdd_jax.app.compiled').mended(str(message))}", file=sys.stderr)
        else:
            usual(message, category, *where)

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        usual, warnings.showwarning = warnings.showwarning, show
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield


if __name__ == "__main__":
    run()
