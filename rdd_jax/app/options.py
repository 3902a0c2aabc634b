"""Typed dataclasses as command lines and help pages, and in `settings` as files, checked once for all three.

A configuration is a frozen dataclass whose fields are options, or sections: dataclasses of options. An option is a
field annotated with an `Option`, which says what it is in one line and what values it takes. Its name is its flag and
its key in a file; names are unique over the sections of a configuration. None alone means unset. A word that may stand
for a value is in the type, as in ``int | Literal["auto"]``.
"""

import textwrap
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, HelpFormatter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from shutil import get_terminal_size
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rdd_jax.errors import InputError, check_one_of, unknown

__all__ = [
    "Field",
    "Option",
    "Parser",
    "check",
    "check_once",
    "count",
    "flag",
    "narrowed",
    "number",
    "one_of",
    "options",
    "parse",
    "parser",
    "seed_number",
    "some_of",
    "text",
    "updated",
    "wanted",
]

T = TypeVar("T")


# --- what an option says -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """What the annotation of a field says.

    Attributes:
      help: one line.
      metavar: what stands for the value.
      check: ``check(name, value)`` raises `InputError` where the value is not one; never asked about None.
      positional: given without a flag.
    """

    help: str
    metavar: str = ""
    check: Callable[[str, Any], None] = lambda name, value: None
    positional: bool = False


def text(help: str, metavar: str = "NAME", positional: bool = False) -> Option:
    """Any text but the empty one."""

    def check(name: str, value: str | Path) -> None:
        if value == Path() or not str(value).strip():
            raise InputError(f"{name} is empty: give {help.partition(';')[0]}")

    return Option(help, metavar, check, positional)


def flag(help: str) -> Option:
    """Yes or no."""
    return Option(help)


def count(help: str, least: int = 1, most: int = 2**31 - 1) -> Option:
    """A whole number from ``least`` to ``most``; steps and sizes are counted in 32 bits."""

    def check(name: str, value: int) -> None:
        if not least <= value <= most:
            raise InputError(f"{name} is {value}: it must be at least {least}, at most {most}")

    return Option(help, "N", check)


def seed_number(help: str) -> Option:
    """A seed; JAX hears no more than 32 bits of one."""
    return count(help, 0, 2**32 - 1)


SMALLEST, LARGEST = 1.2e-38, 3.4e38
"""What single precision, in which everything is computed, holds of a number; nearer to 0 it is 0."""


def number(help: str, most: int | float = LARGEST, least: int | float | None = None) -> Option:
    """A number above 0 (or from ``least`` on), at most ``most``."""
    start = "above 0" if least is None else f"at least {least:g}"

    def check(name: str, value: int | float) -> None:
        low = value > 0 if least is None else value >= least
        if not (low and value <= most):
            raise InputError(f"{name} is {value}: it must be {start}, at most {most:g}")
        if 0 < value < SMALLEST:
            raise InputError(f"{name} is {value}: that is 0 in single precision, give {SMALLEST:g} or more")

    return Option(help, "X", check)


def one_of(names: Collection[str], help: str) -> Option:
    """A name, such as one of a registry; the help lists them."""
    return Option(f"{help}: {', '.join(names)}", "NAME", lambda name, value: check_one_of(name, value, names))


def some_of(names: Collection[str], help: str, by: str, metavar: str = "NAME", least: int = 1) -> Option:
    """Names joined by ``by``, ``+`` or a comma, each once; where ``least`` is 0 the empty text is none of them."""

    def check(name: str, value: str) -> None:
        parts = [part.strip() for part in value.split(by)] if value or least else []
        for part in parts:
            if not part:
                raise InputError(f"{name} is {value!r}: give names joined by {by!r}, such as {next(iter(names))}")
            check_one_of(name, part, names)
        if twice := {part for part in parts if parts.count(part) > 1}:
            raise InputError(f"{name} is {value!r}: say {', '.join(sorted(twice))} once")

    return Option(f"{help}: {', '.join(names)}", f"{metavar}{by}...", check)


class Field(NamedTuple):
    """An option where it stands: in ``section``, or in the configuration itself; ``words`` may stand for a value."""

    section: str | None
    name: str
    type: type
    optional: bool
    words: tuple[str, ...]
    option: Option
    default: Any


def options(config: Any) -> Iterator[Field]:
    """The options of a configuration in order, with the values that it has."""
    hints = _hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from (found._replace(section=field.name) for found in options(value))
            continue
        kind, *marks = get_args(hints[field.name])
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        words = tuple(word for member in members if get_origin(member) is Literal for word in get_args(member))
        (bare,) = (member for member in members if member is not NoneType and get_origin(member) is not Literal)
        (option,) = (mark for mark in marks if isinstance(mark, Option))
        yield Field(None, field.name, bare, NoneType in members, words, option, value)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def check(config: Any) -> None:
    """Raises `InputError` where a value of the configuration is not one of its option's."""
    for field in options(config):
        if field.default is not None and field.default not in field.words:
            field.option.check(field.name, field.default)


# --- the command line --------------------------------------------------------------------------------


class _OneLine(HelpFormatter):
    """An option a line, where the line is long enough."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=27, width=max(132, get_terminal_size().columns))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)  # names are to be copied

    def _format_action_invocation(self, action: Action) -> str:
        if isinstance(action, BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0].removeprefix('--')}"
        return super()._format_action_invocation(action)


class Parser(ArgumentParser):
    """A parser whose complaints are `InputError`s, in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}: see `{self.prog} --help`")


class _Sections(Parser):
    def format_help(self) -> str:
        """Without empty lines between the sections, so that the page is short."""
        head, _, sections = super().format_help().partition("\noptions:\n")
        return f"{head.rstrip()}\noptions:\n{sections.replace(chr(10) * 2, chr(10))}"


def parser(config: Any, prog: str, description: str) -> ArgumentParser:
    """A parser of the options of ``config``; what is not given is not in its result. Help is a section a group."""
    made = _Sections(
        prog=prog, description=description, allow_abbrev=False, usage=f"{prog} [OPTIONS]", formatter_class=_OneLine
    )
    groups: dict[str | None, Any] = {None: made}
    for field in options(config):
        if field.section not in groups:
            groups[field.section] = made.add_argument_group(field.section)
        told = field.option.help.replace("%", "%%")
        if field.option.positional:
            made.usage = f"{made.usage} {field.name.upper()}"
            groups[None].add_argument(field.name, help=told, metavar=field.name.upper())
            continue
        shown = "" if field.default is None or field.default == "" else f" [{_shown(field.default)}]".replace("%", "%%")
        how = {"action": BooleanOptionalAction} if field.type is bool else {"type": partial(_read, field)}
        metavar = {} if field.type is bool else {"metavar": field.option.metavar}
        name = f"--{field.name.replace('_', '-')}"
        groups[field.section].add_argument(name, dest=field.name, default=SUPPRESS, help=told + shown, **how, **metavar)
    return made


def _read(field: Field, value: str) -> Any:
    """The value that an argument stands for."""
    try:
        return value if value in field.words else field.type(value)
    except ValueError as error:
        raise ArgumentTypeError(f"{value!r} is not {wanted(field)}") from error


WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def wanted(field: Field) -> str:
    """What the values of an option are, for messages."""
    return " or ".join((WANTED[field.type], *field.words))


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"


def parse(made: ArgumentParser, arguments: Sequence[str], elsewhere: Callable[[str], str] = lambda flag: "") -> dict:
    """What was given, by name.

    Args:
      elsewhere: what to say of an option that this parser does not have.

    Raises:
      InputError: an unknown option, one that is given twice, or what is no option.
    """
    check_once(arguments)
    given, left = made.parse_known_args(arguments)
    if left:
        name = left[0].partition("=")[0]
        if not name.startswith("-"):
            raise InputError(f"`{made.prog}` does not know what to do with {left[0]!r}: see `{made.prog} --help`")
        known = [flag for action in made._actions for flag in action.option_strings if flag.startswith("--")]
        if hint := elsewhere(name):
            raise InputError(f"{name} is no option of `{made.prog}`: {hint}")
        message = str(unknown("option", name, known)).partition("choose from")[0]
        raise InputError(f"{message}see `{made.prog} --help`")
    return vars(given)


def check_once(arguments: Sequence[str]) -> None:
    """Raises `InputError` where an option is given twice, such as ``--robust`` beside ``--no-robust``."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--") and argument != "--"]
    names = [flag.removeprefix("--").removeprefix("no-") for flag in flags]
    for flag, name in zip(flags, names, strict=True):
        if names.count(name) > 1:
            raise InputError(f"{flag} is given {names.count(name)} times: say it once")


def updated(config: T, given: dict[str, Any]) -> T:
    """The configuration with what was given in the place of what it had."""
    changes: dict[str, Any] = {}
    for field in fields(cast(Any, config)):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changes[field.name] = updated(value, given)
        elif field.name in given:
            changes[field.name] = given[field.name]
    return replace(cast(Any, config), **changes)


def narrowed(kind: type[T], wider: Any) -> T:
    """A section with the options of ``kind`` alone, from one that has more."""
    return kind(**{field.name: getattr(wider, field.name) for field in fields(cast(Any, kind))})
