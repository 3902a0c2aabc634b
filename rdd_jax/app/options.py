"""Typed dataclasses as command lines, help pages and configuration files, checked once for all three.

A configuration is a frozen dataclass whose fields are options, or sections: dataclasses of options. An option is a
field annotated with an `Option`, which says what it is in one line and what values it takes. Its name is its flag and
its key in a file; names are unique over the sections of a configuration. None alone means unset.
"""

import json
import math
import textwrap
import tomllib
from argparse import SUPPRESS, Action, ArgumentParser, BooleanOptionalAction, HelpFormatter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from shutil import get_terminal_size
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from rdd_jax.errors import InputError, at_least, check_one_of, unknown

__all__ = [
    "Field",
    "Option",
    "check",
    "count",
    "flag",
    "from_values",
    "narrowed",
    "number",
    "one_of",
    "options",
    "parse",
    "parser",
    "read_file",
    "some_of",
    "text",
    "to_values",
    "updated",
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
    """Any text."""
    return Option(help, metavar, positional=positional)


def flag(help: str) -> Option:
    """Yes or no."""
    return Option(help)


def count(help: str, least: int = 1) -> Option:
    """A whole number from ``least`` on."""
    return Option(help, "N", lambda name, value: at_least(name, value, least))


def number(help: str, above: int | float = 0, most: int | float = math.inf, least: int | float | None = None) -> Option:
    """A finite number above ``above`` (or from ``least`` on), at most ``most``."""

    def check(name: str, value: int | float) -> None:
        low = value > above if least is None else value >= least
        if not (low and value <= most and math.isfinite(value)):
            start = f"above {above:g}" if least is None else f"at least {least:g}"
            raise InputError(f"{name} is {value}: it must be {start}" + (f", at most {most:g}" * (most < math.inf)))

    return Option(help, "X", check)


def one_of(names: Collection[str], help: str) -> Option:
    """A name, such as one of a registry; the help lists them."""
    return Option(f"{help}: {', '.join(names)}", "NAME", lambda name, value: check_one_of(name, value, names))


def some_of(names: Collection[str], help: str, by: str, metavar: str = "NAME") -> Option:
    """Names joined by ``by``, ``+`` or a comma; the empty text is none of them."""

    def check(name: str, value: str) -> None:
        for part in value.split(by) if value else ():
            check_one_of(name, part.strip(), names)

    return Option(f"{help}: {', '.join(names)}", f"{metavar}{by}...", check)


class Field(NamedTuple):
    """An option where it stands: in ``section``, or in the configuration itself."""

    section: str | None
    name: str
    type: type
    optional: bool
    option: Option
    default: Any


def options(config: Any) -> Iterator[Field]:
    """The options of a configuration in order, with the values that it has."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from (found._replace(section=field.name) for found in options(value))
            continue
        kind, *marks = get_args(hints[field.name])
        members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        (bare,) = (member for member in members if member is not NoneType)
        (option,) = (mark for mark in marks if isinstance(mark, Option))
        yield Field(None, field.name, bare, NoneType in members, option, value)


def check(config: Any) -> None:
    """Raises `InputError` where a value of the configuration is not one of its option's."""
    for field in options(config):
        if field.default is not None:
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


class _Parser(ArgumentParser):
    def format_help(self) -> str:
        """Without empty lines between the sections, so that the page is short."""
        head, _, sections = super().format_help().partition("\noptions:\n")
        return f"{head}\noptions:\n{sections.replace(chr(10) * 2, chr(10))}"


def parser(config: Any, prog: str, description: str) -> ArgumentParser:
    """A parser of the options of ``config``; what is not given is not in its result. Help is a section a group."""
    made = _Parser(
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
        how = {"action": BooleanOptionalAction} if field.type is bool else {"type": field.type}
        metavar = {} if field.type is bool else {"metavar": field.option.metavar}
        name = f"--{field.name.replace('_', '-')}"
        groups[field.section].add_argument(name, dest=field.name, default=SUPPRESS, help=told + shown, **how, **metavar)
    return made


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"


def parse(made: ArgumentParser, arguments: Sequence[str], elsewhere: Callable[[str], str] = lambda flag: "") -> dict:
    """What was given, by name.

    Args:
      elsewhere: what to say of an option that this parser does not have.

    Raises:
      InputError: an unknown option.
    """
    given, left = made.parse_known_args(arguments)
    if left:
        name = left[0].partition("=")[0]
        known = [flag for action in made._actions for flag in action.option_strings if flag.startswith("--")]
        if hint := elsewhere(name):
            raise InputError(f"{name} is no option of `{made.prog}`: {hint}")
        message = str(unknown("option", name, known)).partition("choose from")[0]
        raise InputError(f"{message}see `{made.prog} --help`")
    return vars(given)


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


# --- files -------------------------------------------------------------------------------------------


def read_file(file: Path) -> dict[str, Any]:
    """The values of a TOML or JSON file; raises `InputError` where it is missing, broken or neither."""
    if file.suffix not in (".toml", ".json"):
        raise InputError(f"{str(file)!r} is no configuration: give a .toml or .json file")
    if not file.is_file():
        raise InputError(f"no file {str(file)!r}")
    try:
        values = (tomllib.loads if file.suffix == ".toml" else json.loads)(file.read_text())
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{str(file)!r} is broken: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{str(file)!r} holds a {type(values).__name__}: expected sections of options")
    return values


def from_values(config: T, values: dict[str, Any], where: str) -> T:
    """The configuration with the values of a file, section by section, in the place of what it had.

    Raises:
      InputError: an unknown section or key (the nearest is named), or a value of another type.
    """
    known = {(field.section, field.name): field for field in options(config)}
    sections = {field.section for field in known.values()} - {None}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key in sections and not isinstance(value, dict):
            raise InputError(f"{where}: {key} is {value!r}, but it is a section: give its options")
        section, pairs = (key, value) if isinstance(value, dict) else (None, {key: value})
        if section is not None and section not in sections:
            raise InputError(f"{where}: {unknown('section', key, sorted(map(str, sections)))}")
        for name, one in pairs.items():
            if (section, name) not in known:
                raise _unknown_key(where, section, name, known)
            given[name] = _typed(where, known[section, name], one)
    return updated(config, given)


def _unknown_key(where: str, section: str | None, name: str, known: Collection[tuple[str | None, str]]) -> InputError:
    """The error for a key that a section does not have; where another has it, that one is named."""
    dotted = {".".join(filter(None, pair)): pair for pair in known}
    homes = [f"{path!r}" for path, (_, other) in dotted.items() if other == name]
    given = ".".join(filter(None, (section, name)))
    if homes:
        return InputError(f"{where}: unknown option {given!r}: did you mean {homes[0]}?")
    return InputError(f"{where}: {str(unknown('option', given, dotted)).partition(' choose from')[0]}")


def _typed(where: str, field: Field, value: Any) -> Any:
    kind = field.type
    if value is None and field.optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        path = ".".join(filter(None, (field.section, field.name)))
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
        raise InputError(f"{where}: {path} is {value!r}: give {wanted}")
    return value


def to_values(config: Any) -> dict[str, Any]:
    """The sections and options of a configuration as plain values: what `from_values` takes back."""
    return asdict(config)
